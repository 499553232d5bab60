/** Where clients point. With `admin_listen` the dashboard has another address than the proxy. */

import { signal } from "@preact/signals";
import { get } from "../lib/api.ts";
import type { Settings } from "../lib/types.ts";

const listen = signal<string | null>(null);
let asked = false;

/** "http://127.0.0.1:4777", as far as the dashboard can tell. */
export function proxyBase(): string {
  if (!asked) {
    asked = true;
    get<Settings>("/api/v1/settings").then(
      (settings) => {
        if (settings.listen && settings.admin && settings.listen !== settings.admin) listen.value = settings.listen;
      },
      () => undefined,
    );
  }
  if (!listen.value) return location.origin;
  const port = listen.value.slice(listen.value.lastIndexOf(":") + 1);
  return `${location.protocol}//${location.hostname}:${port}`;
}
