//! A stored record becomes whole again: what its bodies hold is read from them once more.

use super::{decode, header, without};
use crate::{
    codec::{self, Reading},
    model::{ChunkLog, Exchange, Record},
    store::{Bodies, Stored},
};
use serde_json::Value;

/// Bytes of a question that stay in a record whose request holds all of it.
pub const QUERY_KEPT: usize = 1024;
/// Longest text kept for searching, in bytes.
const SEARCH_TEXT_MAX: usize = 64 * 1024;

/// The whole record: the stored one with `request` and `response` read again from the raw bodies.
pub fn restore(stored: Stored) -> Record {
    let Stored { mut record, bodies } = stored;
    let Some(bodies) = bodies else { return record };
    let decoded = decode(&record.headers.response, &bodies.response.kept, &bodies.chunks);
    let request = decode(&record.headers.request, &bodies.request.kept, &ChunkLog::default());
    let request = without(&request.bytes, bodies.member.as_ref());
    let meaning = codec::read(&Reading {
        endpoint: &record.endpoint,
        provider: &record.provider,
        method: &record.method,
        path: &record.path,
        request: &request,
        status: record.status,
        content_type: header(&record.headers.response, "content-type"),
        response: &decoded.bytes,
    });
    record.request = meaning.request;
    record.response = meaning.response;
    if let (Some(kept), Some(whole)) = (&mut record.tags.user_query, meaning.tags.user_query) {
        // A character may have been in the way of the last bytes.
        let was_cut = kept.len() + 3 >= QUERY_KEPT && whole.starts_with(kept.as_str());
        if was_cut {
            *kept = whole;
        }
    }
    record
}

/// The record with `request` and `response` as they crossed the wire, before anything was masked.
pub fn whole(exchange: &Exchange, record: &Record) -> Record {
    let head = &exchange.head;
    let mut record = record.clone();
    record.headers.request.clone_from(&head.request_headers);
    record.headers.response.clone_from(&exchange.response_headers);
    let bodies = Bodies {
        request: exchange.request.clone(),
        member: head.member.clone(),
        response: exchange.response.clone(),
        chunks: exchange.chunks.clone(),
    };
    restore(Stored { record, bodies: Some(bodies) })
}

/// What searching for words looks at: question and answer, of every choice and item, one a line.
pub fn search_text(stored: Stored) -> String {
    let record = restore(stored);
    text_of(record.tags.user_query.as_deref(), record.response.as_ref())
}

/// The same, of a call that has just been read.
pub fn text_of(question: Option<&str>, response: Option<&Value>) -> String {
    let mut text = question.unwrap_or_default().to_owned();
    text.push('\n');
    if let Some(response) = response {
        codec::collect_text(response, SEARCH_TEXT_MAX, &mut text);
    }
    text
}
