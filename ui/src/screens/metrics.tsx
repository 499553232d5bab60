/** Cost, speed, tokens and errors over time, from the hourly roll-ups. */

import { useEffect, useMemo } from "preact/hooks";
import { get, type ApiError } from "../lib/api.ts";
import { count, dollars, line, ms, percent, short } from "../lib/format.ts";
import { own } from "../lib/own.ts";
import { lazy } from "../lib/lazy.tsx";
import { useLoad } from "../lib/load.ts";
import { add, term } from "../lib/query.ts";
import { go, link, place, withQuery } from "../lib/router.ts";
import type { Metrics as Answer, Series, Totals } from "../lib/types.ts";
import { outcomeName, Skeleton, Trouble } from "../parts/bits.tsx";
import { Groups } from "./groups.tsx";

const Chart = lazy(() => import("../parts/chart.tsx").then((module) => module.Chart));

const RANGES: [string, string, number][] = [["1h", "last hour", 3600], ["6h", "last 6 hours", 21_600], ["24h", "last 24 hours", 86_400], ["7d", "last 7 days", 604_800], ["30d", "last 30 days", 2_592_000], ["90d", "last 90 days", 7_776_000]];
const BY = ["model", "prompt", "customer", "key", "environment", "upstream", "outcome", "error"];
export const FIELD: Record<string, string> = { environment: "env" };

export function useMetrics(range: string, by: string, q: string, compare: boolean) {
  const seconds = RANGES.find(([id]) => id === range)?.[2] ?? 86_400;
  return useLoad(`metrics ${range} ${by} ${q}`, (signal) => {
    const now = Date.now();
    return get<Answer>("/api/v1/metrics", { from: new Date(now - seconds * 1000).toISOString(), to: new Date(now).toISOString(), by, q, compare: compare ? 1 : null }, signal);
  }, 15_000);
}

export function RangeSelect({ range }: { range: string }) {
  return (
    <label><span class="unseen">Time range</span>
      <select value={range} onChange={(event) => go(withQuery({ range: event.currentTarget.value }))}>{RANGES.map(([id, name]) => <option key={id} value={id}>{name}</option>)}</select>
    </label>
  );
}

export function Metrics() {
  const { query } = place.value;
  const range = query.get("range") ?? "24h";
  const by = query.get("by") ?? "model";
  const q = query.get("q") ?? "";
  const { data, error, again } = useMetrics(range, by, q, true);
  useEffect(() => void (document.title = "Metrics · calltap"), []);
  return (
    <main class="page">
      <div class="title-row">
        <h1>Metrics</h1><span class="grow" />
        <form class="inline" onSubmit={(event) => (event.preventDefault(), go(withQuery({ q: String(new FormData(event.currentTarget).get("q") ?? "").trim() })))}>
          <input name="q" aria-label="Only calls with" placeholder="model:gpt-4o env:prod" class="mono" defaultValue={q} key={q} maxLength={1000} spellcheck={false} />
        </form>
        <RangeSelect range={range} />
        <label><span class="unseen">Series by</span><select value={by} onChange={(event) => go(withQuery({ by: event.currentTarget.value }))}>{BY.map((name) => <option key={name} value={name}>by {name}</option>)}</select></label>
      </div>
      {error && !data ? <Fallback error={error} q={q} by={by} range={range} again={again} /> : !data ? <Skeleton lines={12} /> : <Board data={data} by={by} q={q} />}
    </main>
  );
}

/** Without roll-ups the totals of stored calls still tell something. */
function Fallback({ error, q, by, range, again }: { error: ApiError; q: string; by: string; range: string; again: () => void }) {
  return <><Trouble error={error} what="metrics over time yet; below are totals of the stored calls" again={again} />{error.status === 404 && <Groups q={add(q, `since:${range}`)} by={by} />}</>;
}

