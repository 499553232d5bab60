/** The frame around every screen, and which screen a path shows. */

import type { ComponentChildren } from "preact";
import { useEffect, useErrorBoundary, useState } from "preact/hooks";
import { get, hasToken, lock, locked, offline, unlock } from "./lib/api.ts";
import { said } from "./lib/clipboard.ts";
import { useKeys } from "./lib/keys.ts";
import { lazy } from "./lib/lazy.tsx";
import { useLoad } from "./lib/load.ts";
import { nextTheme, theme } from "./lib/prefs.ts";
import { go, place } from "./lib/router.ts";
import { Icon } from "./parts/icons.tsx";
import { Calls } from "./screens/calls.tsx";

const CallScreen = lazy(() => import("./screens/call.tsx").then((module) => module.CallScreen));
const Sessions = lazy(() => import("./screens/sessions.tsx").then((module) => module.Sessions));
const SessionScreen = lazy(() => import("./screens/session.tsx").then((module) => module.SessionScreen));
const Prompts = lazy(() => import("./screens/prompts.tsx").then((module) => module.Prompts));
const PromptScreen = lazy(() => import("./screens/prompt.tsx").then((module) => module.PromptScreen));
const Metrics = lazy(() => import("./screens/metrics.tsx").then((module) => module.Metrics));
const Sinks = lazy(() => import("./screens/sinks.tsx").then((module) => module.Sinks));
const SinkScreen = lazy(() => import("./screens/sink.tsx").then((module) => module.SinkScreen));
const Settings = lazy(() => import("./screens/settings.tsx").then((module) => module.SettingsScreen));
const Help = lazy(() => import("./screens/help.tsx").then((module) => module.Help));
const Palette = lazy(() => import("./screens/palette.tsx").then((module) => module.Palette));

export const SCREENS: [string, string, "calls" | "sessions" | "prompts" | "metrics" | "sinks" | "settings", string][] = [
  ["/", "Calls", "calls", "g c"], ["/sessions", "Sessions", "sessions", "g s"], ["/prompts", "Prompts", "prompts", "g p"],
  ["/stats", "Metrics", "metrics", "g m"], ["/sinks", "Sinks", "sinks", "g k"], ["/settings", "Settings", "settings", "g ,"],
];

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function Screen({ path }: { path: string }) {
  const [first = "", ...rest] = path.split("/").slice(1);
  const [name, tab = ""] = rest.map(decode);
  switch (first) {
    case "":
      return <Calls />;
    case "calls":
      return name ? <CallScreen key={name} id={name} tab={tab} /> : <Calls />;
    case "sessions":
      return name ? <SessionScreen key={name} session={name} /> : <Sessions />;
    case "prompts":
      return name ? <PromptScreen key={name} prompt={name} /> : <Prompts />;
    case "stats":
      return <Metrics />;
    case "sinks":
      return name ? <SinkScreen key={name} name={name} /> : <Sinks />;
    case "settings":
      return <Settings />;
    default:
      return <main class="page"><h1>Nothing is here</h1><p><a href="/">All calls</a></p></main>;
  }
}

export function App() {
  const { path } = place.value;
  const [help, setHelp] = useState(false);
  const [palette, setPalette] = useState(false);
  useKeys({
    ...Object.fromEntries(SCREENS.map(([to, , , key]) => [key, () => go(to)])),
    t: nextTheme,
    "?": () => setHelp(true),
    "/": () => {
      go("/");
      setTimeout(() => document.getElementById("q")?.focus());
    },
  }, true);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        setPalette(true);
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  if (locked.value) return <Login />;
  const current = path === "/" || path.startsWith("/calls") ? "/" : `/${path.split("/")[1]}`;
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), document.querySelector<HTMLElement>("#content")?.focus())}>Skip to the content</a>
      <nav class="rail" aria-label="Screens">
        <a class="brand" href="/" aria-label="calltap, all calls"><img src="/assets/icon.svg" alt="" width="22" height="22" /> <span>calltap</span></a>
        {SCREENS.map(([to, name, icon, key]) => <a key={to} href={to} aria-current={to === current ? "page" : undefined} title={`${name} (${key})`}><Icon name={icon} /> <span>{name}</span></a>)}
        <span class="grow" />
        <button type="button" class="wide-only" onClick={nextTheme} title="Theme (t)"><Icon name="theme" /> <span>{{ system: "System theme", light: "Light theme", dark: "Dark theme" }[theme.value]}</span></button>
        <button type="button" class="wide-only" onClick={() => setHelp(true)} title="Keys (?)"><Icon name="help" /> <span>Keys</span></button>
        {hasToken() && <button type="button" class="wide-only" onClick={lock}><Icon name="close" /> <span>Log out</span></button>}
        <Version />
      </nav>
      <div id="content" class="content" tabIndex={-1}>
        {offline.value && <p class="banner" role="alert">calltap does not answer. What is shown may be old; the page goes on by itself when it is back.</p>}
        <Unready />
        <Guard key={current}><Screen path={path} /></Guard>
      </div>
      <p class="toast" role="status" aria-live="polite">{said.value}</p>
      {help && <Help close={() => setHelp(false)} />}
      {palette && <Palette close={() => setPalette(false)} />}
    </>
  );
}

/** A screen that fails leaves the frame around it alone. */
function Guard({ children }: { children: ComponentChildren }) {
  const [error, reset] = useErrorBoundary((failure) => reportError(failure));
  if (!error) return <>{children}</>;
  return <main class="page"><h1>This screen failed</h1><p class="note bad" role="alert">{String(error)}</p><p><button type="button" onClick={reset}>Try again</button></p></main>;
}

function Version() {
  const { data } = useLoad("version", (signal) => get<{ version: string }>("/version", {}, signal));
  return <p class="version">{data ? `calltap ${data.version}` : "\u00a0"}</p>;
}

interface Readiness { ready: boolean; checks: { name: string; ok: boolean; detail: string }[] }

/** Says when records cannot be written: calls go on then, unseen. */
function Unready() {
  const { data } = useLoad("ready", async (signal) => (await fetch("/readyz?verbose", { signal, credentials: "omit" })).json() as Promise<Readiness>, 15_000);
  const bad = data?.checks?.filter((check) => !check.ok) ?? [];
  return bad.length ? <p class="banner" role="alert">Not ready: {bad.map((check) => `${check.name} – ${check.detail}`).join("; ")}. Calls are still forwarded.</p> : null;
}

function Login() {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const token = String(new FormData(event.currentTarget as HTMLFormElement).get("token") ?? "");
    setBusy(true);
    const response = await fetch("/version", { headers: { authorization: `Bearer ${token.trim()}` }, credentials: "omit" }).catch(() => null);
    setBusy(false);
    if (response?.ok) unlock(token);
    else setFailed(true);
  };
  return (
    <main class="login">
      <form onSubmit={(event) => void submit(event)}>
        <h1><img src="/assets/icon.svg" alt="" width="28" height="28" /> calltap</h1>
        <label>Admin token <input name="token" type="password" autocomplete="current-password" required autoFocus aria-invalid={failed} aria-describedby="login-help" onInput={() => setFailed(false)} /></label>
        {failed && <p class="bad" role="alert">This is not the token of this calltap.</p>}
        <button type="submit" class="primary" disabled={busy}>Open</button>
        <p id="login-help" class="quiet">It is <code>auth.admin_token</code> of the configuration. This tab keeps it until it is closed.</p>
      </form>
    </main>
  );
}
