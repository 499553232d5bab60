//! Space kept back: on a full disk it is given up first, because deleting rows needs space too.

use std::{fs, io::Write, path::Path};

const NAME: &str = "calltap.reserve";
const SIZE: usize = 8 << 20;

/// Gives the reserve up.
pub(super) fn release(database: &Path) {
    if fs::remove_file(database.with_file_name(NAME)).is_ok() {
        tracing::warn!("the disk is full: the store's reserve was given up");
    }
}

/// Makes sure that there is one. Written in full, so that the space is really taken.
pub(super) fn keep(database: &Path) {
    let path = database.with_file_name(NAME);
    let have = fs::metadata(&path).map_or(0, |file| file.len());
    if have == SIZE as u64 {
        return;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&path).and_then(|mut file| file.write_all(&vec![0; SIZE]));
    if written.is_err() {
        // A part of it would only take the space that is missing.
        drop(fs::remove_file(&path));
    }
}
