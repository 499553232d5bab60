/** What crossed the wire: headers, bodies, events with their times. */

import { useMemo, useRef, useState } from "preact/hooks";
import { download, get } from "../lib/api.ts";
import { bytes, count, line, ms } from "../lib/format.ts";
import { isObject, parse } from "../lib/conversation.ts";
import { useLoad } from "../lib/load.ts";
import { recorded, type RecordedEvent } from "../lib/sse.ts";
import { useVirtual } from "../lib/virtual.ts";
import type { Call, Headers, Raw as Bodies, RawBody } from "../lib/types.ts";
import { CopyButton, Skeleton, Trouble } from "../parts/bits.tsx";
import { Text } from "../parts/text.tsx";
import { Tree } from "../parts/tree.tsx";

export function Raw({ call, at }: { call: Call; at: number | null }) {
  const { data, error, again } = useLoad(`raw ${call.id}`, (signal) => get<Bodies>(`/api/v1/calls/${call.id}/raw`, {}, signal));
  if (error && !data) {
    return error.status === 404 ? <><p class="note">The bodies of this call are not kept. Headers that were kept are below.</p><HeaderTable title="Request headers" headers={call.headers?.request} /><HeaderTable title="Response headers" headers={call.headers?.response} /></> : <Trouble error={error} what="the bytes of a call" again={again} />;
  }
  if (!data) return <Skeleton lines={12} />;
  return (
    <div class="raw">
      <section aria-label="Request"><h2>Request</h2>
        <p class="mono"><bdi>{call.method} {line(call.path, 300)}</bdi></p>
        <HeaderTable title="Headers" headers={data.headers.request} />
        <Body body={data.request} call={call} part="request" />
      </section>
      <section aria-label="Response"><h2>Response</h2>
        <p class="mono">{call.status ?? "no status"}</p>
        <HeaderTable title="Headers" headers={data.headers.response} />
        <Body body={data.response} call={call} part="response" chunks={data.chunks} at={at} />
      </section>
    </div>
  );
}

function HeaderTable({ title, headers }: { title: string; headers: Headers | undefined }) {
  if (!headers?.length) return <p class="quiet">{title}: none kept.</p>;
  return (
    <details class="headers" open={headers.length <= 8}>
      <summary>{title} <span class="quiet">{count(headers.length)}, those that are safe to keep</span></summary>
      <dl class="mono">{headers.map(([name, value], at) => <div key={at}><dt><bdi>{line(name, 80)}</bdi></dt><dd><bdi>{line(value, 2048)}</bdi></dd></div>)}</dl>
    </details>
  );
}

type Mode = "events" | "pretty" | "text" | "hex";

function Body({ body, call, part, chunks = [], at = null }: { body: RawBody; call: Call; part: "request" | "response"; chunks?: [number, number][]; at?: number | null }) {
  const isStream = part === "response" && body.text !== null && /^(\uFEFF)?(data|event|id|:)/m.test(body.text.slice(0, 2000)) && !body.text.trimStart().startsWith("{");
  const json = useMemo(() => (body.text !== null && !isStream && body.text.length < 20_000_000 ? read(body.text) : null), [body.text, isStream]);
  const modes: [Mode, string][] = [];
  if (isStream) modes.push(["events", "Events"]);
  if (json && "value" in json) modes.push(["pretty", "Pretty"]);
  if (body.text !== null) modes.push(["text", "Raw"]);
  modes.push(["hex", "Hex"]);
  const [picked, pick] = useState<Mode | null>(null);
  const mode = picked ?? modes[0]?.[0] ?? "text";
  if (body.kept === 0) return <p class="quiet">{body.total ? `${bytes(body.total)} crossed, none of it is kept.` : "No body."}</p>;
  return (
    <div class="body">
      <div class="options">
        <div role="group" aria-label={`View of the ${part}`} class="choices">{modes.map(([id, name]) => <button key={id} type="button" aria-pressed={id === mode} onClick={() => pick(id)}>{name}</button>)}</div>
        <span class={body.kept < body.total ? "bad" : "quiet"}>{body.kept < body.total ? `kept ${bytes(body.kept)} of ${bytes(body.total)}` : bytes(body.total)}{body.encoding ? `, ${line(body.encoding, 30)}` : ""}</span>
        <span class="grow" />
        {body.text !== null && <CopyButton text={body.text} what={part} />}
        <button type="button" onClick={() => void download(`/api/v1/calls/${call.id}/raw?part=${part}`, `${call.id}-${part}.bin`)}>Save bytes</button>
      </div>
      {json && "error" in json && part === "request" && <p class="note bad">Not JSON: {line(json.error, 200)}</p>}
      {mode === "events" && body.text !== null && <Events text={body.text} chunks={chunks} exact={!body.encoding && body.kept === body.total} at={at} />}
      {mode === "pretty" && json && "value" in json && <Tree value={json.value} open={3} />}
      {mode === "text" && body.text !== null && <div class="mono wrap"><Text text={body.text} limit={20_000} /></div>}
      {mode === "hex" && <Hex body={body} />}
    </div>
  );
}

