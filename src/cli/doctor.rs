//! `calltap doctor`: looks at what usually goes wrong, and says what to do about it.

use super::{
    Common,
    out::{self, Exit, Stop},
    serve::reachable,
};
use crate::{
    config::Config,
    proxy::{KeyLimits, Settings},
    store::Reader,
};
use serde::Serialize;
use std::{fmt::Write as _, net::TcpListener, path::Path, time::Duration};

/// Flags of `doctor`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Connect to nothing
    #[arg(long, env = "CALLTAP_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    offline: bool,
}

/// Open files below this are few for a shared gateway: a call takes two.
const FILES_MIN: u64 = 4096;
/// Free space below this, in bytes, is worth a word.
const SPACE_MIN: u64 = 1 << 30;
/// A clock further off than this makes tokens and certificates fail, in seconds.
const CLOCK_MAX: i64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; empty where all is well.
    fix: String,
}

fn ok(name: &'static str, found: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Ok, found: found.into(), fix: String::new() }
}

fn bad(name: &'static str, verdict: Verdict, found: impl Into<String>, fix: &str) -> Finding {
    Finding { name, verdict, found: found.into(), fix: fix.to_owned() }
}

/// Looks at configuration, ports, store, disk, limits, environment and the default upstream.
///
/// # Errors
/// Exit 1 when something fails.
pub fn run(common: &Common, arguments: Arguments) -> Result<Exit, Stop> {
    let mut findings = Vec::new();
    match common.load(Vec::new()) {
        Err(stop) => findings.push(bad(
            "configuration",
            Verdict::Fail,
            stop.message,
            "mend the file; `calltap config check` looks again",
        )),
        Ok(loaded) => {
            let file = loaded.file.map_or("defaults".to_owned(), |file| file.display().to_string());
            findings.push(ok("configuration", file));
            findings.push(port(&loaded.config));
            findings.extend(store(common, &loaded.config));
            if !arguments.offline {
                findings.extend(upstream(&loaded.config)?);
            }
        }
    }
    findings.extend(open_files());
    findings.extend(environment());
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    for finding in &findings {
        if common.json {
            let line =
                serde_json::to_string(finding).map_err(|error| Stop::new(Exit::Failed, error))?;
            out::line(&line)?;
        } else {
            out::line(&line(common, finding))?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn line(common: &Common, finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Ok => common.color.paint(32, "✓"),
        Verdict::Warn => common.color.paint(33, "!"),
        Verdict::Fail => common.color.paint(31, "✗"),
    };
    let mut line = format!("{mark} {:<14} {}", finding.name, finding.found.trim_end());
    if !finding.fix.is_empty() {
        write!(line, "\n                 → {}", finding.fix).ok();
    }
    line
}

fn port(config: &Config) -> Finding {
    let address = config.server.listen;
    if TcpListener::bind(address).is_ok() {
        return ok("port", format!("{address} is free"));
    }
    let url = format!("http://{}/version", reachable(address));
    let version =
        super::http_client().ok().zip(super::runtime().ok()).and_then(|(client, runtime)| {
            runtime.block_on(async {
                let answer = client.get(url).timeout(Duration::from_secs(3)).send().await.ok()?;
                let answer: serde_json::Value = answer.json().await.ok()?;
                Some(answer.get("version")?.as_str()?.to_owned())
            })
        });
    match version {
        Some(version) => ok("port", format!("calltap {version} answers at {address}")),
        None => bad(
            "port",
            Verdict::Fail,
            format!("{address} is taken by something else"),
            "stop that, or choose another with --listen or server.listen",
        ),
    }
}

fn store(common: &Common, config: &Config) -> Vec<Finding> {
    let dir = match common.data_dir(config) {
        Ok(dir) => dir,
        Err(stop) => {
            return vec![bad(
                "store",
                Verdict::Fail,
                stop.message,
                "name a folder with --data-dir",
            )];
        }
    };
    let shown = dir.display();
    let mut findings = Vec::new();
    if !dir.exists() {
        findings.push(ok("store", format!("{shown} will be made at the first start")));
    } else if let Err(error) = tempfile_in(&dir) {
        findings.push(bad(
            "store",
            Verdict::Fail,
            format!("{shown}: {error}"),
            "give this user the right to write there, or choose another with --data-dir",
        ));
    } else {
        match Reader::open(&dir).and_then(|reader| reader.info()) {
            Ok(info) => {
                findings.push(ok("store", format!("{} calls in {}", info.calls, info.path)));
            }
            Err(error) => findings.push(bad(
                "store",
                Verdict::Warn,
                error.to_string(),
                "`calltap store verify` looks closer",
            )),
        }
    }
    findings.extend(space(&dir));
    findings
}

fn tempfile_in(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    std::fs::File::create_new(&probe)?;
    std::fs::remove_file(probe)
}

#[cfg(unix)]
fn space(dir: &Path) -> Option<Finding> {
    let there = dir.ancestors().find(|ancestor| ancestor.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let found = format!("{} MiB free", free >> 20);
    Some(if free < SPACE_MIN {
        bad(
            "disk",
            Verdict::Warn,
            found,
            "free some space, or lower store.max_size and store.keep_bodies",
        )
    } else {
        ok("disk", found)
    })
}

#[cfg(not(unix))]
fn space(_: &Path) -> Option<Finding> {
    None
}

/// Any answer over HTTP will do: without a key most say 401.
fn upstream(config: &Config) -> Result<Vec<Finding>, Stop> {
    let settings =
        Settings::new(config, &KeyLimits::default()).map_err(|why| Stop::new(Exit::Config, why))?;
    let upstream = settings.upstreams.default();
    let url = format!("{}/models", upstream.base_url);
    let client = super::http_client()?;
    let answer = super::runtime()?
        .block_on(async { client.get(&url).timeout(Duration::from_secs(10)).send().await });
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let why = if error.is_timeout() { "no answer within 10 s" } else { "no connection" };
            let fix = "check the network, name resolution, and base_url; upstreams are called directly, without HTTPS_PROXY";
            return Ok(vec![bad(
                "upstream",
                Verdict::Fail,
                format!("{}: {why}", upstream.base_url),
                fix,
            )]);
        }
    };
    let mut findings =
        vec![ok("upstream", format!("{} answers {}", upstream.base_url, answer.status().as_u16()))];
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
    if let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
        let off = jiff::Timestamp::now().as_second() - theirs.timestamp().as_second();
        findings.push(if off.abs() > CLOCK_MAX {
            bad(
                "clock",
                Verdict::Warn,
                format!("{off} s off the upstream's"),
                "set the clock; records carry its time",
            )
        } else {
            ok("clock", "agrees with the upstream's")
        });
    }
    Ok(findings)
}

