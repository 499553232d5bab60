//! Captured bytes that memory has no room for wait on disk, written by a thread of their own.

use super::capture::Captured;
use bytes::Bytes;
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

/// Jobs waiting for the disk; a job holds at most a segment, or the two bodies of an ended call.
const JOBS_MAX: usize = 2048;
/// Files open at once: streams by the thousand may be spilled while they run.
const OPEN_MAX: usize = 256;

/// Most bytes that wait on disk; beyond them bodies are cut short.
const DISK_BYTES_MAX: u64 = 1 << 30;

/// A spill file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpillId(u64);

enum Job {
    Write(SpillId, Bytes),
    /// A finished call, on its way to the recorder with its bodies left on disk.
    Seal(Box<Captured>),
    /// Everything before this is on disk.
    Flush(SyncSender<()>),
}

/// Writes spill files. Never waits.
#[derive(Clone, Debug)]
pub struct Spiller {
    jobs: SyncSender<Job>,
    dir: Arc<PathBuf>,
    next: Arc<AtomicU64>,
    /// Bytes in all files.
    on_disk: Arc<AtomicU64>,
}

impl Spiller {
    /// Starts the thread; files go below `dir` and do not outlive the process by more than a start.
    ///
    /// # Errors
    /// When the folder cannot be made or emptied.
    pub fn start(dir: &Path) -> std::io::Result<(Self, JoinHandle<()>)> {
        let dir = dir.join("spill");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let (jobs, inbox) = sync_channel(JOBS_MAX);
        let spiller = Self {
            jobs,
            dir: Arc::new(dir.clone()),
            next: Arc::new(AtomicU64::new(1)),
            on_disk: Arc::default(),
        };
        let (next, on_disk) = (Arc::clone(&spiller.next), Arc::clone(&spiller.on_disk));
        let mut files = Files { dir, open: HashMap::new(), on_disk };
        let thread = std::thread::Builder::new()
            .name("spill".into())
            .spawn(move || run(&inbox, &mut files, &next))?;
        Ok((spiller, thread))
    }

    /// A file of its own.
    pub fn next_id(&self) -> SpillId {
        SpillId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Appends to a file; false when there is no room in the queue or on the disk.
    pub fn write(&self, id: SpillId, bytes: Bytes) -> bool {
        self.has_room() && self.jobs.try_send(Job::Write(id, bytes)).is_ok()
    }

    fn has_room(&self) -> bool {
        self.on_disk.load(Ordering::Relaxed) < DISK_BYTES_MAX
    }

    /// Sends an ended call to the recorder once its bodies are on disk.
    ///
    /// # Errors
    /// The call itself, when there is no room in the queue or on the disk.
    pub fn seal(&self, captured: Box<Captured>) -> Result<(), Box<Captured>> {
        if !self.has_room() {
            return Err(captured);
        }
        self.jobs.try_send(Job::Seal(captured)).map_err(|error| {
            let (std::sync::mpsc::TrySendError::Full(job)
            | std::sync::mpsc::TrySendError::Disconnected(job)) = error;
            match job {
                Job::Seal(captured) => captured,
                // Only what was sent comes back.
                Job::Write(..) | Job::Flush(_) => Box::default(),
            }
        })
    }

    /// Reads a file back and removes it; what is missing is missing. Blocks.
    pub fn read_back(&self, id: SpillId) -> Vec<u8> {
        let (done, wait) = sync_channel(1);
        if self.jobs.send(Job::Flush(done)).is_ok() {
            // An error means that the thread is gone, and then nothing more will be written.
            wait.recv().ok();
        }
        let path = path(&self.dir, id);
        let bytes = fs::read(&path).unwrap_or_default();
        self.on_disk.fetch_sub(u64::try_from(bytes.len()).unwrap_or(0), Ordering::Relaxed);
        fs::remove_file(&path).ok();
        bytes
    }
}

fn path(dir: &Path, id: SpillId) -> PathBuf {
    dir.join(id.0.to_string())
}

fn run(inbox: &Receiver<Job>, files: &mut Files, next: &AtomicU64) {
    for job in inbox {
        match job {
            Job::Write(id, bytes) => files.append(id, &bytes),
            Job::Seal(mut captured) => {
                let next_id = || SpillId(next.fetch_add(1, Ordering::Relaxed));
                captured.spill(next_id, |id, bytes| files.append(id, bytes));
                captured.send();
                files.close();
            }
            Job::Flush(done) => {
                files.close();
                done.send(()).ok();
            }
        }
    }
}

/// The files that are being written.
struct Files {
    dir: PathBuf,
    open: HashMap<SpillId, Option<File>>,
    on_disk: Arc<AtomicU64>,
}

impl Files {
    /// Closes what is open; files are few and short-lived. Failures are remembered.
    fn close(&mut self) {
        self.open.retain(|_, file| file.is_none());
    }

    /// Appends; after the first failure nothing more goes into that file, so that it stays a prefix.
    fn append(&mut self, id: SpillId, bytes: &[u8]) {
        if self.open.len() >= OPEN_MAX {
            self.close();
        }
        let path = path(&self.dir, id);
        let file = self
            .open
            .entry(id)
            .or_insert_with(|| OpenOptions::new().create(true).append(true).open(path).ok());
        let Some(open) = file else { return };
        match open.write_all(bytes) {
            Ok(()) => {
                let len = u64::try_from(bytes.len()).unwrap_or(0);
                self.on_disk.fetch_add(len, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, "a captured body could not be spilled and is cut short");
                *file = None;
            }
        }
    }
}
