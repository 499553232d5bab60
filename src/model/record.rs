//! The record: what is kept of a call, shown, exported and delivered (SPEC §4).
//!
//! Absent values are `null`, never invented. Durations are milliseconds; money is a decimal string in USD.

use super::{Endpoint, Tags, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use uuid::Uuid;

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// `UUIDv7`, or the UUID that the caller chose.
    pub id: Uuid,
    /// Place in the record log; `None` before the record is stored.
    #[serde(default)]
    pub seq: Option<i64>,
    /// When the request head was read.
    pub started_at: Timestamp,
    /// When the call ended.
    pub ended_at: Timestamp,
    /// The API used.
    pub endpoint: Endpoint,
    /// HTTP method.
    pub method: String,
    /// Request path, without query.
    pub path: String,
    /// Query string; values that may be credentials are masked.
    #[serde(default)]
    pub query: Option<String>,
    /// Name of the upstream.
    pub upstream: String,
    /// Provider slug.
    pub provider: String,
    /// Host of the upstream; prices may depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Models asked for and served.
    pub model: Model,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// How the call ended.
    pub outcome: Outcome,
    /// HTTP status the client saw; `None` when it saw none.
    pub status: Option<u16>,
    /// What went wrong, when something did.
    pub error: Option<CallError>,
    /// One a choice, in order of the choices.
    pub finish_reasons: Vec<String>,
    /// Durations.
    pub timing: Timing,
    /// Tokens.
    pub usage: Usage,
    /// Money.
    pub cost: Cost,
    /// The caller's metadata.
    pub tags: Tags,
    /// Who called.
    pub client: Client,
    /// Trace context.
    pub trace: Trace,
    /// Hyper-parameters of the request.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Request body as JSON (or text), without the `calltap` member.
    #[serde(default)]
    pub request: Option<Value>,
    /// What the non-streaming endpoint would have returned.
    #[serde(default)]
    pub response: Option<Value>,
    /// Sizes and hashes of what crossed the wire.
    pub bytes: Sizes,
    /// Allow-listed request and response headers.
    #[serde(default)]
    pub headers: Headers,
    /// Sinks chosen for this call; `None` means all.
    #[serde(default)]
    pub sinks: Option<Vec<String>>,
    /// The call that this one repeats: the same caller-chosen id.
    #[serde(default)]
    pub repeats: Option<Uuid>,
    /// The provider's id of the response, where later calls can refer to it (Responses).
    #[serde(default)]
    pub response_id: Option<String>,
    /// Everything that was degraded.
    pub notes: Vec<String>,
}

impl Record {
    /// The record as one line of JSON. Some readers take more than LF for the end of a line: these marks
    /// are escaped.
    ///
    /// # Errors
    /// Those of `serde_json`.
    pub fn line(&self) -> serde_json::Result<String> {
        let line = serde_json::to_string(self)?;
        let ends = [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
        if !line.contains(ends.map(|(end, _)| end)) {
            return Ok(line);
        }
        Ok(ends.iter().fold(line, |line, (end, escape)| line.replace(*end, escape)))
    }
}

/// Models asked for and served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// As the client asked.
    pub requested: Option<String>,
    /// As the provider answered.
    pub served: Option<String>,
}

/// How a call ended. Exactly one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer was whole.
    Completed,
    /// The provider answered with an error, or sent one inside the stream.
    ProviderError,
    /// The client went away first.
    ClientAborted,
    /// The upstream broke off, or ended without a terminal event.
    UpstreamTruncated,
    /// The upstream was silent for too long.
    UpstreamTimeout,
    /// No connection to the upstream.
    ConnectFailed,
    /// calltap refused the call.
    Refused,
    /// calltap died or was told to stop.
    Interrupted,
}

impl Outcome {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 8] = [
        Self::Completed,
        Self::ProviderError,
        Self::ClientAborted,
        Self::UpstreamTruncated,
        Self::UpstreamTimeout,
        Self::ConnectFailed,
        Self::Refused,
        Self::Interrupted,
    ];

    /// The name as it stands in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ProviderError => "provider_error",
            Self::ClientAborted => "client_aborted",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallError {
    /// Who failed: `provider`, `upstream` (the connection), `client` or `calltap`.
    pub source: String,
    /// The provider's `type`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The provider's `code`, numbers as text.
    pub code: Option<String>,
    /// What it said.
    pub message: Option<String>,
    /// The request parameter at fault.
    pub param: Option<String>,
}

/// Durations in milliseconds, from the monotonic clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Request head read → end of the call.
    pub latency_ms: f64,
    /// Request head read → first byte of the answer's body.
    pub first_byte_ms: Option<f64>,
    /// Request head read → first event with generated output; `None` when not streamed.
    pub ttft_ms: Option<f64>,
    /// calltap's own time before the upstream call and after its last byte.
    pub overhead_ms: f64,
    /// Chunks of the answer's body as they arrived.
    pub chunks: u64,
    /// (output tokens − 1) ÷ time from first to last output event; streams only.
    pub output_tokens_per_second: Option<f64>,
}

/// Where token counts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider said so.
    Provider,
    /// Counted by calltap.
    Estimated,
    /// Counted by calltap over an answer that broke off.
    Partial,
    /// Unknown.
    #[default]
    None,
}

