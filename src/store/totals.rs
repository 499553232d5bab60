//! Totals of groups from the roll-ups, where those know the question; the hours at the ends of the range
//! and the calls that are not rolled up yet come from the calls themselves.

use super::{
    GroupBy, Reader, StatRow, Stats, StoreError,
    filter::{filter, moment},
    rollup::{self, COLUMNS, DIMENSIONS, FACTS, OTHER, Sum},
    row::dollars,
};
use crate::{
    model::Timestamp,
    query::{Expr, Field, Query, Term},
};
use rusqlite::{Connection, params_from_iter, types::Value as Sql};
use std::collections::HashMap;

const HOUR_US: i64 = 3_600_000_000;

/// A question that the roll-ups know.
#[derive(Debug)]
struct Plan {
    dimension: &'static str,
    /// The only value asked for.
    key: Option<String>,
    by: GroupBy,
    /// µs, inclusive.
    from: i64,
    /// µs, exclusive.
    to: i64,
}

impl Reader {
    /// Totals of the calls that match, largest cost first: from the roll-ups, which also know calls that
    /// are no longer kept, or, where those cannot answer, from the calls as [`Self::stats`] does.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn totals(&self, query: &Query, by: GroupBy) -> Result<Stats, StoreError> {
        let now = Timestamp::now();
        let rolled = match plan(query, by, now) {
            Some(plan) => self.pool.read(|conn| {
                // One snapshot, so that no call is met twice or not at all.
                let snapshot = conn.transaction()?;
                Ok(read(&snapshot, &plan, query, now)?)
            })?,
            None => None,
        };
        match rolled {
            Some(groups) => Ok(Stats { rows: rows(groups, by), exact: false }),
            None => Ok(Stats { rows: self.stats(query, by)?, exact: true }),
        }
    }
}

/// The roll-ups and the range that answer a question: at most one value, and times.
fn plan(query: &Query, by: GroupBy, now: Timestamp) -> Option<Plan> {
    let terms: Vec<&Term> = match &query.root {
        None => Vec::new(),
        Some(Expr::Term(term)) => vec![term],
        Some(Expr::And(parts)) => parts
            .iter()
            .map(|part| if let Expr::Term(term) = part { Some(term) } else { None })
            .collect::<Option<_>>()?,
        Some(Expr::Or(_) | Expr::Not(_)) => return None,
    };
    let (mut from, mut to, mut only) = (i64::MIN, i64::MAX, None);
    for term in terms {
        match term {
            Term::Since(at) => from = from.max(moment(*at, now).0),
            Term::Before(at) => to = to.min(moment(*at, now).0),
            Term::Text(field, pattern) if only.is_none() => {
                only = Some((of_field(*field)?, pattern.exact()?.to_owned()));
            }
            _ => return None,
        }
    }
    let grouped = match by {
        GroupBy::Nothing | GroupBy::Day => None,
        by => Some(of_group(by)?),
    };
    let dimension = match (&only, grouped) {
        (Some((of, _)), Some(by)) if *of != by => return None,
        (Some((of, _)), _) => of,
        (None, by) => by.unwrap_or("nothing"),
    };
    Some(Plan { dimension, key: only.map(|(_, key)| key), by, from, to })
}

/// The roll-ups that know a field's values. Those of models do not: a query means the model asked for too.
pub(super) fn of_field(field: Field) -> Option<&'static str> {
    Some(match field {
        Field::Prompt => "prompt",
        Field::Customer => "customer",
        Field::Key => "key",
        Field::Environment => "environment",
        Field::Upstream => "upstream",
        Field::Outcome => "outcome",
        _ => return None,
    })
}

fn of_group(by: GroupBy) -> Option<&'static str> {
    Some(match by {
        GroupBy::Model => "model",
        GroupBy::Prompt => "prompt",
        GroupBy::Customer => "customer",
        GroupBy::Key => "key",
        GroupBy::Environment => "environment",
        GroupBy::Upstream => "upstream",
        GroupBy::Outcome => "outcome",
        _ => return None,
    })
}

