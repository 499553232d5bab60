//! The query language: `model:gpt-4o* status:error cost:>0.05 session:s1 "exact words"`.
//!
//! Terms beside each other must all hold; `OR` and parentheses group, `-` negates, quotes keep spaces,
//! `*` stands for any text. One implementation serves command line, API and dashboard. This module
//! knows the language only; what a field means in SQL is the store's.

mod field;
mod parse;
#[cfg(test)]
mod tests;

pub use field::{Field, Kind};

use crate::model::Timestamp;
use std::fmt;

/// Longest query text in bytes. Hostile text is refused before it is read.
pub const MAX_LEN: usize = 4096;
/// Deepest nesting of parentheses and negations.
pub const MAX_DEPTH: usize = 32;
/// Most terms in one query; keeps the SQL well inside `SQLite`'s limits.
pub const MAX_TERMS: usize = 100;
/// Most `*` in one value: matching time grows with each.
pub const MAX_WILDCARDS: usize = 4;

/// A parsed query. Matches everything when empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The condition; `None` matches everything.
    pub root: Option<Expr>,
}

impl Query {
    /// Where in `text` the terms stand that must all hold; empty where it is no list of such terms.
    pub fn terms(text: &str) -> Vec<std::ops::Range<usize>> {
        if text.len() > MAX_LEN { Vec::new() } else { parse::terms(text) }
    }
}

/// A condition over one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// All hold; two or more.
    And(Vec<Self>),
    /// At least one holds; two or more.
    Or(Vec<Self>),
    /// Does not hold (also where the field is absent).
    Not(Box<Self>),
    /// A single term.
    Term(Term),
}

/// The smallest conditions.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A word or phrase in the text of question or answer.
    Words {
        /// What to look for.
        text: String,
        /// Whether longer words that start so match too.
        prefix: bool,
    },
    /// A text field equals the pattern.
    Text(Field, Pattern),
    /// A number compared with a bound: durations in ms, cost in USD.
    Number(Field, Op, f64),
    /// A number within both bounds, inclusive.
    Range(Field, f64, f64),
    /// A field that is true or false.
    Flag(Field, bool),
    /// The HTTP status: by number, by class, or good or bad.
    Status(Status),
    /// At least one sink is so far with it.
    Delivery(Delivery),
    /// Started at this moment or later.
    Since(Moment),
    /// Started before this moment.
    Before(Moment),
    /// `meta.<name>` equals the pattern.
    Meta(String, Pattern),
    /// The field has a value.
    Has(Field),
}

/// Text with `*` wildcards: the pieces between them. One piece means no wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub Vec<String>);

impl Pattern {
    /// The text itself when it has no wildcard.
    pub fn exact(&self) -> Option<&str> {
        match self.0.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `field:x`
    Eq,
    /// `field:>x`
    Gt,
    /// `field:>=x`
    Ge,
    /// `field:<x`
    Lt,
    /// `field:<=x`
    Le,
}

/// What `status:` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    /// The outcome is `completed`.
    Ok,
    /// It is any other.
    Error,
    /// `4xx`: the first digit.
    Class(u16),
    /// `status:429`, `status:>=500`
    Code(Op, u16),
}

/// How far a sink is with a call that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Any of the others.
    Undelivered,
    /// The sink has not come to it.
    Pending,
    /// It is tried alone.
    Waiting,
    /// It was given up.
    Dead,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Undelivered, Self::Pending, Self::Waiting, Self::Dead];

    /// As a query names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undelivered => "undelivered",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }
}

/// A moment, fixed or counted back from when the query runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A point in time.
    At(Timestamp),
    /// So many milliseconds ago.
    Ago(u64),
}

/// What is wrong with a query, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// Byte offset in the text.
    pub at: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl std::str::FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        parse::parse(text)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.as_ref().map_or(Ok(()), |root| root.fmt(f))
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => join(f, parts, " "),
            Self::Or(parts) => join(f, parts, " OR "),
            Self::Not(inner) if matches!(**inner, Self::Term(_)) => write!(f, "-{inner}"),
            Self::Not(inner) => write!(f, "-({inner})"),
            Self::Term(term) => term.fmt(f),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        if matches!(part, Expr::And(_) | Expr::Or(_)) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words { text, prefix } => {
                write!(f, "{}{}", Quoted(text), if *prefix { "*" } else { "" })
            }
            Self::Text(field, pattern) => write!(f, "{}:{pattern}", field.name()),
            Self::Number(field, op, bound) => {
                write!(f, "{}:{op}{bound}{}", field.name(), field.unit())
            }
            Self::Range(field, low, high) => {
                write!(f, "{}:{low}{}..{high}{}", field.name(), field.unit(), field.unit())
            }
            Self::Flag(field, value) => write!(f, "{}:{value}", field.name()),
            Self::Status(Status::Ok) => f.write_str("status:ok"),
            Self::Status(Status::Error) => f.write_str("status:error"),
            Self::Status(Status::Class(digit)) => write!(f, "status:{digit}xx"),
            Self::Status(Status::Code(op, code)) => write!(f, "status:{op}{code}"),
            Self::Delivery(state) => write!(f, "delivery:{}", state.as_str()),
            Self::Since(moment) => write!(f, "since:{moment}"),
            Self::Before(moment) => write!(f, "before:{moment}"),
            Self::Meta(name, pattern) => write!(f, "meta.{name}:{pattern}"),
            Self::Has(field) => write!(f, "has:{}", field.name()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, piece) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("*")?;
            }
            if !piece.is_empty() || self.0.len() == 1 {
                Quoted(piece).fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => time.fmt(f),
            Self::Ago(ms) => write!(f, "{ms}ms"),
        }
    }
}

/// Text in quotes, as the parser reads it back.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
