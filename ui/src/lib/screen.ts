/** How wide the window is, as far as it decides what is drawn. */

import { signal, type Signal } from "@preact/signals";

function atMost(width: number): Signal<boolean> {
  const media = matchMedia(`(max-width: ${width}px)`);
  const held = signal(media.matches);
  media.addEventListener("change", () => (held.value = media.matches));
  return held;
}

/** A phone. */
export const isNarrow = atMost(700);
/** Too narrow for two things beside each other. */
export const isTight = atMost(1000);
