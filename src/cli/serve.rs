//! `calltap serve`: starts everything and says how to use it.

use super::{
    Common,
    out::{self, Exit, Stop},
};
use crate::{
    app::{self, AppError, Ready, Setup},
    check,
    config::{self, Config, Sources},
    delivery, telemetry,
};
use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio_util::sync::CancellationToken;
use toml::Value;

/// Flags of `serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Address for calls
    #[arg(long, env = "CALLTAP_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Base URL of the default upstream
    #[arg(long, env = "CALLTAP_UPSTREAM", value_name = "URL")]
    pub upstream: Option<String>,
    /// Sink to deliver to; may be given several times
    #[arg(long = "sink", env = "CALLTAP_SINK", value_name = "NAME", value_delimiter = ',')]
    pub sinks: Vec<String>,
}

impl Arguments {
    /// As keys of the configuration. The default upstream may have another name than `openai`.
    pub fn keys(&self, file: &Config) -> Vec<(String, Value)> {
        let mut upstreams = file.upstreams.iter();
        let default_upstream = upstreams
            .find(|(_, upstream)| upstream.default == Some(true))
            .map_or("openai", |(name, _)| name);
        let mut keys = Vec::new();
        if let Some(listen) = self.listen {
            keys.push(("server.listen".to_owned(), Value::String(listen.to_string())));
        }
        if let Some(upstream) = &self.upstream {
            let path = format!("upstreams.{default_upstream}.base_url");
            keys.push((path, Value::String(upstream.clone())));
        }
        // A sink that the file sets up is taken as it stands there.
        for name in self.sinks.iter().filter(|name| !file.sinks.contains_key(*name)) {
            keys.push((format!("sinks.{name}.type"), Value::String(name.clone())));
        }
        keys
    }
}

/// Serves until told to stop.
///
/// # Errors
/// When it cannot start.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let config = common.load(Vec::new()).map(|loaded| loaded.config);
    // What the flags mean may depend on the file; a file at fault is told with the flags over it.
    let flags = arguments.keys(&config.unwrap_or_default());
    let loaded = common.load(flags.clone())?;
    let data_dir = common.data_dir(&loaded.config)?;
    let file = common.config.clone();
    let reload = move || {
        let sources = Sources::new(file.clone(), flags.clone());
        config::load(&sources, check::check)
            .map(|loaded| loaded.config)
            .map_err(|faults| faults.to_string())
    };
    let sinks: Vec<String> = delivery::plans(&loaded.config)
        .unwrap_or_default()
        .iter()
        .map(|plan| {
            let off = if plan.options.enabled { "" } else { " (not enabled)" };
            let target = plan.target();
            let arrow = if target.is_empty() { "" } else { " → " };
            format!("{}{arrow}{target}{off}", plan.name)
        })
        .collect();
    let stop = CancellationToken::new();
    start(Setup { config: loaded.config, data_dir, reload: Arc::new(reload), stop }, |ready| {
        tell(ready, &sinks);
    })
}

/// Runs the application to its end.
///
/// # Errors
/// When it cannot start.
pub fn start(setup: Setup, on_ready: impl FnOnce(&Ready)) -> Result<Exit, Stop> {
    telemetry::start(&setup.config.log).map_err(|why| Stop::new(Exit::Config, why))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(app::run(setup, on_ready));
    ended.map(|()| Exit::Ok).map_err(|error| {
        let exit = match error {
            AppError::Config(_) => Exit::Config,
            AppError::Unavailable(_) => Exit::Unavailable,
            AppError::Store(_) => Exit::Store,
        };
        Stop::new(exit, format!("error: {error}"))
    })
}

/// The start screen on a terminal, one line of the log elsewhere.
fn tell(ready: &Ready, sinks: &[String]) {
    if !std::io::stderr().is_terminal() {
        tracing::info!(
            listen = %ready.listen,
            admin = %ready.admin,
            upstream = ready.upstream.1,
            store = ready.store.path,
            calls = ready.store.calls,
            sinks = sinks.join(" "),
            "calltap {} is ready",
            env!("CARGO_PKG_VERSION")
        );
        return;
    }
    out::say(&screen(ready, sinks));
}

/// An address that can be used as it is: listening everywhere, this machine answers on loopback.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Where to point the client, and what there is to see.
fn screen(ready: &Ready, sinks: &[String]) -> String {
    let Ready { listen, admin, store, upstream } = ready;
    let (listen, admin) = (reachable(*listen), reachable(*admin));
    let version = env!("CARGO_PKG_VERSION");
    let mib = store.bytes.div_ceil(1 << 20);
    let sinks = if sinks.is_empty() { "local store only".to_owned() } else { sinks.join(" · ") };
    let path = PathBuf::from(&store.path);
    format!(
        "calltap {version}  ·  store {} ({} calls, {mib} MiB)

  Proxy      http://{listen}/v1      → {} ({})
  Dashboard  http://{admin}/
  Sinks      {sinks}

  export OPENAI_BASE_URL=http://{listen}/v1      # then run your app

  curl http://{listen}/v1/chat/completions \\
    -H \"Authorization: Bearer $OPENAI_API_KEY\" -H 'Content-Type: application/json' \\
    -H 'x-calltap-prompt: first-call' \\
    -d '{{\"model\":\"gpt-4o-mini\",\"messages\":[{{\"role\":\"user\",\"content\":\"ping\"}}]}}'

  eval \"$(calltap env)\"       # or all the variables that clients read
  calltap tail                # follow calls
  calltap --help              # everything else

waiting for the first call…   Ctrl-C stops
",
        path.display(),
        store.calls,
        upstream.1,
        upstream.0,
    )
}
