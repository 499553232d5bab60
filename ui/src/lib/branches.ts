/** The calls of a session as a tree: by the path that each says it has, else by its trace. */

import { line } from "./format.ts";
import type { Row } from "./types.ts";

/** Levels that are told apart; what lies deeper stays in the last of them. */
const DEPTH_MAX = 12;

export interface Branch {
  name: string; calls: Row[]; branches: Branch[];
  /** Of everything below; `cost` in dollars, for the eye only. */
  count: number; errors: number; cost: number; model_ms: number;
}

/** Where in the tree a call is; empty for the root. */
export function pathOf(row: Row): string[] {
  const parts = (row.tags.session_path ?? "").split("/").filter(Boolean);
  if (parts.length > DEPTH_MAX) parts.splice(DEPTH_MAX - 1, parts.length, parts.slice(DEPTH_MAX - 1).join("/"));
  if (parts.length || !row.trace?.trace_id) return parts;
  const { trace_id: trace, parent_id: span } = row.trace;
  return [`trace ${line(trace, 32)}`, ...(span ? [`span ${line(span, 16)}`] : [])];
}

const empty = (name: string): Branch => ({ name, calls: [], branches: [], count: 0, errors: 0, cost: 0, model_ms: 0 });

/** The root of `rows`; calls and branches stand in the order in which they began. */
export function branches(rows: Row[]): Branch {
  const root = empty("");
  const known = new Map<Branch, Map<string, Branch>>();
  for (const row of [...rows].sort((a, b) => Date.parse(a.started_at) - Date.parse(b.started_at))) {
    let at = root;
    const way = [root];
    for (const name of pathOf(row)) {
      const below = known.get(at) ?? new Map<string, Branch>();
      known.set(at, below);
      let next = below.get(name);
      if (!next) {
        next = empty(name);
        below.set(name, next);
        at.branches.push(next);
      }
      at = next;
      way.push(at);
    }
    at.calls.push(row);
    for (const one of way) {
      one.count += 1;
      one.errors += row.outcome === "completed" ? 0 : 1;
      one.cost += Number(row.cost.total ?? 0);
      one.model_ms += row.timing.latency_ms;
    }
  }
  return root;
}
