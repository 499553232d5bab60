//! The command line: everything the dashboard shows, for people and for scripts.

mod calls;
mod configuration;
mod demo;
mod doctor;
mod env;
mod export;
mod man;
mod out;
mod pricing;
mod rederive;
mod run;
mod serve;
mod show;
mod sinks;
mod stats;
mod store;
mod tail;

use crate::{
    check,
    config::{self, Config, Loaded, Sources},
    query::Query,
    store::Reader,
};
use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, builder::FalseyValueParser,
    error::ErrorKind,
};
use out::{Color, Exit, Stop};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};
use toml::Value;

/// An OpenAI-compatible reverse proxy that captures every LLM call by itself.
#[derive(Debug, Parser)]
#[command(name = "calltap", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, clap::Args)]
struct Common {
    /// Configuration file (default: calltap.toml in this folder, if there is one)
    #[arg(long, global = true, env = "CALLTAP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the store
    #[arg(long, global = true, env = "CALLTAP_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// JSON instead of text; one object a line for lists
    #[arg(long, global = true, env = "CALLTAP_JSON", value_parser = FalseyValueParser::new())]
    json: bool,
    /// Colour
    #[arg(long, global = true, env = "CALLTAP_COLOR", value_enum, default_value_t)]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start proxy, store and API (the default)
    Serve(serve::Arguments),
    /// The same with a built-in sample provider and a little traffic
    Demo(demo::Arguments),
    /// Run a program with its calls captured, and sum them up at its end
    Run(run::Arguments),
    /// Print the variables that point clients here
    Env(env::Arguments),
    /// Follow calls as they end
    Tail(tail::Arguments),
    /// Search the stored calls
    Logs(calls::Arguments),
    /// One call in full
    Show(show::Arguments),
    /// Totals by model, prompt, customer, …
    Stats(stats::Arguments),
    /// Write stored calls to a file
    Export(export::Arguments),
    /// Read stored calls again from raw capture, after an update; no server may run on the store
    Reindex(rederive::Arguments),
    /// Price stored calls again with the present price book; no server may run on the store
    Recost(rederive::Arguments),
    /// Where records go, how that is going, and what to do about it
    #[command(subcommand)]
    Sinks(sinks::Command),
    /// What calls cost, and why
    #[command(subcommand)]
    Pricing(pricing::Command),
    /// Look after the store
    #[command(subcommand)]
    Store(store::Command),
    /// Check, show or start a configuration
    #[command(subcommand)]
    Config(configuration::Command),
    /// Look at what usually goes wrong, and what to do about it
    Doctor(doctor::Arguments),
    /// Ask a running calltap how it is
    Health {
        /// Ask whether it takes calls, not only whether it lives
        #[arg(long, env = "CALLTAP_READY", value_parser = FalseyValueParser::new())]
        ready: bool,
        /// Address of the running calltap
        #[arg(long, env = "CALLTAP_URL", value_name = "URL")]
        url: Option<String>,
    },
    /// Version and build
    Version,
    /// Completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Manual pages, one a command
    Man {
        /// Where they are written
        folder: PathBuf,
    },
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os().map(negated_term).collect()) {
        Ok(arguments) => arguments,
        Err(error) => {
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // The process has one TLS provider; a second installation changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    match run(arguments) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            if !stop.message.is_empty() {
                out::say(&stop.message);
            }
            stop.exit.into()
        }
    }
}

/// Without a command it is `serve`, with its flags and variables.
fn parse(given: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let names_command = given.iter().skip(1).any(|argument| {
        Arguments::command().get_subcommands().any(|command| argument == command.get_name())
    });
    let parsed = read(&given);
    let is_serve = match &parsed {
        Ok(arguments) => arguments.command.is_none(),
        Err(error) => error.kind() == ErrorKind::UnknownArgument && !names_command,
    };
    if !is_serve {
        return parsed;
    }
    let mut given = given;
    given.insert(given.len().min(1), "serve".into());
    read(&given)
}

fn read(given: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = without_empty_variables(Arguments::command());
    let matches = command.try_get_matches_from_mut(given)?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// A variable without content is one that is not set, as `docker run -e NAME=` has it.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    let command =
        command.mut_args(
            |argument| {
                if is_empty(&argument) { argument.env(None::<&str>) } else { argument }
            },
        );
    command.mut_subcommands(without_empty_variables)
}

/// `-status:error` is a term of a query, not a flag: a space before it keeps it from being taken for
/// one.
fn negated_term(argument: OsString) -> OsString {
    let is_term = argument.to_str().is_some_and(|text| {
        text.starts_with('-') && !text.starts_with("--") && text.contains([':', '"', '('])
    });
    if is_term { [" ".into(), argument].into_iter().collect() } else { argument }
}

