//! What an exchange meant: bytes and times become a record.

mod restore;

pub use restore::{QUERY_KEPT, restore, search_text, text_of, whole};

use crate::{
    codec::{self, Meaning, Reading},
    content::{self, Decoded},
    failpoint,
    model::{
        Body, CallError, ChunkLog, Client, Cost, End, Exchange, Head, Headers, Model, Outcome,
        Record, Sizes, Tags, Timestamp, Timing, Usage, UsageSource,
    },
    pricing::{Charge, PriceBook},
    splice::cut_all,
    store::Bodies,
    tokens,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// A finished call, understood.
#[derive(Debug)]
pub struct Interpreted {
    /// The record, without `request` and `response`.
    pub record: Record,
    /// The raw bodies, where content is kept.
    pub bodies: Option<Bodies>,
    /// What the non-streaming endpoint would have returned.
    pub response: Option<Value>,
    /// The answer stands with the provider: what it used counts in the first record that reports it.
    pub is_read_again: bool,
    /// `tags.user_query` is from the request: [`restore`] finds it there again.
    pub holds_query: bool,
    /// What to count tokens from, where the provider sent no usage: [`Interpreted::measure`] does it.
    pub unmeasured: Option<Unmeasured>,
}

/// An exchange without usage.
#[derive(Debug)]
pub struct Unmeasured {
    request: Option<Value>,
    broke_off: bool,
}

/// The record of a finished call, and its raw bodies.
///
/// Never fails: what cannot be read is absent, with a note.
pub fn interpret(exchange: &Exchange, book: &PriceBook) -> Interpreted {
    let head = exchange.head.clone();
    let chunks = &exchange.chunks;
    failpoint::reach("decode");
    let decoded = decode(&exchange.response_headers, &exchange.response.kept, chunks);
    let request = decode(&head.request_headers, &exchange.request.kept, &ChunkLog::default());
    let request = without(&request.bytes, head.member.as_ref());
    let content_type = header(&exchange.response_headers, "content-type");
    failpoint::reach("read");
    let mut meaning = codec::read(&Reading {
        endpoint: &head.endpoint,
        provider: &head.provider,
        method: &head.method,
        path: &head.path,
        request: &request,
        status: exchange.status,
        content_type,
        response: &decoded.bytes,
    });
    let mut record = begun(&head);
    record.ended_at = after(head.started_at, exchange.ended_us);
    record.outcome = outcome(exchange, &meaning, &decoded);
    record.status = exchange.status;
    record.error = error(exchange, &meaning, record.outcome);
    record.stream = meaning.stream;
    record.timing = timing(exchange, &meaning, &decoded);
    record.bytes = sizes(exchange);
    record.headers.response.clone_from(&exchange.response_headers);
    record.notes = notes(exchange, &meaning, &decoded);
    let bodies = head.keep_content.then(|| Bodies {
        request: exchange.request.clone(),
        member: head.member.clone(),
        response: exchange.response.clone(),
        chunks: exchange.chunks.clone(),
    });
    let response = meaning.response.take();
    let is_read_again = meaning.is_read_again;
    let holds_query = bodies.is_some() && head.tags.user_query.is_none();
    let unmeasured = broke_off(&record, &meaning, response.as_ref())
        .map(|broke_off| Unmeasured { request: meaning.request.take(), broke_off });
    failpoint::reach("price");
    add_meaning(&mut record, meaning, &head, book);
    if !head.keep_content {
        strip_content(&mut record);
    }
    Interpreted { record, bodies, response, is_read_again, holds_query, unmeasured }
}

impl Interpreted {
    /// Counts the tokens of a call whose provider sent no usage, and prices them. Takes its time: a
    /// vocabulary may have to be loaded first.
    pub fn measure(&mut self, book: &PriceBook) {
        let Some(unmeasured) = self.unmeasured.take() else { return };
        failpoint::reach("tokens");
        let record = &mut self.record;
        let model = record.model.served.as_deref().or(record.model.requested.as_deref());
        let tokens::Estimate { input, output, notes } = tokens::estimate(&tokens::Question {
            endpoint: record.endpoint.as_str(),
            model: model.unwrap_or_default(),
            request: unmeasured.request.as_ref(),
            response: self.response.as_ref(),
            broke_off: unmeasured.broke_off,
        });
        record.notes.extend(notes);
        if input.is_none() && output.is_none() {
            return;
        }
        let source =
            if unmeasured.broke_off { UsageSource::Partial } else { UsageSource::Estimated };
        let total = match record.endpoint.as_str() {
            "embeddings" => input,
            _ => input.zip(output).map(|(input, output)| input.saturating_add(output)),
        };
        record.usage = Usage { source, input, output, total, ..Usage::default() };
        let (tier, tools) = (record.cost.tier.take(), std::mem::take(&mut record.cost.tools_used));
        set_cost(record, tier.as_deref(), tools, book);
    }
}

/// Whether the answer of a call without usage broke off; `None` where there is nothing to count: the
/// call was never answered, failed, or is not billed by tokens.
fn broke_off(record: &Record, meaning: &Meaning, response: Option<&Value>) -> Option<bool> {
    let asks = meaning.request.as_ref().and_then(Value::as_object).is_some_and(|request| {
        ["messages", "input", "prompt"].iter().any(|member| request.contains_key(*member))
    });
    let failed = record.status.is_some_and(|status| status >= 400);
    let counts = tokens::counts(record.endpoint.as_str()) && record.method == "POST";
    if meaning.usage.is_some() || !asks || failed || !counts {
        return None;
    }
    let answered = ["choices", "output", "data"].iter().any(|member| {
        let items = response.and_then(|response| response.get(member)?.as_array());
        items.is_some_and(|items| !items.is_empty())
    });
    let status = response.and_then(|response| response.get("status")?.as_str());
    let runs_on = matches!(status, Some("queued" | "in_progress"));
    let apart = response.is_some_and(|response| response.get("background") == Some(&true.into()));
    if runs_on && apart {
        // Whoever reads the answer later sees what it used.
        return None;
    }
    match record.outcome {
        Outcome::Refused | Outcome::ConnectFailed => None,
        Outcome::Completed => (answered && !runs_on).then_some(false),
        Outcome::ProviderError => answered.then_some(true),
        _ => Some(true),
    }
}

/// The record of a call that has only begun: as it stands if nothing more is ever heard of it.
pub fn begun(head: &Head) -> Record {
    let mut tags = head.tags.clone();
    if let Some(defaults) = &head.defaults {
        tags.fill_from((**defaults).clone());
    }
    Record {
        id: head.id,
        seq: None,
        started_at: head.started_at,
        ended_at: head.started_at,
        endpoint: head.endpoint.clone(),
        method: head.method.clone(),
        path: head.path.clone(),
        query: head.query.clone(),
        upstream: head.upstream.to_string(),
        provider: head.provider.to_string(),
        host: None,
        model: Model::default(),
        stream: false,
        outcome: Outcome::Interrupted,
        status: None,
        error: None,
        finish_reasons: Vec::new(),
        timing: Timing::default(),
        usage: Usage::default(),
        cost: Cost::default(),
        tags,
        client: Client::clone(&head.client),
        trace: head.trace.clone(),
        parameters: Map::new(),
        request: None,
        response: None,
        bytes: Sizes { request: head.request_bytes, ..Sizes::default() },
        headers: Headers { request: head.request_headers.clone(), response: Vec::new() },
        sinks: head.sinks.clone(),
        repeats: None,
        response_id: None,
        notes: Vec::new(),
    }
}

/// The record of a running call for the journal: what its request alone tells.
pub fn started(head: &Head, request: &Bytes) -> Record {
    let mut record = begun(head);
    if head.keep_content {
        let request = without(request, head.member.as_ref());
        let meaning = codec::read(&Reading {
            endpoint: &head.endpoint,
            provider: &head.provider,
            method: &head.method,
            path: &head.path,
            request: &request,
            status: None,
            content_type: None,
            response: &[],
        });
        record.model.requested = meaning.model_requested;
        record.parameters = meaning.parameters;
        fill_tags(&mut record.tags, meaning.tags, head);
    }
    record
}

fn decode(headers: &[(String, String)], body: &Bytes, chunks: &ChunkLog) -> Decoded {
    content::decode(header(headers, "content-encoding"), body, chunks.iter().map(|(len, _)| len))
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

/// The request as it went upstream: without the `calltap` member.
fn without(body: &Bytes, member: Option<&Range<usize>>) -> Bytes {
    match member {
        Some(cut) if cut.end <= body.len() && cut.start <= cut.end => {
            [&body[..cut.start], &body[cut.end..]].concat().into()
        }
        _ => body.clone(),
    }
}

fn after(start: Timestamp, us: u64) -> Timestamp {
    start.plus_us(i64::try_from(us).unwrap_or(i64::MAX))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Exactly one holds (SPEC §4, §13.8).
fn outcome(exchange: &Exchange, meaning: &Meaning, decoded: &Decoded) -> Outcome {
    let answered = |status: u16| {
        if meaning.error.is_some() || status >= 400 {
            Outcome::ProviderError
        } else {
            Outcome::Completed
        }
    };
    let status = exchange.status.unwrap_or_default();
    match &exchange.end {
        End::Refused { .. } => Outcome::Refused,
        End::ConnectFailed(_) => Outcome::ConnectFailed,
        End::UpstreamTimeout(_) => Outcome::UpstreamTimeout,
        End::Interrupted => Outcome::Interrupted,
        End::ClientGone if client_has_all(exchange, meaning, decoded) => answered(status),
        End::ClientGone => Outcome::ClientAborted,
        // A break after the terminal event takes nothing from anybody.
        End::UpstreamBroke(_) if meaning.stream && meaning.terminal_end.is_some() => {
            answered(status)
        }
        End::UpstreamBroke(_) => Outcome::UpstreamTruncated,
        End::Complete => match answered(status) {
            Outcome::Completed if meaning.stream && !meaning.terminal && ends_visibly(exchange) => {
                Outcome::UpstreamTruncated
            }
            outcome => outcome,
        },
    }
}

/// Endpoints whose streams say when they are finished.
const SAY_THE_END: [&str; 9] = [
    "assistants.run",
    "chat.completions",
    "completions",
    "messages",
    "responses",
    "audio.transcriptions",
    "audio.translations",
    "images.generations",
    "images.edits",
];

/// Whether a stream without a last word was cut short.
fn ends_visibly(exchange: &Exchange) -> bool {
    let endpoint = exchange.head.endpoint.as_str();
    SAY_THE_END.contains(&endpoint) && !exchange.response.is_truncated()
}

/// A client that closes after the terminal event, or after a failure, went away with the whole answer.
fn client_has_all(exchange: &Exchange, meaning: &Meaning, decoded: &Decoded) -> bool {
    let Some(end) = meaning.failed_end.or(meaning.terminal_end) else { return false };
    if !decoded.ends.is_empty() {
        return exchange.delivered >= exchange.response.total;
    }
    let Ok(end) = usize::try_from(end) else { return false };
    let until = decoded.bytes.slice(..end.min(decoded.bytes.len()));
    let wanted = if exchange.head.usage_injected {
        cut_all(&until).iter().map(|piece| len(piece)).sum()
    } else {
        len(&until)
    };
    exchange.delivered >= wanted
}

fn error(exchange: &Exchange, meaning: &Meaning, outcome: Outcome) -> Option<CallError> {
    let own = |source: &str, code: &str, message: &str| {
        Some(CallError {
            source: source.to_owned(),
            code: Some(code.to_owned()),
            message: Some(message.to_owned()),
            ..CallError::default()
        })
    };
    match &exchange.end {
        End::Refused { code, message } => own("calltap", code, message),
        End::ConnectFailed(why) => own("upstream", "connect_failed", why),
        End::UpstreamTimeout(why) => own("upstream", "timeout", why),
        End::UpstreamBroke(why) if outcome == Outcome::UpstreamTruncated => {
            // Without a byte of an answer, the status is calltap's own.
            let said = meaning.error.clone().filter(|_| exchange.response.total > 0);
            said.or_else(|| own("upstream", "broke_off", why))
        }
        End::Interrupted => own("calltap", "interrupted", "calltap was stopped during the call"),
        _ => match outcome {
            Outcome::UpstreamTruncated => {
                own("upstream", "no_terminal_event", "the stream ended without a terminal event")
            }
            Outcome::ClientAborted => meaning
                .error
                .clone()
                .or_else(|| own("client", "client_closed", "the client went away")),
            _ => meaning.error.clone(),
        },
    }
}

/// Milliseconds, to the microsecond.
fn ms(us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, which is 285 years")]
    let us = us as f64;
    us / 1000.0
}

fn timing(exchange: &Exchange, meaning: &Meaning, decoded: &Decoded) -> Timing {
    let chunks = &exchange.chunks;
    // Offsets are counted in decoded bytes, from just past an event; arrivals in raw chunks.
    let arrival = |offset: Option<u64>| {
        let last = offset?.checked_sub(1)?;
        if decoded.ends.is_empty() {
            return chunks.arrival_us(last);
        }
        let at = decoded.ends.iter().position(|end| *end > last)?;
        chunks.iter().nth(at).map(|(_, at_us)| at_us)
    };
    let (first, last) = (arrival(meaning.first_output), arrival(meaning.last_output));
    let speed = match (first, last, meaning.usage.as_ref().and_then(|usage| usage.output)) {
        (Some(first), Some(last), Some(tokens))
            if last > first && tokens > 1 && meaning.output_events >= 2 =>
        {
            #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
            let tokens = (tokens - 1) as f64;
            Some((tokens / (ms(last - first) / 1000.0) * 1000.0).round() / 1000.0)
        }
        _ => None,
    };
    Timing {
        latency_ms: ms(exchange.ended_us),
        first_byte_ms: chunks.iter().next().map(|(_, at_us)| ms(at_us)),
        ttft_ms: first.map(ms),
        overhead_ms: ms(exchange.overhead_us),
        chunks: chunks.count(),
        output_tokens_per_second: speed,
    }
}

fn sizes(exchange: &Exchange) -> Sizes {
    let text = |sha256: Option<[u8; 32]>| sha256.map(hex::encode);
    Sizes {
        request: exchange.request.total,
        response: exchange.response.total,
        delivered: exchange.delivered,
        request_sha256: text(exchange.request.sha256),
        response_sha256: text(exchange.response.sha256),
        delivered_sha256: delivered_sha256(exchange).map(hex::encode),
    }
}

/// What the client received is the answer, less what was cut, as far as it went.
fn delivered_sha256(exchange: &Exchange) -> Option<[u8; 32]> {
    let body: &Body = &exchange.response;
    if exchange.delivered == body.total {
        return body.sha256;
    }
    let is_cut = exchange.head.usage_injected;
    let pieces = if is_cut { cut_all(&body.kept) } else { vec![body.kept.clone()] };
    let (mut hash, mut left) = (Sha256::new(), usize::try_from(exchange.delivered).ok()?);
    for piece in &pieces {
        let part = piece.get(..piece.len().min(left))?;
        hash.update(part);
        left -= part.len();
    }
    (left == 0).then(|| hash.finalize().into())
}

fn notes(exchange: &Exchange, meaning: &Meaning, decoded: &Decoded) -> Vec<String> {
    let mut notes = exchange.notes.clone();
    if exchange.head.usage_injected {
        notes.push("stream usage was asked for on the client's behalf".to_owned());
    }
    notes.extend(decoded.problem.clone());
    notes.extend(meaning.notes.iter().cloned());
    notes
}

fn add_meaning(record: &mut Record, meaning: Meaning, head: &Head, book: &PriceBook) {
    let requested = meaning.model_requested.or_else(|| model_of_query(head));
    record.model = Model { requested, served: meaning.model_served };
    record.finish_reasons = meaning.finish_reasons;
    record.response_id = meaning.response_id;
    record.parameters = meaning.parameters;
    record.usage = meaning.usage.unwrap_or_default();
    record.host = head.host.as_deref().map(str::to_owned);
    set_cost(record, meaning.service_tier.as_deref(), meaning.tools, book);
    fill_tags(&mut record.tags, meaning.tags, head);
}

/// Prices the record as it stands.
pub fn set_cost(
    record: &mut Record,
    tier: Option<&str>,
    tools: Vec<(String, u64)>,
    book: &PriceBook,
) {
    record.cost = book.price(&Charge {
        provider: &record.provider,
        served: record.model.served.as_deref(),
        requested: record.model.requested.as_deref(),
        endpoint: record.endpoint.as_str(),
        usage: &record.usage,
        tier,
        tools: &tools,
        at: record.started_at,
        host: record.host.as_deref(),
    });
    record.cost.tools_used = tools;
}

/// The model of a connection stands in its URL; at Azure it is a deployment.
fn model_of_query(head: &Head) -> Option<String> {
    let pairs = head.query.as_deref()?.split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter(|(name, _)| matches!(*name, "model" | "deployment"));
    let named = named.filter(|_| head.endpoint.as_str() == "realtime");
    let value = named.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy()).next()?;
    (!value.is_empty() && value.len() <= 256).then(|| value.into_owned())
}

/// The request's own fields fill what the caller's metadata left open, but not the key's defaults.
fn fill_tags(tags: &mut Tags, from_request: Tags, head: &Head) {
    let mut strong = head.tags.clone();
    strong.fill_from(from_request);
    if let Some(defaults) = &head.defaults {
        strong.fill_from((**defaults).clone());
    }
    *tags = strong;
}

/// `x-calltap-log: metadata`: no bodies and nothing taken from them (SPEC §13.10).
pub fn strip_content(record: &mut Record) {
    record.request = None;
    record.response = None;
    record.tags.user_query = None;
    record.tags.context = None;
    record.tags.expected = None;
    record.tags.inputs = Map::new();
    if let Some(error) = &mut record.error
        && error.source == "provider"
    {
        error.message = None; // providers quote the request in it
    }
    for name in ["stop", "logit_bias", "response_format", "text", "prediction"] {
        if record.parameters.contains_key(name) {
            record.parameters.insert(name.to_owned(), Value::Null);
        }
    }
}
