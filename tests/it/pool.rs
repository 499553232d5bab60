//! Connections to the upstream that close as they are used again.

use crate::harness::{Calltap, Connection, Random, Step, Upstream, count, json_answer};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

/// Microseconds around the moment of reuse within which an idle connection closes.
const AROUND: u64 = 10_000;

/// An upstream whose idle timer fires at about the moment of the next call: a call that was not written yet goes
/// out on another connection, and who is told of the close had a call on its way.
#[test]
fn an_idle_connection_that_closes_costs_only_the_call_that_crosses_it() {
    let total = count("CALLTAP_TEST_REUSES", 600);
    let upstream = Upstream::start(|request| {
        let mut steps = json_answer(200, &format!("{{\"line\":\"{}\"}}", request.line));
        steps.push(Step::Expire(Duration::from_micros(AROUND + 1000)));
        steps
    });
    let mut random = Random(5);
    let failed = call_again_and_again(&upstream, total, || 1000 + random.below(2 * AROUND));
    let [closes, unread, crossed, late] = closes(&upstream);
    println!(
        "{total} calls on connections that expire: {closes} closed, {failed} answered 502; of these {unread} were \
         written before the close, {crossed} with it, {late} after it"
    );
    assert!(closes > total / 10, "the closes landed: {closes} of {total}");
    assert_eq!(failed, unread + crossed + late, "only a call that was written is given up");
}

/// An upstream that closes without a look at what has come: nothing is sent twice, and whoever got an
/// answer got the one to its own call.
#[test]
fn a_closing_pool_never_runs_a_call_twice() {
    let total = count("CALLTAP_TEST_REUSES", 1500);
    let random = Arc::new(Mutex::new(Random(7)));
    let upstream = Upstream::start(move |request| {
        let mut steps = json_answer(200, &format!("{{\"line\":\"{}\"}}", request.line));
        let pause = random.lock().unwrap().below(3000);
        if pause < 1500 {
            steps.push(Step::Pause(Duration::from_micros(pause)));
            steps.push(if pause.is_multiple_of(2) { Step::Fin } else { Step::Rst });
        }
        steps
    });
    let mut random = Random(11);
    let failed = call_again_and_again(&upstream, total, || random.below(1500));
    let [closes, unread, ..] = closes(&upstream);
    println!(
        "{total} calls on connections that close blindly: {closes} closed, {failed} answered 502, none ran twice; \
         {unread} were written before the close"
    );
    // A call that met the close may have run: only its caller may decide to repeat it.
    assert!(0 < unread && unread < total / 2, "the closes landed: {unread} of {total}");
    assert!(failed >= unread, "each call that nobody read is told of");
}

/// Sends calls, one after the other and with pauses in microseconds between them; how many were answered
/// with an error of calltap's own. None runs twice.
fn call_again_and_again(
    upstream: &Upstream,
    total: usize,
    mut pause: impl FnMut() -> u64,
) -> usize {
    let calltap = Calltap::start(upstream);
    let mut connection = Connection::open(calltap.address);
    let mut failed = 0;
    for at in 0..total {
        connection.send(
            format!("POST /v1/n{at} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}")
                .as_bytes(),
        );
        let answer = connection.answer("POST").unwrap();
        if answer.status == 200 {
            assert_eq!(answer.json()["line"], format!("POST /v1/n{at} HTTP/1.1"));
        } else {
            assert_eq!((answer.status, answer.header("x-calltap-error")), (502, Some("1")));
            failed += 1;
        }
        std::thread::sleep(Duration::from_micros(pause()));
    }
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for request in upstream.requests() {
        *runs.entry(request.line).or_default() += 1;
    }
    assert!(runs.values().all(|runs| *runs == 1), "a call ran twice");
    assert!(runs.len() + failed >= total);
    calltap.wait_calls("", total);
    failed
}

/// Connections that the upstream closed; and those on which a call was written before, with and after that.
fn closes(upstream: &Upstream) -> [usize; 4] {
    let closes = &upstream.closes;
    [&closes.all, &closes.unread, &closes.crossed, &closes.late]
        .map(|count| count.load(Ordering::Relaxed))
}

/// A connection that was closed before it is used again costs nobody a call.
#[test]
fn a_closed_connection_is_not_used_again() {
    let upstream = Upstream::start(|_| {
        let mut steps = json_answer(200, "{}");
        steps.push(Step::Fin);
        steps
    });
    let calltap = Calltap::start(&upstream);
    for at in 0..50 {
        let answer = crate::harness::post(calltap.address, "/v1/x", "", "{}");
        assert_eq!(answer.status, 200, "call {at}");
        // The close is under way when the last byte of the answer is; give it time to arrive.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(upstream.requests().len(), 50);
}
