/** Small parts that every screen uses. */

import type { ComponentChildren } from "preact";
import { useRef, useEffect } from "preact/hooks";
import type { ApiError } from "../lib/api.ts";
import { copy } from "../lib/clipboard.ts";
import { Icon } from "./icons.tsx";
import { own } from "../lib/own.ts";

/** How a call ended: a shape, a colour and a word, so that none of them has to carry it alone. */
const OUTCOMES: Record<string, [string, string, string]> = {
  completed: ["✓", "good", "completed"],
  provider_error: ["✗", "bad", "provider error"],
  client_aborted: ["◐", "warn", "client left"],
  upstream_truncated: ["◑", "bad", "broken off"],
  upstream_timeout: ["◔", "bad", "timed out"],
  connect_failed: ["⊗", "bad", "no connection"],
  refused: ["⊘", "warn", "refused"],
  interrupted: ["◌", "warn", "interrupted"],
  running: ["●", "live", "running"],
};

export const outcomeName = (outcome: string): string => own(OUTCOMES, outcome)?.[2] ?? outcome;

export function Status({ outcome, status, long = false }: { outcome: string; status?: number | null; long?: boolean }) {
  const [glyph, tone, name] = own(OUTCOMES, outcome) ?? ["?", "warn", outcome];
  return (
    <span class={`status ${tone}`} title={name}>
      <span class="glyph" aria-hidden="true">{glyph}</span>
      {long ? <>{name}{status ? ` · ${status}` : ""}</> : <>{status ?? <span class="quiet">–</span>}<span class="unseen"> {name}</span></>}
    </span>
  );
}

/** What stands where an endpoint failed or is not there. */
export function Trouble({ error, what, again }: { error: ApiError; what: string; again?: () => void }) {
  const missing = error.status === 404 || error.status === 405;
  return (
    <div class={missing ? "note" : "note bad"} role={missing ? undefined : "alert"}>
      <p>{missing ? `This calltap does not offer ${what}.` : error.message}</p>
      {!missing && again && <button type="button" onClick={again}>Try again</button>}
    </div>
  );
}

export function CopyButton({ text, what, label }: { text: string | (() => string); what: string; label?: string }) {
  return (
    <button type="button" class={label ? "" : "bare"} title={`Copy ${what}`} aria-label={label ? undefined : `Copy ${what}`} onClick={() => void copy(typeof text === "string" ? text : text(), what)}>
      {label ?? <Icon name="copy" />}
    </button>
  );
}

/** Name and value pairs; pairs without a value are left out. */
export function Facts({ items }: { items: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {items.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
      ))}
    </dl>
  );
}

export interface Tab { id: string; name: string; href: string; count?: number }

export function Tabs({ tabs, current, label }: { tabs: Tab[]; current: string; label: string }) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map((tab) => (
        <a key={tab.id} href={tab.href} aria-current={tab.id === current ? "page" : undefined}>
          {tab.name}{tab.count ? <span class="count">{tab.count}</span> : null}
        </a>
      ))}
    </nav>
  );
}

/** Grey lines in the place of what is being fetched. */
export function Skeleton({ lines = 6 }: { lines?: number }) {
  return <div class="skeleton" role="status" aria-label="Loading">{Array.from({ length: lines }, (_, at) => <i key={at} />)}</div>;
}

/** A modal window of the browser's own kind. */
export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    box.current?.showModal();
  }, []);
  return (
    <dialog ref={box} aria-label={title} onClose={close} onClick={(event) => event.target === box.current && box.current?.close()}>
      <header><h2>{title}</h2><button type="button" class="bare" aria-label="Close" onClick={() => box.current?.close()}><Icon name="close" /></button></header>
      {children}
    </dialog>
  );
}

/** Bars of a small trend. */
export function Spark({ values, label }: { values: number[]; label: string }) {
  const max = Math.max(1, ...values);
  return (
    <svg class="spark" viewBox={`0 0 ${Math.max(1, values.length * 4)} 20`} preserveAspectRatio="none" role="img" aria-label={label}>
      {values.map((value, at) => value > 0 && <rect key={at} x={at * 4} y={20 - Math.max(1.5, (20 * value) / max)} width="3" height={Math.max(1.5, (20 * value) / max)} />)}
    </svg>
  );
}

/** Text that came from outside: isolated, so that its direction marks reach nothing else. */
export function Foreign({ children }: { children: ComponentChildren }) {
  return <bdi>{children}</bdi>;
}
