//! `calltap store`: facts about the store, whether it is sound, and a copy of it.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::store::Reader;
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
}

/// Runs one of them, beside a server or without.
///
/// # Errors
/// When there is no store.
pub fn run(common: &Common, command: Command) -> Result<Exit, Stop> {
    let reader = common.reader()?;
    match command {
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
