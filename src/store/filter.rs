//! A query as SQL over `calls`. Values are always parameters; text reaches SQL nowhere else.

use super::fulltext::CURSOR;
use crate::{
    model::Timestamp,
    query::{Delivery, Expr, Field, Kind, Moment, Op, Pattern, Query, Status, Term},
};
use rusqlite::types::Value;

/// A condition and its parameters, in order of the `?` in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) sql: String,
    pub(super) params: Vec<Value>,
    /// What is looked for in the full-text index.
    pub(super) phrases: Vec<String>,
    /// Phrases that are looked for call by call: quicker for what almost every call says.
    common: Vec<String>,
    /// The calls in question are behind the full-text index.
    unindexed: bool,
}

/// The condition of `query`; periods count back from `now`.
pub(super) fn filter(query: &Query, now: Timestamp) -> Filter {
    filter_with(query, now, Vec::new())
}

/// The same, with the phrases `common` looked for call by call.
pub(super) fn filter_with(query: &Query, now: Timestamp, common: Vec<String>) -> Filter {
    Filter { common, ..Filter::default() }.of(query, now)
}

/// The condition of `query` for calls that the full-text index does not know yet.
pub(super) fn unindexed(query: &Query, now: Timestamp) -> Filter {
    Filter { unindexed: true, ..Filter::default() }.of(query, now)
}

/// The condition of `query` over the full-text index joined with `calls`, where each match must hold
/// certain words: those are one search of the index. `None` where there are none.
pub(super) fn required(query: &Query, now: Timestamp) -> Option<Filter> {
    let parts = match query.root.as_ref()? {
        Expr::And(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    let searches: Vec<String> = parts.iter().filter_map(search).collect();
    if searches.is_empty() {
        return None;
    }
    let mut filter = Filter { sql: "fts MATCH ?".to_owned(), ..Filter::default() };
    filter.params.push(searches.join(" AND ").into());
    for part in parts.iter().filter(|part| search(part).is_none()) {
        filter.sql.push_str(" AND ");
        filter.expr(part, now);
    }
    Some(filter)
}

/// `expr` as a search of the full-text index, where it is about words alone.
fn search(expr: &Expr) -> Option<String> {
    let all = |parts: &[Expr], between| {
        let parts = parts.iter().map(search).collect::<Option<Vec<_>>>()?;
        Some(format!("({})", parts.join(between)))
    };
    match expr {
        Expr::Term(Term::Words { text, prefix }) => Some(phrase(text, *prefix)),
        Expr::And(parts) => all(parts, " AND "),
        Expr::Or(parts) => all(parts, " OR "),
        Expr::Not(_) | Expr::Term(_) => None,
    }
}

impl Filter {
    fn of(mut self, query: &Query, now: Timestamp) -> Self {
        match &query.root {
            None => self.sql.push('1'),
            Some(root) => self.expr(root, now),
        }
        self
    }

    /// The condition, and `sql` with its one parameter before it.
    pub(super) fn and(mut self, sql: &str, value: impl Into<Value>) -> Self {
        self.sql = format!("{sql} AND ({})", self.sql);
        self.params.insert(0, value.into());
        self
    }

    fn expr(&mut self, expr: &Expr, now: Timestamp) {
        match expr {
            Expr::And(parts) => self.join(parts, " AND ", now),
            Expr::Or(parts) => self.join(parts, " OR ", now),
            Expr::Not(inner) => {
                // What is absent does not equal anything, so its negation holds.
                self.sql.push_str("NOT coalesce(");
                self.expr(inner, now);
                self.sql.push_str(", 0)");
            }
            Expr::Term(term) => self.term(term, now),
        }
    }

    fn join(&mut self, parts: &[Expr], between: &str, now: Timestamp) {
        self.sql.push('(');
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                self.sql.push_str(between);
            }
            self.expr(part, now);
        }
        self.sql.push(')');
    }

    fn term(&mut self, term: &Term, now: Timestamp) {
        match term {
            Term::Words { text, prefix } => self.words(text, *prefix),
            Term::Text(Field::Model, pattern) => {
                self.sql.push('(');
                self.matches("model", pattern);
                self.sql.push_str(" OR ");
                self.matches("model_requested", pattern);
                self.sql.push(')');
            }
            Term::Text(Field::Error, pattern) => {
                self.sql.push('(');
                self.matches("error_code", pattern);
                self.sql.push_str(" OR ");
                self.matches("error_type", pattern);
                self.sql.push_str(" OR ");
                self.matches("error_source", pattern);
                self.sql.push(')');
            }
            Term::Text(Field::Tag, pattern) => {
                self.sql.push_str("EXISTS (SELECT 1 FROM json_each(calls.labels) WHERE ");
                self.matches("value", pattern);
                self.sql.push(')');
            }
            Term::Text(field, pattern) => self.matches(column(*field), pattern),
            Term::Number(field, op, bound) => {
                let bound = amount(*field, *bound);
                self.compare(column(*field), *op, bound);
            }
            Term::Range(field, low, high) => {
                self.sql.push_str(column(*field));
                self.sql.push_str(" BETWEEN ? AND ?");
                self.params.extend([amount(*field, *low), amount(*field, *high)]);
            }
            Term::Flag(field, value) => self.compare(column(*field), Op::Eq, (*value).into()),
            Term::Status(Status::Ok) => self.sql.push_str("outcome = 'completed'"),
            Term::Status(Status::Error) => self.sql.push_str("outcome <> 'completed'"),
            Term::Status(Status::Class(digit)) => {
                self.sql.push_str("status BETWEEN ? AND ?");
                self.params.extend([(digit * 100).into(), (digit * 100 + 99).into()]);
            }
            Term::Status(Status::Code(op, code)) => self.compare("status", *op, (*code).into()),
            Term::Delivery(state) => self.sql.push_str(&undelivered(*state)),
            Term::Since(moment) => self.compare("started_at", Op::Ge, at(*moment, now)),
            Term::Before(moment) => self.compare("started_at", Op::Lt, at(*moment, now)),
            Term::Meta(name, pattern) => {
                self.sql
                    .push_str("EXISTS (SELECT 1 FROM json_each(calls.metadata) WHERE key = ? AND ");
                self.params.push(name.clone().into());
                self.matches("CAST(value AS TEXT)", pattern);
                self.sql.push(')');
            }
            Term::Has(field) => {
                self.sql.push_str(if *field == Field::Error {
                    "error_source"
                } else {
                    column(*field)
                });
                self.sql.push_str(" IS NOT NULL");
            }
        }
    }

    fn compare(&mut self, column: &str, op: Op, value: Value) {
        self.sql.push_str(column);
        self.sql.push_str(match op {
            Op::Eq => " = ?",
            Op::Gt => " > ?",
            Op::Ge => " >= ?",
            Op::Lt => " < ?",
            Op::Le => " <= ?",
        });
        self.params.push(value);
    }

    fn matches(&mut self, column: &str, pattern: &Pattern) {
        self.sql.push_str(column);
        if let Some(text) = pattern.exact() {
            self.sql.push_str(" = ?");
            self.params.push(text.to_owned().into());
        } else {
            self.sql.push_str(" GLOB ?");
            self.params.push(glob(pattern).into());
        }
    }

    /// Indexed calls by the index; the newest, not yet indexed, by their preview.
    fn words(&mut self, text: &str, prefix: bool) {
        if self.unindexed {
            self.sql.push_str("instr(lower(preview), ?) > 0");
            self.params.push(text.to_ascii_lowercase().into());
            return;
        }
        let phrase = phrase(text, prefix);
        self.sql.push_str(if self.common.contains(&phrase) {
            "(EXISTS (SELECT 1 FROM fts WHERE fts MATCH ? AND rowid = calls.seq)"
        } else {
            "(calls.seq IN (SELECT rowid FROM fts WHERE fts MATCH ?)"
        });
        self.params.push(phrase.clone().into());
        self.phrases.push(phrase);
        self.sql.push_str(
            " OR (calls.seq > (SELECT coalesce(max(seq), 0) FROM cursors WHERE name = ?)
                  AND instr(lower(preview), ?) > 0))",
        );
        self.params.extend([CURSOR.to_owned().into(), text.to_ascii_lowercase().into()]);
    }
}

