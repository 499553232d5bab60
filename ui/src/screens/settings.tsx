/** What is in force and where it comes from; prices; the store; this browser. */

import { useEffect } from "preact/hooks";
import { get, hasToken, lock } from "../lib/api.ts";
import { ago, bytes, count, line, stamp } from "../lib/format.ts";
import { useLoad } from "../lib/load.ts";
import { shortcuts, theme, views, type Theme } from "../lib/prefs.ts";
import { add, term } from "../lib/query.ts";
import { link } from "../lib/router.ts";
import type { Pricing, Settings, StoreInfo } from "../lib/types.ts";
import { Facts, Skeleton, Trouble } from "../parts/bits.tsx";

export function SettingsScreen() {
  useEffect(() => void (document.title = "Settings · calltap"), []);
  return (
    <main class="page settings">
      <h1>Settings</h1>
      <Configuration />
      <Prices />
      <Store />
      <Browser />
    </main>
  );
}

function Configuration() {
  const { data, error, again } = useLoad("settings", (signal) => get<Settings>("/api/v1/settings", {}, signal), 15_000);
  const sections = new Map<string, Settings["values"]>();
  for (const value of data?.values ?? []) {
    const name = value.key.split(".")[0] ?? "";
    sections.set(name, [...(sections.get(name) ?? []), value]);
  }
  return (
    <section><h2>Configuration</h2>
      {error && !data ? <><Trouble error={error} what="the configuration here yet" again={again} />{error.status === 404 && <p class="quiet"><code>calltap config show</code> prints it.</p>}</> : !data ? <Skeleton lines={8} /> : (
        <>
          <p class="quiet">{data.file ? <>From <span class="mono"><bdi>{line(data.file, 200)}</bdi></span>. Change it there; SIGHUP reads it again.</> : <>Values that are no default say where they come from; <code>calltap config init</code> writes a file with every key.</>}{data.started_at ? ` Running since ${stamp(data.started_at).slice(0, 19)}.` : ""}</p>
          {data.upstreams && data.upstreams.length > 0 && <details><summary>Upstreams <span class="count">{count(data.upstreams.length)}</span></summary><div class="wide" tabIndex={0} role="region" aria-label="Upstreams"><table class="stack"><tbody>{data.upstreams.map((one) => <tr key={one.name}><th scope="row" class="mono"><bdi>{line(one.name, 60)}</bdi></th><td class="mono wrap"><bdi>{line(one.base_url, 200)}</bdi></td><td>{one.default ? "default" : ""}</td><td class="quiet">{one.builtin ? "built in" : "configured"}</td></tr>)}</tbody></table></div></details>}
          <div class="wide panel" tabIndex={0} role="region" aria-label="Values in force">
            <table class="stack">
              <thead><tr><th scope="col">Key</th><th scope="col">Value</th><th scope="col">From</th></tr></thead>
              {[...sections].map(([name, values]) => (
                <tbody key={name}>{values.map((value) => <tr key={value.key}><th scope="row" class="mono"><bdi>{line(value.key, 120)}</bdi></th><td class="mono wrap"><bdi>{line(value.value, 400)}</bdi></td><td class={value.origin === "default" ? "quiet" : ""}><bdi>{line(value.origin, 120)}</bdi>{value.restart ? <span class="quiet"> · read at start</span> : null}</td></tr>)}</tbody>
              ))}
            </table>
          </div>
        </>
      )}
    </section>
  );
}

