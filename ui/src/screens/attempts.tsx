/** The attempts of a client to get one answer, one below the other. */

import { get } from "../lib/api.ts";
import { around, attempts } from "../lib/attempts.ts";
import { line, ms } from "../lib/format.ts";
import { useLoad } from "../lib/load.ts";
import type { Call, Page, Row } from "../lib/types.ts";
import { Status } from "../parts/bits.tsx";

export function Attempts({ call }: { call: Call }) {
  const isAlone = !call.bytes.request_sha256 || !(call.client.retry || call.outcome !== "completed");
  const { data } = useLoad(isAlone ? null : `attempts ${call.id}`, (signal) => get<Page<Row>>("/api/v1/calls", { q: around(call), limit: 1000 }, signal));
  const all = data ? attempts(call, data.items) : [];
  if (all.length < 2) return null;
  const begin = Date.parse(all[0]?.started_at ?? "");
  const total = Math.max(1, ...all.map((row) => Date.parse(row.started_at) - begin + row.timing.latency_ms));
  return (
    <section aria-label="Attempts">
      <h2>Attempts</h2>
      <ol class="phases">
        {all.map((row) => {
          const left = (100 * (Date.parse(row.started_at) - begin)) / total;
          return (
            <li key={row.id}>
              <span><Status outcome={row.outcome} status={row.status} /> {row.id === call.id ? <b>this call</b> : <a href={`/calls/${row.id}/timeline`}>{row.client.retry ? `retry ${row.client.retry}` : "first"}</a>}</span>
              <span class="track" title={line(row.error?.message ?? "", 200) || undefined}><i class={row.outcome === "completed" ? "flow" : "fault"} style={{ marginLeft: `${Math.min(99, left)}%`, width: `${Math.max(0.4, Math.min(100 - left, (100 * row.timing.latency_ms) / total))}%` }} /></span>
              <span class="right">{ms(row.timing.latency_ms)}</span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
