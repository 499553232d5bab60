//! Stored records derived anew: read again from raw capture, or priced again with another book. The same
//! capture and the same book give the same record.

use crate::{
    codec::answer_text,
    counted::{count_elsewhere, is_counted_elsewhere},
    interpret::{Interpreted, interpret, set_cost},
    model::{Cost, End, Endpoint, Exchange, Head, Outcome, Record, Replaced, UsageSource},
    pricing::PriceBook,
    store::{Bodies, Entry, Stored},
};
use std::sync::Arc;

/// Most earlier costs kept of a call: the first, and the last before the present one.
const PREVIOUS_MAX: usize = 8;

/// The call read again from its raw capture; `None` where nothing changes, or nothing can be read: the
/// bodies are gone, or there was never an answer.
pub fn reindex(stored: Stored, book: &PriceBook) -> Option<Entry> {
    let Stored { record: old, bodies } = stored;
    let exchange = exchange(&old, bodies?)?;
    let mut read = interpret(&exchange, book);
    read.measure(book);
    let Interpreted { record: mut new, response, .. } = read;
    new.seq = old.seq;
    new.repeats = old.repeats;
    new.bytes = old.bytes.clone();
    if is_counted_elsewhere(&old) {
        count_elsewhere(&mut new);
    }
    if is_masked(&old) {
        keep_what_masking_took(&mut new, &old, book);
    }
    new.notes = notes(&old, new.notes);
    new.cost = with_previous(&old.cost, new.cost);
    let same = serde_json::to_value(&old).ok() == serde_json::to_value(&new).ok();
    let answer = response.as_ref().and_then(answer_text);
    (!same).then_some(Entry { record: new, bodies: None, answer, json: None, text: None })
}

/// The record priced again with the same usage; `None` where its cost stays the same.
pub fn recost(mut record: Record, book: &PriceBook) -> Option<Record> {
    let old = record.cost.clone();
    set_cost(&mut record, old.tier.as_deref(), old.tools_used.clone(), book);
    if is_same(&old, &record.cost) {
        return None;
    }
    record.cost = with_previous(&old, std::mem::take(&mut record.cost));
    Some(record)
}

/// Amounts and their parts are the same, whichever version of the book they come from.
fn is_same(old: &Cost, new: &Cost) -> bool {
    let entry = |cost: &Cost| cost.price.as_ref().map(|price| price.entry.clone());
    (old.status, &old.total, &old.lines) == (new.status, &new.total, &new.lines)
        && entry(old) == entry(new)
}

/// The new cost, which remembers the old one.
fn with_previous(old: &Cost, mut new: Cost) -> Cost {
    if is_same(old, &new) {
        return old.clone();
    }
    new.previous.clone_from(&old.previous);
    if new.previous.len() >= PREVIOUS_MAX {
        new.previous.remove(1);
    }
    let (status, total, price) = (old.status, old.total.clone(), old.price.clone());
    new.previous.push(Replaced { status, total, price });
    new
}

/// What crossed the wire, as far as the record tells.
fn exchange(old: &Record, bodies: Bodies) -> Option<Exchange> {
    let error = old.error.as_ref();
    let said = || error.and_then(|error| error.message.clone()).unwrap_or_default();
    let end = match old.outcome {
        Outcome::Refused | Outcome::ConnectFailed => return None,
        Outcome::Completed | Outcome::ProviderError => End::Complete,
        Outcome::ClientAborted => End::ClientGone,
        Outcome::UpstreamTimeout => End::UpstreamTimeout(said()),
        Outcome::Interrupted => End::Interrupted,
        Outcome::UpstreamTruncated
            if error.is_some_and(|error| error.code.as_deref() == Some("no_terminal_event")) =>
        {
            End::Complete
        }
        Outcome::UpstreamTruncated => End::UpstreamBroke(said()),
    };
    let endpoint = match old.endpoint.as_str() {
        // A newer calltap may know it.
        "other" => Endpoint::of_call(&old.method, &old.path),
        // These come from several calls together.
        name if name.starts_with("assistants.") => return None,
        _ => old.endpoint.clone(),
    };
    let head = Head {
        id: old.id,
        started_at: old.started_at,
        method: old.method.clone(),
        path: old.path.clone(),
        query: old.query.clone(),
        endpoint,
        upstream: old.upstream.as_str().into(),
        provider: old.provider.as_str().into(),
        host: old.host.as_deref().map(Arc::from),
        tags: old.tags.clone(),
        keep_content: true,
        sinks: old.sinks.clone(),
        client: old.client.clone(),
        trace: old.trace.clone(),
        request_headers: old.headers.request.clone(),
        member: bodies.member,
        usage_injected: old.notes.iter().any(|note| note.starts_with("stream usage was asked for")),
        ..Head::default()
    };
    Some(Exchange {
        head: Arc::new(head),
        request: bodies.request,
        status: old.status,
        response_headers: old.headers.response.clone(),
        response: bodies.response,
        chunks: bodies.chunks,
        delivered: old.bytes.delivered,
        ended_us: us(old.timing.latency_ms),
        overhead_us: us(old.timing.overhead_ms),
        end,
        notes: Vec::new(),
    })
}

/// Microseconds of a record's milliseconds.
fn us(ms: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive and far below 2^53 µs"
    )]
    let us = (ms * 1000.0).round().max(0.0) as u64;
    us
}

/// Whether the stored bodies are not quite those that crossed the wire.
fn is_masked(record: &Record) -> bool {
    let masks = ["request redacted:", "response redacted:"];
    record.notes.iter().any(|note| masks.iter().any(|mask| note.starts_with(mask)))
}

/// Masking may have put a whole answer in a stream's place and changed the length of texts: what was
/// read before it stays.
fn keep_what_masking_took(new: &mut Record, old: &Record, book: &PriceBook) {
    new.stream = old.stream;
    new.timing = old.timing.clone();
    new.outcome = old.outcome;
    new.error.clone_from(&old.error);
    if matches!(old.usage.source, UsageSource::Estimated | UsageSource::Partial) {
        new.usage = old.usage.clone();
        let (tier, tools) = (new.cost.tier.take(), std::mem::take(&mut new.cost.tools_used));
        set_cost(new, tier.as_deref(), tools, book);
    }
}

/// Notes of the way stay; those that reading made are made anew.
fn notes(old: &Record, made: Vec<String>) -> Vec<String> {
    let stays = |note: &&String| made.contains(*note) || !is_of_reading(note);
    let mut notes: Vec<String> = old.notes.iter().filter(stays).cloned().collect();
    let new: Vec<String> = made.into_iter().filter(|note| !notes.contains(note)).collect();
    notes.extend(new);
    notes
}

/// Codecs name what was odd by a kind, words joined by underscores; all other notes are sentences.
fn is_of_reading(note: &str) -> bool {
    let kind = note.split([':', ' ']).next().unwrap_or_default();
    kind.contains('_') && kind != "capture_error"
}
