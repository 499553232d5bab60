//! Totals over time and by prompt, from the roll-ups; where those do not know the question, from the
//! newest calls in the range.

use super::{
    Reader, StoreError,
    filter::filter,
    histogram::Histogram,
    rollup::{self, BETWEEN, COLUMNS, DIMENSIONS, FACTS, OTHER, Sum},
    row::dollars,
    totals::of_field,
};
use crate::{
    model::Timestamp,
    query::{Expr, Query, Term},
};
use rusqlite::{Connection, Row, params, params_from_iter, types::Value as Sql};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most calls that are read where the roll-ups cannot answer.
const CALLS_MAX: i64 = 100_000;
/// Most prompts listed.
const PROMPTS_MAX: usize = 1000;
/// Points of a prompt's spark line.
const SPARK: i64 = 24;
const HOUR_US: i64 = 3_600_000_000;

/// Totals of a group of calls. Durations are milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "each is named for what it counts")]
pub struct Totals {
    pub calls: i64,
    pub errors: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    pub cached_tokens: i64,
    pub reasoning_tokens: i64,
    /// USD, a decimal string.
    pub cost: String,
    /// Calls without a known price.
    pub unpriced: i64,
    pub latency_avg_ms: Option<f64>,
    pub latency_max_ms: Option<f64>,
    pub latency_p50_ms: Option<f64>,
    pub latency_p95_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub ttft_p50_ms: Option<f64>,
    pub ttft_p95_ms: Option<f64>,
    pub tokens_per_second_p50: Option<f64>,
    /// Calls that ended with `length`.
    pub truncated: i64,
    /// Calls that ended with `tool_calls`.
    pub tool_calls: i64,
    pub streamed: i64,
}

/// What to show over time.
#[derive(Clone, Debug)]
pub struct Question {
    /// Start, inclusive.
    pub from: Timestamp,
    /// End, exclusive.
    pub to: Timestamp,
    /// One of `nothing`, `model`, `prompt`, `version`, `customer`, `key`, `environment`, `upstream`,
    /// `outcome`, `error`.
    pub by: String,
    /// Series beside the one that holds the rest.
    pub limit: usize,
    /// Which calls.
    pub query: Query,
}

/// Totals over time.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Length of a bucket, seconds.
    pub step_s: i64,
    /// Start of each bucket, Unix seconds.
    pub times: Vec<i64>,
    /// Over everything.
    pub totals: Totals,
    /// Largest cost first.
    pub series: Vec<Line>,
    /// False where only the newest calls of the range were read.
    pub complete: bool,
    /// Calls that are not in the roll-ups yet.
    pub lag: i64,
}

/// One series; every list has one value a bucket.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "each is named for what it counts")]
pub struct Line {
    /// The value; null for calls without one.
    pub key: Option<String>,
    /// True for the series of all others.
    pub other: bool,
    pub totals: Totals,
    pub calls: Vec<i64>,
    pub errors: Vec<i64>,
    pub cost: Vec<String>,
    pub input: Vec<i64>,
    pub output: Vec<i64>,
    pub cached: Vec<i64>,
    pub reasoning: Vec<i64>,
    pub latency_p50_ms: Vec<Option<f64>>,
    pub latency_p95_ms: Vec<Option<f64>>,
    pub latency_p99_ms: Vec<Option<f64>>,
    pub ttft_p50_ms: Vec<Option<f64>>,
    pub ttft_p95_ms: Vec<Option<f64>>,
}

/// A prompt and how it did.
#[derive(Clone, Debug, Serialize)]
pub struct PromptRow {
    /// Slug.
    pub prompt: String,
    /// Versions seen.
    pub versions: usize,
    /// End of its latest call.
    pub last_at: String,
    /// Over the period.
    pub totals: Totals,
    /// Calls over the period, oldest first.
    pub spark: Vec<i64>,
}

/// One version of a prompt.
#[derive(Clone, Debug, Serialize)]
pub struct VersionRow {
    /// As the caller names it; null where it named none.
    pub version: Option<String>,
    /// Start of its first call in the period.
    pub first_at: String,
    /// End of its latest call.
    pub last_at: String,
    /// Over the period.
    pub totals: Totals,
    /// Its newest call, where one is near.
    pub sample_id: Option<String>,
}

