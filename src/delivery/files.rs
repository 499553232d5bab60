//! Records as files: one JSON object a line, synced, rotated by size and age, closed files compressed.
//!
//! Invariant: a batch never spans two files, so after a kill the end of the open file says what of the
//! last batch is there, and nothing is written twice.

use crate::{config::Files as Options, model::Timestamp};
use flate2::{Compression, write::GzEncoder};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// The file that is written to.
const OPEN: &str = "calls.jsonl";
/// Bytes from the end that are looked through for records of the last batch.
const TAIL_BYTES_MAX: u64 = 64 << 20;

/// A folder of files.
#[derive(Debug)]
pub struct Files {
    options: Options,
    dir: PathBuf,
    open: Option<Open>,
    /// Records at the end of the open file, until the first batch of this life is written.
    tail: HashSet<Uuid>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    since: Timestamp,
}

impl Files {
    /// Nothing is touched before the first write.
    pub fn new(options: &Options) -> Self {
        let dir = options.dir.clone().unwrap_or_default();
        Self { options: options.clone(), dir, open: None, tail: HashSet::new() }
    }

    /// Writes a line a record and syncs. What fails is written again whole by the next try.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&mut self, ids: &[Uuid], lines: &[String], now: Timestamp) -> io::Result<()> {
        let wrote = self.try_write(ids, lines, now);
        if wrote.is_err() {
            // The end of the file is unknown: it is looked at again.
            self.open = None;
        }
        wrote
    }

    fn try_write(&mut self, ids: &[Uuid], lines: &[String], now: Timestamp) -> io::Result<()> {
        if self.open.is_none() {
            self.reopen()?;
        }
        let fresh: Vec<&String> = ids
            .iter()
            .zip(lines)
            .filter(|(id, _)| !self.tail.remove(*id))
            .map(|(_, line)| line)
            .collect();
        self.tail.clear();
        let mut text = String::with_capacity(fresh.iter().map(|line| line.len() + 1).sum());
        for line in fresh {
            text.push_str(line);
            text.push('\n');
        }
        self.rotate(text.len() as u64, now)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.size == 0 {
            open.since = now;
        }
        open.file.write_all(text.as_bytes())?;
        open.file.sync_data()?;
        open.size += text.len() as u64;
        Ok(())
    }

    /// Opens the file, cuts a torn last line off and remembers what its end holds.
    fn reopen(&mut self) -> io::Result<()> {
        make_dir(&self.dir)?;
        if self.options.compress {
            compress_left_over(&self.dir)?;
        }
        let path = self.dir.join(OPEN);
        let mut options = fs::OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let (whole, ids) = tail(&mut file)?;
        file.set_len(whole)?;
        file.sync_all()?;
        sync_dir(&self.dir)?;
        let born = first_time(&path).unwrap_or_else(Timestamp::now);
        self.tail = ids;
        self.open = Some(Open { file, size: whole, since: born });
        Ok(())
    }

    /// Closes a file that is full or old before more is written.
    fn rotate(&mut self, more: u64, now: Timestamp) -> io::Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let age = i64::try_from(self.options.max_age.0.as_micros()).unwrap_or(i64::MAX);
        let old = now.0.saturating_sub(open.since.0) >= age;
        let full = open.size.saturating_add(more) > self.options.max_size.0;
        if open.size == 0 || !(old || full) {
            return Ok(());
        }
        self.open = None;
        let name = now.to_string().replace([':', '-'], "");
        let mut closed = self.dir.join(format!("calls-{name}.jsonl"));
        for at in 1.. {
            if !closed.exists() && !closed.with_extension("jsonl.gz").exists() {
                break;
            }
            closed = self.dir.join(format!("calls-{name}-{at}.jsonl"));
        }
        fs::rename(self.dir.join(OPEN), closed)?;
        self.reopen()
    }
}

