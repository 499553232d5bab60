//! `calltap stats`: totals.

use super::{
    Common, calls, out,
    out::{Exit, Stop},
    parse_query,
};
use crate::store::{GroupBy, StatRow};

/// Flags of `stats`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What to group by: model, prompt, customer, session, user, key, upstream, outcome, endpoint,
    /// environment, day
    #[arg(long, env = "CALLTAP_BY", default_value = "model")]
    by: GroupBy,
    /// Query, such as: since:24h env:prod
    query: Vec<String>,
}

/// Prints totals, largest cost first.
///
/// # Errors
/// When the query makes no sense or there is no store.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let query = parse_query(&arguments.query)?;
    let reader = common.reader()?;
    let stats = reader.totals(&query, arguments.by)?;
    let rows = stats.rows;
    if common.json {
        for row in &rows {
            let row = serde_json::to_string(row).map_err(|error| Stop::new(Exit::Failed, error))?;
            out::line(&row)?;
        }
        return Ok(Exit::Ok);
    }
    let total = reader.totals(&query, GroupBy::Nothing)?.rows.pop().unwrap_or_default();
    out::line(&table(&rows, &total))?;
    if !stats.exact {
        out::say("from hourly totals: counts and sums are exact, percentiles to 2.2 %");
    }
    if total.unpriced > 0 {
        out::say(&format!("{} calls have no known price and are not in the cost", total.unpriced));
    }
    Ok(Exit::Ok)
}

fn table(rows: &[StatRow], total: &StatRow) -> String {
    let head =
        ["", "calls", "errors", "input", "cached", "output", "cost $", "p50", "p95", "ttft p50"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| cells(row.key.as_deref().unwrap_or("(none)"), row)));
    lines.push(cells("total", total));
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let rendered: Vec<String> = lines
        .iter()
        .map(|line| {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    rendered.join("\n")
}

fn cells(name: &str, row: &StatRow) -> Vec<String> {
    let time = |ms: Option<f64>| ms.map_or("-".to_owned(), calls::seconds);
    vec![
        out::safe(name, false).into_owned(),
        row.calls.to_string(),
        row.errors.to_string(),
        row.input_tokens.to_string(),
        row.cached_tokens.to_string(),
        row.output_tokens.to_string(),
        row.cost.clone(),
        time(row.latency_p50_ms),
        time(row.latency_p95_ms),
        time(row.ttft_p50_ms),
    ]
}
