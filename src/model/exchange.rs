//! What crossed the wire during one call: bytes and times, no meaning yet.

use super::leb128::{put, take};
use super::{Client, Endpoint, Tags, Timestamp, Trace};
use bytes::Bytes;
use std::{ops::Range, sync::Arc};
use uuid::Uuid;

/// What is known of a call once its request goes upstream. Shared by the running call, the journal
/// and the finished exchange.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The call's id, also in the `x-calltap-id` response header.
    pub id: Uuid,
    /// When the request head was read.
    pub started_at: Timestamp,
    /// Request method.
    pub method: String,
    /// Request path as the client sent it, without calltap's own parts and without query.
    pub path: String,
    /// Query string, values that may be credentials masked.
    pub query: Option<String>,
    /// The API the path belongs to.
    pub endpoint: Endpoint,
    /// Name of the upstream; empty when none was found.
    pub upstream: Arc<str>,
    /// Provider slug, as in the price book.
    pub provider: Arc<str>,
    /// Host of the upstream (regional prices).
    pub host: Option<Arc<str>>,
    /// What the caller said about the call, by header, path and body member.
    pub tags: Tags,
    /// Metadata that the key brings to calls without it.
    pub defaults: Option<Arc<Tags>>,
    /// Whether bodies and what is taken from them are kept.
    pub keep_content: bool,
    /// Sinks chosen for this call; `None` means all.
    pub sinks: Option<Vec<String>>,
    /// Who called.
    pub client: Client,
    /// Trace context that came with the call.
    pub trace: Trace,
    /// Allow-listed request headers.
    pub request_headers: Vec<(String, String)>,
    /// Bytes of the request body, where it was read before the call went upstream.
    pub request_bytes: u64,
    /// Where the `calltap` member stood in the request body, comma included.
    pub member: Option<Range<usize>>,
    /// Whether stream usage was asked for on the client's behalf.
    pub usage_injected: bool,
    /// What is set aside for the call in the budget of its key.
    pub hold: Option<Arc<dyn Hold>>,
}

/// Money set aside for a call until it is known what the call cost.
pub trait Hold: std::fmt::Debug + Send + Sync {
    /// The call cost so many picodollars. Only the first time counts.
    fn settle(&self, pico: i128);
}

/// A finished call as it crossed the wire. `interpret` gives it meaning.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was known when the request went upstream.
    pub head: Arc<Head>,
    /// Request body as the client sent it.
    pub request: Body,
    /// Status of the upstream's answer (or of calltap's own); `None` when there was none.
    pub status: Option<u16>,
    /// Allow-listed response headers.
    pub response_headers: Vec<(String, String)>,
    /// Response body as received from the upstream, still content-encoded.
    pub response: Body,
    /// Arrival of every chunk of the response body.
    pub chunks: ChunkLog,
    /// Body bytes handed to the client's connection.
    pub delivered: u64,
    /// From the request head to the end of the call, in microseconds.
    pub ended_us: u64,
    /// calltap's own time before the upstream call and after its last byte, in microseconds.
    pub overhead_us: u64,
    /// How the call ended.
    pub end: End,
    /// What was degraded on the way.
    pub notes: Vec<String>,
}

/// A body as far as it was kept.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The bytes that were kept: all of them, or the first part.
    pub kept: Bytes,
    /// How many bytes crossed the wire.
    pub total: u64,
    /// SHA-256 over all bytes that crossed; `None` when they were not all seen.
    pub sha256: Option<[u8; 32]>,
}

impl Body {
    /// True when some bytes that crossed were not kept.
    pub fn is_truncated(&self) -> bool {
        self.total > u64::try_from(self.kept.len()).unwrap_or(u64::MAX)
    }
}

/// How a call ended, as far as the transport can tell. Whether the *answer* was whole is the
/// codec's to say: a client may hang up after `[DONE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The upstream's answer ended cleanly.
    Complete,
    /// The client went away first.
    ClientGone,
    /// The upstream broke off inside its answer.
    UpstreamBroke(String),
    /// The upstream was silent for too long.
    UpstreamTimeout(String),
    /// No connection, or none that lasted until an answer began.
    ConnectFailed(String),
    /// calltap refused the call; the code is the one the client saw.
    Refused {
        /// `calltap_…` code.
        code: &'static str,
        /// What the client was told.
        message: String,
    },
    /// calltap was told to stop.
    Interrupted,
}

/// Lengths and arrival times of chunks, delta-encoded: pairs of LEB128 numbers
/// (bytes in the chunk, microseconds since the previous chunk or the start of the call).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkLog {
    encoded: Vec<u8>,
    count: u64,
    last_us: u64,
}

impl ChunkLog {
    /// Notes a chunk of `len` bytes that arrived `at_us` microseconds after the start of the call.
    pub fn push(&mut self, len: usize, at_us: u64) {
        put(&mut self.encoded, u64::try_from(len).unwrap_or(u64::MAX));
        put(&mut self.encoded, at_us.saturating_sub(self.last_us));
        self.last_us = self.last_us.max(at_us);
        self.count += 1;
    }

    /// Restores a log from its stored form; what does not decode ends it.
    pub fn from_encoded(encoded: Vec<u8>) -> Self {
        let mut log = Self { encoded, count: 0, last_us: 0 };
        let (mut count, mut last_us) = (0, 0);
        for (_, at_us) in log.iter() {
            count += 1;
            last_us = at_us;
        }
        log.count = count;
        log.last_us = last_us;
        log
    }

    /// The stored form.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// How many chunks arrived.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// (bytes, microseconds since the start of the call) of each chunk.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (mut rest, mut at_us) = (self.encoded.as_slice(), 0_u64);
        std::iter::from_fn(move || {
            let len = take(&mut rest)?;
            at_us = at_us.saturating_add(take(&mut rest)?);
            Some((len, at_us))
        })
    }

    /// When the byte at `offset` arrived, in microseconds since the start of the call.
    pub fn arrival_us(&self, offset: u64) -> Option<u64> {
        let mut end = 0_u64;
        self.iter().find_map(|(len, at_us)| {
            end = end.saturating_add(len);
            (offset < end).then_some(at_us)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arrival_of_a_byte() {
        let mut log = ChunkLog::default();
        log.push(10, 500);
        log.push(300, 90_000);
        assert_eq!(log.arrival_us(0), Some(500));
        assert_eq!(log.arrival_us(9), Some(500));
        assert_eq!(log.arrival_us(10), Some(90_000));
        assert_eq!(log.arrival_us(310), None);
    }

    proptest! {
        #[test]
        fn a_log_survives_its_stored_form(chunks in prop::collection::vec((0_usize..1 << 40, 0_u64..1 << 40), 0..50)) {
            let mut log = ChunkLog::default();
            let mut now = 0;
            let mut expected = Vec::new();
            for (len, step) in chunks {
                now += step;
                log.push(len, now);
                expected.push((u64::try_from(len).unwrap(), now));
            }
            let back = ChunkLog::from_encoded(log.encoded().to_vec());
            prop_assert_eq!(&back, &log);
            prop_assert_eq!(back.iter().collect::<Vec<_>>(), expected);
        }
    }
}
