/**
 * Browsers under a POSIX locale give a language that `Intl` refuses ("en-US@posix"), and the chart library
 * asks `Intl` when it is loaded. This module comes before it.
 */
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, "language", { value: "en-US", configurable: true });
}
export {};
