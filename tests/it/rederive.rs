//! Stored records, derived anew.

use crate::harness::{Calltap, Upstream, chat, chat_body, count, json_answer, post};
use calltap::{
    config,
    model::Record,
    store::{Entry, Reader, Store},
};
use serde_json::Value;
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A stopped calltap whose store holds `count` calls more of the kind that it recorded.
fn stopped_with(upstream: &Upstream, copies: usize) -> Calltap {
    let mut calltap = Calltap::start(upstream);
    assert!(post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).whole);
    let mut record: Record = serde_json::from_value(calltap.only_record()).unwrap();
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    if copies > 0 {
        let store = Store::open(&calltap.data_dir(), &config::Store::default()).unwrap();
        (record.request, record.response) = (None, None);
        for at in 0..copies {
            while !store.has_room() {
                std::thread::sleep(Duration::from_millis(1));
            }
            record.id = uuid::Uuid::now_v7();
            record.tags.reference = Some(at.to_string());
            store.append(
                Entry {
                    record: record.clone(),
                    bodies: None,
                    answer: None,
                    json: None,
                    text: None,
                },
                None,
            );
        }
        store.close();
    }
    calltap
}

/// Prices of one's own for what the scripted upstream serves, from now on.
fn change_prices(calltap: &Calltap, input: &str) {
    let dir = calltap.data_dir().with_file_name("prices");
    std::fs::create_dir_all(&dir).unwrap();
    let prices = format!(
        "schema = 1\nprovider = \"openai\"\ncurrency = \"USD\"\nsource = \"https://example.org/prices\"\n[[model]]\nid = \"gpt-4o-mini\"\naliases = [\"gpt-4o-mini-2024-07-18\"]\n[[model.price]]\nmtok = {{ input = \"{input}\", output = \"2\" }}\n"
    );
    std::fs::write(dir.join("own.toml"), prices).unwrap();
    let config = std::fs::read_to_string(calltap.config()).unwrap();
    if !config.contains("[pricing]") {
        let section = format!("{config}\n[pricing]\ndir = {:?}\n", dir.display().to_string());
        std::fs::write(calltap.config(), section).unwrap();
    }
}

fn run(command: &mut Command) -> (bool, Vec<Value>, String) {
    let output = command.arg("--json").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.success(), lines, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn records(calltap: &Calltap) -> Vec<Value> {
    let (_, records, said) = run(calltap.command().arg("export"));
    assert!(!records.is_empty(), "{said}");
    records
}

#[test]
fn reading_again_gives_the_same_records() {
    let upstream = Upstream::start(|request| {
        let json = request.json();
        if json["stream"] == true || json["model"] == "gpt-4o-mini" {
            return chat(5, Duration::ZERO)(request);
        }
        json_answer(400, r#"{"error":{"message":"no","type":"invalid_request_error","code":"c"}}"#)
    });
    let mut calltap = Calltap::start(&upstream);
    for stream in [true, false] {
        assert!(
            post(
                calltap.address,
                "/v1/chat/completions",
                "x-calltap-session: s\r\n",
                &chat_body(stream)
            )
            .whole
        );
    }
    post(calltap.address, "/v1/chat/completions", "", r#"{"model":"x","messages":[]}"#);
    let secret = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"my key is sk-proj-0123456789abcdefghijklmnopqrstuv"}]}"#;
    assert!(post(calltap.address, "/v1/chat/completions", "", secret).whole);
    calltap.wait_calls("", 4);
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    let before = records(&calltap);
    for _ in 0..2 {
        let (done, lines, said) = run(calltap.command().arg("reindex"));
        assert!(done, "{said}");
        let all = lines.last().unwrap();
        assert_eq!((&all["calls"], &all["changed"]), (&4.into(), &0.into()), "{lines:#?}");
        assert_eq!(records(&calltap), before);
    }
}