function Prices() {
  const { data, error, again } = useLoad("pricing", (signal) => get<Pricing>("/api/v1/pricing", {}, signal));
  return (
    <section><h2>Prices</h2>
      {error && !data ? <><Trouble error={error} what="the price book here yet" again={again} />{error.status === 404 && <p><a href={link("/", { q: "cost_status:unpriced" })}>Calls without a price</a></p>}</> : !data ? <Skeleton lines={3} /> : (
        <>
          <Facts items={[["Price book", data.book], ...data.layers.map((layer): [string, preact.ComponentChildren] => [`${layer.layer[0]?.toUpperCase() ?? ""}${layer.layer.slice(1)}`, `${count(layer.entries)} models`])]} />
          {data.missing.length === 0 ? <p class="quiet">Every model of the last 30 days has a price.</p> : (
            <div class="wide panel" tabIndex={0} role="region" aria-label="Models without a price">
              <table class="numbers">
                <thead><tr><th scope="col">Without a price</th><th scope="col" class="start">Provider</th><th scope="col" class="start">Status</th><th scope="col">Calls</th><th scope="col">Last call</th></tr></thead>
                <tbody>{data.missing.map((one) => <tr key={`${one.provider} ${one.model}`}><th scope="row">{one.model ? <a href={link("/", { q: add(term("model", one.model), `cost_status:${one.status}`) })}><bdi>{line(one.model, 80)}</bdi></a> : <span class="quiet">no model</span>}</th><td class="text"><bdi>{line(one.provider, 40)}</bdi></td><td class="text">{one.status}</td><td>{count(one.calls)}</td><td>{ago(one.last_at)}</td></tr>)}</tbody>
              </table>
            </div>
          )}
        </>
      )}
    </section>
  );
}

function Store() {
  const { data, error, again } = useLoad("store", (signal) => get<StoreInfo>("/api/v1/store", {}, signal), 10_000);
  return (
    <section><h2>Store</h2>
      {error && !data ? <Trouble error={error} what="facts about the store" again={again} /> : !data ? <Skeleton lines={4} /> : (
        <>
          <Facts items={[["Calls", count(data.calls)], ["With bodies", count(data.bodies)], ["On disk", bytes(data.bytes)], ["Oldest", stamp(data.oldest)], ["Newest", stamp(data.newest)], ["Bodies stay", data.retention?.keep_bodies ?? null], ["Calls stay", data.retention?.keep_calls ?? null], ["At most", data.retention?.max_size ?? null], ["File", <span class="mono"><bdi>{line(data.path, 200)}</bdi></span>], ["Lost for good", data.dropped.length ? <span class="bad">{data.dropped.map(([why, n]) => `${count(n)} ${why}`).join(", ")}</span> : "none"]]} />
          {data.tables && data.tables.length > 0 && <Bars items={data.tables.map((table) => [table.name, table.bytes])} />}
          {data.consumers && data.consumers.length > 0 && <Facts items={data.consumers.map((one) => [one.name, one.lag ? `${count(one.lag)} calls behind` : "up to date"])} />}
        </>
      )}
    </section>
  );
}

function Bars({ items }: { items: [string, number][] }) {
  const max = Math.max(1, ...items.map(([, size]) => size));
  return <ul class="bars">{items.map(([name, size]) => <li key={name}><span class="mono">{line(name, 40)}</span><span class="track"><i class="flow" style={{ width: `${(100 * size) / max}%` }} /></span><span class="right">{bytes(size)}</span></li>)}</ul>;
}

function Browser() {
  return (
    <section><h2>This browser</h2>
      <p class="inline">
        <label>Theme <select value={theme.value} onChange={(event) => (theme.value = event.currentTarget.value as Theme)}><option value="system">as the system</option><option value="light">light</option><option value="dark">dark</option></select></label>
      </p>
      <p><label><input type="checkbox" checked={shortcuts.value} onChange={() => (shortcuts.value = !shortcuts.value)} /> Single keys are shortcuts</label></p>
      {views.value.length > 0 && <ul class="saved-views">{views.value.map((view) => <li key={view.name}><a href={link("/", { q: view.q })}>{line(view.name, 40)}</a> <code><bdi>{line(view.q, 120)}</bdi></code> <button type="button" class="link" onClick={() => (views.value = views.value.filter((other) => other !== view))}>Forget</button></li>)}</ul>}
      {hasToken() && <p><button type="button" onClick={lock}>Log out</button></p>}
      <p class="quiet">Views, columns and theme are kept in this browser only.</p>
    </section>
  );
}
