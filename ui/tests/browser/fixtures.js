/**
 * Answers in the shapes of the API, for screens whose data takes days or other services to come about. With
 * `texts` every list has one item for each of them, and they stand in every text that is shown.
 */

const HOUR = 3600;

/** A number from 0 to 1 that is the same on every run. */
const noise = (n) => {
  const x = Math.sin(n * 12.9898) * 43758.5453;
  return x - Math.floor(x);
};

function totals(calls, seed, cost) {
  return {
    calls, errors: Math.round(calls * 0.02 * noise(seed)), input_tokens: calls * 900, output_tokens: calls * 210, cached_tokens: calls * 300, reasoning_tokens: calls * 20,
    cost: cost.toFixed(6), unpriced: 0, latency_avg_ms: 1900 + 800 * noise(seed), latency_max_ms: 30_000 * noise(seed + 1), latency_p50_ms: 1500 + 900 * noise(seed), latency_p95_ms: 5200 + 3000 * noise(seed), latency_p99_ms: 9800,
    ttft_p50_ms: 340 + 100 * noise(seed), ttft_p95_ms: 1100 + 500 * noise(seed), tokens_per_second_p50: 60 + 40 * noise(seed), truncated: Math.round(calls * 0.01), tool_calls: Math.round(calls * 0.2), streamed: calls,
  };
}

export function metrics(keys = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"]) {
  const now = Math.floor(Date.now() / 1000 / HOUR) * HOUR;
  const times = Array.from({ length: 24 }, (_, at) => now - (23 - at) * HOUR);
  const series = keys.map((key, index) => {
    const calls = times.map((_, at) => Math.round((90 + 60 * Math.sin(at / 4)) * (1 - index * 0.2) * (0.7 + 0.6 * noise(at + index * 31))));
    const rate = [0.006, 0.0006, 0.009, 0.00001][index % 4];
    const jitter = (base, spread) => times.map((_, at) => (calls[at] ? base * (1 + spread * (noise(at * 3 + index) - 0.5)) : null));
    const sum = calls.reduce((a, b) => a + b, 0);
    return {
      key, other: false, totals: totals(sum, index + 1, sum * rate), calls, errors: calls.map((n, at) => Math.round(n * 0.04 * noise(at + index))), cost: calls.map((n) => (n * rate).toFixed(6)),
      input: calls.map((n) => n * 900), output: calls.map((n) => n * 210), cached: calls.map((n) => n * 300), reasoning: calls.map(() => 0),
      latency_p50_ms: jitter(1500 / (index + 1), 0.3), latency_p95_ms: jitter(5200 / (index + 1), 0.6), latency_p99_ms: jitter(9000, 0.5), ttft_p50_ms: jitter(340 + index * 60, 0.3), ttft_p95_ms: jitter(1100 + index * 100, 0.6),
    };
  });
  const all = series.reduce((sum, one) => sum + one.totals.calls, 0);
  const cost = series.reduce((sum, one) => sum + Number(one.totals.cost), 0);
  return { from: new Date((now - 23 * HOUR) * 1000).toISOString(), to: new Date(now * 1000).toISOString(), step_s: HOUR, as_of: new Date().toISOString(), lag: 0, times, totals: totals(all, 9, cost), previous: totals(Math.round(all * 0.9), 8, cost * 0.8), series };
}

const at = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

export const facets = { scanned: 20000, complete: false, items: [
  { field: "model", more: true, values: [{ value: "gpt-4o-mini", count: 12840 }, { value: "gpt-4o", count: 5210 }, { value: "text-embedding-3-small", count: 1200 }] },
  { field: "outcome", more: false, values: [{ value: "completed", count: 18900 }, { value: "provider_error", count: 812 }, { value: "client_aborted", count: 288 }] },
  { field: "prompt", more: false, values: [{ value: "support-reply", count: 9000 }, { value: "product text", count: 4100 }] },
  { field: "customer", more: false, values: [{ value: "acme", count: 8100 }, { value: "globex", count: 7100 }] },
  { field: "error", more: false, values: [{ value: "rate_limit_exceeded", count: 700 }] },
] };

