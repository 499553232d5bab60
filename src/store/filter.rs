//! A query as SQL over `calls c`, every value bound.

use crate::query::{Field, Query, Term, Test};
use rusqlite::types::Value;

/// A condition and its values.
#[derive(Debug)]
pub struct Filter {
    /// For a `WHERE` clause.
    pub sql: String,
    /// Bound to `?first`, `?first+1`, …
    pub values: Vec<Value>,
}

/// The condition of `query`; its values are numbered from `first`.
pub fn of(query: &Query, first: usize) -> Filter {
    let mut filter = Filter { sql: String::new(), values: Vec::new() };
    filter.all(&query.terms, first);
    filter
}

impl Filter {
    fn all(&mut self, terms: &[Term], first: usize) {
        self.joined(terms, " AND ", "1", first);
    }

    fn joined(&mut self, terms: &[Term], between: &str, none: &str, first: usize) {
        if terms.is_empty() {
            self.sql.push_str(none);
            return;
        }
        self.sql.push('(');
        for (at, term) in terms.iter().enumerate() {
            if at > 0 {
                self.sql.push_str(between);
            }
            self.term(term, first);
        }
        self.sql.push(')');
    }

    fn term(&mut self, term: &Term, first: usize) {
        match term {
            Term::All(terms) => self.all(terms, first),
            Term::Any(terms) => self.joined(terms, " OR ", "0", first),
            Term::Not(term) => {
                // What is unknown does not match, so its negation does.
                self.sql.push_str("NOT coalesce(");
                self.term(term, first);
                self.sql.push_str(", 0)");
            }
            Term::Text(words) => {
                let pattern = self.bind(Value::Text(format!("%{}%", escape(words))), first);
                self.push(&format!(
                    "EXISTS (SELECT 1 FROM texts t WHERE t.seq = c.seq \
                     AND (t.input LIKE {pattern} ESCAPE '\\' OR t.output LIKE {pattern} ESCAPE '\\'))"
                ));
            }
            Term::Field { field, test } => self.field(field, test, first),
        }
    }

    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// The placeholder of a value.
    fn bind(&mut self, value: Value, first: usize) -> String {
        self.values.push(value);
        format!("?{}", first + self.values.len() - 1)
    }

    fn field(&mut self, field: &Field, test: &Test, first: usize) {
        match (field, test) {
            (Field::Status, Test::Like(value)) => self.status(value, first),
            (Field::Label, Test::Like(value)) => {
                let pattern = format!("%,{},%", like(value).to_lowercase());
                let at = self.bind(Value::Text(pattern), first);
                self.push(&format!("c.labels LIKE {at} ESCAPE '\\'"));
            }
            (field, Test::Like(value)) => {
                let expression = self.expression(field, first);
                if value.contains('*') {
                    let at = self.bind(Value::Text(like(value)), first);
                    self.push(&format!("{expression} LIKE {at} ESCAPE '\\'"));
                } else {
                    let at = self.bind(Value::Text(value.clone()), first);
                    self.push(&format!("CAST({expression} AS TEXT) = {at} COLLATE NOCASE"));
                }
            }
            (field, Test::Present) => {
                let expression = self.expression(field, first);
                self.push(&format!("{expression} IS NOT NULL"));
            }
            (field, Test::Within { from, to }) => {
                let expression = self.expression(field, first);
                let mut bounds = Vec::new();
                for (bound, or_equal, less) in [(from, ">=", ">"), (to, "<=", "<")] {
                    if let Some((value, inclusive)) = bound {
                        let operator = if *inclusive { or_equal } else { less };
                        let at = self.bind(Value::Real(*value), first);
                        bounds.push(format!("{expression} {operator} {at}"));
                    }
                }
                let sql = if bounds.is_empty() { "1".to_owned() } else { bounds.join(" AND ") };
                self.push(&format!("({sql})"));
            }
        }
    }

    fn expression(&mut self, field: &Field, first: usize) -> String {
        match field {
            Field::Column(column) => format!("c.{column}"),
            Field::Status => "c.status".to_owned(),
            Field::Label => "c.labels".to_owned(),
            Field::Meta(name) => {
                let path = format!("$.\"{}\"", name.replace('"', ""));
                let at = self.bind(Value::Text(path), first);
                format!("json_extract(c.metadata, {at})")
            }
        }
    }

    /// `ok`, `error`, `4xx`, `429`, or an outcome.
    fn status(&mut self, value: &str, first: usize) {
        match value {
            "ok" => self.push("c.outcome = 'completed'"),
            "error" => self.push("c.outcome <> 'completed'"),
            value => {
                let class = value.strip_suffix("xx").and_then(|class| class.parse::<i64>().ok());
                match (class, value.parse::<i64>()) {
                    (Some(class), _) => {
                        let at = self.bind(Value::Integer(class), first);
                        self.push(&format!("c.status / 100 = {at}"));
                    }
                    (None, Ok(status)) => {
                        let at = self.bind(Value::Integer(status), first);
                        self.push(&format!("c.status = {at}"));
                    }
                    (None, Err(_)) => {
                        let at = self.bind(Value::Text(like(value)), first);
                        self.push(&format!("c.outcome LIKE {at} ESCAPE '\\'"));
                    }
                }
            }
        }
    }
}

/// Nothing in `text` is a wildcard.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Only `*` is.
fn like(text: &str) -> String {
    escape(text).replace('*', "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;
    use proptest::prelude::*;
    use rusqlite::Connection;

    fn prepares(text: &str) {
        let Ok(query) = text.parse::<Query>() else { return };
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let filter = of(&query, 1);
        let sql = format!("SELECT count(*) FROM calls c WHERE {}", filter.sql);
        let mut statement = connection.prepare(&sql).unwrap();
        let count: i64 = statement
            .query_row(rusqlite::params_from_iter(filter.values), |row| row.get(0))
            .unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn every_field_prepares() {
        for name in crate::query::names() {
            for value in ["x", "1", "*", ">1", "true", "1h", "model"] {
                prepares(&format!("{name}:{value}"));
                prepares(&format!("-({name}:{value} OR has:{name})"));
            }
        }
    }

    proptest! {
        #[test]
        fn what_parses_prepares(text in "(model:|-|\\(|\\)|OR |cost:>|meta.a'b:|tag:|\"|[a-z%_*'\\\\;]{1,4}| ){0,20}") {
            prepares(&text);
        }
    }
}
