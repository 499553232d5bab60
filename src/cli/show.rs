//! `calltap show`: one call in full.

use super::{
    Common, calls, out,
    out::{Exit, Stop},
};
use crate::{interpret::restore, model::Record, store::Stored};
use serde_json::Value;

/// Flags of `show`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Id of the call, or its first 8 characters
    id: String,
    /// Request and response as they crossed the wire
    #[arg(long, env = "CALLTAP_RAW", value_parser = clap::builder::FalseyValueParser::new(), conflicts_with_all = ["curl", "python"])]
    raw: bool,
    /// A curl command that repeats the call
    #[arg(long, env = "CALLTAP_CURL", value_parser = clap::builder::FalseyValueParser::new(), conflicts_with = "python")]
    curl: bool,
    /// Python that repeats the call
    #[arg(long, env = "CALLTAP_PYTHON", value_parser = clap::builder::FalseyValueParser::new())]
    python: bool,
}

/// Shows one call.
///
/// # Errors
/// When there is no such call.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let stored = common
        .reader()?
        .get(&arguments.id)?
        .ok_or_else(|| Stop::new(Exit::Failed, format!("no call has the id {}", arguments.id)))?;
    if arguments.raw {
        raw(&stored)?;
        return Ok(Exit::Ok);
    }
    let record = restore(stored);
    if (arguments.curl || arguments.python) && is_made(&record) {
        let call = record.request.as_ref().and_then(|request| request["run"]["call"].as_str());
        let hint = call.map(|id| format!("; it began with {id}")).unwrap_or_default();
        return Err(Stop::new(Exit::Failed, format!("this record stands for no call{hint}")));
    }
    let text = if arguments.curl {
        curl(&record, &proxy_url(common)?)
    } else if arguments.python {
        python(&record, &proxy_url(common)?)
    } else if common.json {
        serde_json::to_string_pretty(&record).map_err(|error| Stop::new(Exit::Failed, error))?
    } else {
        page(common, &record)
    };
    out::line(&text)?;
    Ok(Exit::Ok)
}

/// Whether calltap made the record itself, of what several calls told.
fn is_made(record: &Record) -> bool {
    matches!(record.endpoint.as_str(), "assistants.message" | "assistants.usage")
}

/// The bytes, one body after the other.
fn raw(stored: &Stored) -> Result<(), Stop> {
    let Some(bodies) = &stored.bodies else {
        return Err(Stop::new(Exit::Failed, "the bodies of this call are not kept"));
    };
    for (name, body) in [("request", &bodies.request), ("response", &bodies.response)] {
        out::say(&format!("— {name}: stored {} of {} bytes", body.kept.len(), body.total));
        out::bytes(&body.kept)?;
        out::say("");
    }
    Ok(())
}

/// For people.
fn page(common: &Common, record: &Record) -> String {
    let row = serde_json::to_value(record).unwrap_or_default();
    let mut text = calls::one_line(&row, common.color);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let name = common.color.paint(2, &format!("{name:<12}"));
            text.push_str(&format!("\n  {name} {}", out::safe(&value, false)));
        }
    };
    line("id", record.id.to_string());
    line("call", format!("{} {} → {}", record.method, record.path, record.upstream));
    line("outcome", format!("{} {}", record.outcome.as_str(), record.finish_reasons.join(", ")));
    let error = record.error.as_ref();
    line("error", error.and_then(|error| error.message.clone()).unwrap_or_default());
    line("tokens", tokens(record));
    line("cost", cost(record));
    line("timing", {
        let timing = &record.timing;
        let first = timing.first_byte_ms.map(|ms| format!("first byte {} · ", calls::seconds(ms)));
        let ttft = timing.ttft_ms.map(|ms| format!("ttft {} · ", calls::seconds(ms)));
        format!(
            "{}{}latency {} · own {:.2}ms · {} chunks",
            first.unwrap_or_default(),
            ttft.unwrap_or_default(),
            calls::seconds(timing.latency_ms),
            timing.overhead_ms,
            timing.chunks
        )
    });
    line("tags", set_members(&serde_json::to_value(&record.tags).unwrap_or_default()));
    line("parameters", set_members(&Value::Object(record.parameters.clone())));
    line("client", record.client.user_agent.clone().unwrap_or_default());
    line("notes", record.notes.join("; "));
    for (name, body) in [("request", &record.request), ("response", &record.response)] {
        let body = match body {
            Some(Value::String(text)) => text.clone(),
            Some(json) => format!("{json:#}"),
            None => "not kept, or empty".to_owned(),
        };
        text.push_str(&format!("\n\n{}\n{}", common.color.paint(1, name), out::safe(&body, true)));
    }
    text
}

