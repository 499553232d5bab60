/** One prompt: its versions side by side, over time, and what differs between two of them. */

import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { diff } from "../lib/diff.ts";
import { isObject } from "../lib/conversation.ts";
import { ago, line, ms, dollars, short, stamp } from "../lib/format.ts";
import { lazy } from "../lib/lazy.tsx";
import { useLoad } from "../lib/load.ts";
import { quote } from "../lib/query.ts";
import { link, place } from "../lib/router.ts";
import type { Call, Json, PromptDetail, Series } from "../lib/types.ts";
import { CopyButton, Skeleton, Trouble } from "../parts/bits.tsx";
import { RangeSelect, TotalCells, TotalHeads, TotalTiles, useMetrics } from "./metrics.tsx";
import { proxyBase } from "./where.ts";

const Chart = lazy(() => import("../parts/chart.tsx").then((module) => module.Chart));
const versionName = (version: string | null): string => (version === null ? "no version" : version);

export function PromptScreen({ prompt }: { prompt: string }) {
  const range = place.value.query.get("range") ?? "30d";
  const { data, error, again } = useLoad(`prompt ${prompt} ${range}`, (signal) => get<PromptDetail>(`/api/v1/prompts/${encodeURIComponent(prompt)}`, { since: range }, signal));
  useEffect(() => void (document.title = `${line(prompt, 60)} · calltap`), [prompt]);
  const q = `prompt:${quote(prompt)}`;
  return (
    <main class="page">
      <nav class="crumbs" aria-label="Where this is"><a href="/prompts">Prompts</a> <span class="quiet">/</span> <span class="mono"><bdi>{line(prompt, 80)}</bdi></span></nav>
      <div class="title-row"><h1><bdi>{line(prompt, 120)}</bdi></h1><span class="grow" /><RangeSelect range={range} /><a class="button" href={link("/", { q })}>Its calls</a></div>
      {error && !data && <><Trouble error={error} what="prompts in full yet" again={again} /><p><a href={link("/", { q })}>The calls of this prompt</a></p></>}
      {!data && !error && <Skeleton lines={10} />}
      {data && (
        <>
          <TotalTiles totals={data.totals} previous={null} />
          <Trend range={range} q={q} />
          <div class="wide panel" tabIndex={0} role="region" aria-label="Versions">
            <table class="numbers">
              <thead><tr><th scope="col">Version</th><th scope="col">Seen</th><TotalHeads /></tr></thead>
              <tbody>{data.versions.map((one) => <tr key={one.version ?? ""}><th scope="row"><a href={link("/", { q: one.version === null ? `${q} -has:version` : `${q} version:${quote(one.version)}` })}><bdi>{line(versionName(one.version), 60)}</bdi></a></th><td title={`${stamp(one.first_at)} to ${stamp(one.last_at)}`}>{ago(one.last_at)}</td><TotalCells totals={one.totals} /></tr>)}</tbody>
            </table>
          </div>
          <Compare detail={data} />
          <section class="snippet"><h2>Use this slug</h2><div class="code panel"><pre tabIndex={0}><code>{snippet(prompt)}</code></pre><CopyButton text={snippet(prompt)} what="line" label="Copy" /></div></section>
        </>
      )}
    </main>
  );
}

const snippet = (prompt: string): string => `export OPENAI_BASE_URL='${proxyBase()}/-/prompt=${encodeURIComponent(prompt).replaceAll("'", "%27")}/v1'`;

function Trend({ range, q }: { range: string; q: string }) {
  const { data } = useMetrics(range, "version", q, false);
  const charts = useMemo(() => {
    const series = (data?.series ?? []).filter((one) => !one.other).slice(0, 8);
    const of = (pick: (one: Series) => (number | null)[]) => series.map((one) => ({ label: versionName(one.key), values: pick(one) }));
    return { calls: of((one) => one.calls), latency: of((one) => one.latency_p95_ms), cost: of((one) => one.cost.map(Number)), tokens: of((one) => one.input.map((value, at) => value + (one.output[at] ?? 0))) };
  }, [data]);
  if (!data || !data.totals.calls) return null;
  return (
    <div class="charts">
      <Chart title="Calls by version" times={data.times} step={data.step_s} series={charts.calls} format={short} stacked height={120} />
      <Chart title="Latency p95" times={data.times} step={data.step_s} series={charts.latency} format={ms} height={120} />
      <Chart title="Cost" times={data.times} step={data.step_s} series={charts.cost} format={dollars} stacked height={120} />
      <Chart title="Tokens" times={data.times} step={data.step_s} series={charts.tokens} format={short} stacked height={120} />
    </div>
  );
}

/** What of a request belongs to the prompt rather than to one call: instructions, tools, parameters. */
export function template(request: Json): string {
  if (!isObject(request)) return "";
  const parts: string[] = [];
  for (const name of ["instructions", "system"]) if (typeof request[name] === "string") parts.push(request[name]);
  for (const message of Array.isArray(request["messages"]) ? request["messages"] : []) {
    if (isObject(message) && (message["role"] === "system" || message["role"] === "developer")) parts.push(typeof message["content"] === "string" ? message["content"] : JSON.stringify(message["content"], null, 2));
  }
  const rest = Object.fromEntries(Object.entries(request).filter(([name]) => !["messages", "input", "instructions", "system", "prompt", "user", "metadata", "stream", "stream_options"].includes(name)));
  return `${parts.join("\n\n")}\n\n${JSON.stringify(rest, null, 2)}`.trim();
}

function Compare({ detail }: { detail: PromptDetail }) {
  const known = detail.versions.filter((one) => one.sample_id);
  const [left, setLeft] = useState(Math.min(1, known.length - 1));
  const [right, setRight] = useState(0);
  const ids = [known[left]?.sample_id, known[right]?.sample_id];
  const { data, error } = useLoad(known.length > 1 ? `samples ${ids.join(" ")}` : null, (signal) => Promise.all(ids.map((id) => get<Call>(`/api/v1/calls/${id}`, {}, signal))));
  if (known.length < 2) return null;
  const choose = (label: string, at: number, set: (at: number) => void) => <label><span class="unseen">{label}</span><select value={at} onChange={(event) => set(Number(event.currentTarget.value))}>{known.map((one, index) => <option key={index} value={index}>{line(versionName(one.version), 40)}</option>)}</select></label>;
  return (
    <section><div class="title-row"><h2>What differs</h2>{choose("Older version", left, setLeft)}<span class="quiet">→</span>{choose("Newer version", right, setRight)}<span class="quiet">instructions, tools and parameters of the newest call of each</span></div>
      {error && <p class="note">The sample calls are not kept any more.</p>}
      {data && <pre class="diff panel" tabIndex={0}>{diff(template(data[0]?.request ?? null), template(data[1]?.request ?? null)).map((one, at) => <div key={at} class={one.kind}><span aria-hidden="true">{{ same: "  ", old: "− ", new: "+ " }[one.kind]}</span><span class="unseen">{{ same: "", old: "removed: ", new: "added: " }[one.kind]}</span>{one.text}</div>)}</pre>}
    </section>
  );
}
