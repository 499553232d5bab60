//! A record as rows: the narrow columns, the document, the bodies. Made on the caller's thread, so that
//! the writer only binds and steps.

use super::{
    Attached, Bodies, Entry, Started,
    attached::Rows,
    fulltext::Text,
    pack::{self, Packed, pack},
};
use crate::model::Record;
use bytes::Bytes;
use rusqlite::{
    Connection, OptionalExtension, params, params_from_iter,
    types::{Value, ValueRef},
};
use std::sync::LazyLock;
use uuid::Uuid;

/// Documents larger than this are packed; smaller ones stay text, open to `json_extract`.
const MAX_TEXT: usize = 8 << 10;
/// Characters of question and answer kept beside the columns.
const PREVIEW: usize = 200;
/// What a row costs beside its strings and bodies.
const OVERHEAD: usize = 2 << 10;

type Column = (&'static str, fn(&Record) -> Value);

/// The columns of `calls` that come from the record, in the order of the schema.
const COLUMNS: &[Column] = &[
    ("id", |r| r.id.to_string().into()),
    ("response_id", |r| r.response_id.clone().into()),
    ("repeats", |r| r.repeats.map(|id| id.to_string()).into()),
    ("started_at", |r| r.started_at.to_string().into()),
    ("ended_at", |r| r.ended_at.to_string().into()),
    ("endpoint", |r| r.endpoint.as_str().to_owned().into()),
    ("method", |r| r.method.clone().into()),
    ("path", |r| r.path.clone().into()),
    ("upstream", |r| r.upstream.clone().into()),
    ("provider", |r| r.provider.clone().into()),
    ("model", |r| r.model.served.clone().or_else(|| r.model.requested.clone()).into()),
    ("model_requested", |r| r.model.requested.clone().into()),
    ("stream", |r| r.stream.into()),
    ("outcome", |r| r.outcome.as_str().to_owned().into()),
    ("status", |r| r.status.into()),
    ("error_source", |r| r.error.as_ref().map(|e| e.source.clone()).into()),
    ("error_type", |r| r.error.as_ref().and_then(|e| e.kind.clone()).into()),
    ("error_code", |r| r.error.as_ref().and_then(|e| e.code.clone()).into()),
    ("finish_reason", |r| r.finish_reasons.first().cloned().into()),
    ("latency_ms", |r| real(Some(r.timing.latency_ms)).unwrap_or(0.0).into()),
    ("first_byte_ms", |r| real(r.timing.first_byte_ms).into()),
    ("ttft_ms", |r| real(r.timing.ttft_ms).into()),
    ("overhead_ms", |r| real(Some(r.timing.overhead_ms)).unwrap_or(0.0).into()),
    ("chunks", |r| int(r.timing.chunks).into()),
    ("tokens_per_second", |r| real(r.timing.output_tokens_per_second).into()),
    ("usage_source", |r| name(&r.usage.source).into()),
    ("input_tokens", |r| r.usage.input.map(int).into()),
    ("output_tokens", |r| r.usage.output.map(int).into()),
    ("total_tokens", |r| r.usage.total.map(int).into()),
    ("cached_tokens", |r| r.usage.input_cached.map(int).into()),
    ("reasoning_tokens", |r| r.usage.output_reasoning.map(int).into()),
    ("cost_status", |r| name(&r.cost.status).into()),
    ("cost_pico", |r| r.cost.total.as_deref().and_then(pico).into()),
    ("prompt", |r| r.tags.prompt.clone().into()),
    ("prompt_version", |r| r.tags.prompt_version.clone().into()),
    ("session", |r| r.tags.session.clone().into()),
    ("session_name", |r| r.tags.session_name.clone().into()),
    ("environment", |r| r.tags.environment.clone().into()),
    ("customer", |r| r.tags.customer.clone().into()),
    ("user", |r| r.tags.user.clone().into()),
    ("reference", |r| r.tags.reference.clone().into()),
    ("labels", |r| json(r.tags.labels.is_empty(), &r.tags.labels).into()),
    ("metadata", |r| json(r.tags.metadata.is_empty(), &r.tags.metadata).into()),
    ("client_key", |r| r.client.key.clone().into()),
    ("sdk", |r| r.client.sdk.clone().into()),
    ("retry", |r| r.client.retry.into()),
    ("trace_id", |r| r.trace.trace_id.clone().into()),
    ("request_bytes", |r| int(r.bytes.request).into()),
    ("response_bytes", |r| int(r.bytes.response).into()),
    ("preview", |r| r.tags.user_query.as_deref().map(first_words).into()),
];

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let marks = vec!["?"; names.len()];
    format!(
        "INSERT INTO calls ({}, answer, has_bodies) VALUES ({}, ?, ?)",
        names.join(", "),
        marks.join(", ")
    )
});

static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let sets: Vec<String> = COLUMNS.iter().map(|(name, _)| format!("{name} = ?")).collect();
    format!("UPDATE calls SET {}, answer = coalesce(?, answer) WHERE seq = ?", sets.join(", "))
});

