//! A wall clock that is set while calls arrive (`reliability.md` R20).

use crate::{
    delivery::{Hook, Load, UNAVAILABLE, WELL, call, sink},
    harness::{Calltap, Upstream, chat, count},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
/// By how much the clock is set, in seconds; each time it is set back again.
const STEPS: [i64; 6] = [1, -1, 3600, -3600, 10 * YEAR, -10 * YEAR];

/// Where Debian, Fedora and Arch keep the library that shows a process another time.
fn library() -> Option<&'static str> {
    [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
    ]
    .into_iter()
    .find(|path| Path::new(path).exists())
}

/// What calltap does meanwhile: three clients, one of them one call after the other.
struct Seen {
    calls: usize,
    in_order: Vec<String>,
    landed: usize,
    requests_while_away: usize,
}

/// `CALLTAP_TEST_CLOCK`: how often all steps are gone through.
#[test]
fn steps_of_the_clock_harm_nothing() {
    let Some(library) = library() else {
        println!("libfaketime is not here (package faketime): no steps of the clock");
        return;
    };
    let rounds = count("CALLTAP_TEST_CLOCK", 1);
    let upstream = Upstream::start(chat(5, Duration::from_millis(5)));
    let hook = Hook::start();
    hook.set(UNAVAILABLE);
    // All that was recorded before a step of ten years would be too old.
    let sections = "[store]\nkeep_bodies = \"1d\"\nkeep_calls = \"2d\"\n[log]\nlevel = \"warn\"\n";
    let sections = hook.section("hook", "timeout = \"1s\"") + sections;
    let mut file = None;
    let calltap = Calltap::in_environment(&upstream, "", &sections, |home| {
        let time = home.join("time");
        std::fs::write(&time, "+0").unwrap();
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = vec![
            set("LD_PRELOAD", library),
            set("FAKETIME_TIMESTAMP_FILE", &time.to_string_lossy()),
            set("FAKETIME_NO_CACHE", "1"),
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            set("NO_FAKE_STAT", "1"),
        ];
        file = Some(time);
        environment
    });
    let seen = go_through(&calltap, &hook, rounds, &file.unwrap());
    let log = calltap.log();
    assert_eq!(seen.landed, rounds * STEPS.len(), "each step was seen in records");
    assert!(log.contains("the clock jumped by more than a day"), "{log}");
    let calls = calltap.wait_calls("", seen.calls);
    check(&calltap, &calls);
    let mut ordered = seen.in_order.clone();
    ordered.sort();
    ordered.dedup();
    assert_eq!(ordered, seen.in_order, "ids are unique and increase");
    let attempts = seen.requests_while_away;
    // From a second on, twice as long each time: a clock that jumps by years makes no timer fire.
    assert!((1..=6 + 2 * rounds).contains(&attempts), "{attempts} requests");
    let back = Instant::now();
    // After a long time away the next try may be minutes ahead.
    let resume = calltap.command().args(["sinks", "resume", "hook"]).output().unwrap();
    assert!(resume.status.success(), "{resume:?}");
    hook.wait(calls.len(), &calltap);
    println!(
        "clock: {rounds} times {} steps, all seen in records, {} calls, none pruned, {} ids in order; the sink was tried {attempts} times while it was away, and had all {:?} after it was back",
        STEPS.len(),
        calls.len(),
        ordered.len(),
        back.elapsed()
    );
    assert_eq!(sink(&calltap, "hook")["dead"], 0);
}

/// Sets the clock and sets it back, under load.
fn go_through(calltap: &Calltap, hook: &Hook, rounds: usize, file: &Path) -> Seen {
    let (mut kept, mut in_order, mut landed) = (None, Vec::new(), 0);
    let load = Load::start(calltap.address, 2, Duration::from_millis(20));
    let mut some_calls = |at_least: usize| {
        let until = Instant::now() + Duration::from_millis(700);
        let enough = in_order.len() + at_least;
        while Instant::now() < until || in_order.len() < enough {
            in_order.extend(call(calltap.address, &mut kept, ""));
            std::thread::sleep(Duration::from_millis(10));
        }
        in_order.last().cloned().unwrap()
    };
    some_calls(5);
    for step in STEPS.repeat(rounds) {
        std::fs::write(file, format!("{step:+}")).unwrap();
        let latest = some_calls(5);
        let until = Instant::now() + Duration::from_secs(20);
        let at = loop {
            let record = calltap.record(&latest);
            if let Some(at) = record["started_at"].as_str() {
                break at.parse::<jiff::Timestamp>().unwrap().as_second();
            }
            assert!(Instant::now() < until, "{record:#}");
        };
        let off = at - jiff::Timestamp::now().as_second();
        // Only what took place meanwhile lies between.
        landed += usize::from((off - step).abs() < 30 && (step.abs() < 30 || off.abs() > 30));
        std::fs::write(file, "+0").unwrap();
        some_calls(5);
    }
    let (ids, _) = load.end();
    let requests_while_away = hook.requests.load(std::sync::atomic::Ordering::Relaxed);
    hook.set(WELL);
    Seen { calls: ids.len() + in_order.len(), in_order, landed, requests_while_away }
}

/// Durations are what they were, and totals add up.
fn check(calltap: &Calltap, calls: &[serde_json::Value]) {
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    let odd: i64 = database
        .query_row(
            "SELECT count(*) FROM calls WHERE NOT (latency_ms BETWEEN 0 AND 60000)
             OR NOT (first_byte_ms BETWEEN 0 AND latency_ms) OR overhead_ms NOT BETWEEN 0 AND latency_ms
             OR ended_at < started_at",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(odd, 0, "durations are of the monotonic clock");
    let until = Instant::now() + Duration::from_secs(20);
    let count = i64::try_from(calls.len()).unwrap();
    let sum = "SELECT coalesce(sum(calls), 0), coalesce(min(calls), 1) FROM rollups WHERE dimension = 'nothing'";
    loop {
        let (sum, least): (i64, i64) =
            database.query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        if sum == count {
            assert!(least > 0);
            return;
        }
        assert!(Instant::now() < until && sum < count, "{sum} of {} in the totals", calls.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}
