//! The query language: `model:gpt-4o* status:error cost:>0.05 session:s1 "exact words"`.

/// A parsed query. Matches everything when empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query;

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

    fn from_str(_text: &str) -> Result<Self, QueryError> {
        Ok(Self)
    }
}
