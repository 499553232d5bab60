/** Conversations, newest first. */

import { useEffect } from "preact/hooks";
import { ago, count, dollars, line, ms, short, stamp } from "../lib/format.ts";
import { usePages } from "../lib/pages.ts";
import { go, place, withQuery } from "../lib/router.ts";
import type { Session } from "../lib/types.ts";
import { Skeleton, Trouble } from "../parts/bits.tsx";
import { Groups } from "./groups.tsx";

export function Sessions() {
  const q = place.value.query.get("q") ?? "";
  const { items, error, busy, done, more, again } = usePages<Session>("/api/v1/sessions", { q, limit: 100 });
  useEffect(() => void (document.title = "Sessions · calltap"), []);
  return (
    <main class="page">
      <div class="title-row"><h1>Sessions</h1><span class="grow" />
        <form class="inline" onSubmit={(event) => (event.preventDefault(), go(withQuery({ q: String(new FormData(event.currentTarget).get("q") ?? "").trim() })))}>
          <input name="q" aria-label="Sessions with calls that match" placeholder="customer:acme status:error" class="mono" defaultValue={q} key={q} maxLength={4096} spellcheck={false} />
        </form>
      </div>
      {error && !items.length && <><Trouble error={error} what="a list of sessions yet; below are totals of the stored calls by session" again={again} />{error.status === 404 && <Groups q={q} by="session" />}</>}
      {busy && !items.length && <Skeleton lines={10} />}
      {items.length > 0 && (
        <div class="wide panel" tabIndex={0} role="region" aria-label="Sessions">
          <table class="numbers stack">
            <thead><tr><th scope="col">Session</th><th scope="col" class="start">Begins with</th><th scope="col">Last call</th><th scope="col">Calls</th><th scope="col">Errors</th><th scope="col">Tokens</th><th scope="col">Cost</th><th scope="col">Lasted</th><th scope="col">Model time</th><th scope="col" class="start">Customer</th></tr></thead>
            <tbody>
              {items.map((item) => (
                <tr key={item.session}>
                  <th scope="row"><a href={`/sessions/${encodeURIComponent(item.session)}`} title={line(item.session, 200)}><bdi>{line(item.name ?? item.session, 48)}</bdi></a></th>
                  <td class="text excerpt-cell"><bdi>{line(item.preview, 90)}</bdi> <span class="quiet"><bdi>{line(item.models.join(", "), 60)}</bdi></span></td>
                  <td title={stamp(item.last_at)}>{ago(item.last_at)}</td><td data-name="calls">{count(item.calls)}</td>
                  <td data-name="errors" class={item.errors ? "bad" : "quiet"}>{count(item.errors)}</td>
                  <td data-name="tokens">{short(item.input_tokens)}<span class="quiet">→</span>{short(item.output_tokens)}</td><td data-name="cost">{dollars(item.cost)}</td>
                  <td data-name="lasted" class="quiet">{ms(Date.parse(item.last_at) - Date.parse(item.first_at))}</td><td data-name="model time">{ms(item.model_ms)}</td>
                  <td data-name="customer" class="text"><bdi>{line(item.customer ?? item.user, 40) || "–"}</bdi></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {items.length > 0 && !done && <p><button type="button" disabled={busy} onClick={more}>Show more</button></p>}
      {!items.length && !busy && !error && <p class="note">No session{q ? " matches" : " yet"}. Calls belong to one by the header <code>x-calltap-session</code>, or by <code>/-/session=s1/v1</code> in the base URL.</p>}
    </main>
  );
}
