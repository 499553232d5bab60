//! One owner of a data directory: an advisory lock that the kernel releases when the process ends.

use super::StoreError;
use crate::model::Timestamp;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

/// Whether a running calltap has this directory.
pub(super) fn is_taken(dir: &Path) -> bool {
    let file = OpenOptions::new().write(true).open(dir.join("calltap.lock"));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Takes the lock; it is held until the file is dropped.
pub(super) fn take(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("calltap.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(|error| {
        StoreError::Directory(format!(
            "cannot write in the data directory {}: {error}",
            dir.display()
        ))
    })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the message; an empty owner still makes sense.
            drop(file.take(200).read_to_string(&mut owner));
            let owner = owner.trim();
            return Err(StoreError::Locked(format!(
                "another calltap uses {}{}{owner}; stop it or choose another --data-dir",
                dir.display(),
                if owner.is_empty() { "" } else { ": " },
            )));
        }
        Err(TryLockError::Error(error)) => {
            return Err(StoreError::Directory(format!(
                "cannot lock the data directory {}: {error}",
                dir.display()
            )));
        }
    }
    file.set_len(0)?;
    writeln!(file, "process {}, since {}", std::process::id(), Timestamp::now())?;
    Ok(file)
}
