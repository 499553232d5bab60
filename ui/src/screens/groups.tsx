/** The calls of a query, summed up by one field. */

import { get } from "../lib/api.ts";
import { count, dollars, line, ms, percent, short } from "../lib/format.ts";
import { own } from "../lib/own.ts";
import { useLoad } from "../lib/load.ts";
import { add, term } from "../lib/query.ts";
import { link } from "../lib/router.ts";
import type { Page, Stat } from "../lib/types.ts";
import { outcomeName, Skeleton, Trouble } from "../parts/bits.tsx";

const FIELD: Record<string, string> = { environment: "env" };

export function Groups({ q, by }: { q: string; by: string }) {
  const { data, error, again } = useLoad(`groups ${by} ${q}`, (signal) => get<Page<Stat>>("/api/v1/stats", { q, by }, signal), 5000);
  if (error && !data) return <Trouble error={error} what={`groups by ${by}`} again={again} />;
  if (!data) return <Skeleton lines={10} />;
  const field = own(FIELD, by) ?? by;
  return (
    <div class="wide" tabIndex={0} role="region" aria-label={`Calls by ${by}`}>
      <table class="numbers">
        <thead><tr><th scope="col">{by[0]?.toUpperCase()}{by.slice(1)}</th><th scope="col">Calls</th><th scope="col">Errors</th><th scope="col">Input</th><th scope="col">Cached</th><th scope="col">Output</th><th scope="col">Cost</th><th scope="col">p50</th><th scope="col">p95</th><th scope="col">TTFT p50</th></tr></thead>
        <tbody>
          {data.items.map((row) => (
            <tr key={row.key ?? ""}>
              <th scope="row">{row.key === null ? <span class="quiet">none</span> : by === "day" ? row.key : <a href={link("/", { q: add(q, term(field, row.key)) })} title={line(row.key, 300)}><bdi>{line(by === "outcome" ? outcomeName(row.key) : row.key, 80)}</bdi></a>}</th>
              <td>{count(row.calls)}</td>
              <td class={row.errors ? "bad" : "quiet"}>{row.errors ? `${count(row.errors)} · ${percent(row.errors, row.calls)}` : "0"}</td>
              <td>{short(row.input_tokens)}</td><td class="quiet">{short(row.cached_tokens)}</td><td>{short(row.output_tokens)}</td>
              <td title={`$${row.cost}`}>{dollars(row.cost)}{row.unpriced ? <sup title={`${row.unpriced} calls without a price`}>+</sup> : null}</td>
              <td>{ms(row.latency_p50_ms)}</td><td>{ms(row.latency_p95_ms)}</td><td>{ms(row.ttft_p50_ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {!data.items.length && <p class="quiet">No call matches.</p>}
    </div>
  );
}
