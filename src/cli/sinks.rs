//! `calltap sinks`: how they are doing, and what they should do. Through a running server, and on the
//! store where none runs.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::{
    config::Config,
    delivery::{self, Op, Plan},
    model::Timestamp,
    store::{Reader, Store},
};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

/// What to do with the sinks.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// How every sink is doing
    Status {
        #[command(flatten)]
        server: Server,
    },
    /// Send a test event
    Test {
        /// The sink
        name: String,
    },
    /// Stop delivery; nothing is lost
    Pause {
        /// The sink
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Go on, at once
    Resume {
        /// The sink
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Records that the sink refuses, and why
    Dead {
        /// The sink
        name: String,
    },
    /// One sink in full
    Show {
        /// The sink
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Try dead records again
    Redrive {
        /// The sink
        name: String,
        /// Calls; all of its dead ones where none is given
        ids: Vec<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Give dead records up
    Drop {
        /// The sink
        name: String,
        /// Calls; all of its dead ones where none is given
        ids: Vec<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Send older calls
    Backfill {
        /// The sink
        name: String,
        /// From calls of this time on (`7d`, 2026-11-20, RFC 3339); from the beginning where not given
        #[arg(long, env = "CALLTAP_SINCE", value_name = "TIME")]
        since: Option<String>,
        /// Return at once instead of showing progress
        #[arg(long, env = "CALLTAP_DETACH", value_parser = clap::builder::FalseyValueParser::new())]
        detach: bool,
        #[command(flatten)]
        server: Server,
    },
}

/// Where the running calltap is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Server {
    /// Address of the running calltap
    #[arg(long, env = "CALLTAP_URL", value_name = "URL")]
    url: Option<String>,
}

/// Runs one of them.
///
/// # Errors
/// When the sink is not known, or neither server nor store can be used.
pub fn run(common: &Common, command: &Command) -> Result<Exit, Stop> {
    match command {
        Command::Status { server } => {
            let all = status(common, server)?;
            if common.json {
                all.iter().try_for_each(|sink| out::line(&sink.to_string()))?;
            } else if all.is_empty() {
                out::say("no sinks are configured");
            } else {
                table(common, &all)?;
            }
            Ok(Exit::Ok)
        }
        Command::Show { name, server } => {
            let all = status(common, server)?;
            let sink = all.iter().find(|sink| sink["name"] == name.as_str());
            let sink = sink.ok_or_else(|| unknown(name))?;
            let text = if common.json { sink.to_string() } else { in_full(sink) };
            out::line(&text)?;
            Ok(Exit::Ok)
        }
        Command::Test { name } => test(common, name),
        Command::Dead { name } => dead(common, name),
        Command::Pause { name, server } => act(common, server, name, "pause", &json!({})),
        Command::Resume { name, server } => act(common, server, name, "resume", &json!({})),
        Command::Redrive { name, ids, server } => {
            act(common, server, name, "redrive", &chosen(ids))
        }
        Command::Drop { name, ids, server } => act(common, server, name, "drop", &chosen(ids)),
        Command::Backfill { name, since, detach, server } => {
            let order = since.as_ref().map_or_else(|| json!({}), |since| json!({ "since": since }));
            let exit = act(common, server, name, "backfill", &order)?;
            if *detach { Ok(exit) } else { follow(common, server, name) }
        }
    }
}

fn chosen(ids: &[String]) -> Value {
    if ids.is_empty() { json!({}) } else { json!({ "ids": ids }) }
}

fn unknown(name: &str) -> Stop {
    Stop::new(Exit::Failed, format!("there is no sink `{}`", out::safe(name, false)))
}

/// A running server's answer; `None` where none runs.
fn ask(
    common: &Common,
    server: &Server,
    path: &str,
    order: Option<&Value>,
) -> Result<Option<Value>, Stop> {
    let config = common.load(Vec::new())?.config;
    if server.url.is_none() && !Store::is_served(&common.data_dir(&config)?) {
        return Ok(None);
    }
    let url = format!("{}{path}", common.server_url(server.url.as_deref())?);
    let client = super::http_client()?;
    let mut request = match order {
        Some(order) => client.post(&url).json(order),
        None => client.get(&url),
    };
    if let Some(token) = &config.auth.admin_token {
        request = request.bearer_auth(token.expose());
    }
    let answer = super::runtime()?.block_on(async {
        let answer = request.timeout(Duration::from_mins(1)).send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.json::<Value>().await.unwrap_or_default()))
    });
    match answer {
        Ok((status, body)) if status.is_success() => Ok(Some(body)),
        Ok((status, body)) => {
            let said = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
            Err(Stop::new(Exit::Failed, format!("{status}: {}", out::safe(said, false))))
        }
        Err(_) => {
            let why = format!(
                "the calltap that has the store does not answer at {url}; give its address with --url"
            );
            Err(Stop::new(Exit::Unavailable, why))
        }
    }
}

fn plans(config: &Config) -> Result<Vec<Plan>, Stop> {
    delivery::plans(config).map_err(|faults| {
        let text: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
        Stop::new(Exit::Config, text.join("\n"))
    })
}

/// As the server says, else as the store does.
fn status(common: &Common, server: &Server) -> Result<Vec<Value>, Stop> {
    if let Some(Value::Object(mut page)) = ask(common, server, "/api/v1/sinks", None)?
        && let Some(Value::Array(items)) = page.remove("items")
    {
        return Ok(items);
    }
    let config = common.load(Vec::new())?.config;
    let reader = Reader::open(&common.data_dir(&config)?)?;
    let all = delivery::offline(&reader, &plans(&config)?)?;
    all.iter()
        .map(|sink| serde_json::to_value(sink).map_err(|e| Stop::new(Exit::Failed, e)))
        .collect()
}

/// Through the server that has the store, else on the store.
fn act(
    common: &Common,
    server: &Server,
    name: &str,
    verb: &str,
    order: &Value,
) -> Result<Exit, Stop> {
    let done = match delegate(common, server, name, verb, order)? {
        Some(done) => done,
        None => on_store(common, name, verb, order)?,
    };
    if common.json {
        out::line(&done.to_string())?;
    } else {
        out::say(&format!("{name}: {}", done["message"].as_str().unwrap_or_default()));
    }
    Ok(Exit::Ok)
}

fn delegate(
    common: &Common,
    server: &Server,
    name: &str,
    verb: &str,
    order: &Value,
) -> Result<Option<Value>, Stop> {
    let escaped = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    ask(common, server, &format!("/api/v1/sinks/{escaped}/{verb}"), Some(order))
}

fn on_store(common: &Common, name: &str, verb: &str, order: &Value) -> Result<Value, Stop> {
    let config = common.load(Vec::new())?.config;
    let plans = plans(&config)?;
    let id = plans.iter().find(|plan| plan.name == name).map_or(name, |plan| plan.id.as_str());
    let dir = common.data_dir(&config)?;
    if !dir.exists() {
        return Err(Stop::new(Exit::Store, format!("there is no store at {}", dir.display())));
    }
    let store = Store::open(&dir, &config.store)?;
    let ids = order["ids"]
        .as_array()
        .map(|ids| ids.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
    let op = match verb {
        "pause" => Op::Pause,
        "resume" => Op::Resume,
        "redrive" => Op::Redrive(ids),
        "drop" => Op::Drop(ids),
        _ => Op::Backfill(order["since"].as_str().map(time).transpose()?),
    };
    let reader = store.reader()?;
    let done = super::runtime()?.block_on(delivery::apply(&store, &reader, id, op));
    store.close();
    let done = done.map_err(|why| Stop::new(Exit::Failed, why))?;
    let mut done = serde_json::to_value(done).map_err(|error| Stop::new(Exit::Failed, error))?;
    if verb == "backfill" {
        let text = done["message"].as_str().unwrap_or_default().to_owned();
        done["message"] = format!("{text} once calltap runs").into();
    }
    Ok(done)
}

fn time(text: &str) -> Result<Timestamp, Stop> {
    delivery::time(text, Timestamp::now())
        .map_err(|why| Stop::new(Exit::Usage, format!("--since {why}")))
}

/// Shows how far a backfill is until it is done. Interrupting this leaves it running.
fn follow(common: &Common, server: &Server, name: &str) -> Result<Exit, Stop> {
    let terminal = std::io::stderr().is_terminal();
    let (mut total, mut told) = (0, 0);
    loop {
        let Some(page) = ask(common, server, "/api/v1/sinks", None)? else { return Ok(Exit::Ok) };
        let sinks = page["items"].as_array().cloned().unwrap_or_default();
        let sink = sinks.iter().find(|sink| sink["name"] == name).ok_or_else(|| unknown(name))?;
        let left = sink["backfill"]["queue"].as_u64();
        total = total.max(left.unwrap_or(0));
        let sent = total - left.unwrap_or(0);
        let stands = sink["state"].as_str().filter(|state| *state != "running").unwrap_or_default();
        if terminal {
            write!(std::io::stderr(), "\r{sent} of {total} calls sent {stands}   ").ok();
        } else if sent >= told + 1000 || left.is_none() {
            out::say(&format!("{sent} of {total} calls sent {stands}"));
            told = sent;
        }
        if left.is_none() {
            if terminal {
                out::say("");
            }
            return Ok(Exit::Ok);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn test(common: &Common, name: &str) -> Result<Exit, Stop> {
    let config = common.load(Vec::new())?.config;
    let plans = plans(&config)?;
    let plan = plans.iter().find(|plan| plan.name == name).ok_or_else(|| unknown(name))?;
    let report = super::runtime()?.block_on(delivery::test(plan));
    if common.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Stop::new(Exit::Failed, error))?;
        out::line(&json)?;
    } else {
        let mark = if report.ok { "✓" } else { "✗" };
        out::line(&format!("{mark} {name}: {}", out::safe(&report.message, false)))?;
    }
    Ok(if report.ok { Exit::Ok } else { Exit::Failed })
}

/// Asks every sink whether it takes the key, without leaving a record where the vendor allows that.
///
/// # Errors
/// When nobody reads the answers.
pub fn probe(common: &Common, config: &Config) -> Result<Exit, Stop> {
    let runtime = super::runtime()?;
    let mut exit = Exit::Ok;
    for plan in plans(config)?.iter().filter(|plan| plan.options.enabled) {
        let report = runtime.block_on(delivery::probe(plan));
        if !report.ok {
            exit = Exit::Unavailable;
        }
        let (name, target, mark) = (&plan.name, plan.target(), if report.ok { "✓" } else { "✗" });
        out::line(&if common.json {
            let trouble = (!report.ok).then_some(&report.message);
            json!({ "sink": name, "address": target, "trouble": trouble }).to_string()
        } else {
            format!("sink {name} ({target}) {mark} {}", out::safe(&report.message, false))
        })?;
    }
    Ok(exit)
}

/// Read from the store, beside a server or without.
fn dead(common: &Common, name: &str) -> Result<Exit, Stop> {
    let config = common.load(Vec::new())?.config;
    let plans = plans(&config)?;
    let id = plans.iter().find(|plan| plan.name == name).map_or(name, |plan| plan.id.as_str());
    let reader = Reader::open(&common.data_dir(&config)?)?;
    reader.lane(id)?.ok_or_else(|| unknown(name))?;
    let mut after = 0;
    loop {
        let (items, more) = reader.dead(id, after, 1000)?;
        for item in &items {
            after = item.seq;
            out::line(&if common.json {
                json!({ "id": item.id, "seq": item.seq, "reason": item.reason, "at": item.at,
                    "attempts": item.attempts })
                .to_string()
            } else {
                format!("{}  {}  {}", item.id, item.at, out::safe(&item.reason, false))
            })?;
        }
        if !more {
            return Ok(Exit::Ok);
        }
    }
}

fn table(common: &Common, sinks: &[Value]) -> Result<(), Stop> {
    out::line(&format!(
        "{:<16} {:<10} {:>8} {:>10} {:>8} {:>6} {:>10}",
        "SINK", "STATE", "QUEUE", "OLDEST", "WAITING", "DEAD", "DELIVERED"
    ))?;
    for sink in sinks {
        let text = |name: &str| sink[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| sink[name].as_u64().unwrap_or(0);
        let oldest = sink["oldest_age_s"].as_f64().map_or("-".to_owned(), |s| format!("{s:.0}s"));
        let state = text("state");
        let color = if state == "running" { 32 } else { 33 };
        out::line(&format!(
            "{:<16} {} {:>8} {oldest:>10} {:>8} {:>6} {:>10}",
            out::safe(&text("name"), false),
            common.color.paint(color, &format!("{state:<10}")),
            number("queue"),
            number("waiting"),
            number("dead"),
            number("delivered"),
        ))?;
        if !text("reason").is_empty() {
            out::line(&format!("  {}", out::safe(&text("reason"), false)))?;
        }
        if let Some(left) = sink["backfill"]["queue"].as_u64() {
            out::line(&format!("  backfill: {left} calls left"))?;
        }
    }
    Ok(())
}

fn in_full(sink: &Value) -> String {
    let fields = sink.as_object().into_iter().flatten();
    let lines = fields.filter(|(_, value)| !value.is_null()).map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name:<17} {}", out::safe(&text, false))
    });
    lines.collect::<Vec<_>>().join("\n")
}
