/** All ids and tags of a call, and how its cost was worked out. */

import { bytes, count, dollars, line, stamp } from "../lib/format.ts";
import { own } from "../lib/own.ts";
import type { Call, Json } from "../lib/types.ts";
import { CopyButton, Facts } from "../parts/bits.tsx";
import { Tree } from "../parts/tree.tsx";

const mono = (text: string | null | undefined) => (text ? <><span class="mono"><bdi>{line(text, 300)}</bdi></span> <CopyButton text={text} what="value" /></> : null);
const plain = (text: string | number | null | undefined) => (text === null || text === undefined || text === "" ? null : <bdi>{line(String(text), 300)}</bdi>);
const isFilled = (value: Json | undefined): value is Json => value !== null && value !== undefined && !(typeof value === "object" && Object.keys(value).length === 0);

export function Metadata({ call }: { call: Call }) {
  const { tags, trace, client, cost, usage } = call;
  return (
    <div class="columns">
      <section><h2>Cost</h2><Cost call={call} /></section>
      <section><h2>Tokens</h2>
        <Facts items={[["Source", plain(usage.source)], ...Object.entries(usage).filter(([name, value]) => name !== "source" && name !== "raw" && typeof value === "number").map(([name, value]): [string, preact.ComponentChildren] => [name.replaceAll("_", " "), count(value as number)])]} />
        {isFilled(usage.raw) && <details><summary>As the provider sent it</summary><Tree value={usage.raw} /></details>}
      </section>
      <section><h2>Tags</h2>
        <Facts items={[["Prompt", plain(tags.prompt)], ["Version", plain(tags.prompt_version)], ["Session", plain(tags.session)], ["Session name", plain(tags.session_name)], ["Session path", plain(tags.session_path)], ["Environment", plain(tags.environment)], ["Customer", plain(tags.customer)], ["User", plain(tags.user)], ["Reference", plain(tags.reference)], ["Labels", plain(tags.labels?.join(", "))]]} />
        {isFilled(tags.metadata) && <><h3>Metadata</h3><Tree value={tags.metadata} /></>}
        {isFilled(tags.inputs) && <><h3>Variables of the prompt</h3><Tree value={tags.inputs} /></>}
        {isFilled(tags.context) && <><h3>Context</h3><Tree value={tags.context} /></>}
        {isFilled(tags.expected) && <><h3>Expected</h3><Tree value={tags.expected} /></>}
      </section>
      <section><h2>Ids</h2>
        <Facts items={[["Id", mono(call.id)], ["Number", call.seq === null ? null : count(call.seq)], ["Repeats", call.repeats ? <a href={`/calls/${call.repeats}`} class="mono">{call.repeats}</a> : null], ["Trace", mono(trace.trace_id)], ["Parent span", mono(trace.parent_id)], ["Key", plain(client.key)], ["Client", plain(client.user_agent)], ["Library", plain(client.sdk)], ["Retry", plain(client.retry)]]} />
      </section>
      <section><h2>What crossed</h2>
        <Facts items={[["Request", mono(`${call.method} ${call.path}`)], ["Upstream", plain(call.upstream)], ["Provider", plain(call.provider)], ["Started", stamp(call.started_at)], ["Ended", stamp(call.ended_at)], ["Request size", bytes(call.bytes.request)], ["Response size", bytes(call.bytes.response)], ["Delivered", bytes(call.bytes.delivered)], ["Sinks", call.sinks ? plain(call.sinks.join(", ") || "none") : "all"]]} />
      </section>
      {isFilled(call.parameters) && <section><h2>Parameters</h2><Tree value={call.parameters} /></section>}
      {cost.notes && cost.notes.length > 0 && <section><h2>Notes on the cost</h2><ul class="notes">{cost.notes.map((note) => <li key={note}><bdi>{line(note, 300)}</bdi></li>)}</ul></section>}
    </div>
  );
}

const WHY: Record<string, string> = {
  unpriced: "The price book knows no price for this model. A file in pricing.dir can add one.",
  no_usage: "No tokens are known for this call, so it has no cost.",
  free: "Calls of this kind cost nothing.",
  partial: "A part of what was used has no price; the sum holds what could be priced.",
};

function Cost({ call: { cost } }: { call: Call }) {
  return (
    <>
      {cost.status && own(WHY, cost.status) ? <p>{own(WHY, cost.status)}</p> : null}
      {cost.lines && cost.lines.length > 0 && (
        <div class="wide" tabIndex={0} role="region" aria-label="Lines of the cost"><table class="numbers arithmetic">
          <tbody>
            {cost.lines.map((entry, at) => (
              <tr key={at}><th scope="row"><bdi>{line(entry.unit, 60).replaceAll("_", " ")}</bdi></th><td>{count(entry.quantity)}</td><td class="quiet">× ${entry.price} / {count(entry.per)}</td><td>${entry.amount}</td></tr>
            ))}
          </tbody>
          <tfoot><tr><th scope="row">Total</th><td /><td /><td>{cost.total == null ? "–" : `$${cost.total}`}</td></tr></tfoot>
        </table></div>
      )}
      {!cost.lines?.length && cost.total != null && <p>{dollars(cost.total)} ({cost.basis})</p>}
      {cost.price && <Facts items={[["Price of", plain(cost.price.entry)], ["Found by", plain(cost.price.match)], ["Layer", plain(cost.price.layer)], ["In force from", plain(cost.price.from)], ["Price book", plain(cost.price.book)], ["Tier", plain(cost.tier)]]} />}
    </>
  );
}
