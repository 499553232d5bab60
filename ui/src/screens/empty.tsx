/** What stands where there are no calls: how to make the first one, or why none matches. */

import { useState } from "preact/hooks";
import { get } from "../lib/api.ts";
import { clock, line } from "../lib/format.ts";
import { useLoad } from "../lib/load.ts";
import { feed } from "../lib/live.ts";
import { connect } from "../lib/snippets.ts";
import type { Grammar, Row } from "../lib/types.ts";
import { CopyButton, Status } from "../parts/bits.tsx";
import { proxyBase } from "./where.ts";

export function Teach({ rows, running }: { rows: Row[]; running: number }) {
  const base = proxyBase();
  const snippets = connect(base);
  const [name, choose] = useState(snippets[0]?.[0] ?? "");
  const code = snippets.find(([other]) => other === name)?.[1] ?? "";
  return (
    <div class="teach">
      <h2>{rows.length ? "Almost there" : "Make the first call"}</h2>
      {rows.length > 0 && (
        <section aria-label="What arrived so far">
          <p>Something arrived, but no call has succeeded yet:</p>
          <ul class="arrived">
            {rows.slice(0, 5).map((row) => (
              <li key={row.id}>
                <a href={`/calls/${row.id}`}><Status outcome={row.outcome} status={row.status} long /> <span class="mono"><bdi>{row.method} {line(row.path, 120)}</bdi></span> <span class="quiet">{clock(row.started_at)}</span></a>
                <p><bdi>{line(row.error?.message ?? "", 300)}</bdi></p>
                <p class="advice">{advice(row, base)}</p>
              </li>
            ))}
          </ul>
        </section>
      )}
      <p>Point a client here. Its own key passes through, and the answer comes back byte for byte.</p>
      <div class="snippets">
        <div role="group" aria-label="Client" class="choices">
          {snippets.map(([other]) => <button key={other} type="button" aria-pressed={other === name} onClick={() => choose(other)}>{other}</button>)}
        </div>
        <div class="code"><pre tabIndex={0}><code>{code}</code></pre><CopyButton text={code} what="lines" label="Copy" /></div>
      </div>
      <p class="waiting" role="status"><i aria-hidden="true" />{running ? "A call is running…" : feed.value === "live" ? "Waiting for the first call. It appears here by itself." : "Connecting to the live feed…"}</p>
      <p class="quiet">No key at hand? <code>calltap demo</code> starts the same with a sample provider and some traffic.</p>
    </div>
  );
}

/** What to do about a call that did not succeed, in a sentence or two. */
export function advice(row: Row, base: string): string {
  const code = row.error?.code ?? "";
  if (row.outcome === "refused") {
    if (code === "calltap_invalid_key") return "calltap has keys of its own configured ([auth] keys). Send one of them as `x-calltap-key`, or as the API key of the client.";
    if (code === "calltap_unknown_upstream") return "No upstream has this name. The first part of the path names one, as in /groq/v1; others come from [upstreams] in calltap.toml.";
    if (code === "calltap_unknown_route") return `The base URL of the client ends in /v1: ${base}/v1. Client libraries append the rest by themselves.`;
    if (code === "calltap_body_too_large") return "The request is larger than server.max_body allows.";
    if (code === "calltap_forbidden") return "The request came from a web page of another origin, which server.allowed_origins can name, or its key is not for this upstream.";
    if (code === "calltap_rate_limited") return "The key has as many calls as max_parallel_requests or requests_per_minute of its [[auth.keys]] allows. The client may try again.";
    if (code === "calltap_budget_exceeded") return "The key has spent its budget_per_day. The next day begins at 00:00 UTC.";
    if (code === "calltap_loop") return "The upstream is this calltap itself. Set the base URL of the upstream to the provider's, not to this address.";
    return "calltap did not forward this request; the message above says why.";
  }
  if (row.outcome === "connect_failed") return `calltap could not reach the upstream “${row.upstream}”. Look at its base_url, at DNS and at the network of this machine; \`calltap doctor\` checks them.`;
  if (row.outcome === "upstream_timeout") return "The upstream was silent for too long. Its timeouts are in [upstreams] of the configuration.";
  if (row.status === 401 || row.status === 403) return "The provider did not accept the key. calltap passes on what the client sends: set OPENAI_API_KEY (or the provider's own variable) where the client runs.";
  if (row.status === 404) return `The provider knows no such path or model. The base URL of the client should be ${base}/v1, and the model one of the provider's.`;
  if (row.status === 429) return "The provider limits the rate, or the account has no credit left.";
  if (row.outcome === "client_aborted") return "The client went away before the answer was complete; perhaps its timeout is short.";
  return "The provider's own message is above; calltap passes it on unchanged.";
}

/** No call matches: says which part of the query is to blame. */
export function NoHits({ q, apply }: { q: string; apply: (q: string) => void }) {
  const { data } = useLoad(q ? `explain ${q}` : null, (signal) => get<Grammar>("/api/v1/query", { q, explain: 1 }, signal));
  const guilty = data?.terms?.filter((term) => term.without) ?? [];
  return (
    <div class="teach">
      <h2>No call matches</h2>
      {q === "delivery:undelivered" ? <p>Every call has reached every sink, or no sink is configured.</p> : guilty.length > 0 ? (
        <><p>Without one of these there would be some:</p>
          <ul class="arrived">{guilty.map((term) => <li key={term.text}><button type="button" onClick={() => apply(term.rest)}>Drop <code><bdi>{term.text}</bdi></code></button></li>)}</ul></>
      ) : <p>New calls that match appear here by themselves.</p>}
      {q && <p><button type="button" onClick={() => apply("")}>Show all calls</button></p>}
    </div>
  );
}