fn run(arguments: Arguments) -> Result<Exit, Stop> {
    let Arguments { common, command } = arguments;
    // `parse` puts `serve` where nothing stands.
    match command.unwrap_or_else(|| Command::Serve(serve::Arguments::default())) {
        Command::Serve(arguments) => serve::run(&common, &arguments),
        Command::Demo(arguments) => demo::run(&common, &arguments),
        Command::Run(arguments) => run::run(&common, &arguments),
        Command::Env(arguments) => env::run(&common, &arguments),
        Command::Tail(arguments) => tail::run(&common, &arguments),
        Command::Logs(arguments) => calls::run(&common, &arguments),
        Command::Show(arguments) => show::run(&common, &arguments),
        Command::Stats(arguments) => stats::run(&common, &arguments),
        Command::Export(arguments) => export::run(&common, &arguments),
        Command::Reindex(arguments) => rederive::run(&common, &arguments, rederive::What::Reindex),
        Command::Recost(arguments) => rederive::run(&common, &arguments, rederive::What::Recost),
        Command::Sinks(command) => sinks::run(&common, &command),
        Command::Pricing(command) => pricing::run(&common, &command),
        Command::Store(command) => store::run(&common, command),
        Command::Config(command) => configuration::run(&common, &command),
        Command::Doctor(arguments) => doctor::run(&common, arguments),
        Command::Health { ready, url } => health(&common, ready, url.as_deref()),
        Command::Version => version(&common),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "calltap", &mut script);
            out::bytes(&script)?;
            Ok(Exit::Ok)
        }
        Command::Man { folder } => man::run(&folder),
    }
}

impl Common {
    /// The configuration, with `flags` over it.
    fn load(&self, flags: Vec<(String, Value)>) -> Result<Loaded, Stop> {
        let sources = Sources::new(self.config.clone(), flags);
        config::load(&sources, check::check).map_err(|faults| Stop::new(Exit::Config, faults))
    }

    /// The data directory: flag or variable, configuration, the platform's place.
    fn data_dir(&self, config: &Config) -> Result<PathBuf, Stop> {
        if let Some(dir) = self.data_dir.as_ref().or(config.store.dir.as_ref()) {
            return Ok(dir.clone());
        }
        platform_data_home().map(|home| home.join("calltap")).ok_or_else(|| {
            Stop::new(Exit::Config, "no home folder is known; name a folder with --data-dir")
        })
    }

    /// The store, read-only, beside a server or without.
    fn reader(&self) -> Result<Reader, Stop> {
        let config = self.load(Vec::new())?.config;
        Ok(Reader::open(&self.data_dir(&config)?)?)
    }

    /// Where a running calltap answers.
    fn server_url(&self, url: Option<&str>) -> Result<String, Stop> {
        if let Some(url) = url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let server = self.load(Vec::new())?.config.server;
        let address = server.admin_listen.unwrap_or(server.listen);
        Ok(format!("http://{}", serve::reachable(address)))
    }
}

fn platform_data_home() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if cfg!(windows) {
        return variable("LOCALAPPDATA").map(PathBuf::from);
    }
    if let Some(home) = variable("XDG_DATA_HOME") {
        return Some(PathBuf::from(home));
    }
    let home = PathBuf::from(variable("HOME")?);
    let below =
        if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    Some(home.join(below))
}

/// Reads a query; a fault is shown where it stands.
fn parse_query(words: &[String]) -> Result<Query, Stop> {
    let text = words.join(" ");
    text.parse().map_err(|error: crate::query::QueryError| {
        let indent = text.get(..error.at).unwrap_or_default().chars().count();
        Stop::new(Exit::Usage, format!("error: {error}\n  {text}\n  {}^", " ".repeat(indent)))
    })
}

/// An HTTP client for a calltap nearby: no proxies, no redirects, and no need for certificates of the
/// system, which an empty image does not have.
fn http_client() -> Result<reqwest::Client, Stop> {
    let tls = crate::proxy::tls_config(None).map_err(|why| Stop::new(Exit::Failed, why))?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(std::time::Duration::from_secs(5))
        .build()
        .map_err(|error| Stop::new(Exit::Failed, error))
}

/// A runtime for commands that talk to a server.
fn runtime() -> Result<tokio::runtime::Runtime, Stop> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn health(common: &Common, ready: bool, url: Option<&str>) -> Result<Exit, Stop> {
    let url = common.server_url(url)?;
    let url = format!("{url}{}", if ready { "/readyz" } else { "/livez" });
    let client = http_client()?;
    let answer = runtime()?.block_on(async {
        client.get(&url).timeout(std::time::Duration::from_secs(5)).send().await
    });
    let status = answer.ok().map(|answer| answer.status());
    let ok = status.is_some_and(|status| status.is_success());
    if common.json {
        let status = status.map(|status| status.as_u16());
        out::line(&serde_json::json!({ "ok": ok, "url": url, "status": status }).to_string())?;
        return Ok(if ok { Exit::Ok } else { Exit::Failed });
    }
    match status {
        Some(_) if ok => out::line("ok").map(|()| Exit::Ok),
        Some(status) => Err(Stop::new(Exit::Failed, format!("{url} answers {status}"))),
        None => Err(Stop::new(Exit::Failed, format!("nothing answers at {url}"))),
    }
}