export const sessions = (texts) => ({ next: null, items: (texts ?? Array.from({ length: 12 }, () => null)).map((text, n) => ({ session: text ?? `ticket-${1012 - n}`, name: text ?? (n % 3 ? `Ticket ${1012 - n}` : null), customer: text ?? ["acme", "globex", "initech"][n % 3], user: text, first_at: at(4000 + n * 900), last_at: at(60 + n * 800), calls: 3 + n * 2, errors: n % 4 === 1 ? 2 : 0, input_tokens: 5200 + n * 900, output_tokens: 900 + n * 120, cost: (0.004 * (n + 1)).toFixed(6), unpriced: 0, model_ms: 5200 + n * 900, models: [text ?? "gpt-4o"], prompts: [text ?? "support-reply"], preview: text ?? "Why is my bill higher this month?" })) });

export const prompts = (texts = ["support-reply", "classify", "product-text"]) => ({ next: null, items: texts.map((prompt, n) => ({ prompt, versions: 3, last_at: at(30 + n * 4000), totals: totals(4200 - n * 13, n + 3, 12.4), spark: Array.from({ length: 30 }, (_, day) => Math.round(100 * noise(day + n * 50))) })) });

export const prompt = (ids = [], texts = ["3", "2", null]) => ({ prompt: texts[0], totals: totals(4200, 3, 12.4), versions: texts.map((version, n) => ({ version, first_at: at(900_000 * (n + 1)), last_at: at(40 + n * 8000), totals: totals(2600 - n * 10, n + 4, 7), sample_id: ids[n] ?? null })) });

const sink = (text) => ({ name: text, id: text, type: text, target: text, state: text, reason: text, obstacle: text, cursor: 1, queue: 1, oldest_age_s: 1, waiting: 1, dead: 1, delivered: 1, in_flight: 1, last_delivery_at: text, last_error: { at: text, message: text }, next_try_at: text, backfill: null });
export const sinks = (texts) => ({ next: null, items: texts?.map(sink) ?? [
  { name: "honeyhive", id: "honeyhive", type: "honeyhive", target: "https://api.honeyhive.ai", state: "running", reason: null, obstacle: null, cursor: 20400, queue: 0, oldest_age_s: null, waiting: 0, dead: 0, delivered: 20400, in_flight: 1, last_delivery_at: at(2), last_error: null, next_try_at: null, backfill: null },
  { name: "athina", id: "athina", type: "athina", target: "https://log.athina.ai", state: "retrying", reason: null, obstacle: null, cursor: 18200, queue: 2200, oldest_age_s: 840, waiting: 3, dead: 12, delivered: 18188, in_flight: 0, last_delivery_at: at(840), last_error: { at: at(12), message: "429 Too Many Requests: slow down" }, next_try_at: new Date(Date.now() + 42_000).toISOString(), backfill: { cursor: 3000, until: 9000, queue: 6000 } },
  { name: "archive", id: "archive", type: "jsonl", target: "/var/lib/calltap/archive", state: "paused", reason: "paused by a person", obstacle: null, cursor: 100, queue: 20300, oldest_age_s: 86000, waiting: 0, dead: 0, delivered: 100, in_flight: 0, last_delivery_at: at(86000), last_error: null, next_try_at: null, backfill: null },
] });

export const dead = (ids = [], texts) => ({ next: null, items: (texts ?? ids).map((text, n) => ({ seq: n + 1, id: ids[n] ?? text, dead: true, attempts: 3 + n, at: at(4000 * (n + 1)), reason: texts ? text : "400: `output` is too long for this plan" })) });

export const delivery = (texts) => ({ next: null, items: texts?.map((text) => ({ sink: text, type: text, state: text, attempts: 1, status: text, error: text, at: text, next_try_at: text, payload: { [text]: text } })) ?? [{ sink: "honeyhive", type: "honeyhive", state: "delivered", attempts: 1, status: 200, error: null, at: at(3), next_try_at: null, payload: { event_name: "chat", inputs: { question: "Where is order 77?" } } }, { sink: "athina", type: "athina", state: "dead", attempts: 5, status: 400, error: "400: too long", at: at(60), next_try_at: null, payload: null }] });

