/** The columns of the list: what each shows, and how wide it is. */

import type { ComponentChildren } from "preact";
import { Status } from "../parts/bits.tsx";
import { count, dollars, line, ms, stamp, when } from "../lib/format.ts";
import { columns } from "../lib/prefs.ts";
import type { Row } from "../lib/types.ts";

export interface Column { id: string; name: string; width: string; right?: boolean; cell: (row: Row, scale: number) => ComponentChildren }

const quiet = (text: string) => <span class="quiet">{text}</span>;
const text = (value: string | null | undefined) => (value ? <bdi title={line(value, 300)}>{line(value, 80)}</bdi> : quiet("–"));

export const ALL: Column[] = [
  { id: "time", name: "Time", width: "82px", cell: (row) => <time dateTime={row.started_at} title={stamp(row.started_at)}>{when(row.started_at)}</time> },
  { id: "status", name: "Status", width: "58px", cell: (row) => <Status outcome={row.outcome} status={row.status} /> },
  { id: "model", name: "Model", width: "minmax(104px, 1fr)", cell: (row) => <Model row={row} /> },
  { id: "prompt", name: "Prompt", width: "minmax(96px, .9fr)", cell: (row) => row.tags.prompt ? <bdi title={line(row.tags.prompt, 200)}>{line(row.tags.prompt, 60)}{row.tags.prompt_version ? quiet(`@${line(row.tags.prompt_version, 16)}`) : null}</bdi> : quiet("–") },
  { id: "session", name: "Session", width: "minmax(72px, .6fr)", cell: (row) => text(row.tags.session_name ?? row.tags.session) },
  { id: "customer", name: "Customer", width: "minmax(70px, .6fr)", cell: (row) => text(row.tags.customer ?? row.tags.user) },
  { id: "text", name: "Question → answer", width: "minmax(180px, 3fr)", cell: (row) => <Excerpt row={row} /> },
  { id: "tokens", name: "Tokens", width: "86px", right: true, cell: (row) => <Tokens row={row} /> },
  { id: "cost", name: "Cost", width: "78px", right: true, cell: (row) => <Money row={row} /> },
  { id: "ttft", name: "TTFT", width: "58px", right: true, cell: (row) => row.timing.ttft_ms == null ? quiet("–") : ms(row.timing.ttft_ms) },
  { id: "latency", name: "Latency", width: "108px", right: true, cell: (row, scale) => <><Waterfall row={row} scale={scale} /><span class="ms">{ms(row.timing.latency_ms)}</span></> },
  { id: "finish", name: "Finish", width: "84px", cell: (row) => row.finish_reasons[0] ? <Finish reason={row.finish_reasons[0]} /> : quiet("–") },
  { id: "attempt", name: "Retry", width: "46px", right: true, cell: (row) => row.client.retry ? <span class="badge warn">{count(row.client.retry)}</span> : quiet("–") },
  { id: "env", name: "Environment", width: "minmax(70px, .5fr)", cell: (row) => text(row.tags.environment) },
  { id: "user", name: "User", width: "minmax(70px, .5fr)", cell: (row) => text(row.tags.user) },
  { id: "client", name: "Client", width: "minmax(80px, .6fr)", cell: (row) => text(row.client.sdk ?? row.client.user_agent) },
  { id: "key", name: "Key", width: "minmax(80px, .5fr)", cell: (row) => text(row.client.key) },
  { id: "upstream", name: "Upstream", width: "minmax(70px, .5fr)", cell: (row) => text(row.upstream) },
  { id: "endpoint", name: "Endpoint", width: "minmax(90px, .6fr)", cell: (row) => text(row.endpoint) },
  { id: "size", name: "Tokens/s", width: "66px", right: true, cell: (row) => row.timing.output_tokens_per_second ? row.timing.output_tokens_per_second.toFixed(0) : quiet("–") },
];

export const DEFAULT = ["time", "status", "model", "prompt", "session", "text", "tokens", "cost", "ttft", "latency"];

