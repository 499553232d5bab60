//! `calltap man`: manual pages, one a command.

use super::{Arguments, Exit, Stop};
use clap::CommandFactory;
use std::{io, path::Path};

/// Writes the pages to `folder`, which is made where it is missing.
pub(super) fn run(folder: &Path) -> Result<Exit, Stop> {
    write(folder).map_err(|error| {
        Stop::new(
            Exit::Store,
            format!("{}: the pages could not be written: {error}", folder.display()),
        )
    })?;
    Ok(Exit::Ok)
}

fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Arguments::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for command in
            Arguments::command().get_subcommands().filter(|command| !command.is_hide_set())
        {
            let page = folder.path().join(format!("calltap-{}.1", command.get_name()));
            let text =
                std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
            assert!(text.contains(".SH SYNOPSIS"), "{page:?}");
        }
    }
}
