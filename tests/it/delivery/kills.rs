//! Kills while records are on their way.

use super::{Hook, Load, wait_sink};
use crate::harness::{Calltap, Upstream, chat, count};
use flate2::read::GzDecoder;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

/// Requests in flight, and records of one.
const CONCURRENCY: usize = 2;
const BATCH: usize = 5;

/// `CALLTAP_TEST_DELIVERY_KILLS`: kills.
#[test]
fn every_record_arrives_and_repeats_are_the_same_bytes() {
    let kills = count("CALLTAP_TEST_DELIVERY_KILLS", 5);
    let hook = Hook::slowed(Duration::from_millis(5));
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let keys = format!("concurrency = {CONCURRENCY}\nbatch = {BATCH}");
    let sections = hook.section("hook", &keys)
        + "[sinks.files]\ntype = \"jsonl\"\ndir = \"files\"\nmax_size = \"200KiB\"\n[log]\nlevel = \"warn\"\n";
    let home = tempfile::tempdir().unwrap();
    let files = home.path().join("files");
    let sections = sections.replace("\"files\"", &format!("{:?}", files.display().to_string()));
    let mut calltap = Calltap::with(&upstream, "", &sections);
    let mut answered = BTreeSet::new();
    let (mut landed, mut most) = (0, 0);
    for round in 0..kills {
        let before = hook.repeats.load(Relaxed);
        let load = Load::start(calltap.address, 4, Duration::from_millis(2));
        std::thread::sleep(Duration::from_millis(300 + 41 * (round as u64 % 9)));
        let sent = hook.requests.load(Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        landed += usize::from(hook.requests.load(Relaxed) > sent);
        calltap.kill();
        let (ids, _) = load.end();
        answered.extend(ids);
        calltap.restart();
        // Its window is sent again; what is new comes after it.
        wait_sink(&calltap, "hook", |sink| sink["queue"] == 0);
        most = most.max(hook.repeats.load(Relaxed) - before);
    }
    let stored: BTreeSet<String> =
        calltap.calls("").iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect();
    hook.wait(stored.len(), &calltap);
    let taken = hook.taken();
    let repeated: Vec<&Vec<String>> = taken.values().filter(|copies| copies.len() > 1).collect();
    println!(
        "{kills} kills, {landed} while requests were on their way; {} calls answered, {} stored, {} records repeated, at most {most} by one kill",
        answered.len(),
        stored.len(),
        repeated.len(),
    );
    assert_eq!(taken.keys().cloned().collect::<BTreeSet<_>>(), stored, "each arrived");
    assert!(
        repeated.iter().all(|copies| copies.iter().all(|copy| *copy == copies[0])),
        "same bytes"
    );
    assert!(most <= CONCURRENCY * BATCH, "{most} repeats of one kill");
    assert!(landed > 0 && !repeated.is_empty(), "kills landed among deliveries");
    // The files have each record exactly once.
    let lines = wait_lines(&files, stored.len());
    assert_eq!(lines.keys().cloned().collect::<BTreeSet<_>>(), stored);
    assert!(lines.values().all(|times| *times == 1), "no record twice in the files");
}

/// How often each record is in the files of a folder, once all are.
fn wait_lines(dir: &Path, count: usize) -> BTreeMap<String, usize> {
    let until = std::time::Instant::now() + super::PATIENCE;
    loop {
        let found = lines(dir);
        if found.len() >= count || std::time::Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lines(dir: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let (mut text, Ok(file)) = (String::new(), File::open(&path)) else { continue };
        let read = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => GzDecoder::new(file).read_to_string(&mut text),
            Some("jsonl") => (&file).read_to_string(&mut text),
            _ => continue,
        };
        read.ok();
        for line in text.lines() {
            let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            *found.entry(record["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    found
}
