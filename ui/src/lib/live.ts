/**
 * The live feed, read with `fetch` so that the token can travel in a header. One connection a visible page:
 * a hidden one lets go of its own and catches up when it is seen again.
 */

import { signal } from "@preact/signals";
import { ApiError, request } from "./api.ts";
import { EventReader } from "./sse.ts";
import type { Row, Running } from "./types.ts";

export type Feed = "off" | "connecting" | "live";
export const feed = signal<Feed>("off");
export const running = signal<{ count: number; items: Running[] }>({ count: 0, items: [] });

/** Rows are handed on at most so often. */
const EVERY_MS = 120;
/** After a longer time without the feed the list is asked anew, rather than everything missed one by one. */
const AWAY_MS_MAX = 15_000;
/** Rows that wait between two handings-on; of more the oldest are left out and `onGap` is told. */
const WAITING_MAX = 1000;

export interface Follower { onRows: (rows: Row[]) => void; onGap: () => void }

/** Follows calls that match `q` after `since`; gives the end of it. */
export function follow(q: string, since: () => number | null, follower: Follower): () => void {
  let controller: AbortController | null = null;
  let timer = 0;
  let failures = 0;
  let waiting: Row[] = [];
  let flushing = 0;
  let last: number | null = null;
  /** When the feed was lost; 0 while it is there, and before it first was. */
  let lost = 0;

  const flush = () => {
    flushing = 0;
    const rows = waiting;
    waiting = [];
    if (rows.length) follower.onRows(rows);
  };
  const take = (row: Row) => {
    last = row.seq ?? last;
    waiting.push(row);
    if (waiting.length > WAITING_MAX) {
      waiting = [];
      follower.onGap();
    }
    flushing ||= window.setTimeout(flush, EVERY_MS);
  };

  const connect = async () => {
    clearTimeout(timer);
    controller?.abort();
    const mine = (controller = new AbortController());
    feed.value = "connecting";
    try {
      const isLong = lost > 0 && Date.now() - lost > AWAY_MS_MAX;
      const from = isLong ? null : (last ?? since());
      const parameters = new URLSearchParams(q ? { q } : {});
      if (from !== null) parameters.set("since", String(from));
      const response = await request(`/api/v1/events?${parameters}`, { signal: mine.signal, accept: "text/event-stream" });
      feed.value = "live";
      failures = 0;
      lost = 0;
      if (isLong) follower.onGap();
      if (mine.signal.aborted) return;
      await pump(response, take, follower.onGap);
    } catch (error) {
      if (mine.signal.aborted) return;
      // A query that the server refuses will not be better next time; the list says what is wrong.
      if (error instanceof ApiError && (error.status === 400 || error.status === 401)) {
        feed.value = "off";
        return;
      }
    }
    if (mine.signal.aborted) return;
    feed.value = "off";
    lost ||= Date.now();
    running.value = { count: 0, items: [] };
    failures = Math.min(failures + 1, 6);
    timer = window.setTimeout(() => void connect(), 250 * 2 ** failures);
  };

  const onVisibility = () => {
    if (document.hidden) {
      clearTimeout(timer);
      controller?.abort();
      feed.value = "off";
      lost ||= Date.now();
    } else void connect();
  };
  document.addEventListener("visibilitychange", onVisibility);
  if (!document.hidden) void connect();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    clearTimeout(timer);
    clearTimeout(flushing);
    controller?.abort();
    feed.value = "off";
  };
}

async function pump(response: Response, take: (row: Row) => void, onGap: () => void): Promise<void> {
  const reader = response.body?.getReader();
  const events = new EventReader();
  const decoder = new TextDecoder();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const { event, data } of events.push(decoder.decode(value, { stream: true }))) {
      if (event === "call") {
        const row = JSON.parse(data) as Row;
        const { count, items } = running.peek();
        if (items.some((item) => item.id === row.id)) running.value = { count: Math.max(0, count - 1), items: items.filter((item) => item.id !== row.id) };
        take(row);
      } else if (event === "running") {
        const { running: count, items } = JSON.parse(data) as { running: number; items: Running[] };
        running.value = { count, items };
      } else if (event === "lagged") onGap();
    }
  }
}
