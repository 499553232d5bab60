//! What is lost is counted, over restarts, and told wherever someone looks (`reliability.md` R32).

use crate::harness::{Calltap, Upstream, chat, chat_body, fetch, post};
use serde_json::Value;
use std::time::{Duration, Instant};

const LOST: u64 = 7;

/// The count in metrics, in health, in the API and in the command's answer.
fn told(calltap: &Calltap) -> [u64; 4] {
    let page = fetch(calltap.address, "/metrics").unwrap().body;
    let page = String::from_utf8(page).unwrap();
    let name = "calltap_records_lost_total{reason=\"capture_error\"} ";
    let metric = page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
    let health = fetch(calltap.address, "/readyz?verbose").unwrap().json();
    let store = fetch(calltap.address, "/api/v1/store").unwrap().json();
    let info = calltap.command().args(["store", "info", "--json"]).output().unwrap();
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    let listed = |answer: &Value| {
        let pairs = answer["dropped"].as_array().unwrap();
        let pair = pairs.iter().find(|pair| pair[0] == "capture_error");
        pair.and_then(|pair| pair[1].as_u64()).unwrap_or(0)
    };
    let health = health["lost"]["capture_error"].as_u64().unwrap_or(0);
    [metric.unwrap_or(0), health, listed(&store), listed(&info)]
}

fn wait_told(calltap: &Calltap) {
    let until = Instant::now() + Duration::from_secs(20);
    while told(calltap) != [LOST; 4] {
        assert!(Instant::now() < until, "{:?}", told(calltap));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn counts_of_what_is_lost_survive_and_show() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let mut calltap = Calltap::in_environment(&upstream, "", "[log]\nlevel = \"error\"\n", |_| {
        vec![("CALLTAP_FAILPOINT".to_owned(), "store".to_owned())]
    });
    for _ in 0..LOST {
        assert_eq!(
            post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).status,
            200
        );
    }
    wait_told(&calltap);
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    calltap.restart();
    wait_told(&calltap);
    calltap.kill();
    calltap.restart();
    wait_told(&calltap);
    println!(
        "{LOST} records lost: the same in metrics, health, API and command, after a stop and after a kill"
    );
}
