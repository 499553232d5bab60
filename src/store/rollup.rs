//! Hourly totals by one dimension at a time, and totals of sessions: a consumer of the record log, fed
//! when the writer has nothing better to do. Charts and lists of sessions read these, never the calls.

use super::histogram::Histogram;
use crate::model::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use std::collections::{BTreeSet, HashMap};

/// Name of the cursor.
pub(super) const CURSOR: &str = "rollups";
/// Most calls added in one transaction.
const STEP: u32 = 300;
/// Most values of a dimension in one hour; the calls of any more count under [`OTHER`].
const KEYS_MAX: i64 = 2000;
/// The value that stands for all beyond [`KEYS_MAX`].
pub(super) const OTHER: &str = "\u{1}other";
/// Stands between prompt and version in the keys of `version`.
pub(super) const BETWEEN: char = '\u{1f}';
/// Models and prompts named of a session.
const NAMES_MAX: usize = 5;

/// What is counted by, and the column of `calls` that it comes from.
pub(super) const DIMENSIONS: [(&str, &str); 10] = [
    ("nothing", "''"),
    ("model", "coalesce(model, '')"),
    ("prompt", "coalesce(prompt, '')"),
    ("version", "coalesce(prompt || char(31) || coalesce(prompt_version, ''), '')"),
    ("customer", "coalesce(customer, '')"),
    ("key", "coalesce(client_key, '')"),
    ("environment", "coalesce(environment, '')"),
    ("upstream", "upstream"),
    ("outcome", "outcome"),
    (
        "error",
        "CASE outcome WHEN 'completed' THEN '' ELSE coalesce(error_code, error_type, outcome) END",
    ),
];

/// Whether what a call cost is unknown: there is no price, or a call of a paid endpoint has no usage. (What
/// a run of an assistant cost stands with its messages.)
macro_rules! unpriced {
    () => {
        "cost_status IN ('unpriced', 'partial') OR (cost_status = 'no_usage' \
            AND endpoint IN ('chat.completions', 'completions', 'embeddings', 'responses', \
                'assistants.message', 'images.generations', 'images.edits', 'images.variations', \
                'audio.transcriptions', 'audio.translations', 'audio.speech', 'realtime') \
            AND outcome NOT IN ('provider_error', 'refused', 'connect_failed'))"
    };
}
pub(super) const UNPRICED: &str = unpriced!();

/// What a call adds to a total, as the columns of a select; [`Sum::add`] reads them by place.
pub(super) const FACTS: &str = concat!(
    "started_at, ended_at, outcome, latency_ms, ttft_ms, tokens_per_second, \
    input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_pico, \
    ",
    unpriced!(),
    ", finish_reason, stream"
);

/// Totals of some calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) calls: i64,
    pub(super) errors: i64,
    pub(super) streamed: i64,
    pub(super) truncated: i64,
    pub(super) tool_calls: i64,
    pub(super) unpriced: i64,
    pub(super) input: i64,
    pub(super) output: i64,
    pub(super) cached: i64,
    pub(super) reasoning: i64,
    /// Picodollars.
    pub(super) cost: i128,
    pub(super) latency_total: f64,
    pub(super) latency_max: f64,
    pub(super) first_at: String,
    pub(super) last_at: String,
    pub(super) latency: Histogram,
    pub(super) ttft: Histogram,
    pub(super) speed: Histogram,
}

