/** Numbers, times and sizes as text. Nothing here depends on the browser's locale, which may be no valid one. */

const pad = (value: number, width = 2): string => String(value).padStart(width, "0");

/** 1234567 → "1 234 567", with thin no-break spaces. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** 1234567 → "1.23M". */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (Math.abs(value) >= size) return `${trim((value / size).toPrecision(3))}${unit}`;
  }
  return trim(value.toFixed(value < 10 && value % 1 ? 1 : 0));
}

const trim = (text: string): string => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** Milliseconds: "0.4 ms", "83 ms", "2.81 s", "3 m 04 s". */
export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${trim(value.toFixed(2))}\u00a0ms`;
  if (value < 1000) return `${trim(value < 10 ? value.toFixed(1) : value.toFixed(0))}\u00a0ms`;
  if (value < 60_000) return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)}\u00a0s`;
  const seconds = Math.round(value / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u00a0m ${pad(seconds % 60)}\u00a0s`;
  return `${Math.floor(seconds / 3600)}\u00a0h ${pad(Math.floor((seconds % 3600) / 60))}\u00a0m`;
}

/** Seconds as an age: "12 s", "4 m", "3 h", "2 d". */
export function age(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}\u00a0s`;
  if (s < 3600) return `${Math.floor(s / 60)}\u00a0m`;
  if (s < 86_400) return `${Math.floor(s / 3600)}\u00a0h`;
  return `${Math.floor(s / 86_400)}\u00a0d`;
}

export function ago(time: string | null | undefined, now = Date.now()): string {
  const at = Date.parse(time ?? "");
  if (Number.isNaN(at)) return "–";
  const seconds = (now - at) / 1000;
  return seconds < 5 ? "just now" : `${age(seconds)} ago`;
}

/** A decimal string of dollars, shortened to what the eye needs; the digits themselves are never rounded up to a cent. */
export function dollars(amount: string | number | null | undefined): string {
  if (amount === null || amount === undefined) return "–";
  const value = Number(amount);
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "$0";
  const size = Math.abs(value);
  if (size >= 1000) return `$${count(value)}`;
  if (size >= 1) return `$${value.toFixed(2)}`;
  if (size >= 0.01) return `$${value.toFixed(4).replace(/0{1,2}$/, "")}`;
  if (size < 1e-5) return "<$0.00001";
  // Two digits that mean something.
  return `$${trim(value.toFixed(Math.min(12, 1 - Math.floor(Math.log10(size)))))}`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 1024) return `${value}\u00a0B`;
  for (const [size, unit] of [[1 << 30, "GiB"], [1 << 20, "MiB"], [1 << 10, "KiB"]] as const) {
    if (value >= size) return `${trim((value / size).toFixed(value / size < 10 ? 1 : 0))}\u00a0${unit}`;
  }
  return "–";
}

export function percent(part: number, whole: number): string {
  if (!whole) return "–";
  const value = (100 * part) / whole;
  return `${value > 0 && value < 0.1 ? "<0.1" : trim(value.toFixed(value < 10 ? 1 : 0))}\u202f%`;
}

/** Local time of day: "02:12:41"; with `precise` "02:12:41.123". */
export function clock(time: string | null | undefined, precise = false): string {
  const date = new Date(time ?? "");
  if (Number.isNaN(date.getTime())) return "–";
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return precise ? `${text}.${pad(date.getMilliseconds(), 3)}` : text;
}

/** Local date: "2026-11-21". */
export function day(time: string | null | undefined): string {
  const date = new Date(time ?? "");
  if (Number.isNaN(date.getTime())) return "–";
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** Time of day for today, date and time before. */
export function when(time: string | null | undefined, now = new Date()): string {
  const today = day(now.toISOString());
  const that = day(time);
  return that === today ? clock(time) : `${that.slice(5)} ${clock(time).slice(0, 5)}`;
}

export const stamp = (time: string | null | undefined): string => (time ? `${day(time)} ${clock(time, true)}` : "–");

/** One line of at most `max` characters; control characters become spaces. What is no text is shown as JSON. */
export function line(value: unknown, max = 160): string {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (!text) return "";
  // The class covers C0, DEL, C1 and the bidirectional overrides.
  const clean = text.slice(0, max * 2).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, " ").trim();
  return clean.length > max ? `${clean.slice(0, max)}…` : clean;
}

export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;