/// Calls that a configured sink does not have. Those off the straight path are found by their rows;
/// pending ones are behind the first cursor.
fn undelivered(state: Delivery) -> String {
    let off = |state: &str| {
        format!(
            "calls.seq IN (SELECT off.seq FROM exceptions AS off JOIN cursors AS lane
                ON lane.name = 'sink:' || off.sink AND lane.holds WHERE off.state = '{state}')"
        )
    };
    match state {
        Delivery::Pending => "(calls.seq > (SELECT min(seq) FROM cursors WHERE holds)
            AND EXISTS (SELECT 1 FROM cursors AS lane WHERE lane.holds
                AND calls.seq > lane.seq AND calls.seq <= coalesce(lane.until, calls.seq)))"
            .to_owned(),
        Delivery::Waiting => off("waiting"),
        Delivery::Dead => off("dead"),
        Delivery::Undelivered => {
            let each = [Delivery::Pending, Delivery::Waiting, Delivery::Dead].map(undelivered);
            format!("({})", each.join(" OR "))
        }
    }
}

/// Words as `FTS5` reads them: one phrase, whatever is in it.
fn phrase(text: &str, prefix: bool) -> String {
    let text = text.replace('\0', " ").replace('"', "\"\"");
    format!("\"{text}\"{}", if prefix { "*" } else { "" })
}

