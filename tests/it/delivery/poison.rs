//! Records that a sink refuses.

use super::{Hook, POISONED, calls, wait_sink};
use crate::harness::{Calltap, Upstream, chat, count};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Records by a lane that fills from history, in batches of 100; seconds and requests it took.
fn run(records: usize, poison: bool) -> (Duration, usize) {
    let hook = Hook::slowed(Duration::from_millis(2));
    hook.set(POISONED);
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section =
        hook.section("hook", "concurrency = 4\nbatch = 100") + "[log]\nlevel = \"error\"\n";
    let calltap = Calltap::with(&upstream, "", &section);
    let pause = calltap.command().args(["sinks", "pause", "hook"]).output().unwrap();
    assert!(pause.status.success(), "{pause:?}");
    calls(calltap.address, records, |at| {
        // One in a hundred, in a different place of each batch.
        let bad = poison && at % 100 == (at / 100 * 37) % 100;
        if bad { format!("x-calltap-ref: poison-{at}\r\n") } else { String::new() }
    });
    calltap.wait_calls("", records);
    let started = Instant::now();
    assert!(calltap.command().args(["sinks", "resume", "hook"]).output().unwrap().status.success());
    let bad = if poison { records / 100 } else { 0 };
    hook.wait(records - bad, &calltap);
    let took = started.elapsed();
    let requests = hook.requests.load(Ordering::Relaxed);
    wait_sink(&calltap, "hook", |sink| sink["dead"] == bad && sink["queue"] == 0);
    if poison {
        let dead = calltap.command().args(["sinks", "dead", "hook", "--json"]).output().unwrap();
        let text = String::from_utf8(dead.stdout).unwrap();
        assert_eq!(text.lines().count(), bad);
        assert!(text.lines().all(|line| line.contains("422") && line.contains("poison")), "{text}");
        for line in text.lines() {
            let dead: serde_json::Value = serde_json::from_str(line).unwrap();
            let id = dead["id"].as_str().unwrap();
            let show = calltap.command().args(["show", id, "--json"]).output().unwrap();
            let shown: serde_json::Value = serde_json::from_slice(&show.stdout).unwrap();
            assert!(shown["tags"]["reference"].as_str().unwrap().starts_with("poison"), "{shown}");
        }
        hook.set(super::WELL);
        let redrive = calltap.command().args(["sinks", "redrive", "hook"]).output().unwrap();
        assert!(redrive.status.success(), "{redrive:?}");
        hook.wait(records, &calltap);
        wait_sink(&calltap, "hook", |sink| sink["dead"] == 0 && sink["waiting"] == 0);
    }
    (took, requests)
}

/// `CALLTAP_TEST_POISON`: records.
#[test]
fn one_percent_of_poison_is_found_and_holds_nobody_up() {
    let records = count("CALLTAP_TEST_POISON", 1000);
    let (clean, _) = run(records, false);
    let (poisoned, requests) = run(records, true);
    println!(
        "{records} records: {clean:?} clean, {poisoned:?} with 1 % poison, in {requests} requests"
    );
    // A batch with one poison takes at most two requests for each halving.
    assert!(requests <= records / 100 * 16 + 16, "{requests} requests");
}
