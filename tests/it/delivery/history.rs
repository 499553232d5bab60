//! Sinks that come late.

use super::{Hook, calls, sink, wait_sink};
use crate::harness::{Calltap, Upstream, chat, count};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

/// `CALLTAP_TEST_BACKFILL`: calls before the sink is there.
#[test]
fn a_sink_added_later_is_filled_from_history_over_a_kill() {
    let past = count("CALLTAP_TEST_BACKFILL", 2000);
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let mut calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"warn\"\n");
    let mut ids: BTreeSet<String> =
        calls(calltap.address, past, |_| String::new()).into_iter().collect();
    calltap.wait_calls("", past);
    let hook = Hook::slowed(Duration::from_millis(5));
    let text = fs::read_to_string(calltap.config()).unwrap();
    fs::write(calltap.config(), text + &hook.section("late", "concurrency = 2")).unwrap();
    calltap.signal("HUP");
    let new = wait_sink(&calltap, "late", |sink| sink["cursor"].as_u64() == Some(past as u64));
    assert_eq!(
        (new["queue"].as_u64(), new["delivered"].as_u64()),
        (Some(0), Some(0)),
        "it starts now"
    );
    let started = Instant::now();
    let fill = calltap.command().args(["sinks", "backfill", "late", "--detach"]).output().unwrap();
    assert!(fill.status.success(), "{fill:?}");
    while hook.count() < past / 10 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let at_kill = hook.count();
    calltap.kill();
    calltap.restart();
    ids.extend(calls(calltap.address, 20, |_| String::new()));
    // Asking again follows what is under way.
    let follow = calltap.command().args(["sinks", "backfill", "late"]).output().unwrap();
    let said = String::from_utf8(follow.stderr).unwrap();
    assert!(follow.status.success() && said.contains("calls sent"), "{said}");
    hook.wait(past + 20, &calltap);
    let taken = hook.taken();
    let again = taken.values().filter(|copies| copies.len() > 1).count();
    println!(
        "{past} calls filled in {:?}, killed after {at_kill}, {again} sent again",
        started.elapsed()
    );
    assert_eq!(taken.into_keys().collect::<BTreeSet<_>>(), ids);
    assert!(at_kill < past, "the kill came before its end");
    assert!(again <= 200, "{again} sent again");
    assert!(sink(&calltap, "late")["backfill"].is_null());
}

#[test]
fn a_sink_taken_out_and_put_in_again_goes_on_where_it_was() {
    let hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", &hook.section("a", ""));
    let with = fs::read_to_string(calltap.config()).unwrap();
    let mut ids = calls(calltap.address, 20, |_| String::new());
    hook.wait(20, &calltap);
    let without = with.split("[sinks").next().unwrap().to_owned();
    fs::write(calltap.config(), &without).unwrap();
    calltap.signal("HUP");
    wait_sink(&calltap, "a", |sink| sink["state"] == "removed");
    ids.extend(calls(calltap.address, 20, |_| String::new()));
    calltap.wait_calls("", 40);
    assert_eq!(hook.count(), 20);
    // Under another name, with the id it had.
    let renamed = with.replace("[sinks.a]", "[sinks.b]\nid = \"a\"");
    fs::write(calltap.config(), renamed).unwrap();
    calltap.signal("HUP");
    hook.wait(40, &calltap);
    assert!(hook.taken().values().all(|copies| copies.len() == 1));
    // What the sink took is in the store a moment later.
    wait_sink(&calltap, "b", |sink| sink["delivered"] == 40);
}
