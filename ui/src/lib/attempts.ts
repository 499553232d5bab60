/** Which calls are attempts of one client to get one answer: they have the same body. */

import { term } from "./query.ts";
import type { Call, Row } from "./types.ts";

/** Clients that try again do so within this time. */
const WINDOW_MS = 5 * 60_000;

/** The calls that may belong to it: tried again, or failed before that. */
export function around(call: Call): string {
  const at = Date.parse(call.started_at);
  const key = call.client.key ? ` ${term("key", call.client.key)}` : "";
  return `(retry:>0 OR status:error) ${term("endpoint", call.endpoint)}${key} since:${new Date(at - WINDOW_MS).toISOString()} before:${new Date(at + WINDOW_MS).toISOString()}`;
}

/** Attempts in their order, the call itself among them; of a retry counted anew only its own round. */
export function attempts(call: Row, rows: Row[]): Row[] {
  const same = (row: Row) => row.id !== call.id && row.bytes.request_sha256 === call.bytes.request_sha256 && row.path === call.path;
  const all = [call, ...rows.filter(same)].sort((a, b) => Date.parse(a.started_at) - Date.parse(b.started_at));
  const at = all.indexOf(call);
  const retry = (row: Row | undefined) => row?.client.retry ?? 0;
  let from = at;
  while (from > 0 && retry(all[from]) > 0 && retry(all[from - 1]) < retry(all[from])) from--;
  let to = at;
  while (to + 1 < all.length && retry(all[to + 1]) > retry(all[to])) to++;
  return all.slice(from, to + 1);
}
