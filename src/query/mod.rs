//! The query language: `model:gpt-4o* status:error cost:>0.05 session:s1 "exact words"`.
//!
//! One parser for command line, API and dashboard. A query is a list of terms that must all hold; a
//! `-` before a term negates it, `OR` between terms inside parentheses offers a choice. Grammar:
//! `ux.md` §4.1.

mod field;
mod parse;

pub use field::{Field, Kind, names};

/// A parsed query. Matches everything when empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// All of them must hold.
    pub terms: Vec<Term>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// Words that stand somewhere in what was asked or answered.
    Text(String),
    /// A field has a value.
    Field {
        /// Which one.
        field: Field,
        /// How it compares.
        test: Test,
    },
    /// The term does not hold.
    Not(Box<Self>),
    /// One of them holds.
    Any(Vec<Self>),
    /// All of them hold.
    All(Vec<Self>),
}

/// How a field compares.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// Equals; `*` stands for anything. Letter case does not matter.
    Like(String),
    /// A number or a time within bounds.
    Within {
        /// Lowest value that fits, and whether it does itself.
        from: Option<(f64, bool)>,
        /// Highest value that fits, and whether it does itself.
        to: Option<(f64, bool)>,
    },
    /// Has a value at all.
    Present,
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
        parse::query(text)
    }
}
