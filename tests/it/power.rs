//! Power cuts, by replay: what the store wrote and synced is recorded, and cut off anywhere. Of what was not
//! synced by then, some is there, some is not, some is torn (`reliability.md` R4, §5.3).

use crate::harness::{Calltap, Connection, Upstream, chat, chat_body, count};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What a disk writes in one piece.
const SECTOR: usize = 512;
/// How long calls are made at each level of load.
const LOAD: Duration = Duration::from_secs(3);
/// With `group`, an answered call older than this is there (the window is 100 ms; tracing slows it down).
const GROUP_AGE: f64 = 1.0;

/// What happened to a file, and when, in seconds.
enum Step {
    Write {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: String,
        len: usize,
    },
    /// Everything that was written before the call began is on disk.
    Sync {
        file: String,
        writes: usize,
    },
    Remove {
        file: String,
    },
}

/// Steps in order; the time of each.
type Log = Vec<(f64, Step)>;

#[test]
fn a_power_cut_loses_no_answered_call_with_strict() {
    cuts("strict", 0.0);
}

#[test]
fn a_power_cut_loses_nothing_but_the_last_moment_with_group() {
    cuts("group", GROUP_AGE);
}

/// `CALLTAP_TEST_POWER_CUTS`: cuts at each of three levels of load.
fn cuts(durability: &str, age: f64) {
    let cuts = count("CALLTAP_TEST_POWER_CUTS", 15);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for clients in [1, 4, 16] {
        let upstream = Upstream::start(chat(1, Duration::ZERO));
        let section = format!("[store]\ndurability = \"{durability}\"\n[log]\nlevel = \"error\"\n");
        let calltap = Calltap::with(&upstream, "", &section);
        calls(&calltap, 1, Duration::from_millis(50));
        let trace = calltap.data_dir().with_file_name("trace");
        let Some(tracer) = trace_writes(calltap.pid(), &trace) else {
            println!("strace is not here, or may not look on: no power cuts");
            return;
        };
        let base = files(&calltap.data_dir());
        let answered = calls(&calltap, clients, LOAD);
        end(tracer);
        let log = read(&std::fs::read_to_string(&trace).unwrap(), &calltap.data_dir());
        let first = answered.first().unwrap().0;
        let from = log.iter().position(|(time, _)| *time >= first).unwrap();
        let mut places: Vec<usize> =
            (0..cuts).map(|_| from + dice.below(log.len() - from)).collect();
        places.sort_unstable();
        let (mut unsynced, mut confirmed, mut missing) = (0, 0, BTreeSet::new());
        let (mut lost, mut oldest) = (0, 0.0_f64);
        replay(&log, &base, &places, |time, disk| {
            unsynced += usize::from(!disk.waiting.is_empty());
            let image = tempfile::tempdir().unwrap();
            disk.power_cut(&mut dice, image.path());
            let stored = stored(image.path());
            for (at, id) in answered.iter().filter(|(at, _)| *at < time) {
                let (there, due) = (stored.contains(id), *at < time - age);
                confirmed += usize::from(due);
                if !there {
                    (lost, oldest) = (lost + 1, oldest.max(time - at));
                }
                if due && !there {
                    missing.insert(id.clone());
                }
            }
        });
        println!(
            "{durability}, {clients} clients: {} calls answered, {} steps recorded; {cuts} cuts, {unsynced} with writes \
             that were not synced; {confirmed} answers due in them, {} missing; {lost} lost in all, the oldest {:.0} ms old",
            answered.len(),
            log.len(),
            missing.len(),
            oldest * 1000.0
        );
        assert!(unsynced > 0 && confirmed > 0, "cuts fell among writes");
        assert!(missing.is_empty(), "{} are missing", missing.len());
    }
}