impl From<&Sum> for Totals {
    fn from(sum: &Sum) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "an average")]
        let average = (sum.calls > 0).then(|| sum.latency_total / sum.calls as f64);
        // The middle of the last bucket may lie beyond the largest value in it.
        let latency = |percent| sum.latency.percentile(percent).map(|ms| ms.min(sum.latency_max));
        Self {
            calls: sum.calls,
            errors: sum.errors,
            input_tokens: sum.input,
            output_tokens: sum.output,
            cached_tokens: sum.cached,
            reasoning_tokens: sum.reasoning,
            cost: dollars(sum.cost),
            unpriced: sum.unpriced,
            latency_avg_ms: average.map(|ms| (ms * 1000.0).round() / 1000.0),
            latency_max_ms: (sum.calls > 0).then_some(sum.latency_max),
            latency_p50_ms: latency(50),
            latency_p95_ms: latency(95),
            latency_p99_ms: latency(99),
            ttft_p50_ms: sum.ttft.percentile(50),
            ttft_p95_ms: sum.ttft.percentile(95),
            tokens_per_second_p50: sum.speed.percentile(50),
            truncated: sum.truncated,
            tool_calls: sum.tool_calls,
            streamed: sum.streamed,
        }
    }
}

/// Which roll-ups answer a question.
#[derive(Debug, PartialEq, Eq)]
enum Keys {
    All,
    Is(String),
    /// The versions of a prompt.
    Under(String),
}

impl Keys {
    /// How a key of the roll-ups is shown; `None` when it is not asked for.
    fn shown<'a>(&self, key: &'a str) -> Option<&'a str> {
        match self {
            Self::All => Some(key),
            Self::Is(wanted) => (key == wanted).then_some(key),
            Self::Under(prompt) => key.strip_prefix(prompt.as_str()),
        }
    }
}

impl Reader {
    /// Totals over time.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an unknown `by`, [`StoreError::Deadline`] after 2 s.
    pub fn series(&self, question: &Question) -> Result<Series, StoreError> {
        let grid = Grid::of(question);
        self.pool.read(|conn| {
            let mut lines = Lines::default();
            let mut complete = true;
            match answered_by(question)? {
                Some((dimension, keys)) if grid.step >= HOUR_US => {
                    read_rollups(conn, &grid, dimension, &keys, &mut lines)?;
                }
                answer => {
                    let keys = answer.map_or(Keys::All, |(_, keys)| keys);
                    complete = read_calls(conn, &grid, question, &keys, &mut lines)?;
                }
            }
            let newest: i64 =
                conn.query_row("SELECT coalesce(max(seq), 0) FROM calls", [], |row| row.get(0))?;
            let lag = newest - rollup::position(conn)?.unwrap_or(0);
            Ok(lines.finish(&grid, question.limit, complete, lag))
        })
    }

    /// Prompts with a call since `since`, latest first.
    ///
    /// # Errors
    /// [`StoreError::Deadline`] after 2 s.
    pub fn prompts(&self, since: Timestamp) -> Result<Vec<PromptRow>, StoreError> {
        let now = Timestamp::now();
        let step = ((now.0 - since.0).max(1) / SPARK).max(1);
        let mut prompts: HashMap<String, (Sum, BTreeSet<String>, Vec<i64>)> = HashMap::new();
        self.pool.read(|conn| {
            each_version(conn, since, None, |hour, prompt, version, row| {
                let (sum, versions, spark) = prompts.entry(prompt.to_owned()).or_default();
                let before = sum.calls;
                sum.merge_row(row, 2)?;
                versions.insert(version.to_owned());
                spark.resize(usize::try_from(SPARK).unwrap_or_default(), 0);
                let at = ((hour * HOUR_US - since.0).max(0) / step).min(SPARK - 1);
                if let Some(point) = usize::try_from(at).ok().and_then(|at| spark.get_mut(at)) {
                    *point += sum.calls - before;
                }
                Ok(())
            })
        })?;
        let mut rows: Vec<PromptRow> = prompts
            .into_iter()
            .map(|(prompt, (sum, versions, spark))| PromptRow {
                prompt,
                versions: versions.len(),
                last_at: sum.last_at.clone(),
                totals: Totals::from(&sum),
                spark,
            })
            .collect();
        rows.sort_by(|left, right| right.last_at.cmp(&left.last_at));
        rows.truncate(PROMPTS_MAX);
        Ok(rows)
    }

    /// Totals of one prompt and of its versions, latest first; `None` when there is none since then.
    ///
    /// # Errors
    /// [`StoreError::Deadline`] after 2 s.
    pub fn prompt(
        &self,
        prompt: &str,
        since: Timestamp,
    ) -> Result<Option<(Totals, Vec<VersionRow>)>, StoreError> {
        let mut versions: HashMap<String, Sum> = HashMap::new();
        self.pool.read(|conn| {
            each_version(conn, since, Some(prompt), |_, _, version, row| {
                versions.entry(version.to_owned()).or_default().merge_row(row, 2)
            })?;
            let mut whole = Sum::default();
            for sum in versions.values() {
                whole.merge(sum);
            }
            let mut rows = Vec::with_capacity(versions.len());
            for (version, sum) in versions {
                let version = Some(version).filter(|version| !version.is_empty());
                rows.push(VersionRow {
                    sample_id: sample(conn, prompt, version.as_deref())?,
                    version,
                    first_at: sum.first_at.clone(),
                    last_at: sum.last_at.clone(),
                    totals: Totals::from(&sum),
                });
            }
            rows.sort_by(|left, right| right.last_at.cmp(&left.last_at));
            Ok((whole.calls > 0).then(|| (Totals::from(&whole), rows)))
        })
    }
}

