/** What can be done to all calls that were chosen from the list. */

import { useState } from "preact/hooks";
import { ApiError, get, post, save } from "../lib/api.ts";
import { say } from "../lib/clipboard.ts";
import { count, plural } from "../lib/format.ts";
import { chooseNone, selected, SELECTED_MAX } from "../lib/selection.ts";
import type { Call, Done, Page, Sink } from "../lib/types.ts";
import { Icon } from "../parts/icons.tsx";
import { copyCurls } from "./copies.ts";

/** Requests at a time. */
const LANES = 4;

/** The calls in full, in the order of `ids`; one that is not kept any more is left out. */
async function fetchAll(ids: string[], progress: (done: number) => void): Promise<Call[]> {
  const found: (Call | null)[] = ids.map(() => null);
  let next = 0;
  let done = 0;
  const lane = async () => {
    while (next < ids.length) {
      const at = next++;
      try {
        found[at] = await get<Call>(`/api/v1/calls/${encodeURIComponent(ids[at] ?? "")}`);
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
      progress(++done);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return found.filter((call) => call !== null);
}

/** Asks every sink that gave up a call for another try. */
async function deliverAgain(ids: string[]): Promise<string> {
  const { items } = await get<Page<Sink>>("/api/v1/sinks");
  let records = 0;
  for (const sink of items.filter((one) => one.dead > 0)) records += (await post<Done>(`/api/v1/sinks/${encodeURIComponent(sink.name)}/redrive`, { ids })).records ?? 0;
  if (records) chooseNone();
  return records ? `${plural(records, "record")} to be delivered again` : "No sink has given up any of these calls";
}

export function Selected() {
  const [done, progress] = useState<number | null>(null);
  // The newest first, as the list has them.
  const ids = [...selected.value].sort().reverse();
  const act = async (work: () => Promise<string | void>) => {
    progress(0);
    try {
      const text = await work();
      if (text) say(text);
    } catch (failure) {
      say(failure instanceof ApiError ? failure.message : "That did not work");
    }
    progress(null);
  };
  const isBusy = done !== null;
  return (
    <div class="selected" role="region" aria-label="Chosen calls">
      <strong role="status">{plural(ids.length, "call")} chosen</strong>
      {ids.length >= SELECTED_MAX && <span class="quiet">the most there can be</span>}
      <button type="button" disabled={isBusy} onClick={() => void act(async () => save((await fetchAll(ids, progress)).map((call) => `${JSON.stringify(call)}\n`).join(""), "calls.jsonl"))}>Save as JSON Lines</button>
      <button type="button" disabled={isBusy} onClick={() => void act(async () => copyCurls(await fetchAll(ids, progress)))}>Copy as curl</button>
      <button type="button" disabled={isBusy} onClick={() => void act(() => deliverAgain(ids))}>Deliver again</button>
      {isBusy && <span class="quiet">{done ? `${count(done)} of ${count(ids.length)}` : "…"}</span>}
      <span class="grow" />
      <button type="button" class="bare" aria-label="Choose none" title="Choose none (Esc)" onClick={chooseNone}><Icon name="close" /></button>
    </div>
  );
}