impl Sum {
    /// Adds a call; [`FACTS`] stand in `row` from column `at` on.
    pub(super) fn add(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<()> {
        let count = |offset: usize| -> rusqlite::Result<i64> {
            Ok(row.get::<_, Option<i64>>(at + offset)?.unwrap_or(0))
        };
        let text = |offset: usize| {
            row.get_ref(at + offset).map(|value| value.as_str().unwrap_or_default())
        };
        self.calls += 1;
        self.errors += i64::from(text(2)? != "completed");
        let latency: f64 = row.get(at + 3)?;
        self.latency_total += latency;
        self.latency_max = self.latency_max.max(latency);
        self.latency.add(latency);
        if let Some(ttft) = row.get(at + 4)? {
            self.ttft.add(ttft);
        }
        if let Some(speed) = row.get(at + 5)? {
            self.speed.add(speed);
        }
        for (sum, offset) in
            [&mut self.input, &mut self.output, &mut self.cached, &mut self.reasoning]
                .into_iter()
                .zip(6..)
        {
            *sum = sum.saturating_add(count(offset)?);
        }
        self.cost += i128::from(count(10)?);
        self.unpriced += i64::from(row.get::<_, bool>(at + 11)?);
        self.truncated += i64::from(text(12)? == "length");
        self.tool_calls += i64::from(text(12)? == "tool_calls");
        self.streamed += i64::from(row.get::<_, bool>(at + 13)?);
        self.span(text(0)?, text(1)?);
        Ok(())
    }

    /// Each count beside that of `other`.
    fn counts(&mut self, other: &Self) -> [(&mut i64, i64); 10] {
        [
            (&mut self.calls, other.calls),
            (&mut self.errors, other.errors),
            (&mut self.streamed, other.streamed),
            (&mut self.truncated, other.truncated),
            (&mut self.tool_calls, other.tool_calls),
            (&mut self.unpriced, other.unpriced),
            (&mut self.input, other.input),
            (&mut self.output, other.output),
            (&mut self.cached, other.cached),
            (&mut self.reasoning, other.reasoning),
        ]
    }

    /// Adds other totals.
    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.counts(other) {
            *sum = sum.saturating_add(more);
        }
        self.cost += other.cost;
        self.latency_total += other.latency_total;
        self.latency_max = self.latency_max.max(other.latency_max);
        self.latency.merge(&other.latency);
        self.ttft.merge(&other.ttft);
        self.speed.merge(&other.speed);
        self.span(&other.first_at, &other.last_at);
    }

    /// Takes out other totals, of which nothing but the limits stays: first, last, largest.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (sum, less) in self.counts(other) {
            *sum = sum.saturating_sub(less).max(0);
        }
        self.cost -= other.cost;
        self.latency_total = (self.latency_total - other.latency_total).max(0.0);
        self.latency.subtract(&other.latency);
        self.ttft.subtract(&other.ttft);
        self.speed.subtract(&other.speed);
    }

    /// Adds a stored row; [`COLUMNS`] stand in it from column `at` on.
    pub(super) fn merge_row(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<()> {
        let blob = |offset: usize| {
            row.get_ref(at + offset).map(|value| value.as_blob().unwrap_or_default())
        };
        let text = |offset: usize| {
            row.get_ref(at + offset).map(|value| value.as_str().unwrap_or_default())
        };
        // In place: a month of many customers is a hundred thousand rows.
        let none = Self::default();
        for ((sum, _), offset) in self.counts(&none).into_iter().zip(at..) {
            *sum = sum.saturating_add(row.get(offset)?);
        }
        self.cost += i128::from(row.get::<_, i64>(at + 10)?);
        self.latency_total += row.get::<_, f64>(at + 11)?;
        self.latency_max = self.latency_max.max(row.get(at + 12)?);
        self.span(text(13)?, text(14)?);
        self.latency.merge_encoded(blob(15)?);
        self.ttft.merge_encoded(blob(16)?);
        self.speed.merge_encoded(blob(17)?);
        Ok(())
    }

    fn span(&mut self, first: &str, last: &str) {
        if self.first_at.is_empty() || first < self.first_at.as_str() {
            first.clone_into(&mut self.first_at);
        }
        if last > self.last_at.as_str() {
            last.clone_into(&mut self.last_at);
        }
    }
}

/// The totals' columns, the same in `rollups` and `sessions`.
pub(super) const COLUMNS: &str = "calls, errors, streamed, truncated, tool_calls, unpriced, \
    input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_pico, latency_sum, latency_max, \
    first_at, last_at, latency, ttft, speed";

/// What a session shows beside its totals.
#[derive(Clone, Debug, Default)]
pub(super) struct Face {
    pub(super) last_seq: i64,
    pub(super) name: Option<String>,
    pub(super) customer: Option<String>,
    pub(super) user: Option<String>,
    pub(super) preview: Option<String>,
    pub(super) models: BTreeSet<String>,
    pub(super) prompts: BTreeSet<String>,
}

/// Columns of a call that [`Face::add`] reads by place.
pub(super) const FACE: &str = "seq, customer, user, preview, model, prompt, session_name";

