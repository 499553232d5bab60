//! Conversations, call by call.

use super::{Assistants, Found, Seen};
use crate::model::{Endpoint, Record, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

const MINUTE_US: i64 = 60 * 1_000_000;

/// A conversation and the clock.
#[derive(Default)]
struct Talk {
    all: Assistants,
    now: i64,
    stored: std::collections::BTreeMap<String, String>,
}

impl Talk {
    fn see(&mut self, method: &str, path: &str, request: Value, response: Value) -> Vec<Told> {
        self.see_as(method, path, request, response, |_| ())
    }

    fn see_as(
        &mut self,
        method: &str,
        path: &str,
        request: Value,
        response: Value,
        change: impl FnOnce(&mut Record),
    ) -> Vec<Told> {
        self.now += 1_000_000;
        let mut record = record(method, path, self.now);
        record.stream = response["messages"].is_array();
        (record.request, record.response) = (Some(request), Some(response));
        change(&mut record);
        let keep = record.notes.is_empty();
        let seen = Seen { record: &record, keep, host: None };
        let found = self.all.observe(seen, Timestamp(self.now));
        self.told(found)
    }

    fn wait(&mut self, minutes: i64) -> Vec<Told> {
        self.now += minutes * MINUTE_US;
        let found = self.all.due(Timestamp(self.now));
        self.told(found)
    }

    fn told(&mut self, found: Found) -> Vec<Told> {
        for (key, state) in found.threads {
            match state {
                Some(json) => drop(self.stored.insert(key, json)),
                None => drop(self.stored.remove(&key)),
            }
        }
        found.derived.into_iter().map(Told::of).collect()
    }

    fn restart(&mut self) {
        self.all = Assistants::load(self.stored.clone());
    }

    fn ask(&mut self, text: &str) {
        let message = json!({"id": format!("msg_u{}", self.now), "object": "thread.message", "thread_id": "t",
            "role": "user", "created_at": self.now / 1_000_000, "content": [{"type": "text", "text": {"value": text, "annotations": []}}]});
        assert!(
            self.see(
                "POST",
                "/v1/threads/t/messages",
                json!({"role": "user", "content": text}),
                message
            )
            .is_empty()
        );
    }

    fn run(id: &str, status: &str, usage: &Value) -> Value {
        json!({"id": id, "object": "thread.run", "thread_id": "t", "assistant_id": "asst_1", "model": "gpt-4o",
            "status": status, "created_at": 100, "completed_at": 103, "usage": usage, "temperature": 0.5})
    }

    fn begin(&mut self, id: &str) {
        let run = Talk::run(id, "queued", &Value::Null);
        assert!(
            self.see("POST", "/v1/threads/t/runs", json!({"assistant_id": "asst_1"}), run)
                .is_empty()
        );
    }

    fn poll(&mut self, id: &str, status: &str, usage: &Value) -> Vec<Told> {
        let run = Talk::run(id, status, usage);
        self.see("GET", &format!("/v1/threads/t/runs/{id}"), Value::Null, run)
    }

    fn list(&mut self, newest_first: &[Value]) -> Vec<Told> {
        self.see(
            "GET",
            "/v1/threads/t/messages",
            Value::Null,
            json!({"object": "list", "data": newest_first}),
        )
    }
}

/// What a test looks at.
#[derive(Debug)]
struct Told {
    id: Uuid,
    endpoint: String,
    request: Value,
    response: Value,
    latency_ms: f64,
    notes: Vec<String>,
    end: String,
    keep: bool,
}

impl Told {
    fn of(derived: super::Derived) -> Self {
        let exchange = derived.exchange;
        let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
        Self {
            id: exchange.head.id,
            endpoint: exchange.head.endpoint.as_str().to_owned(),
            request: json(&exchange.request.kept),
            response: json(&exchange.response.kept),
            latency_ms: derived.timing.latency_ms,
            notes: exchange.notes,
            end: format!("{:?}", exchange.end),
            keep: exchange.head.keep_content,
        }
    }

    fn total(&self) -> Option<u64> {
        self.request["usage"]["total_tokens"].as_u64()
    }
}

/// A bare record of a call.
pub(super) fn record(method: &str, path: &str, now: i64) -> Record {
    let json = json!({
        "id": Uuid::now_v7(), "started_at": Timestamp(now), "ended_at": Timestamp(now),
        "endpoint": Endpoint::of_call(method, path), "method": method, "path": path, "upstream": "openai",
        "provider": "openai", "model": {}, "stream": false, "outcome": "completed", "status": 200,
        "finish_reasons": [], "timing": {"latency_ms": 250.0, "ttft_ms": 90.0, "overhead_ms": 0.0, "chunks": 1},
        "usage": {}, "cost": {}, "tags": {"customer": "acme"}, "client": {}, "trace": {}, "bytes": {}, "notes": [],
    });
    serde_json::from_value(json).unwrap()
}

fn answer(id: &str, run: &str, text: &str) -> Value {
    json!({"id": id, "object": "thread.message", "thread_id": "t", "run_id": run, "assistant_id": "asst_1",
        "role": "assistant", "created_at": 102, "content": [{"type": "text", "text": {"value": text, "annotations": []}}]})
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

#[test]
fn polled_turns_and_a_restart_after_each_call() {
    let mut talk = Talk::default();
    let mut listed = Vec::new();
    let mut ids = Vec::new();
    for turn in 1..=3_u64 {
        talk.ask(&format!("question {turn}"));
        talk.restart();
        let run = format!("run_{turn}");
        talk.begin(&run);
        talk.restart();
        assert!(talk.poll(&run, "in_progress", &Value::Null).is_empty());
        assert!(talk.poll(&run, "completed", &usage(10 * turn, turn)).is_empty(), "no message yet");
        talk.restart();
        listed.insert(0, answer(&format!("msg_{turn}"), &run, &format!("answer {turn}")));
        let told = talk.list(&listed);
        assert_eq!(told.len(), 1);
        let message = &told[0];
        assert_eq!(
            (message.endpoint.as_str(), message.total()),
            ("assistants.message", Some(11 * turn))
        );
        assert_eq!(
            message.request["messages"],
            json!([{"role": "user", "content": format!("question {turn}")}])
        );
        assert_eq!(message.request["temperature"], 0.5);
        assert_eq!(message.response, listed[0], "verbatim");
        assert!((message.latency_ms - 3000.0).abs() < 1e-9);
        talk.restart();
        for _ in 0..3 {
            assert!(talk.list(&listed).is_empty(), "once");
        }
        ids.push(message.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert!(talk.wait(60).is_empty());
}

#[test]
fn a_list_before_the_end_of_the_run_waits_for_its_tokens() {
    let mut talk = Talk::default();
    talk.ask("q");
    talk.begin("run_1");
    let mut growing = answer("msg_1", "run_1", "half");
    growing["status"] = "in_progress".into();
    assert!(talk.list(&[growing]).is_empty());
    let listed = [answer("msg_2", "run_1", "two"), answer("msg_1", "run_1", "one, whole")];
    assert!(talk.list(&listed).is_empty());
    let told = talk.poll("run_1", "completed", &usage(31, 4));
    let totals: Vec<_> = told.iter().map(Told::total).collect();
    assert_eq!(totals, [Some(18), Some(17)]);
    assert_eq!(told[0].response["content"][0]["text"]["value"], "one, whole");
    assert!(talk.poll("run_1", "completed", &usage(31, 4)).is_empty());
}

#[test]
fn a_page_of_one_takes_the_tokens_and_the_rest_takes_none() {
    let mut talk = Talk::default();
    talk.begin("run_1");
    talk.poll("run_1", "completed", &usage(5, 5));
    let two = [answer("msg_2", "run_1", "two"), answer("msg_1", "run_1", "one")];
    assert_eq!(talk.list(&two[..1])[0].total(), Some(10));
    let told = talk.list(&two);
    assert_eq!((told.len(), told[0].total()), (1, None));
    assert!(told[0].notes[0].contains("another record"), "{:?}", told[0].notes);
}

#[test]
fn a_stream_tells_all_at_once() {
    let mut talk = Talk::default();
    let mut one = answer("msg_1", "run_1", "one");
    one["status"] = "completed".into();
    let run = Talk::run("run_1", "completed", &usage(9, 3));
    let request = json!({"assistant_id": "asst_1", "thread": {"messages": [{"role": "user", "content": "hello"}]}, "stream": true});
    let step = json!({"id": "step_1", "object": "thread.run.step", "run_id": "run_1", "thread_id": "t", "type": "message_creation",
        "step_details": {"type": "message_creation", "message_creation": {"message_id": "msg_1"}}, "usage": usage(9, 3)});
    let told = talk.see(
        "POST",
        "/v1/threads/runs",
        request,
        json!({"run": run, "messages": [one], "steps": [step]}),
    );
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].total(), Some(12));
    assert!((told[0].latency_ms - 250.0).abs() < 1e-9);
    assert_eq!(told[0].request["messages"][0]["content"], "hello");
    assert_eq!(told[0].request["steps"][0]["id"], "step_1");
    assert!(told[0].notes.is_empty(), "{:?}", told[0].notes);
    assert!(talk.list(&[answer("msg_1", "run_1", "one")]).is_empty());
}

#[test]
fn tool_outputs_continue_a_run_whose_tokens_are_counted_once() {
    let mut talk = Talk::default();
    talk.ask("weather?");
    let call = json!({"id": "step_1", "object": "thread.run.step", "run_id": "run_1", "thread_id": "t", "created_at": 1,
        "type": "tool_calls", "step_details": {"type": "tool_calls", "tool_calls": [{"id": "call_1", "type": "function"}]}});
    let asks = Talk::run("run_1", "requires_action", &Value::Null);
    let first = talk.see(
        "POST",
        "/v1/threads/t/runs",
        json!({"stream": true}),
        json!({"run": asks, "messages": [], "steps": [call]}),
    );
    assert!(first.is_empty());
    talk.restart();
    let done = Talk::run("run_1", "completed", &usage(40, 8));
    let mut one = answer("msg_1", "run_1", "rain");
    one["status"] = "completed".into();
    let told = talk.see(
        "POST",
        "/v1/threads/t/runs/run_1/submit_tool_outputs",
        json!({"tool_outputs": []}),
        json!({"run": done, "messages": [one], "steps": []}),
    );
    assert_eq!((told.len(), told[0].total()), (1, Some(48)));
    assert_eq!(told[0].request["steps"][0]["step_details"]["tool_calls"][0]["id"], "call_1");
    assert_eq!(told[0].request["messages"][0]["content"], "weather?");
}

#[test]
fn runs_that_end_badly() {
    for status in ["failed", "cancelled", "expired"] {
        let mut talk = Talk::default();
        talk.begin("run_1");
        let told = talk.poll("run_1", status, &usage(7, 0));
        assert_eq!(
            (told.len(), told[0].endpoint.as_str(), told[0].total()),
            (1, "assistants.usage", Some(7))
        );
        assert!(talk.poll("run_1", status, &usage(7, 0)).is_empty());
        let mut none = Talk::default();
        none.begin("run_1");
        assert!(none.poll("run_1", status, &usage(0, 0)).is_empty(), "nothing was used");
        // A streamed one counts its own.
        let mut streamed = Talk::default();
        let run = Talk::run("run_1", status, &usage(7, 0));
        let told = streamed.see(
            "POST",
            "/v1/threads/t/runs",
            json!({"stream": true}),
            json!({"run": run, "messages": [], "steps": []}),
        );
        assert!(told.is_empty() && streamed.wait(60).is_empty());
    }
}

#[test]
fn what_waits_too_long_is_told_as_it_is() {
    let mut talk = Talk::default();
    talk.begin("run_1");
    assert!(talk.list(&[answer("msg_1", "run_1", "one")]).is_empty());
    assert!(talk.wait(5).is_empty());
    talk.restart();
    let told = talk.wait(6);
    assert_eq!((told.len(), told[0].total()), (1, None));
    assert!(told[0].notes[0].contains("end of the run"), "{:?}", told[0].notes);
    // Tokens that come later still are counted somewhere, once.
    assert!(talk.poll("run_1", "completed", &usage(2, 2)).is_empty());
    assert_eq!(talk.wait(11)[0].endpoint, "assistants.usage");
    assert!(talk.wait(60).is_empty());
}

#[test]
fn a_cut_stream_is_completed_by_a_later_look_or_told_as_cut() {
    for looks in [true, false] {
        let mut talk = Talk::default();
        let mut part = answer("msg_1", "run_1", "ha");
        part["status"] = "in_progress".into();
        let run = Talk::run("run_1", "in_progress", &Value::Null);
        let cut = talk.see_as(
            "POST",
            "/v1/threads/t/runs",
            json!({"stream": true}),
            json!({"run": run, "messages": [part], "steps": []}),
            |record| record.outcome = crate::model::Outcome::ClientAborted,
        );
        assert!(cut.is_empty());
        if looks {
            assert!(talk.list(&[answer("msg_1", "run_1", "half and more")]).is_empty());
            let told = talk.poll("run_1", "completed", &usage(1, 2));
            assert_eq!(
                (told[0].response["content"][0]["text"]["value"].as_str(), told[0].end.as_str()),
                (Some("half and more"), "Complete")
            );
        } else {
            assert_eq!(talk.wait(11)[0].end, "ClientGone");
        }
    }
}

#[test]
fn messages_of_runs_that_nobody_saw() {
    let mut talk = Talk::default();
    let user = json!({"id": "msg_0", "object": "thread.message", "thread_id": "t", "role": "user", "created_at": 1, "content": [{"type": "text", "text": {"value": "old?"}}]});
    let by_hand = json!({"id": "msg_h", "object": "thread.message", "thread_id": "t", "role": "assistant", "created_at": 1, "content": []});
    let told = talk.list(&[answer("msg_1", "run_0", "old"), user, by_hand]);
    assert_eq!((told.len(), told[0].total()), (1, None));
    assert_eq!(told[0].request["messages"][0]["content"], "old?");
    assert!(told[0].notes[0].contains("not seen"));
}

#[test]
fn content_of_calls_that_keep_none_is_not_remembered() {
    let mut talk = Talk::default();
    let no_content = |record: &mut Record| record.notes.push("metadata only".to_owned());
    let question = json!({"id": "msg_0", "object": "thread.message", "thread_id": "t", "role": "user", "content": [{"type": "text", "text": {"value": "hush"}}]});
    talk.see_as("POST", "/v1/threads/t/messages", json!({"content": "hush"}), question, no_content);
    let mut run = Talk::run("run_1", "in_progress", &Value::Null);
    run["instructions"] = "hush".into();
    talk.see_as("POST", "/v1/threads/t/runs", json!({}), run, no_content);
    assert!(talk.list(&[answer("msg_1", "run_1", "hush")]).is_empty());
    assert!(talk.stored.values().all(|json| !json.contains("hush")), "{:?}", talk.stored);
    let told = talk.poll("run_1", "completed", &usage(1, 1));
    assert_eq!((told[0].keep, told[0].total()), (false, Some(2)));
    assert!(!told[0].request.to_string().contains("hush"));
}

#[test]
fn memory_is_bounded() {
    let mut talk = Talk::default();
    let long = "x".repeat(300 << 10);
    for turn in 0..20 {
        talk.ask(&long);
        talk.begin(&format!("run_{turn}"));
        talk.list(&[answer(&format!("msg_{turn}"), &format!("run_{turn}"), &long)]);
    }
    assert!(talk.stored.values().all(|json| json.len() < super::THREAD_BYTES_MAX));
    let mut many = Assistants::default();
    let mut rows = 0_i64;
    for thread in 0..super::THREADS_MAX + 50 {
        let path = format!("/v1/threads/{thread}/runs");
        let mut record = record("POST", &path, 1);
        record.response = Some(
            json!({"id": "r", "object": "thread.run", "thread_id": thread.to_string(), "status": "queued"}),
        );
        let found = many.observe(Seen { record: &record, keep: true, host: None }, Timestamp(1));
        rows += found
            .threads
            .iter()
            .map(|(_, state)| if state.is_some() { 1 } else { -1 })
            .sum::<i64>();
    }
    assert_eq!(usize::try_from(rows).unwrap(), super::THREADS_MAX);
}

#[test]
fn nothing_odd_panics() {
    let mut talk = Talk::default();
    for odd in [
        json!(null),
        json!([]),
        json!({"object": "list"}),
        json!({"object": "list", "data": [null, 1, {"object": 5}]}),
        json!({"object": "thread.run"}),
        json!({"object": "thread.run", "thread_id": "t", "id": 7}),
        json!({"run": {"object": "thread.run", "thread_id": "t", "id": "r", "usage": []}, "messages": [{}], "steps": 3}),
        json!({"object": "thread.message", "thread_id": "t", "role": "assistant", "run_id": "", "id": ""}),
    ] {
        for (method, path) in [
            ("POST", "/v1/threads/t/runs"),
            ("GET", "/v1/threads/t/messages"),
            ("POST", "/threads"),
        ] {
            talk.see(method, path, odd.clone(), odd.clone());
        }
    }
}