#[test]
fn a_new_price_keeps_the_old_one() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = stopped_with(&upstream, 0);
    let before = records(&calltap).remove(0);
    change_prices(&calltap, "1");
    let (done, lines, said) = run(calltap.command().args(["recost", "--dry-run"]));
    assert!(done && said.contains("dry run"), "{said}");
    assert_eq!(lines.last().unwrap()["changed"], 1);
    assert_eq!(records(&calltap), std::slice::from_ref(&before), "a dry run writes nothing");
    let (done, lines, said) = run(calltap.command().arg("recost"));
    assert!(done, "{said}");
    // Nine tokens in, one out.
    assert_eq!(lines.last().unwrap()["cost_after"], "0.000011");
    let after = records(&calltap).remove(0);
    assert_eq!(after["cost"]["total"], "0.000011");
    assert_eq!(after["cost"]["price"]["layer"], "override");
    assert_eq!(after["cost"]["previous"][0]["total"], before["cost"]["total"]);
    assert_eq!(after["cost"]["previous"][0]["price"], before["cost"]["price"]);
    let (_, lines, _) = run(calltap.command().arg("recost"));
    assert_eq!(lines.last().unwrap()["changed"], 0, "the same book changes nothing");
    let (_, lines, _) = run(calltap.command().args(["recost", "model:nothing-like-it"]));
    assert_eq!(lines.last().unwrap()["calls"], 0);
}

#[test]
fn a_running_server_keeps_its_store() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let (done, _, said) = run(calltap.command().arg("recost"));
    assert!(!done && said.contains("another calltap") && said.contains("--dry-run"), "{said}");
    assert!(post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).whole);
    calltap.wait_calls("", 1);
    for command in ["recost", "reindex"] {
        let (done, lines, said) = run(calltap.command().args([command, "--dry-run"]));
        assert!(done, "{said}");
        assert!(lines.iter().any(|line| line["calls"] == 1), "{lines:?}");
    }
}

/// `CALLTAP_TEST_RECOST` sets how many calls are priced again.
#[test]
fn an_interruption_loses_nothing() {
    let calls = count("CALLTAP_TEST_RECOST", 6000);
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = stopped_with(&upstream, calls - 1);
    change_prices(&calltap, "1");
    let mut cut = 0;
    for signal in ["INT", "KILL", "INT", "KILL"] {
        let before = anew(&calltap);
        let mut child = calltap.command();
        child.arg("recost").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        while anew(&calltap) == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let id = child.id().to_string();
        // It may have ended by itself.
        Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap();
        let ended = child.wait().unwrap();
        let stored = totals(&calltap);
        assert_eq!(stored.len(), calls);
        assert!(stored.iter().all(|total| total == OLD || total == NEW), "{signal}");
        let after = anew(&calltap);
        cut += usize::from(!ended.success() && after > before && after < calls);
        println!("after {signal}: {after} of {calls} priced anew");
    }
    assert!(cut > 0, "no run was interrupted in its middle");
    let started = Instant::now();
    let (done, lines, said) = run(calltap.command().arg("recost"));
    assert!(done, "{said}");
    println!("{} calls in {:?}", lines.last().unwrap()["calls"], started.elapsed());
    let stored = totals(&calltap);
    assert_eq!(stored.len(), calls);
    assert!(stored.iter().all(|total| total == NEW));
    let reader = Reader::open(&calltap.data_dir()).unwrap();
    let last = reader.get_seq(i64::try_from(calls).unwrap()).unwrap().unwrap().record;
    assert_eq!(last.cost.previous.len(), 1, "priced anew once");
}

const OLD: &str = "1950000";
const NEW: &str = "11000000";

/// How many calls have the new price.
fn anew(calltap: &Calltap) -> usize {
    totals(calltap).iter().filter(|total| *total == NEW).count()
}

/// Costs of all calls in picodollars.
fn totals(calltap: &Calltap) -> Vec<String> {
    let conn = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    let mut statement = conn.prepare("SELECT cost_pico FROM calls").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|row| row.unwrap().to_string()).collect()
}
