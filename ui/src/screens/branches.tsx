/** A session as a tree of calls, each with its place in time. */

import { useMemo } from "preact/hooks";
import { branches, type Branch } from "../lib/branches.ts";
import { count, dollars, line, ms, plural, stamp, when } from "../lib/format.ts";
import { usePages } from "../lib/pages.ts";
import { quote } from "../lib/query.ts";
import type { Row } from "../lib/types.ts";
import { Skeleton, Status, Trouble } from "../parts/bits.tsx";

/** Branches that are open from the start. */
const OPEN_DEPTH = 4;

interface Span { from: number; to: number }

export function Branches({ session }: { session: string }) {
  const { items, error, busy, done, more, again } = usePages<Row>("/api/v1/calls", { q: `session:${quote(session)}`, order: "oldest", limit: 500 });
  const root = useMemo(() => branches(items), [items]);
  const span = useMemo(() => items.reduce<Span>((all, row) => {
    const from = Date.parse(row.started_at);
    return { from: Math.min(all.from, from), to: Math.max(all.to, from + row.timing.latency_ms) };
  }, { from: Infinity, to: 0 }), [items]);
  return (
    <section class="branches" aria-label="Calls as a tree">
      {error && !items.length && <Trouble error={error} what="the calls of a session" again={again} />}
      {busy && !items.length && <Skeleton lines={8} />}
      {root.count > 0 && <Inside branch={root} span={span} depth={0} />}
      {items.length > 0 && !done && <p><button type="button" disabled={busy} onClick={more}>Show more calls</button> <span class="quiet">the first {count(items.length)} are here</span></p>}
    </section>
  );
}

function Inside({ branch, span, depth }: { branch: Branch; span: Span; depth: number }) {
  return (
    <ul>
      {branch.calls.map((row) => <li key={row.id}><Leaf row={row} span={span} /></li>)}
      {branch.branches.map((below) => (
        <li key={below.name}>
          <details open={depth < OPEN_DEPTH}>
            <summary><b class="mono"><bdi>{line(below.name, 80)}</bdi></b> <span class="quiet">{[plural(below.count, "call"), below.cost ? dollars(below.cost) : "", ms(below.model_ms)].filter(Boolean).join(" · ")}</span>{below.errors > 0 && <span class="bad"> · {plural(below.errors, "error")}</span>}</summary>
            <Inside branch={below} span={span} depth={depth + 1} />
          </details>
        </li>
      ))}
    </ul>
  );
}

function Leaf({ row, span }: { row: Row; span: Span }) {
  const all = Math.max(1, span.to - span.from);
  const left = (100 * (Date.parse(row.started_at) - span.from)) / all;
  return (
    <a class="leaf-call" href={`/calls/${row.id}`}>
      <Status outcome={row.outcome} status={row.status} />
      <time class="quiet mono" dateTime={row.started_at} title={stamp(row.started_at)}>{when(row.started_at)}</time>
      <span class="what"><b><bdi>{line(row.model.served ?? row.model.requested ?? row.endpoint, 40)}</bdi></b> {row.client.retry ? <span class="badge warn">retry {row.client.retry}</span> : null}<bdi>{line(row.tags.user_query ?? row.path, 120)}</bdi>{row.error && <bdi class="bad"> {line(row.error.message ?? row.error.code, 120)}</bdi>}</span>
      <span class="track" aria-hidden="true"><i class={row.outcome === "completed" ? "flow" : "fault"} style={{ marginLeft: `${Math.min(99, left)}%`, width: `${Math.max(0.6, Math.min(100 - left, (100 * row.timing.latency_ms) / all))}%` }} /></span>
      <span class="right quiet">{row.cost.total == null ? "–" : dollars(row.cost.total)}</span>
      <span class="right">{ms(row.timing.latency_ms)}</span>
    </a>
  );
}