impl Face {
    /// Adds a call, later ones last; [`FACE`] stands in `row` from column `at` on.
    pub(super) fn add(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<()> {
        self.last_seq = self.last_seq.max(row.get(at)?);
        for (slot, offset) in [&mut self.customer, &mut self.user].into_iter().zip(1..) {
            if let Some(value) = row.get(at + offset)? {
                *slot = Some(value);
            }
        }
        if self.preview.is_none() {
            self.preview = row.get(at + 3)?;
        }
        for (names, offset) in [&mut self.models, &mut self.prompts].into_iter().zip(4..) {
            if let Some(name) = row.get(at + offset)?
                && names.len() < NAMES_MAX
            {
                names.insert(name);
            }
        }
        if let Some(name) = row.get(at + 6)? {
            self.name = Some(name);
        }
        Ok(())
    }

    /// What is stored, with later calls added to it.
    pub(super) fn after(self, stored: Self) -> Self {
        let names = |old: BTreeSet<String>, new: BTreeSet<String>| -> BTreeSet<String> {
            old.into_iter().chain(new).take(NAMES_MAX).collect()
        };
        Self {
            last_seq: self.last_seq.max(stored.last_seq),
            name: self.name.or(stored.name),
            customer: self.customer.or(stored.customer),
            user: self.user.or(stored.user),
            preview: stored.preview.or(self.preview),
            models: names(stored.models, self.models),
            prompts: names(stored.prompts, self.prompts),
        }
    }

    /// From [`FACE_COLUMNS`] at column `at` on.
    pub(super) fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<Self> {
        let names = |offset: usize| -> rusqlite::Result<BTreeSet<String>> {
            Ok(serde_json::from_str(&row.get::<_, String>(at + offset)?).unwrap_or_default())
        };
        Ok(Self {
            last_seq: row.get(at)?,
            name: row.get(at + 1)?,
            customer: row.get(at + 2)?,
            user: row.get(at + 3)?,
            preview: row.get(at + 4)?,
            models: names(5)?,
            prompts: names(6)?,
        })
    }
}

/// Columns of `sessions` that are no totals.
pub(super) const FACE_COLUMNS: &str = "last_seq, name, customer, user, preview, models, prompts";

/// Adds the next few calls to the totals. True when there may be more.
///
/// Where the cursor is missing, the totals are made anew from the calls that are kept.
pub(super) fn step(conn: &mut Connection) -> rusqlite::Result<bool> {
    let last = position(conn)?;
    if last.is_none() {
        conn.execute_batch("DELETE FROM rollups; DELETE FROM sessions;")?;
    }
    let batch = Batch::read(conn, last.unwrap_or(0))?;
    if batch.newest == 0 {
        return Ok(false);
    }
    let step = conn.transaction()?;
    let (newest, full) = (batch.newest, batch.full);
    add(&step, batch)?;
    step.prepare_cached("INSERT OR REPLACE INTO cursors (name, seq, holds) VALUES (?1, ?2, 0)")?
        .execute(params![CURSOR, newest])?;
    step.commit()?;
    Ok(full)
}

/// Adds what some calls add.
pub(super) fn add(conn: &Connection, batch: Batch) -> rusqlite::Result<()> {
    for ((hour, dimension, key), sum) in &batch.hours {
        add_hour(conn, *hour, dimension, key, sum)?;
    }
    for (session, (sum, face)) in batch.sessions {
        add_session(conn, &session, sum, face)?;
    }
    Ok(())
}

/// Up to which `seq` calls are in the totals; `None` before the first.
pub(super) fn position(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT seq FROM cursors WHERE name = ?1")?
        .query_row([CURSOR], |row| row.get(0))
        .optional()
}

/// Hours since 1970 of a stored time.
pub(super) fn hour(time: &str) -> i64 {
    time.parse::<Timestamp>().map_or(0, |time| time.0.div_euclid(3_600_000_000))
}

/// What some calls add to the totals.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) hours: HashMap<(i64, &'static str, String), Sum>,
    pub(super) sessions: HashMap<String, (Sum, Face)>,
    newest: i64,
    full: bool,
}

impl Batch {
    fn read(conn: &Connection, last: i64) -> rusqlite::Result<Self> {
        let mut batch = Self::default();
        let read = batch.query(conn, "seq > ?1 ORDER BY seq LIMIT ?2", &[&last, &STEP])?;
        batch.full = read == STEP;
        Ok(batch)
    }

    /// Of the calls `seqs`.
    pub(super) fn of(conn: &Connection, seqs: &[i64]) -> rusqlite::Result<Self> {
        let mut batch = Self::default();
        for seq in seqs {
            batch.query(conn, "seq = ?1", &[seq])?;
        }
        Ok(batch)
    }

