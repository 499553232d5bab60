/** Prompts by their slugs: how much they are used, and how they do. */

import { useEffect } from "preact/hooks";
import { ago, count, dollars, line, ms, percent, short, stamp } from "../lib/format.ts";
import { usePages } from "../lib/pages.ts";
import { place } from "../lib/router.ts";
import type { Prompt } from "../lib/types.ts";
import { Skeleton, Spark, Trouble } from "../parts/bits.tsx";
import { Groups } from "./groups.tsx";
import { RangeSelect } from "./metrics.tsx";

export function Prompts() {
  const range = place.value.query.get("range") ?? "30d";
  const { items, error, busy, done, more, again } = usePages<Prompt>("/api/v1/prompts", { since: range, limit: 200 });
  useEffect(() => void (document.title = "Prompts · calltap"), []);
  return (
    <main class="page">
      <div class="title-row"><h1>Prompts</h1><span class="grow" /><RangeSelect range={range} /></div>
      {error && !items.length && <><Trouble error={error} what="prompts over time yet; below are totals of the stored calls by prompt" again={again} />{error.status === 404 && <Groups q={`since:${range}`} by="prompt" />}</>}
      {busy && !items.length && <Skeleton lines={8} />}
      {items.length > 0 && (
        <div class="wide panel" tabIndex={0} role="region" aria-label="Prompts">
          <table class="numbers stack">
            <thead><tr><th scope="col">Prompt</th><th scope="col">Versions</th><th scope="col" class="start">Trend</th><th scope="col">Calls</th><th scope="col">Errors</th><th scope="col">p50</th><th scope="col">p95</th><th scope="col">TTFT p95</th><th scope="col">Cost</th><th scope="col">Cost a call</th><th scope="col">Tokens a call</th><th scope="col">Last call</th></tr></thead>
            <tbody>
              {items.map(({ prompt, versions, last_at, totals, spark }) => (
                <tr key={prompt}>
                  <th scope="row"><a href={`/prompts/${encodeURIComponent(prompt)}`}><bdi>{line(prompt, 80)}</bdi></a></th>
                  <td data-name="versions">{count(versions)}</td><td><Spark values={spark} label={`Calls of ${line(prompt, 60)} over time`} /></td><td data-name="calls">{count(totals.calls)}</td>
                  <td data-name="errors" class={totals.errors ? "bad" : "quiet"}>{totals.errors ? percent(totals.errors, totals.calls) : "0"}</td>
                  <td data-name="p50">{ms(totals.latency_p50_ms)}</td><td data-name="p95">{ms(totals.latency_p95_ms)}</td><td data-name="TTFT p95">{ms(totals.ttft_p95_ms)}</td>
                  <td data-name="cost" title={`$${totals.cost}`}>{dollars(totals.cost)}</td><td data-name="a call" class="quiet">{totals.calls ? dollars(Number(totals.cost) / totals.calls) : "–"}</td>
                  <td data-name="tokens a call" class="quiet">{totals.calls ? short((totals.input_tokens + totals.output_tokens) / totals.calls) : "–"}</td><td data-name="last call" title={stamp(last_at)}>{ago(last_at)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {items.length > 0 && !done && <p><button type="button" disabled={busy} onClick={more}>Show more</button></p>}
      {!items.length && !busy && !error && <p class="note">No prompt in this time. Calls name theirs by the header <code>x-calltap-prompt</code>, or by <code>/-/prompt=support-reply/v1</code> in the base URL.</p>}
    </main>
  );
}