/// A finished call, ready to be bound.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    columns: Vec<Value>,
    doc: Doc,
    bodies: Option<PackedBodies>,
    /// One with this id is enough.
    once: bool,
    attached: Rows,
    /// For the index, where it was made already.
    pub(super) text: Option<Text>,
}

/// A call in flight, ready to be bound.
#[derive(Clone, Debug)]
pub(super) struct JournalRow {
    pub(super) id: Uuid,
    doc: Doc,
    request: Option<Packed>,
}

/// The stored form of the record's JSON.
#[derive(Clone, Debug)]
struct Doc {
    value: Value,
    crc: u32,
}

#[derive(Clone, Debug)]
struct PackedBodies {
    raw: Bodies,
    request: Packed,
    response: Packed,
    chunks: Packed,
}

impl Row {
    /// Columns, document and packed bodies of a finished call.
    pub(super) fn of(entry: Entry) -> Self {
        let Entry { mut record, bodies, answer, json, text: _ } = entry;
        strip(&mut record);
        let bodies = bodies.map(|mut raw| PackedBodies {
            request: pack(std::mem::take(&mut raw.request.kept)),
            response: pack(std::mem::take(&mut raw.response.kept)),
            chunks: pack(Bytes::copy_from_slice(raw.chunks.encoded())),
            raw,
        });
        let mut columns: Vec<Value> = COLUMNS.iter().map(|(_, of)| of(&record)).collect();
        columns.push(answer.as_deref().map(first_words).into());
        columns.push(bodies.is_some().into());
        Self {
            id: record.id,
            columns,
            doc: json.map_or_else(|| Doc::of(&record), Doc::of_text),
            bodies,
            once: false,
            attached: Rows::default(),
            text: None,
        }
    }

    /// A record that changes nothing where its id is taken.
    pub(super) fn once(entry: Entry) -> Self {
        Self { once: true, ..Self::of(entry) }
    }

    /// The row with what hangs on it.
    pub(super) fn with(self, attached: Attached) -> Self {
        Self { attached: Rows::of(attached), ..self }
    }

    /// How many records it stands for.
    pub(super) fn records(&self) -> u64 {
        1 + self.attached.records()
    }

    /// What it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        let bodies = self.bodies.as_ref().map_or(0, |bodies| {
            bodies.request.data.len() + bodies.response.data.len() + bodies.chunks.data.len() * 2
        });
        OVERHEAD + self.doc.size() + bodies + self.attached.size()
    }

    /// Inserts the call, after what hangs on it, and removes it from the journal; gives its `seq`. A
    /// taken id is never overwritten: the row takes a fresh one and says whom it repeats.
    pub(super) fn insert(&mut self, conn: &Connection) -> rusqlite::Result<i64> {
        let attached = self.attached.insert(conn)?;
        let old = self.id.to_string();
        let taken: Option<i64> = conn
            .prepare_cached("SELECT seq FROM calls WHERE id = ?1")?
            .query_row([&old], |row| row.get(0))
            .optional()?;
        match taken {
            Some(seq) if self.once => return Ok(attached.unwrap_or(seq)),
            Some(_) => self.rename(),
            None => {}
        }
        conn.prepare_cached(&INSERT)?.execute(params_from_iter(self.columns.iter()))?;
        let seq = conn.last_insert_rowid();
        conn.prepare_cached("INSERT INTO docs (seq, doc, crc) VALUES (?1, ?2, ?3)")?
            .execute(params![seq, self.doc.value, self.doc.crc])?;
        if let Some(bodies) = &self.bodies {
            bodies.insert(conn, seq)?;
        }
        conn.prepare_cached("DELETE FROM journal WHERE id = ?1")?.execute([&old])?;
        Ok(seq)
    }

    /// Takes the place of the call `seq`: columns and document. Bodies stay, and the words of the
    /// answer where there are no new ones.
    pub(super) fn update(&self, conn: &Connection, seq: i64) -> rusqlite::Result<()> {
        // has_bodies, the last, is not the record's to say.
        let columns = self.columns.iter().take(COLUMNS.len() + 1);
        let seq = Value::from(seq);
        conn.prepare_cached(&UPDATE)?.execute(params_from_iter(columns.chain([&seq])))?;
        conn.prepare_cached("UPDATE docs SET doc = ?2, crc = ?3 WHERE seq = ?1")?
            .execute(params![seq, self.doc.value, self.doc.crc])?;
        Ok(())
    }

    fn rename(&mut self) {
        let (old, new) = (self.id, Uuid::now_v7());
        self.id = new;
        if let Some(mut record) = self.doc.read() {
            record.id = new;
            record.repeats = Some(old);
            record.notes.push(format!("the id {old} was taken; stored under a new one"));
            self.doc = Doc::of(&record);
        }
        for (slot, id) in self.columns.iter_mut().zip([new, old]) {
            *slot = id.to_string().into();
        }
    }
}

