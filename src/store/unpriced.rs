//! Models whose calls have no known price.

use super::{Reader, StoreError};

/// Most models that are listed.
const MODELS_MAX: u32 = 1000;

/// A model, and its calls without a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpricedModel {
    /// Provider slug.
    pub provider: String,
    /// As served, else as asked for; may be empty.
    pub model: String,
    /// Calls without a price, or with one in part only.
    pub calls: u64,
    /// Those of them that are priced in part.
    pub partial: u64,
    /// Start of the first one.
    pub first: String,
    /// Start of the last one.
    pub last: String,
}

impl Reader {
    /// Models whose calls have no price, or one in part only; most calls first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn unpriced(&self) -> Result<Vec<UnpricedModel>, StoreError> {
        let sql = "SELECT provider, coalesce(model, model_requested, ''), count(*),
                sum(cost_status = 'partial'), min(started_at), max(started_at)
            FROM calls WHERE cost_status IN ('unpriced', 'partial')
            GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT ?1";
        self.pool.read(|conn| {
            let mut statement = conn.prepare(sql)?;
            let count = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            let rows = statement.query_map([MODELS_MAX], |row| {
                Ok(UnpricedModel {
                    provider: row.get(0)?,
                    model: row.get(1)?,
                    calls: count(row, 2)?,
                    partial: count(row, 3)?,
                    first: row.get(4)?,
                    last: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
