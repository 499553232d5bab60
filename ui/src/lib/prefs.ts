/** What one browser remembers: theme, columns, views. Never anything of a call. */

import { effect, signal, type Signal } from "@preact/signals";

/** A signal that outlives the page. Damaged or forbidden storage gives the default. */
function kept<T>(name: string, initial: T, isValid: (value: unknown) => boolean): Signal<T> {
  let value = initial;
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(`calltap.${name}`) ?? "null");
    if (stored !== null && isValid(stored)) value = stored as T;
  } catch {
    // The default it is.
  }
  const held = signal(value);
  let first = true;
  effect(() => {
    const text = JSON.stringify(held.value);
    if (first) {
      first = false;
      return;
    }
    try {
      localStorage.setItem(`calltap.${name}`, text);
    } catch {
      // A full or forbidden storage forgets; nothing else depends on it.
    }
  });
  return held;
}

const isStrings = (value: unknown): boolean => Array.isArray(value) && value.every((item) => typeof item === "string");

export type Theme = "system" | "light" | "dark";
export const theme = kept<Theme>("theme", "system", (value) => value === "system" || value === "light" || value === "dark");
effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});
export function nextTheme(): void {
  theme.value = theme.value === "system" ? "dark" : theme.value === "dark" ? "light" : "system";
}

/** Single-key shortcuts; they can be turned off (WCAG 2.1.4). */
export const shortcuts = kept<boolean>("shortcuts", true, (value) => typeof value === "boolean");
export const columns = kept<string[]>("columns", [], isStrings);
export const facetsOpen = kept<boolean>("facets", true, (value) => typeof value === "boolean");
export const peekWidth = kept<number>("peek", 520, (value) => typeof value === "number" && value >= 320 && value <= 1200);

export interface View { name: string; q: string }
export const views = kept<View[]>("views", [], (value) => Array.isArray(value) && value.every((view) => view !== null && typeof view === "object" && isStrings([view.name, view.q])));
