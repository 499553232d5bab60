/** A list that grows at its end, page by page. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "./api.ts";
import type { Page } from "./types.ts";

export interface Pages<T> { items: T[]; error: ApiError | null; busy: boolean; done: boolean; more: () => void; again: () => void }

/** Pages of `path`; starts anew when path or parameters change. */
export function usePages<T>(path: string, query: Record<string, string | number | null | undefined>): Pages<T> {
  const key = JSON.stringify([path, query]);
  const [state, set] = useState<{ key: string; items: T[]; next: string | null; error: ApiError | null; busy: boolean }>({ key, items: [], next: null, error: null, busy: true });
  const controller = useRef(new AbortController());
  const load = async (after: string | null) => {
    if (!after) {
      controller.current.abort();
      controller.current = new AbortController();
    }
    const { signal } = controller.current;
    set((old) => ({ ...old, busy: true }));
    try {
      const page = await get<Page<T>>(path, { ...query, after }, signal);
      if (!signal.aborted) set((old) => ({ key, items: after ? [...old.items, ...page.items] : page.items, next: page.next, error: null, busy: false }));
    } catch (error) {
      if (signal.aborted) return;
      const known = error instanceof ApiError ? error : new ApiError(0, "", String(error));
      set((old) => ({ ...old, key, items: after || old.key === key ? old.items : [], error: known, busy: false }));
    }
  };
  useEffect(() => {
    void load(null);
    return () => controller.current.abort();
  }, [key]);
  return { items: state.items, error: state.error, busy: state.busy, done: !state.busy && state.next === null, more: () => void (!state.busy && state.next !== null && load(state.next)), again: () => void load(null) };
}
