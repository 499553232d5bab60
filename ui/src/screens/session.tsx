/** One conversation across its calls: each turn shows only what is new. */

import { useEffect, useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { pathOf } from "../lib/branches.ts";
import { conversation, messageTurn, isObject } from "../lib/conversation.ts";
import { ago, count, dollars, line, ms, plural, short, stamp, when } from "../lib/format.ts";
import { lazy } from "../lib/lazy.tsx";
import { useLoad } from "../lib/load.ts";
import { usePages } from "../lib/pages.ts";
import { quote } from "../lib/query.ts";
import { link, place } from "../lib/router.ts";
import type { Json, Session, Turn } from "../lib/types.ts";
import { Skeleton, Spark, Status, Tabs, Trouble } from "../parts/bits.tsx";
import { TurnCard } from "../parts/turn.tsx";

const Branches = lazy(() => import("./branches.tsx").then((module) => module.Branches));

export function SessionScreen({ session }: { session: string }) {
  const path = `/api/v1/sessions/${encodeURIComponent(session)}`;
  const { data, error, again } = useLoad(`session ${session}`, (signal) => get<Session>(path, {}, signal), 5000);
  const { items, error: failed, busy, done, more } = usePages<Turn>(`${path}/turns`, { limit: 50 });
  const [markdown, setMarkdown] = useState(false);
  useEffect(() => void (document.title = `${line(data?.name ?? session, 60)} · calltap`), [data, session]);
  // A result names only the id of its call, which was an earlier answer.
  const names = new Map(items.flatMap((item) => toolNames(item.answer)));
  const calls = link("/", { q: `session:${quote(session)}` });
  const isTree = place.value.query.get("view") === "tree";
  const here = `/sessions/${encodeURIComponent(session)}`;
  const part = done ? "" : `: the first ${count(items.length)}`;
  const start = data ? Date.parse(data.first_at) : 0;
  return (
    <main class="page session">
      <nav class="crumbs" aria-label="Where this is"><a href="/sessions">Sessions</a> <span class="quiet">/</span> <span class="mono"><bdi>{line(session, 80)}</bdi></span></nav>
      <div class="title-row"><h1><bdi>{line(data?.name ?? session, 120)}</bdi></h1><span class="grow" /><a class="button" href={calls}>As a list of calls</a></div>
      {error && !data && (error.status === 404 && /^no call/i.test(error.message) ? <p class="note">No call belongs to this session.</p> : <><Trouble error={error} what="sessions in full yet" again={again} /><p><a href={calls}>The calls of this session</a></p></>)}
      {data && (
        <div class="tiles">
          <Tile name="Calls" value={count(data.calls)} hint={data.errors ? plural(data.errors, "error") : "no errors"} />
          <Tile name="Lasted" value={ms(Date.parse(data.last_at) - start)} hint={`last call ${ago(data.last_at)}`} />
          <Tile name="Model time" value={ms(data.model_ms)} hint="sum of all calls" />
          <Tile name="Tokens" value={`${short(data.input_tokens)} → ${short(data.output_tokens)}`} hint={line(data.models.join(", "), 60)} />
          <Tile name="Cost" value={dollars(data.cost)} hint={data.unpriced ? `${count(data.unpriced)} without a price` : ""} />
          <Tile name="Customer" value={line(data.customer ?? data.user, 40) || "–"} hint={line(data.prompts.join(", "), 60)} />
        </div>
      )}
      {items.length > 1 && data && (
        <section aria-label="Course" class="course">
          <figure><figcaption class="quiet">Calls over time{part}</figcaption><Gantt turns={items} /></figure>
          <figure><figcaption class="quiet">Size of the context, call by call{part}</figcaption><Spark values={items.map((item) => item.call.usage.input ?? 0)} label="Input tokens of each call" /></figure>
        </section>
      )}
      {(isTree || items.some(({ call }) => pathOf(call).length)) && <div class="tab-row"><Tabs label="Ways to see the session" current={isTree ? "tree" : "thread"} tabs={[{ id: "thread", name: "Conversation", href: here }, { id: "tree", name: "Tree", href: `${here}?view=tree` }]} /></div>}
      {isTree ? <Branches session={session} /> : <>
      {items.length > 0 && <div class="options"><span class="quiet">Each call shows only what was not there before.</span><span class="grow" /><label><input type="checkbox" checked={markdown} onChange={() => setMarkdown(!markdown)} /> Markdown</label></div>}
      {failed && data && <Trouble error={failed} what="the turns of a session yet" />}
      <ol class="thread">
        {items.map((item) => <Call key={item.call.id} item={item} markdown={markdown} names={names} />)}
      </ol>
      {busy && <Skeleton lines={4} />}
      {items.length > 0 && !done && !busy && <p><button type="button" onClick={more}>Show more calls</button></p>}
      </>}
    </main>
  );
}

const Tile = ({ name, value, hint }: { name: string; value: string; hint: string }) => <div class="tile"><span class="quiet">{name}</span><b><bdi>{value}</bdi></b><span class="quiet hint"><bdi>{hint || "\u00a0"}</bdi></span></div>;

/** Names of the tools that an answer calls, by the ids of the calls. */
function toolNames(answer: Json): [string, string][] {
  const { output } = conversation(null, Array.isArray(answer) ? { output: answer } : { choices: [{ message: answer }] });
  return output.flatMap((turn) => turn.parts).flatMap((part): [string, string][] => (part.kind === "call" && part.id ? [[part.id, part.name]] : []));
}

function Call({ item: { call, messages, answer, resent, truncated }, markdown, names }: { item: Turn; markdown: boolean; names: Map<string, string> }) {
  const answers: Json[] = Array.isArray(answer) ? answer : answer === null ? [] : [answer];
  return (
    <li>
      <header>
        <a href={`/calls/${call.id}`}><Status outcome={call.outcome} status={call.status} /> <time title={stamp(call.started_at)}>{when(call.started_at)}</time></a>
        <b><bdi>{line(call.model.served ?? call.model.requested ?? call.endpoint, 60)}</bdi></b>
        {call.tags.session_path && <span class="quiet mono"><bdi>{line(call.tags.session_path, 60)}</bdi></span>}
        {call.tags.prompt && <span class="quiet"><bdi>{line(call.tags.prompt, 40)}</bdi></span>}
        <span class="grow" />
        <span class="quiet">{[call.usage.input == null && call.usage.output == null ? "" : `${count(call.usage.input)}→${count(call.usage.output)}`, call.cost.total == null ? "" : dollars(call.cost.total), ms(call.timing.latency_ms)].filter(Boolean).join(" · ")}</span>
      </header>
      {resent > 0 && <p class="quiet resent">{plural(resent, "earlier message")} sent again</p>}
      {messages.map((message, at) => <TurnCard key={at} turn={messageTurn(message)} markdown={markdown} results={names} />)}
      {answers.map((message, at) => <TurnCard key={`a${at}`} turn={isObject(message) && message["role"] === undefined && message["type"] === undefined ? messageTurn({ role: "assistant", ...message }) : messageTurn(message)} markdown={markdown} isNew />)}
      {call.error && <p class="note bad"><bdi>{line(call.error.message ?? call.error.code, 400)}</bdi></p>}
      {truncated && <p class="quiet">Cut here; <a href={`/calls/${call.id}`}>the call</a> has all of it.</p>}
    </li>
  );
}

/** Calls as bars: what ran beside what. */
function Gantt({ turns }: { turns: Turn[] }) {
  const shown = turns.slice(0, 200);
  const from = Math.min(...shown.map((turn) => Date.parse(turn.call.started_at)));
  const to = Math.max(...shown.map((turn) => Date.parse(turn.call.started_at) + turn.call.timing.latency_ms));
  const height = Math.min(6, 90 / shown.length);
  return (
    <svg class="gantt" viewBox={`0 0 1000 ${shown.length * height}`} preserveAspectRatio="none" role="img" aria-label={`${shown.length} calls over ${ms(to - from)}`}>
      {shown.map(({ call }, at) => <rect key={call.id} class={call.outcome === "completed" ? "" : "failed"} x={(1000 * (Date.parse(call.started_at) - from)) / Math.max(1, to - from)} y={at * height} width={Math.max(3, (1000 * call.timing.latency_ms) / Math.max(1, to - from))} height={height * 0.8} />)}
    </svg>
  );
}
