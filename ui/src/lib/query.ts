/** Terms of the query language, put in and taken out as text. What a query means is the server's to say. */

/** A value as the language needs it: quoted where it holds more than plain characters. */
export function quote(value: string): string {
  return /^[\w.@/+-]+$/.test(value) && value !== "OR" ? value : `"${value.replace(/["\\]/g, "\\$&")}"`;
}

export const term = (field: string, value: string): string => `${field}:${quote(value)}`;

/** Splits at spaces outside of quotes and brackets, so at the top level only. */
export function terms(q: string): string[] {
  const found: string[] = [];
  let depth = 0;
  let quoted = false;
  let current = "";
  for (let at = 0; at < q.length; at++) {
    const c = q[at] ?? "";
    if (quoted && c === "\\") {
      current += c + (q[++at] ?? "");
      continue;
    }
    if (c === '"') quoted = !quoted;
    else if (!quoted && c === "(") depth++;
    else if (!quoted && c === ")") depth--;
    if (c === " " && !quoted && depth <= 0) {
      if (current) found.push(current);
      current = "";
    } else current += c;
  }
  if (current) found.push(current);
  return found;
}

/** Whether `q` joins its terms with AND only, so that one can be added or taken away. */
const isPlain = (q: string): boolean => !terms(q).includes("OR");

export const has = (q: string, wanted: string): boolean => isPlain(q) && terms(q).includes(wanted);

export function add(q: string, wanted: string): string {
  if (has(q, wanted)) return q;
  const base = isPlain(q) ? q.trim() : `(${q.trim()})`;
  return base ? `${base} ${wanted}` : wanted;
}

export function without(q: string, unwanted: string): string {
  return isPlain(q) ? terms(q).filter((other) => other !== unwanted).join(" ") : q;
}

export const toggle = (q: string, wanted: string): string => (has(q, wanted) ? without(q, wanted) : add(q, wanted));

/** The value of `field:` at the top level, if there is one. */
export function valueOf(q: string, field: string): string | null {
  if (!isPlain(q)) return null;
  const found = terms(q).find((other) => other.startsWith(`${field}:`));
  return found ? found.slice(field.length + 1) : null;
}

/** Puts one value in place of whatever `field:` has. */
export function set(q: string, field: string, value: string | null): string {
  const rest = isPlain(q) ? terms(q).filter((other) => !other.startsWith(`${field}:`)).join(" ") : q;
  return value ? add(rest, `${field}:${value}`) : rest;
}

/** The calls of `q` with a smaller `seq`: the next page without a cursor. */
export const below = (q: string, seq: number): string => (isPlain(q) ? `${q} seq:<${seq}` : `(${q}) seq:<${seq}`).trim();

/** The word that is being typed at `at`: its place, its field if it has one, and what stands there. */
export function wordAt(q: string, at: number): { from: number; to: number; field: string | null; text: string } {
  let from = at;
  while (from > 0 && !/[\s()]/.test(q[from - 1] ?? "")) from--;
  let to = at;
  while (to < q.length && !/[\s()]/.test(q[to] ?? "")) to++;
  if (q[from] === "-") from++;
  const word = q.slice(from, at);
  const colon = word.indexOf(":");
  if (colon < 0) return { from, to, field: null, text: word };
  return { from: from + colon + 1, to, field: word.slice(0, colon).toLowerCase(), text: word.slice(colon + 1).replace(/^"/, "") };
}

/** The grammar where the server does not tell it: name and kind of every field. */
export const FIELDS: [string, string][] = [
  ["model", "text"], ["status", "status"], ["prompt", "text"], ["session", "text"], ["customer", "text"], ["user", "text"], ["env", "text"],
  ["cost", "money"], ["latency", "duration"], ["ttft", "duration"], ["tokens", "number"], ["input", "number"], ["output", "number"],
  ["cached", "number"], ["reasoning", "number"], ["finish", "text"], ["error", "text"], ["outcome", "text"], ["endpoint", "text"],
  ["upstream", "text"], ["provider", "text"], ["version", "text"], ["tag", "text"], ["ref", "text"], ["key", "text"], ["client", "text"],
  ["stream", "flag"], ["retry", "number"], ["delivery", "delivery"], ["usage", "text"], ["cost_status", "text"], ["path", "text"], ["method", "text"], ["id", "text"],
  ["trace", "text"], ["first_byte", "duration"], ["overhead", "duration"], ["seq", "number"], ["since", "time"], ["before", "time"], ["has", "field"],
];

/** What a value of each kind looks like, and values that are always the same few. */
export const EXAMPLES: Record<string, string> = { text: "text, * for any", number: ">1000, 10..20", duration: ">2s, <500ms", money: ">0.05", status: "error, 429, 5xx", delivery: "undelivered, dead", flag: "true, false", time: "1h, 2026-11-20", field: "name of a field" };
export const FIXED: Record<string, string[]> = {
  status: ["error", "ok", "4xx", "5xx", "429"],
  outcome: ["completed", "provider_error", "client_aborted", "upstream_truncated", "upstream_timeout", "connect_failed", "refused", "interrupted"],
  delivery: ["undelivered", "pending", "waiting", "dead"],
  stream: ["true", "false"],
  since: ["15m", "1h", "24h", "7d", "30d"],
  before: ["1h", "24h", "7d"],
  has: ["session", "prompt", "customer", "user", "error", "cost", "ttft", "trace"],
  usage: ["provider", "estimated", "partial", "none"],
  cost_status: ["priced", "partial", "unpriced", "no_usage", "free"],
  cost: [">0.01", ">0.05", ">1"],
  latency: [">1s", ">10s", ">1m"],
  ttft: [">500ms", ">2s"],
  tokens: [">1000", ">10000"],
  finish: ["stop", "length", "tool_calls", "content_filter"],
};

/** Whether calls come to match `q`, or cease to, after they were stored. */
export const changes = (q: string): boolean => /(^|[\s(-])delivery:/i.test(q);
