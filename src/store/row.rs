//! Records to rows and back.

use super::{Bodies, Entry, Started, StoreError, Stored, Text};
use crate::model::{Body, ChunkLog, Outcome, Record};
use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, Row, params};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Bodies below this are stored as they are: compressing them gains little.
const COMPRESS_MIN: usize = 256;
/// zstd level: higher ones cost much and gain nothing here.
const COMPRESS_LEVEL: i32 = 1;

/// A finished call, ready for the writer: everything that costs time is done.
#[derive(Debug)]
pub struct Packed {
    record: Record,
    doc: String,
    bodies: Option<PackedBodies>,
    text: Option<Text>,
}

#[derive(Debug)]
struct PackedBodies {
    request: Blob,
    response: Blob,
    member: Option<(i64, i64)>,
    chunks: Vec<u8>,
    hash: [u8; 32],
}

#[derive(Debug)]
struct Blob {
    bytes: Vec<u8>,
    zstd: bool,
    total: i64,
    sha256: Option<[u8; 32]>,
}

impl Packed {
    /// Serialises and compresses.
    pub fn new(entry: Entry) -> Self {
        let bodies = entry.bodies.map(PackedBodies::new);
        Self { doc: doc(&entry.record), record: entry.record, bodies, text: entry.text }
    }

    /// Bytes it takes in memory, about.
    pub fn size(&self) -> u64 {
        let bodies = self.bodies.as_ref().map_or(0, |bodies| {
            bodies.request.bytes.len() + bodies.response.bytes.len() + bodies.chunks.len()
        });
        let text = self.text.as_ref().map_or(0, |text| text.input.len() + text.output.len());
        u64::try_from(self.doc.len() * 2 + bodies + text + 1024).unwrap_or(u64::MAX)
    }

    /// Id of the record.
    pub fn id(&self) -> Uuid {
        self.record.id
    }

    /// Gives the record another id: its own is taken by an earlier call.
    pub fn rename(&mut self) {
        self.record.repeats = Some(self.record.id);
        self.record.id = Uuid::now_v7();
        self.doc = doc(&self.record);
    }

    /// Inserts call, doc and bodies; the `seq` they got.
    ///
    /// # Errors
    /// SQLite's.
    pub fn insert(&self, connection: &Connection) -> Result<i64, StoreError> {
        let seq = insert_call(connection, &self.record)?;
        connection
            .prepare_cached("INSERT INTO docs (seq, doc) VALUES (?1, ?2)")?
            .execute(params![seq, self.doc])?;
        if let Some(bodies) = &self.bodies {
            bodies.insert(connection, seq)?;
        }
        if let Some(text) = &self.text {
            connection
                .prepare_cached("INSERT INTO texts (seq, input, output) VALUES (?1, ?2, ?3)")?
                .execute(params![seq, text.input, text.output])?;
        }
        Ok(seq)
    }
}

fn doc(record: &Record) -> String {
    // A record holds nothing that JSON cannot say; an empty doc would be noticed on reading.
    serde_json::to_string(record).unwrap_or_default()
}

impl PackedBodies {
    fn new(bodies: Bodies) -> Self {
        let mut hash = Sha256::new();
        hash.update(&bodies.request.kept);
        hash.update(&bodies.response.kept);
        let number = |at: usize| i64::try_from(at).unwrap_or(i64::MAX);
        Self {
            member: bodies.member.map(|member| (number(member.start), number(member.end))),
            chunks: bodies.chunks.encoded().to_vec(),
            hash: hash.finalize().into(),
            request: Blob::new(&bodies.request),
            response: Blob::new(&bodies.response),
        }
    }

    fn insert(&self, connection: &Connection, seq: i64) -> Result<(), StoreError> {
        let mut statement: CachedStatement<'_> = connection.prepare_cached(
            "INSERT INTO bodies (seq, request, request_zstd, request_total, request_sha256, \
             member_start, member_end, response, response_zstd, response_total, response_sha256, \
             chunks, stored_sha256) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)",
        )?;
        statement.execute(params![
            seq,
            self.request.bytes,
            self.request.zstd,
            self.request.total,
            self.request.sha256.as_ref().map(<[u8; 32]>::as_slice),
            self.member.map(|(start, _)| start),
            self.member.map(|(_, end)| end),
            self.response.bytes,
            self.response.zstd,
            self.response.total,
            self.response.sha256.as_ref().map(<[u8; 32]>::as_slice),
            self.chunks,
            self.hash.as_slice(),
        ])?;
        Ok(())
    }
}