/** A column of free metadata. */
const meta = (name: string): Column => ({
  id: `meta.${name}`, name, width: "minmax(70px, .5fr)",
  cell: (row) => {
    const value = row.tags.metadata && Object.hasOwn(row.tags.metadata, name) ? row.tags.metadata[name] : null;
    return text(value === null || value === undefined ? null : typeof value === "string" ? value : JSON.stringify(value));
  },
});

/** What is left of the list beside an open call. */
const BESIDE = ["time", "status", "model", "text", "latency"];

/** What this browser chose to see, in its order. */
export function chosen(isBeside: boolean): Column[] {
  const ids = isBeside ? BESIDE : columns.value.length ? columns.value : DEFAULT;
  return ids.flatMap((id) => (id.startsWith("meta.") ? [meta(id.slice(5))] : ALL.filter((column) => column.id === id)));
}

function Model({ row }: { row: Row }) {
  const { requested, served } = row.model;
  const name = served ?? requested;
  if (!name) return quiet(line(row.endpoint === "other" ? row.path : row.endpoint, 60));
  const differs = requested && served && requested !== served;
  return <bdi title={differs ? `asked for ${line(requested, 120)}, served by ${line(served, 120)}` : line(name, 200)}>{line(name, 60)}</bdi>;
}

function Excerpt({ row }: { row: Row }) {
  const trouble = row.error?.message ?? row.error?.code;
  const finish = row.finish_reasons[0];
  const question = line(row.tags.user_query, 160);
  return (
    <>
      {(finish === "length" || finish === "content_filter") && <Finish reason={finish} />}
      {row.client.retry ? <span class="badge warn" title={`Attempt ${row.client.retry + 1} of the client`}>retry {row.client.retry}</span> : null}
      {question ? <bdi class="asked">{question}</bdi> : row.outcome === "completed" && !row.answer ? quiet(`${row.method} ${line(row.path, 100)}`) : null}
      {trouble ? <bdi class="wrong"> {line(trouble, 160)}</bdi> : row.answer ? <><span class="quiet" aria-hidden="true"> → </span><bdi class="answered">{line(row.answer, 160)}</bdi></> : null}
    </>
  );
}

export const Finish = ({ reason }: { reason: string }) => <span class={`badge ${reason === "length" || reason === "content_filter" ? "bad" : ""}`}><bdi>{line(reason, 24)}</bdi></span>;

function Tokens({ row }: { row: Row }) {
  const { input, output, input_cached: cached, output_reasoning: reasoning, source } = row.usage;
  if (input == null && output == null) return quiet("–");
  const more = [cached ? `${count(cached)} of the input cached` : "", reasoning ? `${count(reasoning)} of the output reasoning` : "", source === "provider" ? "" : `${source}`].filter(Boolean).join(", ");
  return <span title={more || undefined}>{source !== "provider" && source !== undefined ? "≈" : ""}{count(input)}<span class="quiet">→</span>{count(output)}{cached || reasoning ? <sup>{cached ? "c" : ""}{reasoning ? "r" : ""}</sup> : null}</span>;
}

export function Money({ row }: { row: Row }) {
  const { status, total } = row.cost;
  if (total == null) return <span class="quiet" title={status === "unpriced" ? "no price is known for this model" : status === "no_usage" ? "no tokens are known" : status}>{status === "unpriced" ? "no price" : "–"}</span>;
  return <span title={`$${total}${status === "partial" ? ", a part has no price" : ""}`}>{dollars(total)}{status === "partial" ? "+" : ""}</span>;
}

/** Waiting, then streaming, as parts of the longest call in sight. */
function Waterfall({ row, scale }: { row: Row; scale: number }) {
  const { latency_ms: total, first_byte_ms: first, ttft_ms: ttft } = row.timing;
  const width = Math.max(2, Math.min(100, (100 * total) / Math.max(scale, 1)));
  const wait = total > 0 ? Math.min(1, (ttft ?? first ?? total) / total) * width : width;
  return <span class="waterfall" aria-hidden="true"><i class="wait" style={{ width: `${wait}%` }} /><i class="flow" style={{ width: `${width - wait}%` }} /></span>;
}