fn version(common: &Common) -> Result<Exit, Stop> {
    let version = env!("CARGO_PKG_VERSION");
    let sqlite = rusqlite::version();
    if common.json {
        out::line(&serde_json::json!({ "version": version, "sqlite": sqlite }).to_string())?;
    } else {
        out::line(&format!("calltap {version} (SQLite {sqlite})"))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One command of the reference: usage, flags with their variables.
    fn reference(command: &mut clap::Command, path: &str, page: &mut String) {
        if command.has_subcommands() {
            let names: Vec<String> =
                command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
            for name in names {
                let inner = command.find_subcommand_mut(&name).unwrap();
                reference(inner, &format!("{path} {name}"), page);
            }
            return;
        }
        let text = |value: &clap::builder::StyledStr| {
            value.to_string().replace('\n', " ").replace('|', "\\|")
        };
        let about = command.get_about().map(text).unwrap_or_default();
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        let usage = usage.strip_prefix(path).unwrap_or(usage);
        page.push_str(&format!("\n## `{path}{usage}`\n\n{about}.\n"));
        let own: Vec<_> = command
            .get_arguments()
            .filter(|argument| {
                !argument.is_global_set()
                    && !matches!(argument.get_id().as_str(), "help" | "version")
            })
            .collect();
        if own.is_empty() {
            return;
        }
        page.push_str("\n| Argument | Variable | Means |\n|---|---|---|\n");
        for argument in own {
            let name = match argument.get_long() {
                Some(long) => format!("`--{long}`"),
                None => format!("`{}`", argument.get_id().as_str().to_uppercase()),
            };
            let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
            let mut help = argument.get_help().map(text).unwrap_or_default();
            let default: Vec<_> =
                argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            if argument.get_action().takes_values() && !default.is_empty() {
                help.push_str(&format!(" (default `{}`)", default.join(",")));
            }
            page.push_str(&format!("| {name} | {} | {help} |\n", variable.unwrap_or_default()));
        }
    }

    /// `CALLTAP_WRITE_DOCS=1` writes the page anew.
    #[test]
    fn the_reference_lists_every_command() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        let old = std::fs::read_to_string(path).unwrap_or_default();
        let marker = "<!-- from here on written by the_reference_lists_every_command -->\n";
        let head = old.split(marker).next().unwrap().to_owned();
        let mut page = head + marker;
        let mut command = Arguments::command();
        command.build();
        for inner in command.get_subcommands_mut() {
            let name = inner.get_name().to_owned();
            reference(inner, &format!("calltap {name}"), &mut page);
        }
        if std::env::var_os("CALLTAP_WRITE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        } else {
            assert!(
                page == old,
                "docs/cli.md is not what the commands say: CALLTAP_WRITE_DOCS=1 cargo test the_reference"
            );
        }
    }

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_is_serve_with_its_flags() {
        let of = |line: &str| parse(line.split(' ').map(Into::into).collect());
        for line in [
            "calltap --listen 127.0.0.1:1",
            "calltap --data-dir x --listen 127.0.0.1:1",
            "calltap serve --listen 127.0.0.1:1",
        ] {
            let Command::Serve(arguments) = of(line).unwrap().command.unwrap() else {
                panic!("{line}")
            };
            assert!(format!("{arguments:?}").contains("127.0.0.1:1"), "{line}");
        }
        assert!(of("calltap tail --listen x").unwrap_err().to_string().contains("calltap tail"));
        assert!(of("calltap --lisen x").unwrap_err().to_string().contains("--listen"));
        assert_eq!(of("calltap --version").unwrap_err().kind(), ErrorKind::DisplayVersion);
        assert!(matches!(of("calltap").unwrap().command, Some(Command::Serve(_))));
    }

    #[test]
    fn every_flag_has_a_variable() {
        fn walk(command: &clap::Command, missing: &mut Vec<String>) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let flag = argument.get_long().is_some() && !matches!(id, "help" | "version");
                let named = argument
                    .get_env()
                    .is_some_and(|name| name.to_string_lossy().starts_with("CALLTAP_"));
                if flag && !named {
                    missing.push(format!("{} --{id}", command.get_name()));
                }
            }
            command.get_subcommands().for_each(|inner| walk(inner, missing));
        }
        let mut missing = Vec::new();
        walk(&Arguments::command(), &mut missing);
        assert!(missing.is_empty(), "{missing:?}");
    }
}