/// `Max open files` of `/proc/self/limits`, where there is one.
fn open_files() -> Option<Finding> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(if soft < FILES_MIN {
        bad(
            "open files",
            Verdict::Warn,
            format!("at most {soft}"),
            "raise it for a shared gateway: ulimit -n 65536, or LimitNOFILE in the unit",
        )
    } else {
        ok("open files", format!("at most {soft}"))
    })
}

fn environment() -> Vec<Finding> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let proxy = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find(|name| set(name).is_some());
    let excepted = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
    let mut findings = Vec::new();
    if let Some(name) = proxy
        .filter(|_| !["127.0.0.1", "localhost", "*"].iter().any(|host| excepted.contains(host)))
    {
        findings.push(bad(
            "proxy",
            Verdict::Warn,
            format!("{name} is set, and NO_PROXY does not name 127.0.0.1"),
            "clients may send their calls to that proxy: add 127.0.0.1,localhost to NO_PROXY",
        ));
    }
    match set("OPENAI_BASE_URL") {
        Some(_) => findings.push(ok("clients", "OPENAI_BASE_URL is set here")),
        None => findings.push(bad(
            "clients",
            Verdict::Warn,
            "OPENAI_BASE_URL is not set here",
            "eval \"$(calltap env)\", or set the base URL in the program",
        )),
    }
    findings
}
