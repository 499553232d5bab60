//! Connections to the upstream that close as they are used again.

use crate::harness::{Calltap, Connection, Random, Step, Upstream, count, json_answer};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The upstream closes after every answer, at about the moment of the next call: nothing is sent
/// twice, and whoever got an answer got the one to its own call.
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
    let calltap = Calltap::start(&upstream);
    let mut random = Random(11);
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
        std::thread::sleep(Duration::from_micros(random.below(1500)));
    }
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for request in upstream.requests() {
        *runs.entry(request.line).or_default() += 1;
    }
    assert!(runs.values().all(|runs| *runs == 1), "a call ran twice");
    assert!(runs.len() + failed >= total);
    calltap.wait_calls("", total);
    // A call that met the close may have run: only its caller may decide to repeat it.
    assert!(0 < failed && failed < total / 2, "the closes landed: {failed} of {total}");
    println!("{total} calls on closing connections: {failed} answered 502, none ran twice");
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