impl Blob {
    fn new(body: &Body) -> Self {
        let packed = (body.kept.len() >= COMPRESS_MIN)
            .then(|| zstd::bulk::compress(&body.kept, COMPRESS_LEVEL).ok())
            .flatten()
            .filter(|packed| packed.len() < body.kept.len());
        Self {
            zstd: packed.is_some(),
            bytes: packed.unwrap_or_else(|| body.kept.to_vec()),
            total: i64::try_from(body.total).unwrap_or(i64::MAX),
            sha256: body.sha256,
        }
    }
}

fn insert_call(connection: &Connection, record: &Record) -> Result<i64, StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO calls (id, started_at, started_us, endpoint, method, path, upstream, provider, \
         model, model_requested, stream, outcome, status, error_code, finish_reason, latency_ms, \
         first_byte_ms, ttft_ms, overhead_ms, input_tokens, cached_tokens, output_tokens, \
         reasoning_tokens, total_tokens, usage_source, cost_status, cost_pico, prompt, \
         prompt_version, session, environment, customer, user, reference, labels, metadata, \
         client_key, sdk, trace_id, request_bytes, response_bytes) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,\
         ?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,\
         ?32,?33,?34,?35,?36,?37,?38,?39,?40,?41)",
    )?;
    let (usage, tags, timing) = (&record.usage, &record.tags, &record.timing);
    let model = record.model.served.as_ref().or(record.model.requested.as_ref());
    let count = |tokens: Option<u64>| tokens.and_then(|tokens| i64::try_from(tokens).ok());
    let labels =
        (!tags.labels.is_empty()).then(|| format!(",{},", tags.labels.join(",").to_lowercase()));
    let metadata = (!tags.metadata.is_empty())
        .then(|| serde_json::to_string(&tags.metadata).unwrap_or_default());
    statement.execute(params![
        record.id.to_string(),
        record.started_at.to_string(),
        record.started_at.0,
        record.endpoint.as_str(),
        record.method,
        record.path,
        record.upstream,
        record.provider,
        model,
        record.model.requested,
        record.stream,
        record.outcome.as_str(),
        record.status,
        record.error.as_ref().and_then(|error| error.code.as_ref().or(error.kind.as_ref())),
        record.finish_reasons.first(),
        timing.latency_ms,
        timing.first_byte_ms,
        timing.ttft_ms,
        timing.overhead_ms,
        count(usage.input),
        count(usage.input_cached),
        count(usage.output),
        count(usage.output_reasoning),
        count(usage.total),
        text(&usage.source),
        text(&record.cost.status),
        record.cost.total.as_deref().and_then(pico),
        tags.prompt,
        tags.prompt_version,
        tags.session,
        tags.environment,
        tags.customer,
        tags.user,
        tags.reference,
        labels,
        metadata,
        record.client.key,
        record.client.sdk,
        record.trace.trace_id,
        count(Some(record.bytes.request)),
        count(Some(record.bytes.response)),
    ])?;
    Ok(connection.last_insert_rowid())
}

/// The name of a unit variant.
fn text(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// A decimal amount in dollars as whole pico-dollars; `None` when it does not fit.
pub fn pico(amount: &str) -> Option<i64> {
    let (negative, digits) = match amount.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, amount),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() > 12 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<12}").parse().ok()?;
    let total = whole.checked_mul(1_000_000_000_000)?.checked_add(fraction)?;
    Some(if negative { -total } else { total })
}