/// Tokens, normalised. Parts are contained in their whole, never added to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Where the counts come from.
    pub source: UsageSource,
    /// All prompt tokens, cached ones included.
    pub input: Option<u64>,
    /// All output tokens, reasoning included.
    pub output: Option<u64>,
    /// As the provider says, else input + output.
    pub total: Option<u64>,
    /// Part of `input` read from a cache.
    pub input_cached: Option<u64>,
    /// Part of `input` written to a cache.
    pub input_cache_write: Option<u64>,
    /// Part of `input` that is audio.
    pub input_audio: Option<u64>,
    /// Part of `input` that is images.
    pub input_image: Option<u64>,
    /// Part of `output` spent on reasoning.
    pub output_reasoning: Option<u64>,
    /// Part of `output` that is audio.
    pub output_audio: Option<u64>,
    /// Part of `output` that is images.
    pub output_image: Option<u64>,
    /// Seconds of audio that were heard, as the provider says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_seconds: Option<Number>,
    /// Characters that were read aloud, where no tokens say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_characters: Option<u64>,
    /// The prompts, where the counts are those of several answers added up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The provider's usage object, verbatim.
    pub raw: Option<Value>,
}

/// Sizes of several prompts, in tokens: the price of each may depend on its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompts {
    /// How many.
    pub count: u64,
    /// The smallest.
    pub smallest: u64,
    /// The largest.
    pub largest: u64,
}

/// Whether a cost is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostStatus {
    /// Every used unit has a price.
    Priced,
    /// Some used unit has no price; the total is the known part.
    Partial,
    /// No price is known; amounts are null.
    Unpriced,
    /// No usage is known; amounts are null.
    #[default]
    NoUsage,
    /// Costs nothing, by statement.
    Free,
}

/// What the call cost. Amounts are decimal strings in USD with at most 12 places.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Whether the cost is known.
    pub status: CostStatus,
    /// `computed`, or `reported` where the provider's own figure is the total.
    pub basis: Option<String>,
    /// The total.
    pub total: Option<String>,
    /// Plain input tokens.
    pub input: Option<String>,
    /// Input tokens read from a cache.
    pub cache_read: Option<String>,
    /// Input tokens written to a cache.
    pub cache_write: Option<String>,
    /// Output tokens.
    pub output: Option<String>,
    /// Audio, both directions.
    pub audio: Option<String>,
    /// Images, both directions.
    pub image: Option<String>,
    /// Tool calls billed by the call.
    pub tools: Option<String>,
    /// Fees a request.
    pub request: Option<String>,
    /// The part of `output` that is reasoning; not added.
    pub reasoning: Option<String>,
    /// What the provider said it charged.
    pub reported: Option<String>,
    /// One a priced bucket.
    pub lines: Vec<CostLine>,
    /// Tier whose prices were asked for: the served one, `batch` or `fast`; `None` for the default.
    pub tier: Option<String>,
    /// Who said so: `response`, or `usage` where it stands in the usage object.
    pub tier_from: Option<String>,
    /// All prompt tokens, which decide about the price where it has steps.
    pub prompt_tokens_for_step: Option<u64>,
    /// Factor on token prices for the place that served the call; `None` for 1.
    pub multiplier: Option<String>,
    /// Billed tool calls, by unit, as they were given to be priced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools_used: Vec<(String, u64)>,
    /// What the call was said to cost before it was priced again, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Replaced>,
    /// Which price was used.
    pub price: Option<PriceRef>,
    /// Anything inexact.
    pub notes: Vec<String>,
}

/// A cost that another one replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// Whether it was known.
    pub status: CostStatus,
    /// The total then.
    pub total: Option<String>,
    /// The price that was used then, with the book it came from.
    pub price: Option<PriceRef>,
}

/// One priced bucket: `quantity × price ÷ per`, rounded half-even to 10⁻¹² USD.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CostLine {
    /// Unit, such as `input` or `cache_read`.
    pub unit: String,
    /// How many.
    pub quantity: u64,
    /// Price in USD for `per` units, as in the price book.
    pub price: String,
    /// Units that `price` buys.
    pub per: u64,
    /// The amount in USD.
    pub amount: String,
}

/// The price that was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PriceRef {
    /// `provider/model`.
    pub entry: String,
    /// How the model was matched: `exact`, `case`, `wrapper`, `fine-tune`, `snapshot`, `borrowed`.
    #[serde(rename = "match")]
    pub matched: String,
    /// `override`, `imported` or `embedded`.
    pub layer: String,
    /// Date from which the price holds.
    pub from: Option<String>,
    /// Day on which a person compared the price with its source.
    #[serde(default)]
    pub checked: Option<String>,
    /// Version of the price book; for a file of one's own its name.
    pub book: String,
    /// SHA-256 of the price file, in hex.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// Who called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// Library derived from it, such as `openai-python`.
    pub sdk: Option<String>,
    /// Which attempt the library said this is, from 0.
    pub retry: Option<u32>,
    /// Keyed hash of the client's credential (`fp_…`), or the name of calltap's own key.
    pub key: Option<String>,
}

/// W3C trace context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trace {
    /// 32 hex digits.
    pub trace_id: Option<String>,
    /// 16 hex digits.
    pub parent_id: Option<String>,
}

/// Sizes and hashes (lower-case hex) of what crossed the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sizes {
    /// Bytes of the request body as the client sent it.
    pub request: u64,
    /// Bytes of the response body as the upstream sent it.
    pub response: u64,
    /// Bytes of the response body handed to the client.
    pub delivered: u64,
    /// SHA-256 of the request body.
    pub request_sha256: Option<String>,
    /// SHA-256 of the response body.
    pub response_sha256: Option<String>,
    /// SHA-256 of the delivered body.
    pub delivered_sha256: Option<String>,
}

/// Allow-listed headers, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Headers {
    /// Of the request.
    pub request: Vec<(String, String)>,
    /// Of the response.
    pub response: Vec<(String, String)>,
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