/// Totals by group; `None` where the roll-ups do not go that far.
fn read(
    conn: &Connection,
    plan: &Plan,
    query: &Query,
    now: Timestamp,
) -> rusqlite::Result<Option<HashMap<String, Sum>>> {
    let Some(position) = rollup::position(conn)? else { return Ok(None) };
    let first = plan.from.div_euclid(HOUR_US) + i64::from(plan.from.rem_euclid(HOUR_US) > 0);
    let end = plan.to.div_euclid(HOUR_US);
    if first >= end {
        return Ok(None);
    }
    let mut groups = HashMap::new();
    let named = if plan.key.is_some() { "AND key = ?" } else { "" };
    let params = [Sql::from(plan.dimension.to_owned()), first.into(), end.into()];
    let params = params.into_iter().chain(plan.key.clone().map(Sql::from));
    let mut statement = conn.prepare_cached(&format!(
        "SELECT hour, key, {COLUMNS} FROM rollups
         WHERE dimension = ? AND hour >= ? AND hour < ? {named}"
    ))?;
    let mut found = statement.query(params_from_iter(params))?;
    while let Some(row) = found.next()? {
        let key = row.get_ref(1)?.as_str().unwrap_or_default();
        if key == OTHER {
            return Ok(None);
        }
        let key = if plan.by == GroupBy::Day { day(row.get(0)?) } else { plan.group(key) };
        groups.entry(key).or_insert_with(Sum::default).merge_row(row, 2)?;
    }
    let time = |hour: i64| Sql::from(Timestamp(hour.saturating_mul(HOUR_US)).to_string());
    let mut add =
        |place: &str, params: Vec<Sql>| plan.add(conn, (query, now), (place, params), &mut groups);
    add("seq > ?", vec![position.into()])?;
    if plan.from > i64::MIN {
        add("seq <= ? AND started_at < ?", vec![position.into(), time(first)])?;
    }
    if plan.to < i64::MAX {
        add("seq <= ? AND started_at >= ?", vec![position.into(), time(end)])?;
    }
    Ok(Some(groups))
}

impl Plan {
    fn group(&self, key: &str) -> String {
        if self.by == GroupBy::Nothing { String::new() } else { key.to_owned() }
    }

    /// Adds the calls of a place that match.
    fn add(
        &self,
        conn: &Connection,
        (query, now): (&Query, Timestamp),
        (place, params): (&str, Vec<Sql>),
        groups: &mut HashMap<String, Sum>,
    ) -> rusqlite::Result<()> {
        let filter = filter(query, now);
        let key = DIMENSIONS.iter().find(|(name, _)| *name == self.dimension);
        let key = match self.by {
            GroupBy::Day => "substr(started_at, 1, 10)",
            _ => key.map_or("''", |(_, key)| *key),
        };
        let mut statement = conn.prepare(&format!(
            "SELECT {key}, {FACTS} FROM calls WHERE {place} AND ({})",
            filter.sql
        ))?;
        let params = params.into_iter().chain(filter.params);
        let mut found = statement.query(params_from_iter(params))?;
        while let Some(row) = found.next()? {
            let key = self.group(row.get_ref(0)?.as_str().unwrap_or_default());
            groups.entry(key).or_default().add(row, 1)?;
        }
        Ok(())
    }
}

/// The UTC day of an hour since 1970.
fn day(hour: i64) -> String {
    let time = Timestamp(hour.saturating_mul(HOUR_US)).to_string();
    time.get(..10).unwrap_or_default().to_owned()
}

fn rows(mut groups: HashMap<String, Sum>, by: GroupBy) -> Vec<StatRow> {
    if by == GroupBy::Nothing {
        groups.entry(String::new()).or_default();
    }
    let mut groups: Vec<(String, Sum)> = groups.into_iter().collect();
    groups.sort_by(|(left_key, left), (right_key, right)| {
        (right.cost, right.calls)
            .cmp(&(left.cost, left.calls))
            .then_with(|| left_key.cmp(right_key))
    });
    groups.into_iter().map(|(key, sum)| row(key, &sum)).collect()
}

fn row(key: String, sum: &Sum) -> StatRow {
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    let latency = |percent| sum.latency.percentile(percent).map(|ms| ms.min(sum.latency_max));
    StatRow {
        key: Some(key).filter(|key| !key.is_empty()),
        calls: count(sum.calls),
        errors: count(sum.errors),
        input_tokens: count(sum.input),
        output_tokens: count(sum.output),
        cached_tokens: count(sum.cached),
        cost: dollars(sum.cost),
        unpriced: count(sum.unpriced),
        latency_p50_ms: latency(50),
        latency_p95_ms: latency(95),
        ttft_p50_ms: sum.ttft.percentile(50),
        ttft_p95_ms: sum.ttft.percentile(95),
    }
}