export const settings = (texts) => ({ file: texts?.[0] ?? "/etc/calltap/calltap.toml", started_at: at(86_400), version: "0.1.0", listen: "127.0.0.1:4777", admin: "127.0.0.1:4777", upstreams: texts?.map((text) => ({ name: text, base_url: text, default: true, builtin: false })) ?? [{ name: "openai", base_url: "https://api.openai.com/v1", default: true, builtin: true }, { name: "local", base_url: "http://127.0.0.1:11434/v1", default: false, builtin: false }], values: texts?.map((text) => ({ key: text, value: text, origin: text, restart: true })) ?? [
  { key: "server.listen", value: "127.0.0.1:4777", origin: "default", restart: true }, { key: "server.max_body", value: "64MiB", origin: "calltap.toml:4", restart: false }, { key: "auth.admin_token", value: "•••", origin: "environment CALLTAP_ADMIN_TOKEN", restart: false },
  { key: "capture.max_body", value: "16MiB", origin: "default", restart: false }, { key: "store.journal_start", value: true, origin: "default", restart: true }, { key: "server.allowed_origins", value: [], origin: "default", restart: false }, { key: "store.keep_bodies", value: "30d", origin: "calltap.toml:12", restart: true }, { key: "store.max_size", value: "10GiB", origin: "--store-max-size", restart: true },
] });

export const pricing = (texts) => ({ book: texts?.[0] ?? "2026.11.20", layers: (texts ?? ["embedded", "override"]).map((layer) => ({ layer, entries: 240 })), missing: (texts ?? ["house-model-7b"]).map((model) => ({ provider: texts ? model : "openai", model, status: texts ? model : "unpriced", calls: 42, first_at: at(90_000), last_at: at(600) })) });

/** A session's page and its turns; `rows` are list rows, newest first. */
export const session = (name, texts) => ({ ...sessions(texts).items[0], session: name, name: texts?.[0] ?? name });
export const turns = (rows, texts = rows.map(() => "Where is order 77?")) => ({ next: null, items: texts.map((text, n) => ({ call: { ...rows[n % rows.length], id: `${rows[n % rows.length].id}${n}` }, resent: n * 2, messages: n ? [{ role: "user", content: `${text} (${n})` }] : [{ role: "system", content: "Be brief." }, { role: "user", content: text }], answer: { role: "assistant", content: `It was sent in two parcels. ${text}` }, truncated: n === 2 })) });

/** Answers these in the place of the server. `text` goes into every text that is shown. */
export async function answerWith(page, { rows = [], ids = [], texts } = {}) {
  const table = [
    [/\/api\/v1\/metrics(\?|$)/, () => metrics(texts)], [/\/api\/v1\/facets\?/, () => (texts ? { ...facets, items: ["model", "outcome", "error"].map((field) => ({ field, more: false, values: texts.map((value) => ({ value, count: 1 })) })) } : facets)],
    [/\/api\/v1\/sessions(\?|$)/, () => sessions(texts)], [/\/api\/v1\/sessions\/[^/?]+\/turns/, () => turns(rows, texts)], [/\/api\/v1\/sessions\/[^/?]+(\?|$)/, () => session("ticket-1003", texts)],
    [/\/api\/v1\/prompts(\?|$)/, () => prompts(texts)], [/\/api\/v1\/prompts\/[^/?]+/, () => prompt(ids, texts)],
    [/\/api\/v1\/sinks(\?|$)/, () => sinks(texts)], [/\/api\/v1\/sinks\/[^/?]+\/dead/, () => dead(ids, texts)], [/\/api\/v1\/sinks\/[^/?]+\/(test|pause|resume|redrive|drop|backfill)/, () => ({ records: 12, message: texts?.[0] ?? "12 records are to be delivered again", ok: true })], [/\/api\/v1\/sinks\/[^/?]+(\?|$)/, () => sinks(texts).items[1]],
    [/\/api\/v1\/calls\/[^/]+\/delivery/, () => delivery(texts)], [/\/api\/v1\/settings(\?|$)/, () => settings(texts)], [/\/api\/v1\/pricing(\?|$)/, () => pricing(texts)],
  ];
  await page.route(/\/api\/v1\/(metrics|facets|sessions|prompts|sinks|settings|pricing|calls\/[^/]+\/delivery)/, async (route) => {
    const url = route.request().url();
    const [, make] = table.find(([pattern]) => pattern.test(url)) ?? [];
    return make ? route.fulfill({ json: make() }) : route.fallback();
  });
}
