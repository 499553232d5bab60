//! Reading a call fails at every stage: the client is none the wiser (`reliability.md` R16).

use crate::harness::{Calltap, Upstream, chat, chat_body, post};
use std::time::Duration;

/// What a caller must not find again where masking failed.
const SECRET: &str = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz";

/// A stage, and what is left of a call that fails there.
#[derive(Clone, Copy, PartialEq)]
enum Left {
    /// A record of its head.
    Bare,
    /// A record without what was to be found out.
    Less,
    /// A count.
    Counted,
}

fn fails(stage: &str, left: Left) {
    // A stream without usage has its tokens counted.
    let upstream = Upstream::start(move |request| {
        let mut plain = request.clone();
        plain.body = String::from_utf8_lossy(&request.body)
            .replace("\"include_usage\":true", "\"include_usage\":false")
            .into_bytes();
        chat(20, Duration::from_millis(5))(&plain)
    });
    let answers = |failing: &str| {
        let calltap = Calltap::in_environment(&upstream, "", "[log]\nlevel = \"error\"\n", |_| {
            vec![("CALLTAP_FAILPOINT".to_owned(), failing.to_owned())]
        });
        let header = format!("x-calltap-metadata: {{\"note\":\"{SECRET}\"}}\r\n");
        let answers: Vec<_> = (0..20)
            .map(|at| {
                post(calltap.address, "/v1/chat/completions", &header, &chat_body(at % 2 == 0))
            })
            .collect();
        (calltap, answers)
    };
    let (_, whole) = answers("nowhere");
    let (calltap, answered) = answers(stage);
    for (answer, whole) in answered.iter().zip(&whole) {
        assert!(answer.status == 200 && answer.whole);
        assert_eq!(answer.body, whole.body, "the client gets what it always gets");
    }
    assert!(calltap.log().contains("src/failpoint.rs"), "{stage} was reached");
    if left == Left::Counted {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while calltap.counts() != (0, 20) {
            assert!(std::time::Instant::now() < until, "{:?}", calltap.counts());
            std::thread::sleep(Duration::from_millis(50));
        }
        return;
    }
    let calls = calltap.wait_calls("", 20);
    let failed: Vec<_> = calls
        .iter()
        .map(|call| calltap.record(call["id"].as_str().unwrap()))
        .filter(|record| record["notes"].to_string().contains("capture_error"))
        .collect();
    let expected = if left == Left::Less { 1..=20 } else { 20..=20 };
    assert!(expected.contains(&failed.len()), "{} of 20 say so: {calls:#?}", failed.len());
    println!("{stage}: 20 calls as ever, {} records say that they lack something", failed.len());
    let bytes = calltap.every_byte();
    let found = bytes.windows(SECRET.len()).any(|at| at == SECRET.as_bytes());
    assert!(!found, "what could not be masked is not kept");
}

#[test]
fn a_call_that_cannot_be_decoded() {
    fails("decode", Left::Bare);
}

#[test]
fn a_call_that_cannot_be_read() {
    fails("read", Left::Bare);
}

#[test]
fn a_call_that_cannot_be_priced() {
    fails("price", Left::Bare);
}

#[test]
fn a_call_whose_tokens_cannot_be_counted() {
    fails("tokens", Left::Less);
}

#[test]
fn a_call_that_cannot_be_masked() {
    fails("redact", Left::Bare);
}

#[test]
fn a_call_that_cannot_be_handed_over() {
    fails("store", Left::Counted);
}
