//! `calltap store`: facts about the store, whether it is sound, and a copy of it.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::{
    config::{ByteSize, Period},
    store::{Reader, prune},
};
use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

/// What to do with the store.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Size, counts, what was lost
    Info,
    /// Check the file and every body in it
    Verify,
    /// Copy the store as it is now, also beside a running server
    Backup {
        /// File to write; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take out what is too old or too much, by the configuration or by these flags; a running server
    /// does that by itself
    Prune {
        /// How long bodies are kept
        #[arg(long, env = "CALLTAP_KEEP_BODIES", value_name = "PERIOD")]
        keep_bodies: Option<Period>,
        /// How long calls are kept
        #[arg(long, env = "CALLTAP_KEEP_CALLS", value_name = "PERIOD")]
        keep_calls: Option<Period>,
        /// Largest size of the database
        #[arg(long, env = "CALLTAP_MAX_SIZE", value_name = "SIZE")]
        max_size: Option<ByteSize>,
    },
}

/// Runs one of them, beside a server or without.
///
/// # Errors
/// When there is no store.
pub fn run(common: &Common, command: Command) -> Result<Exit, Stop> {
    if let Command::Prune { keep_bodies, keep_calls, max_size } = command {
        return pruned(common, keep_bodies, keep_calls, max_size);
    }
    let reader = common.reader()?;
    match command {
        Command::Prune { .. } => Ok(Exit::Ok),
        Command::Info => {
            let info = reader.info()?;
            if common.json {
                let json =
                    serde_json::to_string(&info).map_err(|error| Stop::new(Exit::Failed, error))?;
                out::line(&json)?;
                return Ok(Exit::Ok);
            }
            let time = |time: Option<crate::model::Timestamp>| {
                time.map_or("-".to_owned(), |time| time.to_string())
            };
            out::line(&format!(
                "path     {}\nschema   {} (SQLite {})\ncalls    {} ({} with bodies)\nsize     {} bytes\noldest   {}\nnewest   {}",
                info.path,
                info.schema,
                info.sqlite,
                info.calls,
                info.bodies,
                info.bytes,
                time(info.oldest),
                time(info.newest),
            ))?;
            for (reason, count) in info.dropped {
                out::line(&format!("dropped  {count} ({reason})"))?;
            }
            Ok(Exit::Ok)
        }
        Command::Verify => {
            let terminal = io::stderr().is_terminal();
            let verdict = reader.verify(&mut |done, total| {
                if terminal {
                    write!(io::stderr(), "\r{done} of {total} bodies").ok();
                }
            })?;
            if terminal {
                out::say("");
            }
            let sound = verdict.integrity.is_empty() && verdict.bodies_bad.is_empty();
            if common.json {
                let json = serde_json::to_string(&verdict)
                    .map_err(|error| Stop::new(Exit::Failed, error))?;
                out::line(&json)?;
            } else if sound {
                out::line(&format!("sound: {} bodies equal their hashes", verdict.bodies_ok))?;
            } else {
                verdict.integrity.iter().try_for_each(|line| out::line(line))?;
                for id in &verdict.bodies_bad {
                    out::line(&format!("damaged bodies: {id}"))?;
                }
            }
            Ok(if sound { Exit::Ok } else { Exit::Failed })
        }
        Command::Backup { file } => backup(&reader, &file),
    }
}

fn backup(reader: &Reader, file: &Path) -> Result<Exit, Stop> {
    let terminal = io::stderr().is_terminal();
    reader.backup(file, &mut |done, total| {
        if terminal {
            write!(io::stderr(), "\r{done} of {total} pages").ok();
        }
    })?;
    if terminal {
        out::say("");
    }
    out::line(&file.display().to_string())?;
    Ok(Exit::Ok)
}

fn pruned(
    common: &Common,
    keep_bodies: Option<Period>,
    keep_calls: Option<Period>,
    max_size: Option<ByteSize>,
) -> Result<Exit, Stop> {
    let config = common.load(Vec::new())?.config;
    let dir = common.data_dir(&config)?;
    let mut options = config.store;
    options.keep_bodies = keep_bodies.unwrap_or(options.keep_bodies);
    options.keep_calls = keep_calls.unwrap_or(options.keep_calls);
    options.max_size = max_size.unwrap_or(options.max_size);
    let (terminal, mut steps) = (io::stderr().is_terminal(), 0_u64);
    let pruned = prune(&dir, &options, &mut || {
        steps += 1;
        if terminal && steps.is_multiple_of(20) {
            write!(io::stderr(), "\r{steps} steps").ok();
        }
    })?;
    if terminal {
        out::say("");
    }
    if common.json {
        let json =
            serde_json::to_string(&pruned).map_err(|error| Stop::new(Exit::Failed, error))?;
        out::line(&json)?;
        return Ok(Exit::Ok);
    }
    out::line(&format!(
        "removed {} calls, bodies of {}; {} bytes before, {} now",
        pruned.calls, pruned.bodies, pruned.bytes_before, pruned.bytes_after
    ))?;
    if pruned.undelivered > 0 {
        out::say(&format!("{} of the calls were still to be delivered", pruned.undelivered));
    }
    Ok(Exit::Ok)
}
