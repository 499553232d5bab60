/** The keyboard: one list of handlers, the newest first, so that a panel can take a key from the list behind it. */

import { useEffect, useRef } from "preact/hooks";
import { shortcuts } from "./prefs.ts";

export type Keys = Record<string, (event: KeyboardEvent) => boolean | void>;

const layers: { current: Keys }[] = [];
let prefix = "";
let prefixAt = 0;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

addEventListener("keydown", (event) => {
  const special = event.key === "Escape" || event.key === "Enter" || event.key.startsWith("Arrow");
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (!special && !shortcuts.value) return;
  // Enter and the arrows belong to the control that has the focus.
  if (special && event.key !== "Escape" && event.target instanceof Element && event.target.closest("a, button, summary, [role=tab], [role=separator]")) return;
  const isSecond = prefix === "g" && performance.now() - prefixAt < 1500;
  const key = isSecond ? `g ${event.key}` : event.key;
  prefix = !isSecond && event.key === "g" ? "g" : "";
  prefixAt = performance.now();
  for (let at = layers.length - 1; at >= 0; at--) {
    const handler = layers[at]?.current[key];
    if (handler && handler(event) !== false) {
      event.preventDefault();
      return;
    }
  }
});

/**
 * Keys of a component while it is there. A handler that returns false passes the key on. The frame's keys
 * are the last to be asked, whichever component was there first.
 */
export function useKeys(keys: Keys, isFrame = false): void {
  const layer = useRef(keys);
  layer.current = keys;
  useEffect(() => {
    if (isFrame) layers.unshift(layer);
    else layers.push(layer);
    return () => {
      layers.splice(layers.indexOf(layer), 1);
    };
  }, []);
}

/** What `?` shows. */
export const HELP: [string, [string, string][]][] = [
  ["Everywhere", [["/", "search"], ["g c", "calls"], ["g s", "sessions"], ["g p", "prompts"], ["g m", "metrics"], ["g k", "sinks"], ["g ,", "settings"], ["t", "theme"], ["?", "this help"], ["Esc", "close, clear"]]],
  ["Calls", [["j k ↓ ↑", "move"], ["Enter", "look at it beside the list"], ["o", "open it"], ["x", "choose it"], ["f", "facets on or off"], ["l", "live on or off"], ["c", "copy as curl"], ["y", "copy the link"]]],
  ["A call", [["1 … 5", "tabs"], ["[ ]", "previous, next call of the session"], ["c", "copy as curl"], ["y", "copy the link"], ["Esc", "back to the list"]]],
];