fn tokens(record: &Record) -> String {
    let usage = &record.usage;
    let part = |name: &str, count: Option<u64>| {
        count
            .filter(|count| *count > 0)
            .map(|count| format!(" · {name} {count}"))
            .unwrap_or_default()
    };
    match (usage.input, usage.output) {
        (None, None) => String::new(),
        (input, output) => format!(
            "{} → {}{}{}",
            input.map_or("?".to_owned(), |n| n.to_string()),
            output.map_or("?".to_owned(), |n| n.to_string()),
            part("cached", usage.input_cached),
            part("reasoning", usage.output_reasoning),
        ),
    }
}

fn cost(record: &Record) -> String {
    let cost = &record.cost;
    let status = serde_json::to_value(cost.status).unwrap_or_default();
    let status = status.as_str().unwrap_or_default().to_owned();
    let Some(total) = &cost.total else { return status };
    let lines: Vec<String> = cost
        .lines
        .iter()
        .map(|line| format!("{} {} × ${} / {}", line.quantity, line.unit, line.price, line.per))
        .collect();
    format!("${total} ({status}): {}", lines.join(" + "))
}

/// `name=value` for every member that holds something.
fn set_members(value: &Value) -> String {
    let Value::Object(members) = value else { return String::new() };
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    };
    members
        .iter()
        .filter(|(_, value)| is_set(value))
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where this calltap takes calls.
fn proxy_url(common: &Common) -> Result<String, Stop> {
    let server = common.load(Vec::new())?.config.server;
    Ok(format!("http://{}", super::serve::reachable(server.listen)))
}

/// Where a call goes that is repeated: the variable that clients read, else the provider itself where
/// that is known, else this calltap.
fn base_url(record: &Record, calltap: &str) -> String {
    if record.upstream == "openai" {
        "https://api.openai.com/v1".to_owned()
    } else {
        format!("{calltap}/{}/v1", record.upstream)
    }
}

/// What follows the base URL.
fn tail(record: &Record) -> String {
    let path = record.path.strip_prefix("/v1").unwrap_or(&record.path);
    match &record.query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// A command for a POSIX shell; nothing in it is expanded but what is meant to be.
fn curl(record: &Record, calltap: &str) -> String {
    let mut text = format!(
        "curl --globoff -X {} \"${{OPENAI_BASE_URL:-{}}}\"{} \\\n  -H \"Authorization: Bearer $OPENAI_API_KEY\"",
        quote(&record.method),
        base_url(record, calltap),
        quote(&tail(record)),
    );
    match &record.request {
        Some(Value::String(body)) => {
            text.push_str(&format!(" \\\n  --data-raw {}", quote(body)));
        }
        Some(body) => text.push_str(&format!(
            " \\\n  -H 'Content-Type: application/json' \\\n  --data-raw {}",
            quote(&body.to_string())
        )),
        None => {}
    }
    text
}

/// One word of a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A program for the standard library of Python.
fn python(record: &Record, calltap: &str) -> String {
    let body = match &record.request {
        Some(Value::String(body)) => body.clone(),
        Some(body) => body.to_string(),
        None => String::new(),
    };
    // A JSON string with ASCII only is a Python string too.
    let literal: String = Value::String(body)
        .to_string()
        .chars()
        .map(|c| {
            let mut units = [0; 2];
            if c.is_ascii() && c != '\u{7f}' {
                return c.to_string();
            }
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        })
        .collect();
    format!(
        "import json, os, urllib.request\n\n\
         base = os.environ.get(\"OPENAI_BASE_URL\") or {}\n\
         body = json.loads(json.dumps({literal})).encode(\"utf-16\", \"surrogatepass\").decode(\"utf-16\")\n\
         request = urllib.request.Request(\n    base + {}, data=body.encode() or None, method={},\n    \
         headers={{\"Authorization\": \"Bearer \" + os.environ[\"OPENAI_API_KEY\"], \
         \"Content-Type\": \"application/json\"}})\n\
         with urllib.request.urlopen(request) as answer:\n    \
         for line in answer:\n        print(line.decode(), end=\"\")",
        Value::String(base_url(record, calltap)),
        Value::String(tail(record)),
        Value::String(record.method.clone()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_word_as_it_is() {
        let nasty = "it's $HOME `id` \\ \"x\" \n ; rm";
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quote(nasty))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), nasty);
    }
}
