//! Totals: sums in integers, percentiles over all values (nearest rank).

use super::{GroupBy, Reader, StatRow, StoreError, filter::filter, rollup::UNPRICED, row::dollars};
use crate::{model::Timestamp, query::Query};
use rusqlite::{Row, params_from_iter};
use std::collections::HashMap;

impl Reader {
    /// Totals of the calls that match, largest cost first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn stats(&self, query: &Query, by: GroupBy) -> Result<Vec<StatRow>, StoreError> {
        let filter = filter(query, Timestamp::now());
        let sql = format!(
            "SELECT {key}, outcome <> 'completed', input_tokens, output_tokens, cached_tokens,
                 cost_pico,
                 {UNPRICED},
                 latency_ms, ttft_ms
             FROM calls WHERE ({condition})",
            key = key(by),
            condition = filter.sql
        );
        self.pool.read(|conn| {
            let mut groups: HashMap<Option<String>, Group> = HashMap::new();
            let mut statement = conn.prepare(&sql)?;
            let mut rows = statement.query(params_from_iter(filter.params.iter()))?;
            while let Some(row) = rows.next()? {
                groups.entry(row.get(0)?).or_default().add(row)?;
            }
            if by == GroupBy::Nothing {
                groups.entry(None).or_default();
            }
            let mut groups: Vec<_> = groups.into_iter().collect();
            groups.sort_by(|(left_key, left), (right_key, right)| {
                (right.cost, right.calls)
                    .cmp(&(left.cost, left.calls))
                    .then(left_key.cmp(right_key))
            });
            Ok(groups.into_iter().map(|(key, group)| group.finish(key)).collect())
        })
    }
}

fn key(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Nothing => "NULL",
        GroupBy::Model => "model",
        GroupBy::Prompt => "prompt",
        GroupBy::Customer => "customer",
        GroupBy::Session => "session",
        GroupBy::User => "user",
        GroupBy::Key => "client_key",
        GroupBy::Upstream => "upstream",
        GroupBy::Outcome => "outcome",
        GroupBy::Endpoint => "endpoint",
        GroupBy::Environment => "environment",
        GroupBy::Day => "substr(started_at, 1, 10)",
        GroupBy::Error => "coalesce(error_code, error_type)",
        GroupBy::Status => "CAST(status AS TEXT)",
        GroupBy::Finish => "finish_reason",
        GroupBy::Client => "sdk",
        GroupBy::Provider => "provider",
        GroupBy::Version => "prompt_version",
    }
}

#[derive(Default)]
struct Group {
    calls: u64,
    errors: u64,
    input: u64,
    output: u64,
    cached: u64,
    cost: i128,
    unpriced: u64,
    latency: Vec<f64>,
    ttft: Vec<f64>,
}

impl Group {
    fn add(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        let tokens = |at: usize| -> rusqlite::Result<u64> {
            Ok(row
                .get::<_, Option<i64>>(at)?
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or(0))
        };
        self.calls += 1;
        self.errors += u64::from(row.get::<_, bool>(1)?);
        self.input = self.input.saturating_add(tokens(2)?);
        self.output = self.output.saturating_add(tokens(3)?);
        self.cached = self.cached.saturating_add(tokens(4)?);
        self.cost += i128::from(row.get::<_, Option<i64>>(5)?.unwrap_or(0));
        self.unpriced += u64::from(row.get::<_, bool>(6)?);
        self.latency.push(row.get(7)?);
        self.ttft.extend(row.get::<_, Option<f64>>(8)?);
        Ok(())
    }

    fn finish(mut self, key: Option<String>) -> StatRow {
        self.latency.sort_by(f64::total_cmp);
        self.ttft.sort_by(f64::total_cmp);
        StatRow {
            key,
            calls: self.calls,
            errors: self.errors,
            input_tokens: self.input,
            output_tokens: self.output,
            cached_tokens: self.cached,
            cost: dollars(self.cost),
            unpriced: self.unpriced,
            latency_p50_ms: percentile(&self.latency, 50),
            latency_p95_ms: percentile(&self.latency, 95),
            ttft_p50_ms: percentile(&self.ttft, 50),
            ttft_p95_ms: percentile(&self.ttft, 95),
        }
    }
}

/// The smallest value that at least `percent` % of all do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(10.0));
        assert_eq!(percentile(&values, 95), Some(19.0));
        assert_eq!(percentile(&[7.0], 95), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
