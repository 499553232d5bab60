/** Calls that were chosen from the list, for something that is done to all of them. */

import { signal } from "@preact/signals";

/** Most calls that are chosen at once: each is fetched by itself. */
export const SELECTED_MAX = 1000;

export const selected = signal<ReadonlySet<string>>(new Set());

/** Chooses these calls, or no longer; what is beyond the limit stays as it was. */
export function choose(ids: string[], isOn: boolean): void {
  const next = new Set(selected.value);
  for (const id of ids) {
    if (!isOn) next.delete(id);
    else if (next.size < SELECTED_MAX) next.add(id);
  }
  selected.value = next;
}

export const chooseNone = (): void => void (selected.value = new Set());
