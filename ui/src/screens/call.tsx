/** One call: beside the list, or on a page of its own. */

import { useEffect, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { conversation } from "../lib/conversation.ts";
import { count, dollars, line, ms, stamp } from "../lib/format.ts";
import { useKeys } from "../lib/keys.ts";
import { useLoad } from "../lib/load.ts";
import { quote } from "../lib/query.ts";
import { back, go, link, place } from "../lib/router.ts";
import type { Call, Page, Row } from "../lib/types.ts";
import { Skeleton, Status, Tabs, Trouble } from "../parts/bits.tsx";
import { Icon } from "../parts/icons.tsx";
import { Tree } from "../parts/tree.tsx";
import { TurnCard } from "../parts/turn.tsx";
import { Delivery } from "./delivery.tsx";
import { copyCall, type Kind } from "./copies.ts";
import { replayOf } from "../lib/snippets.ts";
import { Metadata } from "./metadata.tsx";
import { Raw } from "./raw.tsx";
import { Timeline } from "./timeline.tsx";
import { advice } from "./empty.tsx";
import { proxyBase } from "./where.ts";

const load = (id: string) => (signal: AbortSignal) => get<Call>(`/api/v1/calls/${encodeURIComponent(id)}`, {}, signal);

export function Peek({ id, close }: { id: string; close: () => void }) {
  const { data: call, error, again } = useLoad(`call ${id}`, load(id));
  return (
    <div class="call compact">
      <header class="peek-head">
        <h2>Call <span class="mono quiet">{id.slice(0, 13)}</span></h2><span class="grow" />
        <a class="button" href={`/calls/${id}`} title="Open (o)"><Icon name="open" /> Open</a>
        <button type="button" class="bare" aria-label="Close" onClick={close}><Icon name="close" /></button>
      </header>
      {error && !call ? <Trouble error={error} what="this call" again={again} /> : !call ? <Skeleton lines={10} /> : <><Summary call={call} /><Conversation call={call} /></>}
    </div>
  );
}

const TABS = ["conversation", "timeline", "raw", "metadata", "delivery"] as const;
type TabId = (typeof TABS)[number];

export function CallScreen({ id, tab }: { id: string; tab: string }) {
  const { data: call, error, again } = useLoad(`call ${id}`, load(id));
  const current: TabId = TABS.find((name) => name === tab) ?? "conversation";
  useEffect(() => {
    document.title = `${call?.model.served ?? call?.endpoint ?? "Call"} ${id.slice(0, 8)} · calltap`;
  }, [call, id]);
  const to = (name: TabId) => `/calls/${encodeURIComponent(id)}${name === "conversation" ? "" : `/${name}`}`;
  const neighbour = async (step: -1 | 1) => {
    if (!call?.tags.session || call.seq === null) return;
    const q = `session:${quote(call.tags.session)} seq:${step < 0 ? "<" : ">"}${call.seq}`;
    const page = await get<Page<Row>>("/api/v1/calls", { q, limit: step < 0 ? 1 : 1000, order: step < 0 ? "newest" : "oldest" });
    // A server that knows no `order` answers newest first: the nearest is then the last.
    const nearest = step < 0 ? page.items[0] : page.items.reduce<Row | undefined>((best, row) => (!best || (row.seq ?? 0) < (best.seq ?? 0) ? row : best), undefined);
    if (nearest) go(`/calls/${nearest.id}`);
  };
  useKeys({
    ...Object.fromEntries(TABS.map((name, at) => [String(at + 1), () => go(to(name), true)])),
    "[": () => void neighbour(-1), "]": () => void neighbour(1),
    Escape: () => back("/"),
    c: () => (call ? void copyCall(call, "curl") : false),
    y: () => (call ? void copyCall(call, "link") : false),
  });
  return (
    <main class="call page">
      <nav class="crumbs" aria-label="Where this is"><a href="/">Calls</a> <span class="quiet">/</span> <span class="mono"><bdi>{line(id, 40)}</bdi></span></nav>
      <h1 class="unseen">Call {line(id, 40)}</h1>
      {error && !call ? (error.status === 404 ? <p class="note">No call has this id. It may have been pruned, or belong to another store.</p> : <Trouble error={error} what="this call" again={again} />) : !call ? <Skeleton lines={14} /> : (
        <>
          <Summary call={call} />
          <div class="tab-row">
            <Tabs label="Parts of the call" current={current} tabs={[{ id: "conversation", name: "Conversation", href: to("conversation") }, { id: "timeline", name: "Timeline", href: to("timeline") }, { id: "raw", name: "Raw", href: to("raw") }, { id: "metadata", name: "Metadata", href: to("metadata") }, { id: "delivery", name: "Delivery", href: to("delivery") }]} />
            {call.tags.session && <span class="neighbours"><button type="button" title="Previous call of the session ([)" onClick={() => void neighbour(-1)}><Icon name="left" /> Previous</button><button type="button" title="Next call of the session (])" onClick={() => void neighbour(1)}>Next <Icon name="right" /></button></span>}
          </div>
          {current === "conversation" && <Conversation call={call} />}
          {current === "timeline" && <Timeline call={call} />}
          {current === "raw" && <Raw call={call} at={Number(place.value.query.get("event")) || null} />}
          {current === "metadata" && <Metadata call={call} />}
          {current === "delivery" && <Delivery call={call} />}
        </>
      )}
    </main>
  );
}

function Summary({ call }: { call: Call }) {
  const { usage, timing, tags, model } = call;
  const served = model.served ?? model.requested;
  const original = replayOf(call);
  return (
    <section class="summary" aria-label="Summary">
      <div class="line">
        <Status outcome={call.outcome} status={call.status} long />
        <strong class="model"><bdi>{line(served ?? call.endpoint, 120)}</bdi></strong>
        {model.requested && served !== model.requested && <span class="quiet">asked for <bdi>{line(model.requested, 80)}</bdi></span>}
        <span class="quiet">{call.endpoint}{call.stream ? ", streamed" : ""}</span>
        <span class="quiet">{stamp(call.started_at)}</span>
        <span class="grow" />
        <CopyAs call={call} />
      </div>
      <div class="tiles">
        <Tile name="Latency" value={ms(timing.latency_ms)} />
        <Tile name="First token" value={ms(timing.ttft_ms ?? timing.first_byte_ms)} hint={timing.ttft_ms == null && timing.first_byte_ms != null ? "first byte" : undefined} />
        <Tile name="Speed" value={timing.output_tokens_per_second ? `${timing.output_tokens_per_second.toFixed(0)} tok/s` : "–"} />
        <Tile name="Input" value={count(usage.input)} hint={usage.input_cached ? `${count(usage.input_cached)} cached` : undefined} />
        <Tile name="Output" value={count(usage.output)} hint={usage.output_reasoning ? `${count(usage.output_reasoning)} reasoning` : usage.source && usage.source !== "provider" ? usage.source : undefined} />
        <Tile name="Cost" value={dollars(call.cost.total)} hint={call.cost.status !== "priced" ? call.cost.status?.replace("_", " ") : undefined} />
        <Tile name="Finish" value={line(call.finish_reasons.join(", "), 40) || "–"} />
      </div>
      <div class="chips">
        {tags.prompt && <a href={link(`/prompts/${encodeURIComponent(tags.prompt)}`, {})}><span class="quiet">prompt</span> <bdi>{line(tags.prompt, 60)}{tags.prompt_version ? `@${line(tags.prompt_version, 20)}` : ""}</bdi></a>}
        {tags.session && <a href={`/sessions/${encodeURIComponent(tags.session)}`}><span class="quiet">session</span> <bdi>{line(tags.session_name ?? tags.session, 60)}</bdi></a>}
        {(["customer", "user", "environment"] as const).map((name) => tags[name] ? <a key={name} href={link("/", { q: `${name === "environment" ? "env" : name}:${quote(tags[name] ?? "")}` })}><span class="quiet">{name}</span> <bdi>{line(tags[name], 60)}</bdi></a> : null)}
        {call.client.sdk || call.client.user_agent ? <span><span class="quiet">client</span> <bdi>{line(call.client.sdk ?? call.client.user_agent, 60)}</bdi></span> : null}
        {original && <a href={`/calls/${original}`}><span class="quiet">replay of</span> <span class="mono">{original.slice(0, 13)}</span></a>}
        {call.upstream && <span><span class="quiet">upstream</span> <bdi>{line(call.upstream, 40)}</bdi></span>}
      </div>
      {call.error && (
        <div class="note bad">
          <p><strong><bdi>{line(call.error.code ?? call.error.type ?? call.outcome, 120)}</bdi></strong> <bdi>{line(call.error.message, 1000)}</bdi></p>
          {call.outcome !== "completed" && <p class="quiet">{advice(call, proxyBase())}</p>}
        </div>
      )}
      {call.notes.length > 0 && <ul class="notes">{call.notes.map((note) => <li key={note}><bdi>{line(note, 400)}</bdi></li>)}</ul>}
    </section>
  );
}

const Tile = ({ name, value, hint }: { name: string; value: string; hint?: string | undefined }) => <div class="tile"><span class="quiet">{name}</span><b><bdi>{value}</bdi></b>{hint && <span class="quiet hint">{hint}</span>}</div>;

function CopyAs({ call }: { call: Call }) {
  return (
    <label class="copy-as"><span class="unseen">Copy as</span>
      <select value="" onChange={(event) => {
        const kind = event.currentTarget.value as Kind;
        event.currentTarget.value = "";
        void copyCall(call, kind);
      }}>
        <option value="" disabled>Copy as…</option>
        <option value="curl">curl</option><option value="replay">curl, as a replay</option><option value="Python">Python</option><option value="TypeScript">TypeScript</option><option value="HTTP">HTTP request</option><option value="JSON">record as JSON</option><option value="link">link</option>
      </select>
    </label>
  );
}

function Conversation({ call }: { call: Call }) {
  const [markdown, setMarkdown] = useState(false);
  const [isAll, showAll] = useState(false);
  if (call.request === null && call.response === null) return <p class="note">{bodiless(call)}</p>;
  const { input, output } = conversation(call.request, call.response);
  const known = input.length + output.length > 0;
  const names = new Map([...input, ...output].flatMap((turn) => turn.parts).flatMap((part) => (part.kind === "call" && part.id ? [[part.id, part.name] as [string, string]] : [])));
  const folded = !isAll && input.length > 12 ? input.length - 8 : 0;
  const shown = folded ? [...input.slice(0, 1), ...input.slice(1 + folded)] : input;
  return (
    <section class="conversation" aria-label="Conversation">
      {known && <div class="options"><label><input type="checkbox" checked={markdown} onChange={() => setMarkdown(!markdown)} /> Markdown</label></div>}
      {shown.map((turn, at) => (
        <>
          <TurnCard key={`in ${at}`} turn={turn} markdown={markdown} results={names} />
          {folded > 0 && at === 0 && <button type="button" class="more fold" onClick={() => showAll(true)}>show {count(folded)} earlier messages</button>}
        </>
      ))}
      {output.map((turn, at) => <TurnCard key={`out ${at}`} turn={turn} markdown={markdown} isNew results={names} />)}
      {!output.length && known && call.response === null && <p class="note">No answer was kept: {call.outcome === "completed" ? "its body is no longer stored." : "the call ended before there was one."}</p>}
      {!known && <><h3>Request</h3><Tree value={call.request} open={2} /><h3>Response</h3><Tree value={call.response} open={2} /></>}
      {known && !output.length && call.response !== null && <><h3>Response</h3><Tree value={call.response} open={2} /></>}
    </section>
  );
}

const bodiless = (call: Call): string =>
  call.notes.some((note) => /content|metadata/i.test(note)) ? "The content of this call was not kept: it was recorded with metadata only." : "The bodies of this call are not kept any more, or there were none.";
