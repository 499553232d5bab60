/** The shapes of `/api/v1`, as far as the dashboard reads them. Everything unknown is null or absent. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Object_ = { [key: string]: Json };

export interface Problem { source?: string; type?: string | null; code?: string | null; message?: string | null; param?: string | null }

export interface Tags {
  prompt?: string | null; prompt_version?: string | null; session?: string | null; session_name?: string | null;
  session_path?: string | null; environment?: string | null; customer?: string | null; user?: string | null;
  reference?: string | null; labels?: string[]; metadata?: Object_; inputs?: Object_; user_query?: string | null;
  context?: Json; expected?: Json;
}

export interface Timing {
  latency_ms: number; first_byte_ms?: number | null; ttft_ms?: number | null; overhead_ms?: number | null;
  chunks?: number; output_tokens_per_second?: number | null;
}

export interface Usage {
  source?: string; input?: number | null; output?: number | null; total?: number | null; input_cached?: number | null;
  input_cache_write?: number | null; output_reasoning?: number | null; raw?: Json; [key: string]: Json | undefined;
}

export interface CostLine { unit: string; quantity: number; price: string; per: number; amount: string }

export interface Cost {
  status?: string; basis?: string | null; total?: string | null; lines?: CostLine[]; tier?: string | null; notes?: string[];
  price?: { entry?: string; match?: string; layer?: string; from?: string | null; book?: string } | null;
}

/** One call as a list shows it. */
export interface Row {
  id: string; seq: number | null; started_at: string; ended_at: string; endpoint: string; method: string; path: string;
  upstream: string; provider: string; model: { requested?: string | null; served?: string | null }; stream: boolean;
  outcome: string; status: number | null; error: Problem | null; finish_reasons: string[]; timing: Timing; usage: Usage;
  cost: Cost; tags: Tags; answer?: string | null; notes: string[];
  client: { user_agent?: string | null; sdk?: string | null; retry?: number | null; key?: string | null };
  trace: { trace_id?: string | null; parent_id?: string | null };
  bytes: { request?: number; response?: number; delivered?: number; [key: string]: Json | undefined };
  repeats?: string | null; sinks?: string[] | null;
}

export type Headers = [string, string][];

/** One call in full. */
export interface Call extends Row {
  request: Json; response: Json; parameters?: Object_; headers?: { request?: Headers; response?: Headers };
}

export interface RawBody { total: number; kept: number; text: string | null; hex: string | null; encoding?: string | null }
export interface Raw { request: RawBody; response: RawBody; headers: { request?: Headers; response?: Headers }; chunks: [number, number][] }

/** A call that has not ended. */
export interface Running {
  id: string; started_at: string; endpoint: string; path: string; upstream: string;
  model: { requested?: string | null }; stream: boolean; tags: Tags; elapsed_ms: number;
}

export interface Page<T> { items: T[]; next: string | null }

export interface Stat {
  key: string | null; calls: number; errors: number; input_tokens: number; output_tokens: number; cached_tokens: number;
  cost: string; unpriced: number; latency_p50_ms: number | null; latency_p95_ms: number | null;
  ttft_p50_ms: number | null; ttft_p95_ms: number | null;
}

export interface Facets { scanned: number; complete: boolean; items: { field: string; values: { value: string; count: number }[]; more: boolean }[] }
export interface Grammar {
  fields: { name: string; aliases: string[]; kind: string }[]; error: { message: string; at: number } | null;
  terms?: { text: string; from: number; to: number; rest: string; without: boolean }[];
}

export interface Totals {
  calls: number; errors: number; input_tokens: number; output_tokens: number; cached_tokens: number; reasoning_tokens?: number;
  cost: string; unpriced: number; latency_avg_ms?: number | null; latency_max_ms?: number | null; latency_p50_ms: number | null;
  latency_p95_ms: number | null; latency_p99_ms?: number | null; ttft_p50_ms: number | null; ttft_p95_ms: number | null;
  tokens_per_second_p50?: number | null; truncated?: number; tool_calls?: number; streamed?: number;
}

export interface Series {
  key: string | null; other: boolean; totals: Totals; calls: number[]; errors: number[]; cost: string[]; input: number[];
  output: number[]; cached: number[]; reasoning: number[]; latency_p50_ms: (number | null)[]; latency_p95_ms: (number | null)[];
  latency_p99_ms?: (number | null)[]; ttft_p50_ms: (number | null)[]; ttft_p95_ms: (number | null)[];
}

export interface Metrics {
  from: string; to: string; step_s: number; as_of?: string | null; lag?: number; times: number[]; totals: Totals;
  previous?: Totals | null; series: Series[];
}

export interface Session {
  session: string; name?: string | null; customer?: string | null; user?: string | null; first_at: string; last_at: string;
  calls: number; errors: number; input_tokens: number; output_tokens: number; cost: string; unpriced?: number; model_ms: number;
  models: string[]; prompts: string[]; preview?: string | null;
}

export interface Turn { call: Row; resent: number; messages: Json[]; answer: Json; truncated?: boolean }

export interface Prompt { prompt: string; versions: number; last_at: string; totals: Totals; spark: number[] }
export interface PromptDetail {
  prompt: string; totals: Totals;
  versions: { version: string | null; first_at: string; last_at: string; totals: Totals; sample_id?: string | null }[];
}

export interface Sink {
  name: string; id: string; type: string | null; target?: string | null; state: string; reason?: string | null; obstacle?: string | null;
  cursor?: number; queue: number; oldest_age_s: number | null; waiting: number; dead: number; delivered: number; in_flight?: number;
  last_delivery_at?: string | null; last_error?: { at?: string; message: string } | null; next_try_at?: string | null;
  backfill?: { cursor: number; until: number; queue: number } | null;
}

export interface Dead { id: string; seq: number; dead?: boolean; at?: string; attempts: number; reason: string }
export interface Done { records?: number; message?: string; ok?: boolean }
export interface Delivery {
  sink: string; type?: string; state: string; attempts?: number; status?: number | null; error?: string | null; at?: string | null;
  next_try_at?: string | null; payload?: Json;
}

export interface Settings {
  file?: string | null; started_at?: string; version?: string; listen?: string; admin?: string;
  values: { key: string; value: Json; origin: string; restart?: boolean }[];
  upstreams?: { name: string; base_url: string; default?: boolean; builtin?: boolean }[];
}

export interface Pricing {
  book: string; layers: { layer: string; entries: number }[];
  missing: { provider: string; model: string | null; status: string; calls: number; first_at?: string; last_at?: string }[];
}

export interface StoreInfo {
  path: string; schema: number; sqlite: string; calls: number; bodies: number; bytes: number; oldest: string | null; newest: string | null;
  dropped: [string, number][]; tables?: { name: string; bytes: number }[]; consumers?: { name: string; seq: number; lag: number }[];
  last_seq?: number; retention?: { keep_bodies?: string; keep_calls?: string; max_size?: string };
}
