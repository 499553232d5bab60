/** A component whose code comes when it is first drawn. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Skeleton } from "../parts/bits.tsx";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  let known: ComponentType<P> | null = null;
  return function Lazy(props: P) {
    const [, set] = useState(0);
    const [failed, fail] = useState(false);
    useEffect(() => {
      if (known) return;
      load().then(
        (component) => {
          known = component;
          set((n) => n + 1);
        },
        () => fail(true),
      );
    }, []);
    if (failed) return <p class="note bad" role="alert">A part of the page did not load. calltap may have been updated: load the page again.</p>;
    const Known = known;
    return Known ? <Known {...props} /> : <Skeleton />;
  };
}
