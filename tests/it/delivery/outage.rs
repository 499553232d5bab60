//! Sinks that are away for a while, and sick ones beside healthy ones.

use super::{
    HANGS, Hook, Load, REFUSES, SLOW, UNAVAILABLE, WELL, calls, percentile, sink, wait_sink,
    wait_sink_for,
};
use crate::harness::{Calltap, Upstream, chat, count};
use std::{
    collections::BTreeSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// How a sink is away.
enum Away {
    Refused,
    Blackholed,
    Mode(usize),
}

fn rate(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64()
}

/// More keys for the sink: `CALLTAP_TEST_SINK='batch = 1'` sends records one by one.
fn keys() -> String {
    let more = std::env::var("CALLTAP_TEST_SINK").unwrap_or_default();
    format!("timeout = \"1s\"\n{more}")
}

/// `CALLTAP_TEST_OUTAGE`: seconds that each outage lasts.
fn outage(name: &str, away: &Away) {
    let seconds = count("CALLTAP_TEST_OUTAGE", 3) as u64;
    let mut hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section = hook.section("hook", &keys()) + "[log]\nlevel = \"warn\"\n";
    let calltap = Calltap::with(&upstream, "", &section);
    let clients = || Load::start(calltap.address, 4, Duration::from_millis(20));
    let load = clients();
    std::thread::sleep(Duration::from_secs(seconds.min(10)));
    let (mut ids, before) = load.end();
    hook.wait(ids.len(), &calltap);
    let memory = calltap.memory_kib();
    match away {
        Away::Refused => hook.down(),
        Away::Blackholed => hook.swallow(),
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
    if matches!(away, Away::Refused | Away::Blackholed) {
        hook.up();
    }
    // Calls go on while it catches up.
    let load = clients();
    let started = Instant::now();
    // After a long outage the next try may be five minutes away.
    wait_sink_for(Duration::from_mins(6), &calltap, "hook", |sink| sink["state"] == "running");
    let (back, there) = (Instant::now(), hook.count());
    let idle = back - started;
    hook.wait(ids.len(), &calltap);
    let (caught_up, took) = (hook.count() - there, back.elapsed());
    ids.extend(load.end().0);
    hook.wait(ids.len(), &calltap);
    let (before, during) = (percentile(&before, 99), percentile(&latencies, 99));
    let (out, arriving) = (rate(caught_up, took), rate(arrived, Duration::from_secs(seconds)));
    println!(
        "{name}: {seconds} s away, {arrived} calls meanwhile, {} waited, {missing} to catch up; \
         client p99 {before:?} before, {during:?} during: {:.2} times; memory +{grown} KiB; \
         {idle:?} until it was tried again, then {caught_up} in {took:?}: {out:.0}/s, {:.1} times the arrival rate",
        waits["queue"],
        during.as_secs_f64() / before.as_secs_f64(),
        out / arriving,
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
fn a_sink_that_swallows_everything_loses_nothing() {
    outage("blackholed", &Away::Blackholed);
}

#[test]
fn a_sink_that_is_unavailable_loses_nothing() {
    outage("503", &Away::Mode(UNAVAILABLE));
}

#[test]
fn a_sink_that_hangs_loses_nothing() {
    outage("hang", &Away::Mode(HANGS));
}

/// `CALLTAP_TEST_WAITING`: calls that wait.
#[test]
fn memory_does_not_grow_with_what_waits() {
    let all = count("CALLTAP_TEST_WAITING", 2000);
    let hook = Hook::start();
    hook.set(UNAVAILABLE);
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section = hook.section("hook", &keys()) + "[log]\nlevel = \"error\"\n";
    let calltap = Calltap::with(&upstream, "", &section);
    let few = all / 50;
    calls(calltap.address, few, |_| String::new());
    calltap.wait_calls("", few);
    let memory = calltap.memory_kib();
    let started = Instant::now();
    // The store keeps up, so that nothing but the backlog grows.
    for there in (few..all).step_by(few) {
        let more = few.min(all - there);
        calls(calltap.address, more, |_| String::new());
        let waiting = Some((there + more) as u64);
        wait_sink(&calltap, "hook", |sink| sink["queue"].as_u64() == waiting);
    }
    let arriving = rate(all - few, started.elapsed());
    let grown = calltap.memory_kib().saturating_sub(memory);
    hook.set(WELL);
    let resume = calltap.command().args(["sinks", "resume", "hook"]).output().unwrap();
    assert!(resume.status.success(), "{resume:?}");
    let back = Instant::now();
    hook.wait(all, &calltap);
    let out = rate(all, back.elapsed());
    let most = calltap.memory_kib().saturating_sub(memory);
    println!(
        "{all} calls wait: memory +{grown} KiB over that with {few}, +{most} KiB after they were sent; \
         {arriving:.0} calls/s came, {out:.0}/s caught up"
    );
    assert!(grown < 50 * 1024, "memory grew by {grown} KiB");
    assert_eq!(hook.taken().values().filter(|copies| copies.len() > 1).count(), 0);
}

/// What is older than it is kept stays, bodies and all, until the sink has it; then it goes.
#[test]
fn retention_in_the_middle_of_a_delivery_loses_nothing() {
    let hook = Hook::start();
    hook.set(HANGS);
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let sections = hook.section("hook", "timeout = \"1s\"\nbatch = 5")
        + "[store]\nkeep_bodies = \"1s\"\nkeep_calls = \"1s\"\n[log]\nlevel = \"warn\"\n";
    let calltap = Calltap::with(&upstream, "", &sections);
    let ids: BTreeSet<String> = calls(calltap.address, 50, |_| String::new()).into_iter().collect();
    // Retention looks every second.
    std::thread::sleep(Duration::from_secs(4));
    assert!(hook.requests.load(Ordering::Relaxed) > 0, "the delivery had begun");
    assert_eq!(calltap.counts(), (50, 0));
    hook.set(WELL);
    hook.wait(50, &calltap);
    let taken = hook.taken();
    assert!(taken.values().flatten().all(|record| record.contains("\"messages\"")), "with bodies");
    assert_eq!(taken.into_keys().collect::<BTreeSet<_>>(), ids);
    let until = Instant::now() + Duration::from_mins(1);
    while calltap.counts().0 > 0 {
        assert!(Instant::now() < until, "{:?} are kept", calltap.counts());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!((calltap.counts(), sink(&calltap, "hook")["dead"].as_u64()), ((0, 0), Some(0)));
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