function read(text: string): { value: import("../lib/types.ts").Json } | { error: string } {
  try {
    return { value: JSON.parse(text) as import("../lib/types.ts").Json };
  } catch (error) {
    return { error: error instanceof Error ? error.message : "damaged" };
  }
}

function Events({ text, chunks, exact, at }: { text: string; chunks: [number, number][]; exact: boolean; at: number | null }) {
  const events = useMemo(() => recorded(text, chunks, exact), [text, chunks, exact]);
  const box = useRef<HTMLDivElement>(null);
  const view = useVirtual(box, events.length, 24);
  const [open, setOpen] = useState<number | null>(at === null ? null : Math.min(at, events.length) - 1);
  const one = open === null ? undefined : events[open];
  return (
    <div class="events">
      <div ref={box} class="event-list" tabIndex={0} role="region" aria-label={`${events.length} events`} style={{ "--row": "24px" }}>
        <div style={{ height: `${view.height}px` }}>
          <div style={{ transform: `translateY(${view.top}px)` }}>
            {events.slice(view.first, view.last).map((event, index) => <EventRow key={view.first + index} event={event} before={events[view.first + index - 1]} isOpen={open === view.first + index} toggle={() => setOpen(open === view.first + index ? null : view.first + index)} number={view.first + index + 1} />)}
          </div>
        </div>
      </div>
      {one && <div class="event-detail"><p class="quiet">Event {count((open ?? 0) + 1)} of {count(events.length)}: <bdi>{line(one.event, 80)}</bdi>, {bytes(one.bytes)}{one.at_us !== null ? `, ${ms(one.at_us / 1000)} after the request` : ""}</p>{(() => {
        const value = parse(one.data);
        return value && typeof value.value === "object" ? <Tree value={value.value} open={4} /> : <div class="mono wrap"><Text text={one.data} /></div>;
      })()}</div>}
    </div>
  );
}

function EventRow({ event, before, isOpen, toggle, number }: { event: RecordedEvent; before: RecordedEvent | undefined; isOpen: boolean; toggle: () => void; number: number }) {
  const gap = event.at_us !== null && before?.at_us != null ? (event.at_us - before.at_us) / 1000 : null;
  return (
    <button type="button" class="event mono" aria-pressed={isOpen} onClick={toggle}>
      <span class="quiet right">{number}</span>
      <span class="right">{event.at_us === null ? "" : ms(event.at_us / 1000)}</span>
      <span class={`right ${gap !== null && gap > 1000 ? "bad" : "quiet"}`}>{gap === null ? "" : `+${ms(gap)}`}</span>
      <span class="quiet right">{bytes(event.bytes)}</span>
      <span class="data"><bdi>{event.event === "message" ? "" : `${line(event.event, 60)} `}{gist(event.data)}</bdi></span>
    </button>
  );
}

/** What an event brings, without what every event of the stream repeats. */
function gist(data: string): string {
  const value = data.length < 20_000 ? parse(data)?.value : undefined;
  if (!isObject(value)) return line(data, 400);
  const [choice] = Array.isArray(value["choices"]) ? value["choices"] : [];
  if (isObject(choice)) return line(`${JSON.stringify(choice["delta"] ?? choice["text"] ?? null)}${choice["finish_reason"] ? ` finish: ${String(choice["finish_reason"])}` : ""}`, 400);
  if (value["usage"] && Array.isArray(value["choices"])) return line(`usage: ${JSON.stringify(value["usage"])}`, 400);
  return line("delta" in value ? JSON.stringify(value["delta"]) : data, 400);
}

/** Bytes shown in hexadecimal. */
const HEX_MAX = 16_384;

function Hex({ body }: { body: RawBody }) {
  const lines = useMemo(() => {
    const all = body.hex !== null ? (body.hex.slice(0, HEX_MAX * 2).match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)) : [...new TextEncoder().encode((body.text ?? "").slice(0, HEX_MAX))].slice(0, HEX_MAX);
    const rows: string[] = [];
    for (let at = 0; at < all.length; at += 16) {
      const row = all.slice(at, at + 16);
      rows.push(`${at.toString(16).padStart(6, "0")}  ${row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47)}  ${row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("")}`);
    }
    return rows.join("\n");
  }, [body]);
  return <><pre class="hex" tabIndex={0}>{lines}</pre>{body.kept > HEX_MAX && <p class="quiet">The first {bytes(HEX_MAX)} of {bytes(body.kept)}.</p>}</>;
}