/// Whole pico-dollars as a decimal amount in dollars.
pub fn dollars(pico: i128) -> String {
    let sign = if pico < 0 { "-" } else { "" };
    let pico = pico.unsigned_abs();
    let (whole, fraction) = (pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    let text = format!("{sign}{whole}.{fraction:012}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Notes a running call.
///
/// # Errors
/// SQLite's.
pub fn insert_started(connection: &Connection, started: &Started) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO journal (id, doc, request) VALUES (?1, ?2, ?3)")?
        .execute(params![
            started.record.id.to_string(),
            doc(&started.record),
            started.request.as_deref()
        ])?;
    Ok(())
}

/// The running calls that a process left behind, as `interrupted` records.
///
/// # Errors
/// SQLite's.
pub fn left_behind(connection: &Connection) -> Result<Vec<Entry>, StoreError> {
    let mut statement = connection.prepare("SELECT doc, request FROM journal ORDER BY id")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<Vec<u8>>>(1)?)))?;
    let mut entries = Vec::new();
    for row in rows {
        let (doc, request) = row?;
        let Ok(mut record) = serde_json::from_str::<Record>(&doc) else { continue };
        record.outcome = Outcome::Interrupted;
        record.notes.push("calltap stopped before the call ended".to_owned());
        let bodies = request.map(|request| Bodies {
            request: Body {
                total: u64::try_from(request.len()).unwrap_or(u64::MAX),
                sha256: Some(Sha256::digest(&request).into()),
                kept: request.into(),
            },
            ..Bodies::default()
        });
        let input = record.tags.user_query.clone();
        let text = input.map(|input| Text { input, output: String::new() });
        entries.push(Entry { record, bodies, text });
    }
    Ok(entries)
}

/// Columns that [`stored`] reads.
pub const STORED_COLUMNS: &str = "c.seq, d.doc, b.seq, b.request, b.request_zstd, b.request_total, \
     b.request_sha256, b.member_start, b.member_end, b.response, b.response_zstd, b.response_total, \
     b.response_sha256, b.chunks, b.stored_sha256";

/// A record with its bodies. What is damaged is left out, with a note.
///
/// # Errors
/// SQLite's; [`StoreError::Invalid`] when the doc is no record.
pub fn stored(row: &Row<'_>) -> Result<Stored, StoreError> {
    let seq: i64 = row.get(0)?;
    let doc: String = row.get(1)?;
    let mut record: Record = serde_json::from_str(&doc)
        .map_err(|error| StoreError::Invalid(format!("record {seq} is damaged: {error}")))?;
    record.seq = Some(seq);
    if row.get::<_, Option<i64>>(2)?.is_none() {
        return Ok(Stored { record, bodies: None });
    }
    let request = body(row, 3)?;
    let response = body(row, 9)?;
    let mut hash = Sha256::new();
    let intact = match (&request, &response) {
        (Some(request), Some(response)) => {
            hash.update(&request.kept);
            hash.update(&response.kept);
            row.get::<_, Vec<u8>>(14)? == hash.finalize().as_slice()
        }
        _ => false,
    };
    if !intact {
        record.notes.push("the stored bodies are damaged and were left out".to_owned());
        return Ok(Stored { record, bodies: None });
    }
    let at = |value: Option<i64>| value.and_then(|at| usize::try_from(at).ok());
    let member = at(row.get(7)?).zip(at(row.get(8)?)).map(|(start, end)| start..end);
    Ok(Stored {
        record,
        bodies: Some(Bodies {
            request: request.unwrap_or_default(),
            member,
            response: response.unwrap_or_default(),
            chunks: ChunkLog::from_encoded(row.get::<_, Option<Vec<u8>>>(13)?.unwrap_or_default()),
        }),
    })
}

/// One body from four columns; `None` when it does not unpack.
fn body(row: &Row<'_>, first: usize) -> Result<Option<Body>, StoreError> {
    let bytes: Vec<u8> = row.get::<_, Option<Vec<u8>>>(first)?.unwrap_or_default();
    let total = u64::try_from(row.get::<_, i64>(first + 2)?).unwrap_or(0);
    let hash_at = first + 3;
    let sha256 = row.get::<_, Option<Vec<u8>>>(hash_at)?.and_then(|hash| hash.try_into().ok());
    let kept = if row.get::<_, bool>(first + 1)? {
        match zstd::stream::decode_all(bytes.as_slice()) {
            Ok(bytes) => bytes,
            Err(_) => return Ok(None),
        }
    } else {
        bytes
    };
    Ok(Some(Body { kept: Bytes::from(kept), total, sha256 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts() {
        assert_eq!(pico("0.000324"), Some(324_000_000));
        assert_eq!(pico("12"), Some(12_000_000_000_000));
        assert_eq!(pico("0.0000000000001"), None);
        assert_eq!(pico("9999999999"), None);
        assert_eq!(dollars(324_000_000), "0.000324");
        assert_eq!(dollars(0), "0");
    }

    proptest! {
        #[test]
        fn amounts_survive(amount in -1_000_000_000_000_000_000_i64..1_000_000_000_000_000_000) {
            prop_assert_eq!(pico(&dollars(amount.into())), Some(amount));
        }
    }
}
