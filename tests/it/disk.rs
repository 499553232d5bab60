//! A disk without room.

use crate::harness::{Calltap, Upstream, chat, post};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// A small volume below a folder, taken away at the end.
struct Volume(PathBuf);

impl Volume {
    /// `None` where this process may not mount.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// Writes until nothing more fits; how many bytes that took.
fn fill(path: &Path) -> usize {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    let mut written = 0;
    for size in [64 * 1024, 4096, 512, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {
            written += size;
        }
    }
    written
}

/// A full disk fails no call; every call is stored or counted; it goes on when there is room.
/// `CALLTAP_TEST_FILLS`: how many times the disk fills.
#[test]
fn a_full_disk_stops_no_call() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let mut volume = None;
    let fills = crate::harness::count("CALLTAP_TEST_FILLS", 1);
    // Every round leaves some records behind.
    let size = format!("{}m", 20 + 4 * fills);
    let calltap = Calltap::prepared(&upstream, "", "", |home| {
        volume = Volume::mount(&home.join("data"), &size);
    });
    if volume.is_none() {
        println!("not allowed to mount: nothing was tried");
        return;
    }
    let body = format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{}"}}]}}"#,
        noise(40_000)
    );
    let call = || post(calltap.address, "/v1/chat/completions", "", &body).status;
    assert_eq!(call(), 200);
    calltap.wait_calls("", 1);
    let mut calls = 1;
    for _ in 0..fills {
        calls += fill_and_free(&calltap, calls, call);
    }
    let (stored, dropped) = (calltap.calls("").len(), dropped(&calltap));
    println!("{fills} times full, {calls} calls: {stored} stored, {dropped} counted as dropped");
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

/// Fills the disk until calls are not stored any more, and makes room again; how many calls that took,
/// after `before`.
fn fill_and_free(calltap: &Calltap, before: usize, call: impl Fn() -> u16) -> usize {
    let filler = calltap.data_dir().join("filler");
    let (mut calls, lost) = (before, dropped(calltap));
    // What the store gives up to go on is taken away as well.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        fill(&filler);
        for _ in 0..20 {
            assert_eq!(call(), 200);
            calls += 1;
        }
        std::thread::sleep(Duration::from_millis(200));
        if calltap.calls("").len() + lost + 10 < calls {
            break;
        }
        assert!(Instant::now() < until, "the disk never was full: {calls} records");
    }
    std::fs::remove_file(&filler).unwrap();
    for _ in 0..5 {
        assert_eq!(call(), 200);
        calls += 1;
    }
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (stored, dropped) = (calltap.calls("").len(), dropped(calltap));
        if stored + dropped == calls {
            return calls - before;
        }
        let log = calltap.log();
        assert!(
            Instant::now() < until,
            "{calls} calls, {stored} stored, {dropped} dropped:\n{log}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Calls that the metrics say were not stored.
fn dropped(calltap: &Calltap) -> usize {
    let metrics = crate::harness::fetch(calltap.address, "/metrics").unwrap();
    String::from_utf8_lossy(&metrics.body)
        .lines()
        .filter(|line| line.starts_with("calltap_capture_dropped_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

/// Text that does not compress.
fn noise(len: usize) -> String {
    let mut random = crate::harness::Random(3);
    (0..len).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect()
}