    /// Adds the calls of a place; how many there were.
    fn query(
        &mut self,
        conn: &Connection,
        place: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> rusqlite::Result<u32> {
        let keys = DIMENSIONS.map(|(_, key)| key).join(", ");
        let mut statement = conn.prepare_cached(&format!(
            "SELECT session, {FACE}, {FACTS}, {keys} FROM calls WHERE {place}"
        ))?;
        let mut rows = statement.query(params)?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            read += 1;
            self.newest = row.get(1)?;
            let hour = hour(row.get_ref(8)?.as_str().unwrap_or_default());
            for ((dimension, _), at) in DIMENSIONS.iter().zip(22..) {
                let key = (hour, *dimension, row.get(at)?);
                self.hours.entry(key).or_default().add(row, 8)?;
            }
            if let Some(session) = row.get(0)? {
                let (sum, face) = self.sessions.entry(session).or_default();
                sum.add(row, 8)?;
                face.add(row, 1)?;
            }
        }
        Ok(read)
    }
}

fn add_hour(
    conn: &Connection,
    hour: i64,
    dimension: &str,
    key: &str,
    more: &Sum,
) -> rusqlite::Result<()> {
    let mut sum = more.clone();
    let mut stored = conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM rollups WHERE dimension = ?1 AND hour = ?2 AND key = ?3"
    ))?;
    let is_known =
        stored.query_row(params![dimension, hour, key], |row| sum.merge_row(row, 0)).optional()?;
    if is_known.is_none() && key != OTHER {
        let keys: i64 = conn
            .prepare_cached("SELECT count(*) FROM rollups WHERE dimension = ?1 AND hour = ?2")?
            .query_row(params![dimension, hour], |row| row.get(0))?;
        if keys >= KEYS_MAX {
            return add_hour(conn, hour, dimension, OTHER, more);
        }
    }
    let mut insert = conn.prepare_cached(&format!(
        "INSERT OR REPLACE INTO rollups (dimension, hour, key, {COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
    ))?;
    for (at, value) in [&dimension as &dyn rusqlite::ToSql, &hour, &key].into_iter().enumerate() {
        insert.raw_bind_parameter(at + 1, value)?;
    }
    bind(&mut insert, 4, &sum)?;
    insert.raw_execute()?;
    Ok(())
}

fn add_session(
    conn: &Connection,
    session: &str,
    mut sum: Sum,
    mut face: Face,
) -> rusqlite::Result<()> {
    let stored = conn
        .prepare_cached(&format!(
            "SELECT {FACE_COLUMNS}, {COLUMNS} FROM sessions WHERE session = ?1"
        ))?
        .query_row([session], |row| {
            sum.merge_row(row, 7)?;
            Face::read(row, 0)
        })
        .optional()?;
    if let Some(stored) = stored {
        face = face.after(stored);
    }
    let mut insert = conn.prepare_cached(&format!(
        "INSERT OR REPLACE INTO sessions (session, {FACE_COLUMNS}, {COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)"
    ))?;
    let names = |names: &BTreeSet<String>| serde_json::to_string(names).unwrap_or_default();
    let (models, prompts) = (names(&face.models), names(&face.prompts));
    let values: [&dyn rusqlite::ToSql; 8] = [
        &session,
        &face.last_seq,
        &face.name,
        &face.customer,
        &face.user,
        &face.preview,
        &models,
        &prompts,
    ];
    for (at, value) in values.into_iter().enumerate() {
        insert.raw_bind_parameter(at + 1, value)?;
    }
    bind(&mut insert, 9, &sum)?;
    insert.raw_execute()?;
    Ok(())
}

/// Binds [`COLUMNS`] from parameter `at` on.
pub(super) fn bind(insert: &mut CachedStatement<'_>, at: usize, sum: &Sum) -> rusqlite::Result<()> {
    let cost = i64::try_from(sum.cost).unwrap_or(i64::MAX);
    let (latency, ttft, speed) = (sum.latency.encode(), sum.ttft.encode(), sum.speed.encode());
    let values: [&dyn rusqlite::ToSql; 18] = [
        &sum.calls,
        &sum.errors,
        &sum.streamed,
        &sum.truncated,
        &sum.tool_calls,
        &sum.unpriced,
        &sum.input,
        &sum.output,
        &sum.cached,
        &sum.reasoning,
        &cost,
        &sum.latency_total,
        &sum.latency_max,
        &sum.first_at,
        &sum.last_at,
        &latency,
        &ttft,
        &speed,
    ];
    for (offset, value) in values.into_iter().enumerate() {
        insert.raw_bind_parameter(at + offset, value)?;
    }
    Ok(())
}
