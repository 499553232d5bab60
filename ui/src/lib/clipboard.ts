/** Copying, with a word on what happened. */

import { signal } from "@preact/signals";

export const said = signal("");
let timer = 0;

/** Shows a short message, and tells it to screen readers. */
export function say(message: string): void {
  said.value = message;
  clearTimeout(timer);
  timer = window.setTimeout(() => (said.value = ""), 2600);
}

/** Control characters stay out of the clipboard: a terminal might obey them. Line ends and tabs stay. */
export const harmless = (text: string): string => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\ufffd");

export async function copy(text: string, what: string): Promise<void> {
  const clean = harmless(text.replaceAll("\r\n", "\n"));
  try {
    await navigator.clipboard.writeText(clean);
  } catch {
    // Without the clipboard (plain HTTP on another machine), by the old way.
    const area = document.createElement("textarea");
    area.value = clean;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return say("The browser does not allow copying here");
  }
  say(`${what} copied`);
}
