//! What people see and do.

use super::{Hook, REFUSES, UNAVAILABLE, WELL, calls, sink, wait_sink};
use crate::harness::{Calltap, Upstream, chat, fetch, free_port, json_answer, post};
use serde_json::{Value, json};
use std::{fs, process::Output, time::Duration};

fn sinks(calltap: &Calltap, arguments: &[&str]) -> Output {
    calltap.command().arg("sinks").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn dead_records_are_listed_shown_redriven_and_dropped_with_and_without_a_server() {
    let hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let mut calltap = Calltap::with(&upstream, "", &hook.section("hook", ""));
    hook.set(REFUSES);
    calls(calltap.address, 6, |_| String::new());
    wait_sink(&calltap, "hook", |sink| sink["dead"] == 6);
    let page = fetch(calltap.address, "/api/v1/sinks/hook/dead?limit=4").unwrap().json();
    assert_eq!(page["items"].as_array().unwrap().len(), 4);
    let rest = format!("/api/v1/sinks/hook/dead?after={}", page["next"].as_str().unwrap());
    let rest = fetch(calltap.address, &rest).unwrap().json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (2, &Value::Null));
    let id = page["items"][0]["id"].as_str().unwrap();
    assert_eq!(page["items"][0]["reason"], "400 {\"detail\":\"never\"}");
    let deliveries =
        fetch(calltap.address, &format!("/api/v1/calls/{id}/delivery")).unwrap().json();
    assert_eq!(deliveries["items"][0]["state"], "dead", "{deliveries}");
    hook.set(WELL);
    let body = json!({ "ids": [id] }).to_string();
    assert_eq!(post(calltap.address, "/api/v1/sinks/hook/redrive", "", &body).json()["records"], 1);
    hook.wait(1, &calltap);
    wait_sink(&calltap, "hook", |sink| sink["dead"] == 5 && sink["waiting"] == 0);
    let metrics = fetch(calltap.address, "/metrics").unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(
        metrics.contains("calltap_sink_deliveries_total{sink=\"hook\",outcome=\"dead\"} 6"),
        "{metrics}"
    );
    // Without a server the same commands work on the store.
    calltap.kill();
    let dead = text(&sinks(&calltap, &["dead", "hook", "--json"]));
    let ids: Vec<Value> = dead.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids.len(), 5);
    let dropped = sinks(&calltap, &["drop", "hook", ids[0]["id"].as_str().unwrap()]);
    assert!(text(&dropped).contains("1 dead records are given up"), "{}", text(&dropped));
    let redriven = sinks(&calltap, &["redrive", "hook"]);
    assert!(text(&redriven).contains("4 dead records"), "{}", text(&redriven));
    let status = text(&sinks(&calltap, &["status"]));
    assert!(status.contains("hook") && status.contains("stopped"), "{status}");
    calltap.restart();
    hook.wait(5, &calltap);
    assert!(text(&sinks(&calltap, &["show", "hook"])).contains("delivered         5"));
}

#[test]
fn a_pause_holds_over_a_restart_and_a_resume_is_at_once() {
    let hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let mut calltap = Calltap::with(&upstream, "", &hook.section("hook", ""));
    assert!(sinks(&calltap, &["pause", "hook"]).status.success());
    calls(calltap.address, 5, |_| String::new());
    calltap.wait_calls("", 5);
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    calltap.restart();
    let status = wait_sink(&calltap, "hook", |sink| sink["queue"] == 5);
    assert_eq!((&status["state"], &status["reason"]), (&json!("paused"), &json!("paused by hand")));
    assert_eq!(hook.count(), 0);
    assert!(sinks(&calltap, &["resume", "hook"]).status.success());
    hook.wait(5, &calltap);
    assert!(!sinks(&calltap, &["pause", "nobody"]).status.success());
}

#[test]
fn a_refused_key_pauses_until_a_reload_brings_a_new_one() {
    let service = Upstream::start(|request| {
        let status = if request.header("athina-api-key") == Some("new") { 200 } else { 401 };
        json_answer(
            status,
            "{\"error\":\"key\"}"
                .replace("error", if status == 200 { "id" } else { "error" })
                .as_str(),
        )
    });
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section = format!(
        "[sinks.athina]\ntype = \"athina\"\napi_key = \"old\"\nbase_url = \"http://{}\"\n",
        service.address
    );
    let calltap = Calltap::with(&upstream, "", &section);
    calls(calltap.address, 3, |_| String::new());
    let status = wait_sink(&calltap, "athina", |sink| sink["state"] == "paused");
    assert_eq!((&status["obstacle"], &status["dead"]), (&json!("key_refused"), &json!(0)));
    let check = calltap.command().args(["config", "check", "--live"]).output().unwrap();
    assert!(
        text(&check).contains("sink athina") && text(&check).contains("the key is refused"),
        "{}",
        text(&check)
    );
    let config = fs::read_to_string(calltap.config()).unwrap();
    fs::write(calltap.config(), config.replace("\"old\"", "\"new\"")).unwrap();
    let test = sinks(&calltap, &["test", "athina"]);
    assert!(test.status.success(), "{}", text(&test));
    calltap.signal("HUP");
    let status = wait_sink(&calltap, "athina", |sink| sink["delivered"] == 3);
    assert_eq!((&status["state"], &status["dead"]), (&json!("running"), &json!(0)));
    let bytes = calltap.every_byte();
    assert!(!bytes.windows(5).any(|part| part == b"\"new\""), "no key is kept");
}

