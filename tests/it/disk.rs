//! A disk without room.

use crate::harness::{Calltap, Upstream, chat, post};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// A small volume below a folder, taken away at the end.
pub struct Volume(PathBuf);

impl Volume {
    /// `None` where this process may not mount.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
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
pub fn fill(path: &Path) -> usize {
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
/// `CALLTAP_TEST_FILLS`: how many disks are filled, each at another moment.
#[test]
fn a_full_disk_stops_no_call() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let fills = crate::harness::count("CALLTAP_TEST_FILLS", 1);
    let mut all = (0, 0);
    for at in 0..fills {
        let mut volume = None;
        let calltap = Calltap::prepared(&upstream, "", "", |home| {
            volume = Volume::mount(&home.join("data"), "24m");
        });
        if volume.is_none() {
            println!("not allowed to mount: nothing was tried");
            return;
        }
        let (stored, dropped) = fill_and_free(&calltap, 1 + at * 7 % 60);
        all = (all.0 + stored, all.1 + dropped);
        drop(calltap);
    }
    println!("{fills} disks filled: {} calls stored, {} counted as dropped", all.0, all.1);
}

/// Fills the disk after so many calls until calls are not stored any more, and makes room again; how
/// many calls are stored then, and how many counted as dropped.
fn fill_and_free(calltap: &Calltap, before: usize) -> (usize, usize) {
    let body = format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{}"}}]}}"#,
        noise(40_000)
    );
    let call = || assert_eq!(post(calltap.address, "/v1/chat/completions", "", &body).status, 200);
    (0..before).for_each(|_| call());
    calltap.wait_calls("", before);
    let filler = calltap.data_dir().join("filler");
    let mut calls = before;
    // What the store gives up to go on is taken away as well.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        fill(&filler);
        (0..20).for_each(|_| call());
        calls += 20;
        std::thread::sleep(Duration::from_millis(200));
        if calltap.calls("").len() + 10 < calls {
            break;
        }
        assert!(Instant::now() < until, "the disk never was full: {calls} records");
    }
    std::fs::remove_file(&filler).unwrap();
    (0..5).for_each(|_| call());
    calls += 5;
    let until = Instant::now() + Duration::from_secs(20);
    let counted = loop {
        let (stored, dropped) = (calltap.calls("").len(), dropped(calltap));
        if stored + dropped == calls {
            break (stored, dropped);
        }
        let log = calltap.log();
        assert!(
            Instant::now() < until,
            "{calls} calls, {stored} stored, {dropped} dropped:\n{log}"
        );
        std::thread::sleep(Duration::from_millis(100));
    };
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    counted
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
