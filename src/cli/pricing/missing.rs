//! `calltap pricing missing`: models in the store whose calls have no price.

use super::super::{
    Common,
    out::{self, Exit, Stop},
};
use crate::model::Timestamp;
use serde_json::json;

/// Lists them, most calls first.
///
/// # Errors
/// When there is no store.
pub fn missing(common: &Common) -> Result<Exit, Stop> {
    let book = super::book(common)?;
    let rows = common.reader()?.unpriced()?;
    for row in &rows {
        let now = book.knows(&row.provider, &row.model, Timestamp::now());
        if common.json {
            out::line(
                &json!({
                    "provider": row.provider, "model": row.model, "calls": row.calls,
                    "partial": row.partial, "first": row.first, "last": row.last, "known_now": now,
                })
                .to_string(),
            )?;
            continue;
        }
        let part =
            if row.partial > 0 { format!(", {} in part", row.partial) } else { String::new() };
        let hint = if now { "; a price is known now" } else { "" };
        out::line(&format!(
            "{}/{}: {} calls{part}, last {}{hint}",
            out::safe(&row.provider, false),
            out::safe(&row.model, false),
            row.calls,
            row.last
        ))?;
    }
    if !common.json {
        out::say(if rows.is_empty() {
            "every call in the store has a price"
        } else {
            "`calltap pricing explain` says what was tried; a file in pricing.dir or `calltap pricing update` gives a price"
        });
    }
    Ok(Exit::Ok)
}