export function Board({ data, by, q }: { data: Answer; by: string; q: string }) {
  const { totals, previous, series } = data;
  const name = (one: Series) => (one.other ? "others" : one.key === null ? (by === "nothing" ? "all" : "none") : by === "outcome" ? outcomeName(one.key) : one.key);
  const open = (index: number) => {
    const start = data.times[index];
    if (start === undefined) return;
    const between = `since:${new Date(start * 1000).toISOString()} before:${new Date((start + data.step_s) * 1000).toISOString()}`;
    go(link("/", { q: add(q, between) }));
  };
  // Charts draw anew when their values are others, so these are made once for an answer.
  const charts = useMemo(() => {
    const all = (pick: (one: Series, at: number) => number) => data.times.map((_, at) => series.reduce((sum, one) => sum + pick(one, at), 0));
    const top = series.slice(0, 9);
    // One colour a series: p50 as a line, p95 dashed.
    const bands = (pick: (one: Series) => [(number | null)[], (number | null)[]]) => top.filter((one) => !one.other).slice(0, 5).flatMap((one, index) => {
      const [p50, p95] = pick(one);
      const color = `--c${index + 1}`;
      return [{ label: name(one), values: p50, color }, { label: name(one), values: p95, color, dash: [4, 3] }];
    });
    return {
      cost: top.map((one) => ({ label: name(one), values: one.cost.map(Number) })),
      calls: [{ label: "without error", values: all((one, at) => (one.calls[at] ?? 0) - (one.errors[at] ?? 0)), color: "--c1" }, { label: "with an error", values: all((one, at) => one.errors[at] ?? 0), color: "--c4" }],
      tokens: [{ label: "input", values: all((one, at) => (one.input[at] ?? 0) - (one.cached[at] ?? 0)), color: "--c1" }, { label: "cached", values: all((one, at) => one.cached[at] ?? 0), color: "--c6" }, { label: "output", values: all((one, at) => one.output[at] ?? 0), color: "--c3" }],
      errors: top.map((one) => ({ label: name(one), values: one.errors })),
      latency: bands((one) => [one.latency_p50_ms, one.latency_p95_ms]),
      ttft: bands((one) => [one.ttft_p50_ms, one.ttft_p95_ms]),
    };
  }, [data]);
  if (!totals.calls) return <p class="note">No call in this time. <a href="/">All calls</a></p>;
  const field = own(FIELD, by) ?? by;
  return (
    <>
      <TotalTiles totals={totals} previous={previous ?? null} />
      {data.lag ? <p class="quiet">{count(data.lag)} calls are not counted yet.</p> : null}
      <div class="charts">
        <Chart title={`Cost by ${by}`} times={data.times} step={data.step_s} series={charts.cost} format={dollars} stacked onPick={open} />
        <Chart title="Calls" times={data.times} step={data.step_s} series={charts.calls} format={short} stacked onPick={open} />
        <Chart title="Latency, p50 and p95 (dashed)" times={data.times} step={data.step_s} series={charts.latency} format={ms} onPick={open} />
        <Chart title="Time to first token, p50 and p95 (dashed)" times={data.times} step={data.step_s} series={charts.ttft} format={ms} onPick={open} />
        <Chart title="Tokens" times={data.times} step={data.step_s} series={charts.tokens} format={short} stacked onPick={open} />
        <Chart title={`Errors by ${by}`} times={data.times} step={data.step_s} series={charts.errors} format={short} stacked onPick={open} />
      </div>
      <div class="wide panel" tabIndex={0} role="region" aria-label={`Totals by ${by}`}>
        <table class="numbers">
          <thead><tr><th scope="col">{by[0]?.toUpperCase()}{by.slice(1)}</th><TotalHeads /></tr></thead>
          <tbody>{series.map((one) => <tr key={`${one.other}${one.key}`}><th scope="row">{one.key === null || one.other ? <span class="quiet">{name(one)}</span> : <a href={link("/", { q: add(q, term(field, one.key)) })}><bdi>{line(name(one), 80)}</bdi></a>}</th><TotalCells totals={one.totals} /></tr>)}</tbody>
        </table>
      </div>
    </>
  );
}

export function TotalTiles({ totals, previous }: { totals: Totals; previous: Totals | null }) {
  const tokens = totals.input_tokens + totals.output_tokens;
  const items: [string, string, string][] = [
    ["Calls", count(totals.calls), change(totals.calls, previous?.calls)],
    ["Errors", percent(totals.errors, totals.calls), previous?.calls ? `before ${percent(previous.errors, previous.calls)}` : ""],
    ["Cost", dollars(totals.cost), totals.unpriced ? `${count(totals.unpriced)} without a price` : change(Number(totals.cost), previous ? Number(previous.cost) : undefined)],
    ["Tokens", short(tokens), change(tokens, previous ? previous.input_tokens + previous.output_tokens : undefined)],
    ["Latency p50", ms(totals.latency_p50_ms), `p95 ${ms(totals.latency_p95_ms)}`],
    ["First token p50", ms(totals.ttft_p50_ms), `p95 ${ms(totals.ttft_p95_ms)}`],
    ["Cached input", percent(totals.cached_tokens, totals.input_tokens), ""],
    ["Truncated", percent(totals.truncated ?? 0, totals.calls), ""],
    ["Tool calls", percent(totals.tool_calls ?? 0, totals.calls), ""],
  ];
  return <div class="tiles">{items.map(([name, value, hint]) => <div key={name} class="tile"><span class="quiet">{name}</span><b>{value}</b><span class="quiet hint">{hint || "\u00a0"}</span></div>)}</div>;
}

/** "+12 %" against the period before. */
function change(now: number, before: number | undefined): string {
  if (!before) return "";
  const percentage = (100 * (now - before)) / before;
  if (percentage >= 1000) return `${short(now / before)}× before`;
  return `${percentage >= 0 ? "+" : "−"}${Math.abs(percentage).toFixed(0)}\u202f% vs before`;
}

export const TotalHeads = () => <>{["Calls", "Errors", "Cost", "Input", "Cached", "Output", "Latency avg", "p95", "max", "TTFT p50", "p95", "Tok/s", "Truncated", "Tools"].map((name) => <th key={name} scope="col">{name}</th>)}</>;

export function TotalCells({ totals }: { totals: Totals }) {
  return (
    <>
      <td>{count(totals.calls)}</td>
      <td class={totals.errors ? "bad" : "quiet"}>{totals.errors ? percent(totals.errors, totals.calls) : "0"}</td>
      <td title={`$${totals.cost}`}>{dollars(totals.cost)}{totals.unpriced ? <sup title={`${totals.unpriced} calls without a price`}>+</sup> : null}</td>
      <td>{short(totals.input_tokens)}</td><td class="quiet">{percent(totals.cached_tokens, totals.input_tokens)}</td><td>{short(totals.output_tokens)}</td>
      <td>{ms(totals.latency_avg_ms)}</td><td>{ms(totals.latency_p95_ms)}</td><td>{ms(totals.latency_max_ms)}</td>
      <td>{ms(totals.ttft_p50_ms)}</td><td>{ms(totals.ttft_p95_ms)}</td>
      <td>{totals.tokens_per_second_p50 ? totals.tokens_per_second_p50.toFixed(0) : "–"}</td>
      <td class={totals.truncated ? "" : "quiet"}>{percent(totals.truncated ?? 0, totals.calls)}</td><td class={totals.tool_calls ? "" : "quiet"}>{percent(totals.tool_calls ?? 0, totals.calls)}</td>
    </>
  );
}
