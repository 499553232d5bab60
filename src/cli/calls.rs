//! `calltap logs`: searches the stored calls. And how a call looks on one line.

use super::{
    Common, out,
    out::{Color, Exit, Stop},
    parse_query,
};
use serde_json::Value;

/// Flags of `logs`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Query, such as: model:gpt-4o* status:error cost:>0.05 "exact words"
    query: Vec<String>,
    /// Most calls to show
    #[arg(long, env = "CALLTAP_LIMIT", default_value_t = 100)]
    limit: u32,
    /// Exit with 1 when nothing matches
    #[arg(long, env = "CALLTAP_EXIT_CODE", value_parser = clap::builder::FalseyValueParser::new())]
    exit_code: bool,
}

/// Lists the newest calls that match, newest first.
///
/// # Errors
/// When the query makes no sense or there is no store.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let query = parse_query(&arguments.query)?;
    let reader = common.reader()?;
    let (mut left, mut after, mut any) = (arguments.limit, None::<String>, false);
    while left > 0 {
        let page = reader.list(&query, left.min(500), after.as_deref())?;
        for row in &page.items {
            any = true;
            print(common, row)?;
        }
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if !any && !common.json {
        out::say("no call matches");
    }
    Ok(if !any && arguments.exit_code { Exit::Failed } else { Exit::Ok })
}

/// One call, as JSON or for people.
///
/// # Errors
/// When nobody reads.
pub fn print(common: &Common, row: &Value) -> Result<(), Stop> {
    if common.json { out::line(&row.to_string()) } else { out::line(&one_line(row, common.color)) }
}

/// Time, outcome, model, prompt, session, tokens, cost, times, client.
pub fn one_line(row: &Value, color: Color) -> String {
    let text = |pointer: &str| row.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| row.pointer(pointer).and_then(Value::as_f64);
    let outcome = text("/outcome").unwrap_or_default();
    let mark = match outcome {
        "completed" => color.paint(32, "✓"),
        "client_aborted" | "interrupted" => color.paint(33, "◐"),
        _ => color.paint(31, "✗"),
    };
    let time = text("/started_at").and_then(|time| time.get(11..19)).unwrap_or_default();
    let model = text("/model/served").or(text("/model/requested")).or(text("/endpoint"));
    let mut parts =
        vec![time.to_owned(), mark, format!("{:<28}", out::safe(model.unwrap_or("-"), false))];
    let prompt = match (text("/tags/prompt"), text("/tags/prompt_version")) {
        (Some(prompt), Some(version)) => format!("{prompt}@{version}"),
        (Some(prompt), None) => prompt.to_owned(),
        _ => String::new(),
    };
    parts.push(format!("{:<18}", out::safe(&prompt, false)));
    if outcome == "completed" {
        let tokens = |pointer: &str| number(pointer).map_or("?".to_owned(), |n| n.to_string());
        if row.pointer("/usage/input").is_some_and(|n| !n.is_null()) {
            let has_output = row.pointer("/usage/output").is_some_and(|n| !n.is_null());
            let output =
                if has_output { format!("→{}", tokens("/usage/output")) } else { String::new() };
            parts.push(format!("{}{output} tok", tokens("/usage/input")));
        }
        if let Some(cost) = text("/cost/total") {
            parts.push(format!("${cost}"));
        }
    } else {
        let code = text("/error/code").or(text("/error/type")).unwrap_or_default();
        let status = number("/status").map(|status| status.to_string()).unwrap_or_default();
        parts.push(color.paint(31, &out::safe(&format!("{status} {outcome} {code}"), false)));
    }
    if let Some(ttft) = number("/timing/ttft_ms") {
        parts.push(format!("ttft {}", seconds(ttft)));
    }
    parts.push(seconds(number("/timing/latency_ms").unwrap_or_default()));
    if let Some(session) = text("/tags/session") {
        parts.push(color.paint(36, &out::safe(session, false)));
    }
    parts.extend(text("/client/sdk").map(|sdk| color.paint(2, &out::safe(sdk, false))));
    parts.push(color.paint(2, text("/id").and_then(|id| id.get(..13)).unwrap_or_default()));
    parts.join("  ")
}

/// A duration for people.
pub fn seconds(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0}ms") } else { format!("{:.2}s", ms / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_on_one_line() {
        let row = json!({
            "id": "019aa3c2-0000-7000-8000-000000000000", "started_at": "2026-11-21T12:01:07.123456Z",
            "outcome": "completed", "model": {"served": "gpt-5-mini"}, "endpoint": "chat.completions",
            "tags": {"prompt": "support-reply", "prompt_version": "3", "session": "s\u{1b}1"},
            "usage": {"input": 1204, "output": 212}, "cost": {"total": "0.0011"},
            "timing": {"ttft_ms": 410.0, "latency_ms": 2800.0}, "client": {"sdk": "openai-python"},
        });
        let line = one_line(&row, Color::Never);
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "12:01:07 ✓ gpt-5-mini support-reply@3 1204→212 tok $0.0011 ttft 410ms 2.80s s\\u{1b}1 openai-python 019aa3c2-0000"
        );
    }
}