/// The column that holds a field.
pub(super) fn column(field: Field) -> &'static str {
    match field {
        Field::Model => "model",
        Field::Status => "status",
        Field::Outcome => "outcome",
        Field::Endpoint => "endpoint",
        Field::Method => "method",
        Field::Path => "path",
        Field::Upstream => "upstream",
        Field::Provider => "provider",
        Field::Prompt => "prompt",
        Field::Version => "prompt_version",
        Field::Session => "session",
        Field::User => "user",
        Field::Customer => "customer",
        Field::Environment => "environment",
        Field::Reference => "reference",
        Field::Tag => "labels",
        Field::Key => "client_key",
        Field::Client => "sdk",
        Field::Finish => "finish_reason",
        Field::Error => "error_code",
        Field::Id => "id",
        Field::Trace => "trace_id",
        Field::UsageSource => "usage_source",
        Field::CostStatus => "cost_status",
        Field::Stream => "stream",
        Field::Cost => "cost_pico",
        Field::Latency => "latency_ms",
        Field::FirstByte => "first_byte_ms",
        Field::Ttft => "ttft_ms",
        Field::Overhead => "overhead_ms",
        Field::Tokens => "total_tokens",
        Field::Input => "input_tokens",
        Field::Output => "output_tokens",
        Field::Cached => "cached_tokens",
        Field::Reasoning => "reasoning_tokens",
        Field::Retry => "retry",
        Field::Seq | Field::Delivery => "calls.seq",
        Field::Since | Field::Before | Field::Has => "started_at",
    }
}

/// Money is compared in whole picodollars.
fn amount(field: Field, bound: f64) -> Value {
    Value::Real(if field.kind() == Kind::Money { (bound * 1e12).round() } else { bound })
}

fn at(moment: Moment, now: Timestamp) -> Value {
    self::moment(moment, now).to_string().into()
}

/// The time that is meant; periods count back from `now`.
pub(super) fn moment(moment: Moment, now: Timestamp) -> Timestamp {
    match moment {
        Moment::At(time) => time,
        Moment::Ago(ms) => {
            let us = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000);
            now.plus_us(us.saturating_neg())
        }
    }
}

/// GLOB with only the pattern's own wildcards.
fn glob(pattern: &Pattern) -> String {
    let escape = |piece: &String| piece.replace('[', "[[]").replace('*', "[*]").replace('?', "[?]");
    pattern.0.iter().map(escape).collect::<Vec<_>>().join("*")
}

#[cfg(test)]
mod tests {
    use crate::{
        model::Timestamp,
        store::{Exception, LaneChange, Progress, tests},
    };

    #[test]
    fn calls_that_a_sink_does_not_have_are_found_by_how_far_it_is() {
        let (_dir, store) = tests::open();
        for _ in 0..6 {
            store.append(tests::entry(0), None);
        }
        let change = |sink: &str, change| {
            store.change_lane(sink, change).blocking_recv().unwrap().unwrap();
        };
        let off = |seq, dead| Exception {
            seq,
            id: uuid::Uuid::nil(),
            dead,
            attempts: 1,
            at: Timestamp::now(),
            reason: "refused".to_owned(),
        };
        let reader = store.reader().unwrap();
        tests::wait_for(|| reader.list(&tests::query(""), 10, None).unwrap().items.len() == 6);
        let found = |text: &str| -> Vec<i64> {
            let page = reader.list(&tests::query(text), 10, None).unwrap();
            page.items.iter().map(|row| row["seq"].as_i64().unwrap()).collect()
        };
        let check = |expected: [(&str, &[i64]); 5]| {
            for (text, seqs) in expected {
                assert_eq!(found(text), seqs, "{text}");
            }
        };
        check([
            ("delivery:undelivered", &[]),
            ("-delivery:undelivered", &[6, 5, 4, 3, 2, 1]),
            ("delivery:pending", &[]),
            ("delivery:waiting", &[]),
            ("delivery:dead", &[]),
        ]);
        change("a", LaneChange::Open { first: 0 });
        change("b", LaneChange::Open { first: 6 });
        let exceptions = vec![off(2, true), off(3, false)];
        let progress = Progress { cursor: Some(4), exceptions, ..Progress::default() };
        change("a", LaneChange::Progress(progress));
        check([
            ("delivery:undelivered", &[6, 5, 3, 2]),
            ("-delivery:undelivered", &[4, 1]),
            ("delivery:pending", &[6, 5]),
            ("delivery:waiting", &[3]),
            ("delivery:dead", &[2]),
        ]);
        let page = |limit, after: Option<&str>| {
            let page = reader.list(&tests::query("delivery:undelivered"), limit, after).unwrap();
            let seqs: Vec<i64> = page.items.iter().filter_map(|row| row["seq"].as_i64()).collect();
            (seqs, page.next)
        };
        let (first, next) = page(3, None);
        assert_eq!((first, page(3, next.as_deref()).0), (vec![6, 5, 3], vec![2]));
        assert_eq!(found("delivery:undelivered OR seq:1"), [6, 5, 3, 2, 1]);
        assert_eq!(found("delivery:undelivered delivery:undelivered seq:>2"), [6, 5, 3]);
        // A backfill ends at a call; a sink that is not configured any more waits for none.
        change("b", LaneChange::Fill { from: 0, until: 1 });
        change("a", LaneChange::Release);
        check([
            ("delivery:undelivered", &[1]),
            ("-delivery:undelivered", &[6, 5, 4, 3, 2]),
            ("delivery:pending", &[1]),
            ("delivery:waiting", &[]),
            ("delivery:dead", &[]),
        ]);
        store.close();
    }
}
