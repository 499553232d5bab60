//! `calltap tail`: follows calls as they end.

use super::{
    Common, calls, http_client,
    out::{self, Exit, Stop},
    parse_query, runtime,
};
use crate::query::Query;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use serde_json::Value;
use std::time::Duration;

/// Pause between looks at the store when no server runs.
const POLL: Duration = Duration::from_millis(300);

/// Flags of `tail`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Query, such as: model:gpt-4o* status:error
    query: Vec<String>,
    /// Address of the running calltap
    #[arg(long, env = "CALLTAP_URL", value_name = "URL")]
    url: Option<String>,
    /// End after so many calls
    #[arg(long, env = "CALLTAP_COUNT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Prints a line for every call that ends from now on.
///
/// # Errors
/// When the query makes no sense, or there is neither a server nor a store.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let query = parse_query(&arguments.query)?;
    let url = common.server_url(arguments.url.as_deref())?;
    let left = arguments.count.unwrap_or(u64::MAX);
    match runtime()?.block_on(follow_server(common, &url, &arguments.query.join(" "), left)) {
        Err(stop) if stop.exit == Exit::Unavailable && arguments.url.is_none() => {
            out::say(&format!("{}; following the store instead", stop.message));
            follow_store(common, &query, left)
        }
        ended => ended,
    }
}

async fn follow_server(
    common: &Common,
    url: &str,
    query: &str,
    mut left: u64,
) -> Result<Exit, Stop> {
    let token = common.load(Vec::new())?.config.auth.admin_token;
    let mut request = http_client()?.get(format!("{url}/api/v1/events")).query(&[("q", query)]);
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let answer = request
        .send()
        .await
        .map_err(|_| Stop::new(Exit::Unavailable, format!("nothing answers at {url}")))?;
    if !answer.status().is_success() {
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        return Err(Stop::new(Exit::Failed, format!("{url} answers {status}: {body}")));
    }
    out::say(&format!("following {url} · Ctrl-C ends"));
    let mut events = answer.bytes_stream().eventsource();
    while let Some(event) = events.next().await {
        let Ok(event) = event else { break };
        if event.event != "call" {
            continue;
        }
        if let Ok(row) = serde_json::from_str::<Value>(&event.data) {
            calls::print(common, &row)?;
            left -= 1;
            if left == 0 {
                return Ok(Exit::Ok);
            }
        }
    }
    Err(Stop::new(Exit::Unavailable, "the server has gone"))
}

fn follow_store(common: &Common, query: &Query, mut left: u64) -> Result<Exit, Stop> {
    let reader = common.reader()?;
    let mut seq = reader.last_seq()?;
    loop {
        for (at, row) in reader.since(query, seq, 500)? {
            seq = at;
            calls::print(common, &row)?;
            left -= 1;
            if left == 0 {
                return Ok(Exit::Ok);
            }
        }
        std::thread::sleep(POLL);
    }
}