#[test]
fn faults_of_sinks_are_told_with_their_place() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let bad = "[sinks.a]\ntype = \"atena\"\n[sinks.b]\ntype = \"jsonl\"\nmax_sise = \"1MiB\"\n\
               [sinks.c]\ntype = \"athina\"\n[sinks.d]\ntype = \"webhook\"\nsecret = \"s\"\n\
               [sinks.e]\ntype = \"jsonl\"\nonly = \"nonsense:1\"\n";
    fs::write(calltap.config(), bad).unwrap();
    let check = calltap.command().args(["config", "check"]).output().unwrap();
    let said = text(&check);
    assert_eq!(check.status.code(), Some(78), "{said}");
    for part in [
        "did you mean `athina`?",
        "max_sise",
        "ATHINA_API_KEY",
        "base_url",
        "sinks.e.only",
        "5 errors",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}

#[test]
fn only_json_from_here_may_change_sinks() {
    let hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section = hook.section("hook", "") + "[auth]\nadmin_token = \"t0ken\"\n";
    let calltap = Calltap::with(&upstream, "", &section);
    let pause = |headers: &str| {
        let address = calltap.address;
        let mut connection = crate::harness::Connection::open(address);
        connection.send(format!("POST /api/v1/sinks/hook/pause HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: 2\r\n\r\n{{}}").as_bytes());
        connection.answer("POST").unwrap().status
    };
    let (token, json) = ("authorization: Bearer t0ken\r\n", "content-type: application/json\r\n");
    assert_eq!(pause(json), 401);
    assert_eq!(pause(token), 415);
    assert_eq!(pause(&format!("{token}content-type: text/plain\r\n")), 415);
    assert_eq!(pause(&format!("{token}{json}origin: http://evil.example\r\n")), 403);
    assert_eq!(pause(&format!("{token}{json}")), 200);
    // The command knows the token from the configuration.
    assert!(sinks(&calltap, &["resume", "hook"]).status.success());
}

#[test]
fn strange_sinks_lose_nothing() {
    use crate::harness::Step;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let at = Arc::new(AtomicUsize::new(0));
    let turn = Arc::clone(&at);
    let service = Upstream::start(move |_| {
        let send = |text: &str| vec![Step::Send(text.as_bytes().to_vec())];
        match turn.fetch_add(1, Ordering::Relaxed) {
            // A reset, half an answer, half a body: tried again.
            0 => vec![Step::Rst],
            1 => vec![Step::Send(b"HTTP/1.1 20".to_vec()), Step::Fin],
            2 => vec![
                Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf".to_vec()),
                Step::Fin,
            ],
            // An endless body: its beginning is enough.
            3 => {
                let mut steps = send("HTTP/1.1 503 X\r\ncontent-length: 1073741824\r\n\r\n");
                steps.extend((0..64).map(|_| Step::Send(vec![b'x'; 64 * 1024])));
                steps
            }
            4 => send(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x00\x00\x00",
            ),
            _ => send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        }
    });
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let section = format!(
        "[sinks.s]\ntype = \"athina\"\napi_key = \"k\"\nbase_url = \"http://{}\"\nconcurrency = 1\n",
        service.address
    );
    let calltap = Calltap::with(&upstream, "", &section);
    calls(calltap.address, 3, |_| String::new());
    let status = wait_sink(&calltap, "s", |sink| sink["delivered"] == 3);
    assert_eq!(status["dead"], 0);
    assert!(at.load(Ordering::Relaxed) >= 7);
}

#[test]
fn redirects_and_pages_pause() {
    for answer in [
        format!(
            "HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n",
            free_port()
        ),
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>".to_owned(),
    ] {
        let service =
            Upstream::start(move |_| vec![crate::harness::Step::Send(answer.clone().into_bytes())]);
        let upstream = Upstream::start(chat(1, Duration::ZERO));
        let section = format!(
            "[sinks.s]\ntype = \"athina\"\napi_key = \"k\"\nbase_url = \"http://{}\"\n",
            service.address
        );
        let calltap = Calltap::with(&upstream, "", &section);
        calls(calltap.address, 1, |_| String::new());
        let status = wait_sink(&calltap, "s", |sink| sink["state"] == "paused");
        assert_eq!(
            (&status["obstacle"], &status["delivered"]),
            (&json!("misconfigured"), &json!(0))
        );
    }
}

#[test]
fn a_stop_is_prompt_while_a_sink_is_away() {
    let hook = Hook::start();
    hook.set(UNAVAILABLE);
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let mut calltap = Calltap::with(&upstream, "", &hook.section("hook", ""));
    calls(calltap.address, 5, |_| String::new());
    wait_sink(&calltap, "hook", |sink| sink["state"] == "retrying");
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    hook.set(WELL);
    calltap.restart();
    hook.wait(5, &calltap);
    assert_eq!(sink(&calltap, "hook")["dead"], 0);
}
