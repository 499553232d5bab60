/** Data for a component: fetched when its key changes, kept while the next one comes, aborted when it goes. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, locked } from "./api.ts";

/** Pause after an answer that was none. */
const TROUBLE_MS = 20_000;

export interface Loaded<T> { data: T | null; error: ApiError | null; busy: boolean; again: () => void }

/** `key` null asks for nothing. `every` asks again after so many milliseconds while the page is seen. */
export function useLoad<T>(key: string | null, fetcher: (signal: AbortSignal) => Promise<T>, every = 0): Loaded<T> {
  const [state, set] = useState<{ key: string | null; data: T | null; error: ApiError | null; busy: boolean }>({ key: null, data: null, error: null, busy: key !== null });
  const [turn, next] = useState(0);
  const latest = useRef(fetcher);
  latest.current = fetcher;
  const isLocked = locked.value;
  useEffect(() => {
    if (key === null || isLocked) return;
    const controller = new AbortController();
    let timer = 0;
    let pause = every;
    const run = async () => {
      set((old) => ({ ...old, busy: true }));
      try {
        const data = await latest.current(controller.signal);
        if (!controller.signal.aborted) set({ key, data, error: null, busy: false });
        pause = every;
      } catch (error) {
        if (controller.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(0, "", String(error));
        // What was there stays visible while an answer fails; another question's answer does not.
        set((old) => ({ key, data: old.key === key ? old.data : null, error: known, busy: false }));
        // What cannot be answered, or only slowly, is asked for less often.
        pause = Math.max(every, TROUBLE_MS);
      }
      if (every && !controller.signal.aborted) wait();
    };
    const wait = () => {
      timer = window.setTimeout(() => (document.hidden ? wait() : void run()), pause);
    };
    void run();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [key, turn, isLocked, every]);
  return { data: state.data, error: state.error, busy: state.busy, again: () => next((n) => n + 1) };
}
