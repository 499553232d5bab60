/** Where a call was delivered to. */

import { useState } from "preact/hooks";
import { ApiError, get, post } from "../lib/api.ts";
import { say } from "../lib/clipboard.ts";
import { line, stamp } from "../lib/format.ts";
import { own } from "../lib/own.ts";
import { useLoad } from "../lib/load.ts";
import type { Call, Delivery as Item, Page } from "../lib/types.ts";
import { Facts, Skeleton, Trouble } from "../parts/bits.tsx";
import { Tree } from "../parts/tree.tsx";

export const TONES: Record<string, [string, string]> = {
  delivered: ["✓", "good"], healthy: ["✓", "good"], pending: ["◔", "live"], lagging: ["◔", "warn"], retrying: ["↻", "warn"],
  failing: ["✗", "bad"], dead: ["✗", "bad"], paused: ["‖", "warn"], skipped: ["–", "quiet"],
  running: ["✓", "good"], disabled: ["–", "quiet"], removed: ["–", "quiet"], waiting: ["↻", "warn"],
};

/** What the states of a call say that have nothing else to tell. */
const MEANING: Record<string, string> = {
  delivered: "The sink took it.",
  pending: "The sink has not come to this call yet. Calls are delivered in order; the page of the sink says what holds it up.",
  skipped: "Not meant for this sink: its filter, its sample, its start or the call itself left it out.",
};

export function State({ state }: { state: string }) {
  const [glyph, tone] = own(TONES, state) ?? ["?", "warn"];
  return <span class={`status ${tone}`}><span class="glyph" aria-hidden="true">{glyph}</span>{line(state.replaceAll("_", " "), 30)}</span>;
}

export function Delivery({ call }: { call: Call }) {
  const { data, error, again } = useLoad(`delivery ${call.id}`, (signal) => get<Page<Item>>(`/api/v1/calls/${call.id}/delivery`, {}, signal), 5000);
  const [busy, setBusy] = useState(false);
  if (error && !data) return <Trouble error={error} what="the state of deliveries" again={again} />;
  if (!data) return <Skeleton lines={4} />;
  if (!data.items.length) return <p class="note">No sink is configured, so this call stays in the local store. Sinks are added in calltap.toml under [sinks], or with <code>--sink</code>.</p>;
  const redrive = async (sink: string) => {
    setBusy(true);
    try {
      await post(`/api/v1/sinks/${encodeURIComponent(sink)}/redrive`, { ids: [call.id] });
      say("Queued for delivery");
      again();
    } catch (failure) {
      say(failure instanceof ApiError ? failure.message : "That did not work");
    }
    setBusy(false);
  };
  return (
    <div class="cards">
      {data.items.map((item) => (
        <section key={item.sink} class="card">
          <header><h2><a href={`/sinks/${encodeURIComponent(item.sink)}`}>{line(item.sink, 60)}</a></h2><State state={item.state} /><span class="grow" />{item.state === "dead" && <button type="button" disabled={busy} onClick={() => void redrive(item.sink)}>Deliver again</button>}</header>
          {own(MEANING, item.state) && <p class="quiet">{own(MEANING, item.state)}</p>}
          <Facts items={[["Attempts", item.attempts ?? null], ["Answer", item.status ?? null], ["At", item.at ? stamp(item.at) : null], ["Next try", item.next_try_at ? stamp(item.next_try_at) : null], ["Error", item.error ? <bdi>{line(item.error, 600)}</bdi> : null]]} />
          {item.payload !== null && item.payload !== undefined && <details><summary>Payload as sent</summary><Tree value={item.payload} open={2} /></details>}
        </section>
      ))}
    </div>
  );
}
