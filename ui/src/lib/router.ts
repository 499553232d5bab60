/** The address is the state: path and query as signals, links without reloads. */

import { signal } from "@preact/signals";

export interface Place { path: string; query: URLSearchParams }

const read = (): Place => ({ path: location.pathname, query: new URLSearchParams(location.search) });

export const place = signal<Place>(read());

addEventListener("popstate", () => {
  moves--;
  place.value = read();
});

/** Moves inside of this site that can be taken back. */
let moves = 0;

/** One step back where that stays on this site, else to `otherwise`. */
export function back(otherwise: string): void {
  if (moves > 0) history.back();
  else go(otherwise);
}

/** Goes to `to`, a path of this site; `replace` leaves no trace in the history. */
export function go(to: string, replace = false): void {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  if (!replace) moves++;
  place.value = read();
}

/** The address of the present screen with some parameters changed; null and "" take one away. */
export function withQuery(changes: Record<string, string | null | undefined>): string {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  return link(place.value.path, query);
}

/** A path with parameters, readable: only what must be is escaped. */
export function link(path: string, query: URLSearchParams | Record<string, string | null | undefined>): string {
  const pairs = query instanceof URLSearchParams ? [...query] : Object.entries(query);
  const text = pairs
    .filter(([, value]) => value)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value ?? "").replaceAll("%20", "+").replaceAll("%3A", ":").replaceAll("%2F", "/")}`)
    .join("&");
  return text ? `${path}?${text}` : path;
}

/** Plain clicks on links of this site stay in the page; everything else is the browser's. */
addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const anchor = event.target instanceof Element ? event.target.closest("a") : null;
  if (!anchor || anchor.target || anchor.hasAttribute("download") || anchor.origin !== location.origin) return;
  if (/^\/(api|metrics)(\/|$)/.test(anchor.pathname)) return;
  if (anchor.hash && anchor.pathname === location.pathname) return;
  event.preventDefault();
  go(anchor.pathname + anchor.search);
});