/// Every roll-up of a version of a prompt: (hour, prompt, version, row with totals from column 2 on).
fn each_version(
    conn: &Connection,
    since: Timestamp,
    prompt: Option<&str>,
    mut each: impl FnMut(i64, &str, &str, &Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT hour, key, {COLUMNS} FROM rollups
         WHERE dimension = 'version' AND hour >= ?1 AND key <> ''"
    ))?;
    let mut rows = statement.query([since.0.div_euclid(HOUR_US)])?;
    while let Some(row) = rows.next()? {
        let key = row.get_ref(1)?.as_str().unwrap_or_default();
        let Some((of, version)) = key.split_once(BETWEEN) else { continue };
        if prompt.is_none_or(|prompt| prompt == of) {
            each(row.get(0)?, of, version, row)?;
        }
    }
    Ok(())
}

/// The newest call of a version, looked for among the newest of its prompt.
fn sample(
    conn: &Connection,
    prompt: &str,
    version: Option<&str>,
) -> rusqlite::Result<Option<String>> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM (SELECT seq, id, prompt_version FROM calls WHERE prompt = ?1 ORDER BY seq DESC LIMIT 5000)
         WHERE prompt_version IS ?2 ORDER BY seq DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![prompt, version])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

/// The buckets of a range.
#[derive(Debug)]
struct Grid {
    /// Start of the first bucket, µs.
    start: i64,
    /// End of the last one.
    end: i64,
    step: i64,
}

impl Grid {
    fn of(question: &Question) -> Self {
        const HOURS: [(i64, i64); 5] =
            [(2, 60), (6, 300), (8 * 24, 3600), (2 * 365 * 24, 86_400), (i64::MAX, 30 * 86_400)];
        let span = (question.to.0 - question.from.0).div_euclid(HOUR_US);
        let step = HOURS.iter().find(|(hours, _)| span < *hours).map_or(3600, |(_, step)| *step);
        let step = step * 1_000_000;
        Self {
            start: question.from.0.div_euclid(step) * step,
            end: (question.to.0 - 1).div_euclid(step) * step + step,
            step,
        }
    }

    fn bucket(&self, at: i64) -> Option<usize> {
        (at < self.end)
            .then(|| (at - self.start).div_euclid(self.step))
            .and_then(|at| at.try_into().ok())
    }

    fn len(&self) -> usize {
        usize::try_from((self.end - self.start) / self.step).unwrap_or(0)
    }
}

/// The roll-ups that answer a question, if any do.
fn answered_by(question: &Question) -> Result<Option<(&'static str, Keys)>, StoreError> {
    let by = DIMENSIONS.iter().map(|(name, _)| *name).find(|name| *name == question.by);
    let by = by.ok_or_else(|| {
        let names: Vec<&str> = DIMENSIONS.iter().map(|(name, _)| *name).collect();
        StoreError::Invalid(format!("`by` is one of {}", names.join(", ")))
    })?;
    Ok(match &question.query.root {
        None => Some((by, Keys::All)),
        Some(Expr::Term(Term::Text(field, pattern))) => {
            pattern.exact().and_then(|value| match (of_field(*field)?, by) {
                ("prompt", "version") => Some((by, Keys::Under(format!("{value}{BETWEEN}")))),
                (of, by) if by == "nothing" || by == of => Some((of, Keys::Is(value.to_owned()))),
                _ => None,
            })
        }
        Some(_) => None,
    })
}

fn read_rollups(
    conn: &Connection,
    grid: &Grid,
    dimension: &str,
    keys: &Keys,
    lines: &mut Lines,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT hour, key, {COLUMNS} FROM rollups WHERE dimension = ?1 AND hour >= ?2 AND hour < ?3"
    ))?;
    let hours = (grid.start.div_euclid(HOUR_US), grid.end.div_euclid(HOUR_US));
    let mut rows = statement.query(params![dimension, hours.0, hours.1])?;
    while let Some(row) = rows.next()? {
        let Some(key) = keys.shown(row.get_ref(1)?.as_str().unwrap_or_default()) else { continue };
        let Some(bucket) = grid.bucket(row.get::<_, i64>(0)? * HOUR_US) else { continue };
        lines.at(key, bucket).merge_row(row, 2)?;
    }
    Ok(())
}