/// Where the last whole line ends, and the ids near the end.
fn tail(file: &mut File) -> io::Result<(u64, HashSet<Uuid>)> {
    let size = file.metadata()?.len();
    let start = size.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let (mut whole, mut at, mut ids) = (start, start, HashSet::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((whole, ids));
        }
        at += read as u64;
        whole = at;
        ids.extend(id_of(&line));
    }
}

fn id_of(line: &[u8]) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: Uuid,
    }
    serde_json::from_slice::<Id>(line).ok().map(|line| line.id)
}

/// When the first record of the file ended: its age counts across restarts.
fn first_time(path: &Path) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Ended {
        ended_at: Timestamp,
    }
    let mut line = Vec::new();
    let file = File::open(path).ok()?;
    BufReader::new(file.take(TAIL_BYTES_MAX)).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice::<Ended>(&line).ok().map(|line| line.ended_at)
}

/// Closed files that were not compressed yet. A kill leaves the plain file or the compressed one.
fn compress_left_over(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_plain = path.extension().is_some_and(|extension| extension == "jsonl");
        if name.starts_with("calls-") && is_plain {
            compress(&path)?;
        }
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let (packed, part) = (path.with_extension("jsonl.gz"), path.with_extension("jsonl.gz.part"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut encoder = GzEncoder::new(options.open(&part)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&part, &packed)?;
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    fs::remove_file(path)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A name is durable once its folder is.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, Period};

    fn line(at: u128) -> (Uuid, String) {
        let id = Uuid::from_u128(at);
        (
            id,
            format!("{{\"id\":\"{id}\",\"ended_at\":\"2026-11-20T00:00:00.000000Z\",\"at\":{at}}}"),
        )
    }

    fn write(files: &mut Files, range: std::ops::Range<u128>, now: i64) {
        let (ids, lines): (Vec<_>, Vec<_>) = range.map(line).unzip();
        files.write(&ids, &lines, Timestamp(now)).unwrap();
    }

    fn all(dir: &Path) -> Vec<u128> {
        let mut text = String::new();
        let paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            let file = File::open(&path).unwrap();
            if path.extension().unwrap() == "gz" {
                flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
            } else {
                (&file).read_to_string(&mut text).unwrap();
            }
        }
        let at = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["at"].as_u64().unwrap()
        };
        let mut found: Vec<u128> = text.lines().map(|line| u128::from(at(line))).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn files_rotate_and_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let day = 86_400_000_000;
        let options = Options {
            dir: Some(dir.path().join("out")),
            max_size: ByteSize(2000),
            max_age: Period::days(1),
            compress: true,
        };
        let start: i64 = "2026-11-20T00:00:00Z".parse::<Timestamp>().unwrap().0;
        let mut files = Files::new(&options);
        for batch in 0..10 {
            write(&mut files, batch * 10..batch * 10 + 10, start + i64::try_from(batch).unwrap());
        }
        write(&mut files, 100..101, start + 2 * day);
        let out = dir.path().join("out");
        let packed = fs::read_dir(&out)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().unwrap() == "gz")
            .count();
        assert!(packed >= 5, "{packed}");
        assert_eq!(all(&out), (0..101).collect::<Vec<_>>());
    }

    #[test]
    fn after_a_kill_a_batch_is_not_written_twice_and_torn_lines_go() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: Some(dir.path().to_owned()), ..Options::default() };
        let now = Timestamp::now().0;
        write(&mut Files::new(&options), 0..20, now);
        let path = dir.path().join(OPEN);
        let whole = fs::read(&path).unwrap();
        // The kill came in the middle of the batch after the last settled one.
        fs::write(&path, &whole[..whole.len() - 30]).unwrap();
        let mut again = Files::new(&options);
        write(&mut again, 10..30, now);
        assert_eq!(all(dir.path()), (0..30).collect::<Vec<_>>());
        // Later the same record may come again on purpose.
        write(&mut again, 5..6, now);
        assert_eq!(all(dir.path()).iter().filter(|at| **at == 5).count(), 2);
    }
}
