/** One sink: what can be done with it, and the records it gave up. */

import { useEffect, useState } from "preact/hooks";
import { ApiError, get, post } from "../lib/api.ts";
import { say } from "../lib/clipboard.ts";
import { count, line, plural, stamp } from "../lib/format.ts";
import { useLoad } from "../lib/load.ts";
import { usePages } from "../lib/pages.ts";
import type { Dead, Done, Sink } from "../lib/types.ts";
import { Dialog, Skeleton, Trouble } from "../parts/bits.tsx";
import { State } from "./delivery.tsx";
import { Progress, SinkFacts } from "./sinks.tsx";

export function SinkScreen({ name }: { name: string }) {
  const path = `/api/v1/sinks/${encodeURIComponent(name)}`;
  const { data: sink, error, again } = useLoad(`sink ${name}`, (signal) => get<Sink>(path, {}, signal), 1500);
  const dead = usePages<Dead>(`${path}/dead`, { limit: 100 });
  const [busy, setBusy] = useState(false);
  const [answer, setAnswer] = useState<{ text: string; isBad: boolean } | null>(null);
  const [asking, ask] = useState<"drop" | "backfill" | null>(null);
  const [chosen, choose] = useState<Set<string>>(new Set());
  /** How many dead records there were when a redrive began. */
  const [driving, drive] = useState<number | null>(null);
  useEffect(() => void (document.title = `${line(name, 60)} · calltap`), [name]);
  const left = (sink?.waiting ?? 0) + (sink?.queue ?? 0);
  useEffect(() => {
    if (driving !== null && left === 0) drive(null);
  }, [left]);

  const act = async (action: string, body: unknown, done: (result: Done) => string) => {
    setBusy(true);
    try {
      const result = await post<Done>(`${path}/${action}`, body);
      const text = result.message ?? done(result);
      setAnswer({ text, isBad: result.ok === false });
      say(line(text, 120));
      if (action === "redrive") drive(result.records ?? null);
      choose(new Set());
      again();
      dead.again();
    } catch (failure) {
      setAnswer({ text: failure instanceof ApiError ? failure.message : "That did not work.", isBad: true });
    }
    setBusy(false);
  };
  const ids = chosen.size ? [...chosen] : undefined;
  const which = ids ? plural(ids.length, "record") : "all";
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    choose(next);
  };
  return (
    <main class="page">
      <nav class="crumbs" aria-label="Where this is"><a href="/sinks">Sinks</a> <span class="quiet">/</span> <bdi>{line(name, 60)}</bdi></nav>
      <div class="title-row"><h1><bdi>{line(name, 60)}</bdi></h1>{sink && <><span class="quiet">{sink.type}</span><State state={sink.state} /></>}<span class="grow" />
        {sink && <>
          {sink.state === "paused" ? <button type="button" class="primary" disabled={busy} onClick={() => void act("resume", {}, () => "Delivery goes on")}>Resume</button> : <button type="button" disabled={busy} onClick={() => void act("pause", {}, () => "Paused; nothing is lost meanwhile")}>Pause</button>}
          <button type="button" disabled={busy} onClick={() => void act("test", {}, (result) => (result.ok === false ? "The sink did not take the test event" : "The sink took the test event"))}>Send a test event</button>
          <button type="button" disabled={busy} onClick={() => ask("backfill")}>Backfill…</button>
        </>}
      </div>
      {error && !sink ? (error.status === 404 && /no such sink/i.test(error.message) ? <p class="note">No sink has this name.</p> : <Trouble error={error} what="this sink" again={again} />) : !sink ? <Skeleton lines={6} /> : (
        <>
          {answer && <p class={answer.isBad ? "note bad" : "note"} role="status"><bdi>{line(answer.text, 600)}</bdi></p>}
          {sink.reason && <p class="note bad"><bdi>{line(sink.reason, 600)}</bdi></p>}
          <section class="card"><SinkFacts sink={sink} />{driving !== null && <Progress label="Delivering again" left={Math.min(left, driving)} of={driving} />}</section>
          <section>
            <div class="title-row"><h2>Given up {sink.dead > 0 && <span class="count">{count(sink.dead)}</span>}</h2><span class="grow" />
              {dead.items.length > 0 && <><button type="button" class="primary" disabled={busy} onClick={() => void act("redrive", ids ? { ids } : {}, (result) => `${plural(result.records ?? 0, "record")} to be delivered again`)}>Deliver {which} again</button><button type="button" disabled={busy} onClick={() => ask("drop")}>Discard {which}…</button></>}
            </div>
            {dead.error && !dead.items.length ? <Trouble error={dead.error} what="the list of records that were given up" /> : !dead.items.length ? <p class="quiet">{dead.busy ? "Looking…" : "No record was given up."}</p> : (
              <div class="wide panel" tabIndex={0} role="region" aria-label="Records that were given up">
                <table class="stack">
                  <thead><tr><th scope="col"><input type="checkbox" aria-label="All that are shown" checked={chosen.size === dead.items.length} onChange={() => choose(chosen.size === dead.items.length ? new Set() : new Set(dead.items.map((item) => item.id)))} /></th><th scope="col">Call</th><th scope="col">Given up</th><th scope="col">Attempts</th><th scope="col">Why</th></tr></thead>
                  <tbody>{dead.items.map((item) => (
                    <tr key={item.id}><td><input type="checkbox" aria-label={`Choose ${item.id}`} checked={chosen.has(item.id)} onChange={() => toggle(item.id)} /></td><td><a class="mono" href={`/calls/${encodeURIComponent(item.id)}/delivery`}>{item.id.slice(0, 13)}</a></td><td>{stamp(item.at)}</td><td data-name="attempts">{count(item.attempts)}</td><td class="wrap full"><bdi>{line(item.reason, 500)}</bdi></td></tr>
                  ))}</tbody>
                </table>
              </div>
            )}
            {dead.items.length > 0 && !dead.done && <p><button type="button" disabled={dead.busy} onClick={dead.more}>Show more</button></p>}
          </section>
        </>
      )}
      {asking === "drop" && (
        <Dialog title={`Discard ${which}?`} close={() => ask(null)}>
          <p>They stay in the local store, but will never be delivered to {line(name, 60)}.</p>
          <p class="inline"><button type="button" class="primary" onClick={() => (ask(null), void act("drop", ids ? { ids } : {}, (result) => `${plural(result.records ?? 0, "record")} discarded`))}>Discard</button><button type="button" onClick={() => ask(null)}>Keep</button></p>
        </Dialog>
      )}
      {asking === "backfill" && <BackfillDialog close={() => ask(null)} act={(body) => (ask(null), void act("backfill", body, (result) => `${plural(result.records ?? 0, "older call")} to be delivered`))} />}
    </main>
  );
}

function BackfillDialog({ close, act }: { close: () => void; act: (body: { since?: string }) => void }) {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const value = String(new FormData(event.currentTarget as HTMLFormElement).get("since") ?? "");
    const since = value ? new Date(value) : null;
    act(since && !Number.isNaN(since.getTime()) ? { since: since.toISOString() } : {});
  };
  return (
    <Dialog title="Backfill" close={close}>
      <form onSubmit={submit}>
        <p>Delivers calls from before this sink was added. Without a time: from the beginning.</p>
        <p class="inline"><label>Since <input type="datetime-local" name="since" /></label></p>
        <p class="inline"><button type="submit" class="primary">Start</button><button type="button" onClick={close}>Cancel</button></p>
      </form>
    </Dialog>
  );
}