/// True when every call of the range was read.
fn read_calls(
    conn: &Connection,
    grid: &Grid,
    question: &Question,
    keys: &Keys,
    lines: &mut Lines,
) -> Result<bool, StoreError> {
    let filter = filter(&question.query, Timestamp::now());
    let key =
        DIMENSIONS.iter().find(|(name, _)| *name == question.by).map_or("''", |(_, key)| *key);
    let sql = format!(
        "SELECT {key}, {FACTS} FROM calls WHERE started_at >= ? AND started_at < ? AND ({})
         ORDER BY started_at DESC LIMIT ?",
        filter.sql
    );
    let time = |us: i64| Sql::from(Timestamp(us).to_string());
    let params = [time(grid.start), time(grid.end)]
        .into_iter()
        .chain(filter.params)
        .chain([Sql::from(CALLS_MAX)]);
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        read += 1;
        let at = row.get_ref(1)?.as_str().unwrap_or_default().parse::<Timestamp>();
        let Some(bucket) = at.ok().and_then(|at| grid.bucket(at.0)) else { continue };
        let key = row.get_ref(0)?.as_str().unwrap_or_default();
        let key = if matches!(keys, Keys::Under(_)) { keys.shown(key).unwrap_or(key) } else { key };
        lines.at(key, bucket).add(row, 1)?;
    }
    Ok(read < CALLS_MAX)
}

/// Totals by key and bucket.
#[derive(Debug, Default)]
struct Lines(HashMap<String, BTreeMap<usize, Sum>>);

impl Lines {
    fn at(&mut self, key: &str, bucket: usize) -> &mut Sum {
        if !self.0.contains_key(key) {
            self.0.insert(key.to_owned(), BTreeMap::new());
        }
        self.0.entry(key.to_owned()).or_default().entry(bucket).or_default()
    }

    fn finish(self, grid: &Grid, limit: usize, complete: bool, lag: i64) -> Series {
        let mut whole = Sum::default();
        let mut keyed: Vec<(String, BTreeMap<usize, Sum>, Sum)> = self
            .0
            .into_iter()
            .map(|(key, buckets)| {
                let mut sum = Sum::default();
                for bucket in buckets.values() {
                    sum.merge(bucket);
                }
                whole.merge(&sum);
                (key, buckets, sum)
            })
            .collect();
        keyed.sort_by(|(left_key, _, left), (right_key, _, right)| {
            (left_key == OTHER, right.cost, right.calls)
                .cmp(&(right_key == OTHER, left.cost, left.calls))
                .then_with(|| left_key.cmp(right_key))
        });
        let named = keyed.iter().take(limit).filter(|(key, ..)| key != OTHER).count();
        let (mut rest, mut rest_sum) = (BTreeMap::<usize, Sum>::new(), Sum::default());
        for (_, buckets, sum) in keyed.drain(named..) {
            rest_sum.merge(&sum);
            for (at, bucket) in buckets {
                rest.entry(at).or_default().merge(&bucket);
            }
        }
        let mut series: Vec<Line> = keyed
            .into_iter()
            .map(|(key, buckets, sum)| {
                let key = key.replace(BETWEEN, "@");
                line(Some(key).filter(|key| !key.is_empty()), &buckets, &sum, grid)
            })
            .collect();
        if rest_sum.calls > 0 {
            series.push(Line { other: true, ..line(None, &rest, &rest_sum, grid) });
        }
        let times = (0..grid.len())
            .map(|at| (grid.start + i64::try_from(at).unwrap_or(0) * grid.step) / 1_000_000)
            .collect();
        let step_s = grid.step / 1_000_000;
        Series { step_s, times, totals: Totals::from(&whole), series, complete, lag }
    }
}

fn line(key: Option<String>, buckets: &BTreeMap<usize, Sum>, sum: &Sum, grid: &Grid) -> Line {
    let empty = Sum::default();
    let mut line = Line { key, totals: Totals::from(sum), ..Line::default() };
    for at in 0..grid.len() {
        let sum = buckets.get(&at).unwrap_or(&empty);
        line.calls.push(sum.calls);
        line.errors.push(sum.errors);
        line.cost.push(dollars(sum.cost));
        line.input.push(sum.input);
        line.output.push(sum.output);
        line.cached.push(sum.cached);
        line.reasoning.push(sum.reasoning);
        let percentile = |of: &Histogram, percent| of.percentile(percent);
        line.latency_p50_ms.push(percentile(&sum.latency, 50));
        line.latency_p95_ms.push(percentile(&sum.latency, 95));
        line.latency_p99_ms.push(percentile(&sum.latency, 99));
        line.ttft_p50_ms.push(percentile(&sum.ttft, 50));
        line.ttft_p95_ms.push(percentile(&sum.ttft, 95));
    }
    line
}
