//! Sinks that are away for a while, and sick ones beside healthy ones.

use super::{HANGS, Hook, Load, REFUSES, SLOW, UNAVAILABLE, WELL, percentile, sink, wait_sink};
use crate::harness::{Calltap, Upstream, chat, count};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How a sink is away.
enum Away {
    Refused,
    Mode(usize),
}

/// `CALLTAP_TEST_OUTAGE`: seconds that each outage lasts.
fn outage(name: &str, away: &Away) {
    let seconds = count("CALLTAP_TEST_OUTAGE", 3) as u64;
    let mut hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section = hook.section("hook", "timeout = \"1s\"") + "[log]\nlevel = \"warn\"\n";
    let calltap = Calltap::with(&upstream, "", &section);
    let clients = || Load::start(calltap.address, 4, Duration::from_millis(20));
    let load = clients();
    std::thread::sleep(Duration::from_secs(seconds.min(10)));
    let (mut ids, before) = load.end();
    hook.wait(ids.len(), &calltap);
    let memory = calltap.memory_kib();
    match away {
        Away::Refused => hook.down(),
        Away::Mode(mode) => hook.set(*mode),
    }
    let load = clients();
    std::thread::sleep(Duration::from_secs(seconds));
    let (during, latencies) = load.end();
    let arrived = during.len();
    ids.extend(during);
    let waits = wait_sink(&calltap, "hook", |sink| {
        sink["state"] == "retrying" && sink["queue"].as_u64() > Some(10)
    });
    let grown = calltap.memory_kib().saturating_sub(memory);
    let missing = ids.len() - hook.count();
    assert!(missing > 10, "the outage happened");
    hook.set(WELL);
    if matches!(away, Away::Refused) {
        hook.up();
    }
    wait_sink(&calltap, "hook", |sink| sink["state"] == "running");
    let back = Instant::now();
    hook.wait(ids.len(), &calltap);
    println!(
        "{name}: {seconds} s away, {arrived} calls meanwhile, {} waited; client p99 {:?} before, {:?} during; memory +{grown} KiB; caught up {missing} in {:?}",
        waits["queue"],
        percentile(&before, 99),
        percentile(&latencies, 99),
        back.elapsed(),
    );
    let taken: BTreeSet<String> = hook.taken().into_keys().collect();
    assert_eq!(taken, ids.into_iter().collect(), "nothing is lost, nothing invented");
    assert!(grown < 50 * 1024, "memory grew by {grown} KiB");
    assert_eq!(sink(&calltap, "hook")["dead"], 0);
}

#[test]
fn a_sink_that_refuses_connections_loses_nothing() {
    outage("refused", &Away::Refused);
}

#[test]
fn a_sink_that_is_unavailable_loses_nothing() {
    outage("503", &Away::Mode(UNAVAILABLE));
}

#[test]
fn a_sink_that_hangs_loses_nothing() {
    outage("hang", &Away::Mode(HANGS));
}

#[test]
fn three_sick_sinks_do_not_slow_the_healthy_one() {
    let hooks = [HANGS, SLOW, REFUSES, WELL].map(|mode| {
        let hook = Hook::start();
        hook.set(mode);
        hook
    });
    let names = ["hangs", "slow", "refuses", "well"];
    let mut sections: String = hooks
        .iter()
        .zip(names)
        .map(|(hook, name)| hook.section(name, "timeout = \"1s\""))
        .collect();
    sections.push_str("[log]\nlevel = \"error\"\n");
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", &sections);
    let load = Load::start(calltap.address, 4, Duration::from_millis(20));
    let mut lags = Vec::new();
    let end = Instant::now() + Duration::from_secs(count("CALLTAP_TEST_OUTAGE", 3) as u64);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        let lag = sink(&calltap, "well")["oldest_age_s"].as_f64().unwrap_or(0.0);
        lags.push(Duration::from_secs_f64(lag));
    }
    let (ids, latencies) = load.end();
    hooks[3].wait(ids.len(), &calltap);
    lags.sort();
    println!(
        "{} calls; lag of the healthy sink: median {:?}, p99 {:?}; client p99 {:?}",
        ids.len(),
        percentile(&lags, 50),
        percentile(&lags, 99),
        percentile(&latencies, 99)
    );
    // The sick ones really were.
    assert_eq!((hooks[0].count(), hooks[1].count(), hooks[2].count()), (0, 0, 0));
    assert_eq!(sink(&calltap, "slow")["state"], "retrying");
    wait_sink(&calltap, "refuses", |sink| sink["dead"].as_u64() == Some(ids.len() as u64));
}