/// Calls by so many clients for a while: when each was answered, and its id.
fn calls(calltap: &Calltap, clients: usize, time: Duration) -> Vec<(f64, String)> {
    let stop = AtomicBool::new(false);
    let mut all: Vec<(f64, String)> = std::thread::scope(|scope| {
        let work = || {
            let (mut answered, mut connection) = (Vec::new(), Connection::open(calltap.address));
            while !stop.load(Ordering::Relaxed) {
                let body = chat_body(false);
                connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
                let answer = connection.answer("POST").filter(|answer| answer.whole).unwrap();
                answered.push((now(), answer.header("x-calltap-id").unwrap().to_owned()));
                // Some 500 calls a second at most: tracing makes every write slow.
                std::thread::sleep(Duration::from_millis(2) * u32::try_from(clients).unwrap());
            }
            answered
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Records what a process does to files; `None` where that cannot be done here.
fn trace_writes(pid: u32, log: &Path) -> Option<std::process::Child> {
    let calls = "trace=write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,unlink,unlinkat";
    let mut tracer = Command::new("strace")
        .args(["-f", "-y", "-ttt", "-xx", "-s", "99999999", "-e", calls, "-o"])
        .arg(log)
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(20));
        if tracer.try_wait().unwrap().is_some() {
            return None;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        if status.contains(&format!("TracerPid:\t{}\n", tracer.id())) {
            return Some(tracer);
        }
    }
    end(tracer);
    None
}

/// Detaches it.
fn end(mut tracer: std::process::Child) {
    Command::new("kill").args(["-INT", &tracer.id().to_string()]).status().unwrap();
    tracer.wait().unwrap();
}

/// The store's files.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = ["calltap.db", "calltap.db-wal"];
    let read = |name: &str| Some((name.to_owned(), std::fs::read(dir.join(name)).ok()?));
    names.into_iter().filter_map(read).collect()
}

/// Steps from the lines of strace. A call may be on two lines, with those of other threads between them.
fn read(text: &str, dir: &Path) -> Log {
    let (mut log, mut open, mut writes) = (Log::new(), HashMap::new(), HashMap::new());
    for line in text.lines() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else { continue };
        let Some((time, call)) = rest.trim_start().split_once(' ') else { continue };
        let time: f64 = time.parse().unwrap();
        if call.starts_with("<... ") {
            let Some(step) = open.remove(thread) else { continue };
            if call.ends_with("= 0") {
                log.push((time, step));
            }
            continue;
        }
        let Some(step) = step(call, dir, &mut writes) else { continue };
        // A write may be there from its start, a sync only at its end.
        match step {
            Step::Sync { .. } if call.contains("<unfinished") => drop(open.insert(thread, step)),
            step => log.push((time, step)),
        }
    }
    log
}

fn step(call: &str, dir: &Path, writes: &mut HashMap<String, usize>) -> Option<Step> {
    let (name, rest) = call.split_once('(')?;
    // The first thing quoted or in angles is the file.
    let path = rest.split_once(['<', '"'])?.1.split(['>', '"']).next()?;
    let path = PathBuf::from(String::from_utf8(bytes(path)).ok()?);
    let file = path.file_name()?.to_str()?.to_owned();
    if path.parent()? != dir {
        return None;
    }
    if file.ends_with("-shm") || !file.starts_with("calltap.db") {
        return None;
    }
    let last = |text: &str| {
        let end = text.find([')', '<']).unwrap_or(text.len());
        text[..end].trim().rsplit([',', ' ']).next()?.parse().ok()
    };
    match name {
        "pwrite64" => {
            let (_, data) = rest.split_once('"')?;
            let (data, rest) = data.split_once('"')?;
            *writes.entry(file.clone()).or_default() += 1;
            Some(Step::Write { file, at: last(rest)?, bytes: bytes(data) })
        }
        "ftruncate" => Some(Step::Truncate { file, len: last(rest.split_once('>')?.1)? }),
        "fsync" | "fdatasync" => {
            let writes = writes.get(&file).copied().unwrap_or_default();
            Some(Step::Sync { file, writes })
        }
        "unlink" | "unlinkat" => Some(Step::Remove { file }),
        other => panic!("the store does more than is replayed: {other}"),
    }
}

/// `\x41\x42` as bytes.
fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

/// What is on the disk for good, and what is on its way there.
struct Disk {
    synced: BTreeMap<String, Vec<u8>>,
    /// In order: the file, the number of the write in it, what it does.
    waiting: Vec<(String, usize, Change)>,
    writes: HashMap<String, usize>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(len) => content.resize(*len, 0),
        }
    }
}

impl Disk {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Write { file, at, bytes } => {
                let number = self.writes.entry(file.clone()).or_default();
                *number += 1;
                self.waiting.push((file.clone(), *number, Change::Write(*at, bytes.clone())));
            }
            Step::Truncate { file, len } => {
                let number = self.writes.get(file).copied().unwrap_or_default();
                self.waiting.push((file.clone(), number, Change::Truncate(*len)));
            }
            Step::Sync { file, writes } => {
                for (_, _, change) in self
                    .waiting
                    .extract_if(.., |(name, number, _)| name == file && *number <= *writes)
                {
                    change.apply(self.synced.entry(file.clone()).or_default());
                }
            }
            Step::Remove { file } => {
                self.synced.remove(file);
                self.waiting.retain(|(name, ..)| name != file);
            }
        }
    }

    /// What may be found after the power is back.
    fn power_cut(&self, dice: &mut Dice, dir: &Path) {
        let mut found = self.synced.clone();
        for (file, _, change) in &self.waiting {
            let content = found.entry(file.clone()).or_default();
            match (dice.below(100), change) {
                (45..85, change) => change.apply(content),
                (0..45, _) | (_, Change::Truncate(_)) => {}
                (_, Change::Write(at, bytes)) => {
                    for (sector, piece) in bytes.chunks(SECTOR).enumerate() {
                        if dice.below(2) == 0 {
                            Change::Write(at + sector * SECTOR, piece.to_vec()).apply(content);
                        }
                    }
                }
            }
        }
        for (file, content) in found {
            std::fs::write(dir.join(file), content).unwrap();
        }
    }
}

/// Goes through the log, and stops at places.
fn replay(
    log: &Log,
    base: &BTreeMap<String, Vec<u8>>,
    places: &[usize],
    mut cut: impl FnMut(f64, &Disk),
) {
    let mut disk = Disk { synced: base.clone(), waiting: Vec::new(), writes: HashMap::new() };
    let mut places = places.iter().peekable();
    for (at, (time, step)) in log.iter().enumerate() {
        while places.next_if(|place| **place == at).is_some() {
            cut(*time, &disk);
        }
        disk.take(step);
    }
}

/// The calls in a store that calltap itself opens, whole.
fn stored(dir: &Path) -> BTreeSet<String> {
    let store = calltap::store::Store::open(dir, &calltap::config::Store::default()).unwrap();
    store.close();
    let database = rusqlite::Connection::open(dir.join("calltap.db")).unwrap();
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let aside = std::fs::read_dir(dir).unwrap().filter_map(Result::ok);
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().contains("damaged"));
    assert_eq!(aside.count(), 0, "nothing was set aside");
    let mut rows = database.prepare("SELECT id FROM calls").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The same throws every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}
