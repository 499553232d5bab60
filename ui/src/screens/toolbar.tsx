/** Above the list: saved views, search, time, grouping, live. */

import { useState } from "preact/hooks";
import type { ApiError } from "../lib/api.ts";
import { line } from "../lib/format.ts";
import { feed, running } from "../lib/live.ts";
import { views } from "../lib/prefs.ts";
import { changes, set as setTerm, valueOf } from "../lib/query.ts";
import { go, link, withQuery } from "../lib/router.ts";
import { Icon } from "../parts/icons.tsx";
import { Search } from "./search.tsx";

const BUILT_IN: [string, string][] = [["All", ""], ["Errors", "status:error"], ["Slow", "latency:>10s"], ["Expensive", "cost:>0.05"], ["Truncated", "finish:length"], ["No price", "cost_status:unpriced"], ["Undelivered", "delivery:undelivered"]];
const TIMES: [string, string][] = [["", "any time"], ["15m", "15 minutes"], ["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"]];
export const GROUPS = ["model", "prompt", "customer", "session", "user", "environment", "key", "upstream", "endpoint", "outcome", "error", "day"];

interface Properties { q: string; by: string | null; error: ApiError | null; live: boolean; setLive: (live: boolean) => void; facets: boolean; setFacets: (open: boolean) => void; apply: (q: string) => void; choose: () => void }

export function Toolbar({ q, by, error, live, setLive, facets, setFacets, apply, choose }: Properties) {
  const since = valueOf(q, "since") ?? "";
  const times = TIMES.some(([value]) => value === since) ? TIMES : [...TIMES, [since, since] as [string, string]];
  return (
    <div class="toolbar">
      <Views q={q} />
      <div class="controls">
        <Search q={q} error={error?.status === 400 ? error : null} apply={apply} />
        <label><span class="unseen">Time range</span>
          <select value={since} onChange={(event) => apply(setTerm(q, "since", event.currentTarget.value || null))}>
            {times.map(([value, name]) => <option key={value} value={value}>{name}</option>)}
          </select>
        </label>
        <label><span class="unseen">Group by</span>
          <select value={by ?? ""} onChange={(event) => go(withQuery({ by: event.currentTarget.value, peek: null }))}>
            <option value="">no groups</option>
            {GROUPS.map((name) => <option key={name} value={name}>by {name}</option>)}
          </select>
        </label>
        <button type="button" class="icon-only" aria-pressed={facets} title="Facets (f)" aria-label="Facets" onClick={() => setFacets(!facets)}><Icon name="filter" /></button>
        <button type="button" class="icon-only wide-only" title="Columns" aria-label="Columns" onClick={choose}><Icon name="columns" /></button>
        <button type="button" class={`live ${live ? (changes(q) ? "live" : feed.value) : "paused"}`} aria-pressed={live} title="Live (l)" onClick={() => setLive(!live)}>
          <i aria-hidden="true" />{live ? (feed.value === "live" ? "Live" : error ? "Not live" : changes(q) ? "Every 5 s" : "Connecting") : "Paused"}{live && running.value.count > 0 ? <span class="count">{running.value.count} running</span> : null}
        </button>
      </div>
    </div>
  );
}

function Views({ q }: { q: string }) {
  const [naming, setNaming] = useState(false);
  const mine = views.value;
  const isKnown = BUILT_IN.some(([, saved]) => saved === q) || mine.some((view) => view.q === q);
  const save = (event: SubmitEvent) => {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get("name") ?? "").trim();
    if (name) views.value = [...mine.filter((view) => view.name !== name), { name, q }].slice(-30);
    setNaming(false);
  };
  return (
    <nav class="views" aria-label="Views">
      {BUILT_IN.map(([name, saved]) => <a key={name} href={link("/", { q: saved })} aria-current={saved === q ? "page" : undefined}>{name}</a>)}
      {mine.map((view) => (
        <span key={view.name} class="saved">
          <a href={link("/", { q: view.q })} title={view.q} aria-current={view.q === q ? "page" : undefined}>{line(view.name, 40)}</a>
          {view.q === q && <button type="button" class="bare" aria-label={`Forget the view ${view.name}`} onClick={() => (views.value = mine.filter((other) => other !== view))}><Icon name="close" /></button>}
        </span>
      ))}
      {!isKnown && (naming
        ? <form onSubmit={save}><input name="name" aria-label="Name of the view" placeholder="name" maxLength={40} autoFocus /><button type="submit">Save</button></form>
        : <button type="button" class="link" onClick={() => setNaming(true)}>Save this view</button>)}
    </nav>
  );
}
