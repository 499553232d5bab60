//! `calltap run -- CMD`: a program with its calls captured, and a summary at its end.

use super::{
    Common,
    env::{self, Labels},
    out::{self, Exit, Stop},
    serve::{self, reachable},
};
use crate::{
    app::Setup,
    config::Config,
    store::{GroupBy, Reader, StatRow},
};
use serde_json::Value as Json;
use std::{
    net::TcpListener,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use toml::Value;
use uuid::Uuid;

/// Flags of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    labels: Labels,
    /// Base URL of the default upstream, where no calltap runs yet
    #[arg(long, env = "CALLTAP_UPSTREAM", value_name = "URL")]
    upstream: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    program: Vec<String>,
}

/// Runs the program against a calltap that runs already, or one of its own.
///
/// # Errors
/// When calltap or the program cannot start. Otherwise it exits as the program did.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let config = common.load(Vec::new())?.config;
    let marker = Uuid::new_v4().simple().to_string();
    let marker = marker.get(..12).unwrap_or(&marker);
    let url = format!("http://{}", reachable(config.server.listen));
    if is_calltap(&url)? {
        let status = start(arguments, &config, &url, marker)?.wait()?;
        let admin = common.server_url(None)?;
        say_summary(totals_of_server(&admin, marker, &config)?, marker);
        return Ok(Exit::Program(code(status)));
    }
    let (status, data_dir) = with_own(common, arguments, marker)?;
    let totals =
        Reader::open(&data_dir)?.stats(&super::parse_query(&[query(marker)])?, GroupBy::Nothing)?;
    say_summary(totals.into_iter().next(), marker);
    Ok(Exit::Program(code(status?)))
}

/// A calltap for as long as the program runs; on another port where the usual one is taken.
fn with_own(
    common: &Common,
    arguments: &Arguments,
    marker: &str,
) -> Result<(Result<ExitStatus, Stop>, std::path::PathBuf), Stop> {
    let flags = serve::Arguments { upstream: arguments.upstream.clone(), ..Default::default() };
    let file = common.load(Vec::new())?.config;
    let mut keys = flags.keys(&file);
    keys.push(("log.level".to_owned(), Value::String("warn".to_owned())));
    if TcpListener::bind(file.server.listen).is_err() {
        keys.push(("server.listen".to_owned(), Value::String("127.0.0.1:0".to_owned())));
    }
    let config = common.load(keys)?.config;
    let data_dir = common.data_dir(&config)?;
    let (stop, kept) = (CancellationToken::new(), config.clone());
    let reload = Arc::new(move || Ok(kept.clone()));
    let setup =
        Setup { config: config.clone(), data_dir: data_dir.clone(), reload, stop: stop.clone() };
    let mut waiting = None;
    serve::start(setup, |ready| {
        let url = format!("http://{}", reachable(ready.listen));
        let child = start(arguments, &config, &url, marker);
        waiting = Some(std::thread::spawn(move || {
            let status = child.and_then(|mut child| Ok(child.wait()?));
            stop.cancel();
            status
        }));
    })?;
    let status = match waiting.map(std::thread::JoinHandle::join) {
        Some(Ok(status)) => status,
        _ => Err(Stop::new(Exit::Failed, "the program could not be waited for")),
    };
    Ok((status, data_dir))
}

fn start(
    arguments: &Arguments,
    config: &Config,
    url: &str,
    marker: &str,
) -> Result<std::process::Child, Stop> {
    let Some((program, rest)) = arguments.program.split_first() else {
        return Err(Stop::new(Exit::Usage, "name a program to run"));
    };
    Command::new(program)
        .args(rest)
        .envs(env::variables(config, url, &arguments.labels, Some(marker)))
        .spawn()
        .map_err(|error| Stop::new(Exit::Program(127), format!("error: {program}: {error}")))
}

fn is_calltap(url: &str) -> Result<bool, Stop> {
    let client = super::http_client()?;
    let answer = super::runtime()?.block_on(async {
        let answer = client.get(format!("{url}/version")).timeout(Duration::from_secs(2)).send();
        answer.await.ok()?.json::<Json>().await.ok()
    });
    Ok(answer.is_some_and(|answer| answer.get("version").is_some()))
}

fn query(marker: &str) -> String {
    format!("meta.run:{marker}")
}

/// Records are durable a moment after their call; asks until the number of calls stays the same.
fn totals_of_server(url: &str, marker: &str, config: &Config) -> Result<Option<StatRow>, Stop> {
    let client = super::http_client()?;
    let ask = async || {
        let mut request = client
            .get(format!("{url}/api/v1/stats"))
            .query(&[("q", query(marker)), ("by", "nothing".to_owned())]);
        if let Some(token) = &config.auth.admin_token {
            request = request.bearer_auth(token.expose());
        }
        let answer = request.timeout(Duration::from_secs(5)).send().await.ok()?;
        let mut answer: Json = answer.json().await.ok()?;
        serde_json::from_value::<StatRow>(answer.pointer_mut("/items/0")?.take()).ok()
    };
    Ok(super::runtime()?.block_on(async {
        let mut last = ask().await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let next = ask().await;
            if next.as_ref().map(|row| row.calls) == last.as_ref().map(|row| row.calls) {
                return next;
            }
            last = next;
        }
        last
    }))
}

fn say_summary(totals: Option<StatRow>, marker: &str) {
    let Some(totals) = totals else {
        return out::say("calltap: the totals could not be read");
    };
    let StatRow { calls, errors, input_tokens, output_tokens, cost, unpriced, .. } = totals;
    let unpriced =
        if unpriced > 0 { format!(" ({unpriced} without a known price)") } else { String::new() };
    out::say(&format!(
        "calltap: {calls} calls, {errors} failed, {input_tokens}→{output_tokens} tokens, ${cost}{unpriced}\n\
         calltap: calltap logs {}",
        query(marker)
    ));
}

/// The program's own code; 128 and the signal where one ended it.
fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None;
    status.code().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
