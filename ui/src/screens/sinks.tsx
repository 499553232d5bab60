/** Every sink at a glance: whether it delivers, how far behind it is, what it gave up. */

import { useEffect } from "preact/hooks";
import { get } from "../lib/api.ts";
import { age, ago, count, line, plural, stamp } from "../lib/format.ts";
import { useLoad } from "../lib/load.ts";
import type { Page, Sink } from "../lib/types.ts";
import { Facts, Skeleton, Trouble } from "../parts/bits.tsx";
import { State } from "./delivery.tsx";

/** A sink that is so far behind is worth a word. */
const LAG_S = 60;

export function Sinks() {
  const { data, error, again } = useLoad("sinks", (signal) => get<Page<Sink>>("/api/v1/sinks", {}, signal), 2000);
  useEffect(() => void (document.title = "Sinks · calltap"), []);
  return (
    <main class="page">
      <div class="title-row"><h1>Sinks</h1></div>
      {error && !data ? <Trouble error={error} what="delivery to sinks yet; every call stays in the local store" again={again} /> : !data ? <Skeleton lines={5} /> : !data.items.length ? (
        <div class="note"><div><p>No sink is configured: calls stay in the local store, and nothing leaves this machine.</p><p>A sink that is added later can start from the beginning. For instance:</p><pre><code>{"calltap serve --sink honeyhive      # key from HONEYHIVE_API_KEY\n\n[sinks.archive]\ntype = \"jsonl\""}</code></pre></div></div>
      ) : (
        <div class="cards">{data.items.map((sink) => <Card key={sink.id} sink={sink} />)}</div>
      )}
    </main>
  );
}

function Card({ sink }: { sink: Sink }) {
  const isLagging = (sink.oldest_age_s ?? 0) > LAG_S;
  return (
    <section class="card">
      <header><h2><a href={`/sinks/${encodeURIComponent(sink.name)}`}><bdi>{line(sink.name, 60)}</bdi></a></h2><span class="quiet">{sink.type ?? ""}</span><span class="grow" /><State state={isLagging && sink.state === "running" ? "lagging" : sink.state} /></header>
      {sink.reason && <p class="bad"><bdi>{line(sink.reason, 300)}</bdi></p>}
      <SinkFacts sink={sink} />
    </section>
  );
}

export function SinkFacts({ sink }: { sink: Sink }) {
  const { last_error: last, backfill } = sink;
  return (
    <>
      <Facts items={[
        ["Behind", sink.queue ? <><a href="/?q=delivery:pending">{plural(sink.queue, "call")}</a>{sink.oldest_age_s != null ? `, the oldest has waited for ${age(sink.oldest_age_s)}` : ""}</> : "nothing waits"],
        ["Delivered", count(sink.delivered)],
        ["Trying alone", sink.waiting ? plural(sink.waiting, "record") : null],
        ["Given up", sink.dead ? <a class="bad" href={`/sinks/${encodeURIComponent(sink.name)}`}>{plural(sink.dead, "record")}</a> : "none"],
        ["Last success", sink.last_delivery_at ? <span title={stamp(sink.last_delivery_at)}>{ago(sink.last_delivery_at)}</span> : null],
        ["Next try", sink.next_try_at ? clockOrAgo(sink.next_try_at) : null],
        ["Goes to", sink.target ? <span class="mono"><bdi>{line(sink.target, 200)}</bdi></span> : null],
        ["Last trouble", last ? <><bdi>{line(last.message, 400)}</bdi> <span class="quiet" title={stamp(last.at)}>{ago(last.at)}</span></> : null],
      ]} />
      {backfill && <Progress label="Backfill" left={backfill.queue} of={Math.max(backfill.queue, backfill.until - (sink.cursor ?? 0))} />}
    </>
  );
}

const clockOrAgo = (time: string): string => {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  return seconds > 0 ? `in ${age(seconds)}` : "now";
};

export function Progress({ label, left, of }: { label: string; left: number; of: number }) {
  const done = Math.max(0, of - left);
  return <label class="progress"><span>{label}</span><progress max={Math.max(1, of)} value={done} /><span class="quiet">{left ? `${count(left)} left` : "done"}</span></label>;
}