impl PackedBodies {
    fn insert(&self, conn: &Connection, seq: i64) -> rusqlite::Result<()> {
        let raw = &self.raw;
        let member = |at: fn(&std::ops::Range<usize>) -> usize| {
            raw.member.as_ref().map(|range| i64::try_from(at(range)).unwrap_or(i64::MAX))
        };
        conn.prepare_cached(
            "INSERT INTO bodies (seq, request, request_zstd, request_crc, request_total,
                 request_sha256, member_start, member_end, response, response_zstd, response_crc,
                 response_total, response_sha256, chunks, chunks_zstd, chunks_crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            seq,
            &self.request.data[..],
            self.request.zstd,
            self.request.crc,
            int(raw.request.total),
            raw.request.sha256.as_ref().map(<[u8; 32]>::as_slice),
            member(|range| range.start),
            member(|range| range.end),
            &self.response.data[..],
            self.response.zstd,
            self.response.crc,
            int(raw.response.total),
            raw.response.sha256.as_ref().map(<[u8; 32]>::as_slice),
            &self.chunks.data[..],
            self.chunks.zstd,
            self.chunks.crc,
        ])?;
        Ok(())
    }
}

impl JournalRow {
    /// Document and packed request of a call in flight.
    pub(super) fn of(started: Started) -> Self {
        let Started { mut record, request } = started;
        strip(&mut record);
        Self { id: record.id, doc: Doc::of(&record), request: request.map(pack) }
    }

    /// What it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        OVERHEAD + self.doc.size() + self.request.as_ref().map_or(0, |request| request.data.len())
    }

    /// Notes the call, unless it has ended already.
    pub(super) fn insert(&self, conn: &Connection) -> rusqlite::Result<()> {
        let request = self.request.as_ref();
        conn.prepare_cached(
            "INSERT OR IGNORE INTO journal (id, doc, crc, request, request_zstd, request_crc)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM calls WHERE id = ?1)",
        )?
        .execute(params![
            self.id.to_string(),
            self.doc.value,
            self.doc.crc,
            request.map(|packed| &packed.data[..]),
            request.is_some_and(|packed| packed.zstd),
            request.map_or(0, |packed| packed.crc),
        ])?;
        Ok(())
    }
}

impl Doc {
    fn of(record: &Record) -> Self {
        Self::of_text(serde_json::to_string(record).unwrap_or_default())
    }

    fn of_text(text: String) -> Self {
        if text.len() <= MAX_TEXT {
            return Self { crc: pack::crc(text.as_bytes()), value: text.into() };
        }
        let Packed { data, zstd, crc } = pack(text.into());
        if zstd {
            Self { crc, value: Vec::from(data).into() }
        } else {
            Self { crc, value: String::from_utf8_lossy(&data).into_owned().into() }
        }
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Text(text) => text.len(),
            Value::Blob(data) => data.len(),
            _ => 0,
        }
    }

    fn read(&self) -> Option<Record> {
        serde_json::from_slice(&read_doc((&self.value).into(), self.crc).ok()?).ok()
    }
}

/// The JSON of a stored document.
pub(super) fn read_doc(value: ValueRef<'_>, crc: u32) -> Result<Vec<u8>, &'static str> {
    match value {
        // Damage may have made something else than UTF-8 of it: the sum tells.
        ValueRef::Text(text) => pack::unpack(text, false, crc),
        ValueRef::Blob(data) => pack::unpack(data, true, crc),
        _ => Err("the stored record is no document"),
    }
}

/// Takes out what is derived from the bodies again, and what the store itself assigns.
fn strip(record: &mut Record) {
    record.request = None;
    record.response = None;
    record.seq = None;
}

/// A decimal amount in USD as picodollars; `None` where it does not fit or is not one.
pub(super) fn pico(amount: &str) -> Option<i64> {
    let (negative, digits) = match amount.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, amount),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 12 || whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let value = format!("{whole}{fraction:0<12}").parse::<i64>().ok()?;
    Some(if negative { -value } else { value })
}

/// Picodollars as a decimal string without trailing zeros.
pub(super) fn dollars(pico: i128) -> String {
    let sign = if pico < 0 { "-" } else { "" };
    let (whole, fraction) =
        (pico.unsigned_abs() / 1_000_000_000_000, pico.unsigned_abs() % 1_000_000_000_000);
    let text = format!("{sign}{whole}.{fraction:012}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn first_words(text: &str) -> String {
    text.chars().take(PREVIEW).collect()
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn real(number: Option<f64>) -> Option<f64> {
    number.filter(|number| number.is_finite())
}

/// The name of a plain enumeration as it stands in the record.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn json(empty: bool, value: &impl serde::Serialize) -> Option<String> {
    if empty { None } else { serde_json::to_string(value).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        assert_eq!(pico("0.000324"), Some(324_000_000));
        assert_eq!(pico("12"), Some(12_000_000_000_000));
        assert_eq!(pico("0.000000000001"), Some(1));
        assert_eq!(pico("-0.5"), Some(-500_000_000_000));
        assert_eq!(pico("0.0000000000001"), None);
        assert_eq!(pico("1e3"), None);
        assert_eq!(dollars(324_000_000), "0.000324");
        assert_eq!(dollars(12_000_000_000_000), "12");
        assert_eq!(dollars(0), "0");
        assert_eq!(dollars(-500_000_000_000), "-0.5");
    }
}
