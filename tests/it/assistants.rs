//! Conversations of the Assistants API: a record for every message, once, with its run's tokens.

use crate::harness::{Calltap, Request, Step, Upstream, fetch, json_answer, post, sse_answer};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A provider of threads: every run answers the last question, in two messages where the question has
/// two lines.
#[derive(Default)]
struct Provider {
    threads: BTreeMap<String, Vec<Value>>,
    runs: BTreeMap<String, Value>,
    count: u64,
}

impl Provider {
    fn start() -> Upstream {
        let provider = Arc::new(Mutex::new(Self::default()));
        Upstream::start(move |request| provider.lock().unwrap().answer(request))
    }

    fn answer(&mut self, request: &Request) -> Vec<Step> {
        let words: Vec<&str> = request.line.split(' ').collect();
        let path = words[1].split('?').next().unwrap();
        let path = path.trim_start_matches("/v1").trim_start_matches("/openai");
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let body = request.json();
        match (words[0], parts.as_slice()) {
            ("POST", ["threads"]) => json_answer(200, &self.thread(&body).to_string()),
            ("POST", ["threads", "runs"]) => {
                let thread = self.thread(&body["thread"]);
                self.run(thread["id"].as_str().unwrap(), &body, Some(&thread))
            }
            ("POST", ["threads", thread, "messages"]) => {
                let message = self.message(thread, "user", None, body["content"].as_str().unwrap());
                json_answer(200, &message.to_string())
            }
            ("GET", ["threads", thread, "messages"]) => {
                let mut list = self.threads[*thread].clone();
                list.reverse();
                json_answer(
                    200,
                    &json!({"object": "list", "data": list, "has_more": false}).to_string(),
                )
            }
            ("POST", ["threads", thread, "runs"]) => self.run(thread, &body, None),
            ("GET", ["threads", _, "runs", run]) => {
                let polled = self.runs[*run].clone();
                self.finish(run);
                json_answer(200, &polled.to_string())
            }
            ("GET", ["threads", thread, "runs", run, "steps"]) => {
                let step = self.step(thread, run);
                json_answer(200, &json!({"object": "list", "data": [step]}).to_string())
            }
            ("POST", ["threads", thread, "runs", run, "submit_tool_outputs"]) => {
                self.finish(run);
                let events = self.events(thread, run);
                sse_answer(&events, Duration::ZERO)
            }
            ("POST", ["threads", _, "runs", run, "cancel"]) => {
                self.runs.get_mut(*run).unwrap()["status"] = "cancelled".into();
                json_answer(200, &self.runs[*run].to_string())
            }
            _ => json_answer(
                404,
                r#"{"error":{"message":"no such path","type":"invalid_request_error"}}"#,
            ),
        }
    }

    fn thread(&mut self, body: &Value) -> Value {
        self.count += 1;
        let id = format!("thread_{}", self.count);
        self.threads.insert(id.clone(), Vec::new());
        for message in body["messages"].as_array().into_iter().flatten() {
            self.message(&id, "user", None, message["content"].as_str().unwrap());
        }
        json!({"id": id, "object": "thread", "created_at": 1_700_000_000})
    }

    fn message(&mut self, thread: &str, role: &str, run: Option<&str>, text: &str) -> Value {
        self.count += 1;
        let message = json!({"id": format!("msg_{}", self.count), "object": "thread.message", "created_at": 1_700_000_000 + self.count,
            "thread_id": thread, "run_id": run, "assistant_id": run.map(|_| "asst_1"), "role": role, "status": "completed",
            "content": [{"type": "text", "text": {"value": text, "annotations": []}}]});
        self.threads.get_mut(thread).unwrap().push(message.clone());
        message
    }

    /// A question says how its run goes: `tool`, `failed`, `expired`, `incomplete` or any other text.
    fn run(&mut self, thread: &str, body: &Value, made: Option<&Value>) -> Vec<Step> {
        self.count += 1;
        let id = format!("run_{}", self.count);
        let question = self.threads[thread].iter().rev().find(|message| message["role"] == "user");
        let question = question.map(|message| message["content"][0]["text"]["value"].clone());
        let run = json!({"id": id, "object": "thread.run", "created_at": 1_700_000_000, "thread_id": thread, "assistant_id": "asst_1",
            "status": "queued", "model": "gpt-4o", "usage": null, "tools": [], "temperature": 0.5, "metadata": body["metadata"],
            "question": question});
        self.runs.insert(id.clone(), run.clone());
        if body["stream"] != true {
            return json_answer(200, &run.to_string());
        }
        let mut events: Vec<String> =
            made.map(|thread| event("thread.created", thread)).into_iter().collect();
        events.push(event("thread.run.created", &run));
        if question.as_ref().is_some_and(|question| question == "tool") {
            let call = json!({"id": "step_0", "object": "thread.run.step.delta", "delta": {"step_details": {"type": "tool_calls",
                "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}}});
            let step = json!({"id": "step_0", "object": "thread.run.step", "created_at": 1, "run_id": id, "thread_id": thread,
                "type": "tool_calls", "status": "in_progress", "step_details": {"type": "tool_calls", "tool_calls": []}});
            let asks = self.runs.get_mut(&id).unwrap();
            asks["status"] = "requires_action".into();
            events.push(event("thread.run.step.created", &step));
            events.push(event("thread.run.step.delta", &call));
            events.push(event("thread.run.requires_action", asks));
            events.push("event: done\ndata: [DONE]\n\n".to_owned());
        } else {
            self.finish(&id);
            events.extend(self.events(thread, &id));
        }
        sse_answer(&events, Duration::ZERO)
    }

    /// Brings a run to its end.
    fn finish(&mut self, id: &str) {
        let Some(run) = self.runs.get(id).filter(|run| run["usage"].is_null()) else { return };
        let (question, thread) = (run["question"].clone(), run["thread_id"].clone());
        let (question, thread) = (question.as_str().unwrap(), thread.as_str().unwrap());
        let lines: Vec<String> = question.lines().map(|line| format!("answer to {line}")).collect();
        let status = match question {
            "failed" | "expired" | "cancelled" | "incomplete" => question,
            _ => "completed",
        };
        if matches!(status, "completed" | "incomplete") {
            for line in &lines {
                self.message(thread, "assistant", Some(id), line);
            }
        }
        let run = self.runs.get_mut(id).unwrap();
        run["status"] = status.into();
        run["completed_at"] = 1_700_000_002.into();
        let completion = question.len();
        run["usage"] = json!({"prompt_tokens": 100, "completion_tokens": completion, "total_tokens": 100 + completion});
        match status {
            "failed" => run["last_error"] = json!({"code": "server_error", "message": "it broke"}),
            "incomplete" => run["incomplete_details"] = json!({"reason": "max_completion_tokens"}),
            _ => {}
        }
    }

    fn step(&self, thread: &str, run: &str) -> Value {
        let made = self.threads[thread].iter().rev().find(|message| message["run_id"] == run);
        json!({"id": format!("step_{run}"), "object": "thread.run.step", "created_at": 2, "run_id": run, "thread_id": thread,
            "type": "message_creation", "usage": self.runs[run]["usage"],
            "step_details": {"type": "message_creation", "message_creation": {"message_id": made.map(|message| &message["id"])}}})
    }

    /// What a finished run streams.
    fn events(&self, thread: &str, run: &str) -> Vec<String> {
        let mut events = Vec::new();
        for message in self.threads[thread].iter().filter(|message| message["run_id"] == run) {
            let mut begun = message.clone();
            (begun["status"], begun["content"]) = ("in_progress".into(), json!([]));
            let delta = json!({"id": message["id"], "object": "thread.message.delta", "delta": {"content": [{"index": 0, "type": "text",
                "text": {"value": message["content"][0]["text"]["value"], "annotations": []}}]}});
            events.push(event("thread.message.created", &begun));
            events.push(event("thread.message.delta", &delta));
            events.push(event("thread.message.completed", message));
        }
        let status = self.runs[run]["status"].as_str().unwrap();
        events.push(event(&format!("thread.run.{status}"), &self.runs[run]));
        events.push("event: done\ndata: [DONE]\n\n".to_owned());
        events
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// A client of one calltap.
struct Client<'a>(&'a Calltap, &'a str);

impl Client<'_> {
    fn post(&self, path: &str, headers: &str, body: &Value) -> (Value, String) {
        let answer = post(self.0.address, &format!("{}{path}", self.1), headers, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        let id = answer.header("x-calltap-id").unwrap().to_owned();
        (serde_json::from_slice(&answer.body).unwrap_or_default(), id)
    }

    fn get(&self, path: &str) -> Value {
        let answer = fetch(self.0.address, &format!("{}{path}", self.1)).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn thread(&self) -> String {
        self.post("/threads", "", &json!({})).0["id"].as_str().unwrap().to_owned()
    }

    fn ask(&self, thread: &str, text: &str) {
        self.post(
            &format!("/threads/{thread}/messages"),
            "",
            &json!({"role": "user", "content": text}),
        );
    }

    /// A turn as a polling client takes it; gives the run call's id.
    fn polled(&self, thread: &str, text: &str, headers: &str) -> String {
        self.ask(thread, text);
        let (run, id) = self.post(
            &format!("/threads/{thread}/runs"),
            headers,
            &json!({"assistant_id": "asst_1"}),
        );
        let run = format!("/threads/{thread}/runs/{}", run["id"].as_str().unwrap());
        while self.get(&run)["usage"].is_null() {}
        self.get(&format!("/threads/{thread}/messages"));
        id
    }

    /// A turn as a stream.
    fn streamed(&self, thread: &str, text: &str, headers: &str) -> String {
        self.ask(thread, text);
        let body = json!({"assistant_id": "asst_1", "stream": true});
        self.post(&format!("/threads/{thread}/runs"), headers, &body).1
    }

    /// The messages' records in full, oldest first.
    fn messages(&self, thread: &str, count: usize) -> Vec<Value> {
        let query = format!("endpoint:assistants.message session:{thread}");
        let mut rows = self.0.wait_calls(&query, count);
        rows.reverse();
        rows.iter().map(|row| self.0.record(row["id"].as_str().unwrap())).collect()
    }
}

const TAGS: &str =
    "x-calltap-prompt: tutor\r\nx-calltap-customer: acme\r\nx-calltap-meta-plan: pro\r\n";

fn text(record: &Value) -> &str {
    record["response"]["content"][0]["text"]["value"].as_str().unwrap()
}

fn check_turn(record: &Value, thread: &str, question: &str) {
    assert_eq!(record["tags"]["session"], thread);
    assert_eq!(record["tags"]["user_query"], question);
    assert_eq!(text(record), format!("answer to {question}"));
    assert_eq!(record["usage"]["input"], 100, "{record:#}");
    assert_eq!(record["usage"]["output"], question.len());
    assert_eq!(record["usage"]["source"], "provider");
    assert_eq!(record["model"]["served"], "gpt-4o");
    assert_eq!(record["outcome"], "completed");
    assert_eq!(record["cost"]["status"], "priced");
    for (tag, value) in [
        ("prompt", json!("tutor")),
        ("customer", json!("acme")),
        ("metadata", json!({"plan": "pro"})),
    ] {
        assert_eq!(record["tags"][tag], value, "{tag}");
    }
    assert_eq!(record["request"]["messages"], json!([{"role": "user", "content": question}]));
    assert_eq!(record["parameters"]["temperature"], 0.5);
}

#[test]
fn three_turns_streamed_and_polled_with_a_restart_between() {
    let upstream = Provider::start();
    let mut calltap = Calltap::start(&upstream);
    let mut total = 0;
    let mut threads = Vec::new();
    for streamed in [true, false] {
        let thread = Client(&calltap, "/v1").thread();
        for (turn, question) in ["one", "and two", "then three"].into_iter().enumerate() {
            let client = Client(&calltap, "/v1");
            let id = if streamed {
                client.streamed(&thread, question, TAGS)
            } else {
                client.polled(&thread, question, TAGS)
            };
            for _ in 0..3 {
                client.get(&format!("/threads/{thread}/messages"));
            }
            let messages = client.messages(&thread, turn + 1);
            check_turn(&messages[turn], &thread, question);
            assert_eq!(messages[turn]["stream"], streamed);
            let run = calltap.record(&id);
            assert_eq!(
                (run["endpoint"].as_str(), run["outcome"].as_str()),
                (Some("assistants.run"), Some("completed"))
            );
            assert_eq!(run["tags"]["session"], *thread);
            assert_eq!(run["usage"]["total"], Value::Null, "counted with its message");
            if streamed {
                assert_eq!(run["response"]["run"]["status"], "completed");
                assert_eq!(run["usage"]["raw"]["prompt_tokens"], 100);
                assert!(messages[turn]["timing"]["ttft_ms"].as_f64().unwrap() > 0.0);
            } else {
                assert_eq!(messages[turn]["timing"]["latency_ms"], 2000.0);
            }
            total += 100 + question.len();
            if turn == 1 {
                calltap.signal("TERM");
                calltap.wait();
                calltap.restart();
            }
        }
        threads.push(thread);
    }
    let out = calltap.command().args(["stats", "--json"]).output().unwrap();
    let counted: u64 = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, total as u64, "each run once");
}

#[test]
fn a_run_with_tool_outputs_and_several_messages() {
    let upstream = Provider::start();
    let calltap = Calltap::start(&upstream);
    let client = Client(&calltap, "/v1");
    let thread = client.thread();
    let first = client.streamed(&thread, "tool", TAGS);
    let first = calltap.wait_calls("endpoint:assistants.run", 1).remove(0)["id"]
        .as_str()
        .map(|id| {
            assert_eq!(id, first);
            calltap.record(id)
        })
        .unwrap();
    assert_eq!(first["finish_reasons"], json!(["requires_action"]));
    let run = first["response"]["run"]["id"].as_str().unwrap().to_owned();
    client.post(
        &format!("/threads/{thread}/runs/{run}/submit_tool_outputs"),
        "",
        &json!({"tool_outputs": [], "stream": true}),
    );
    let message = client.messages(&thread, 1).remove(0);
    check_turn(&message, &thread, "tool");
    assert_eq!(
        message["request"]["steps"][0]["step_details"]["tool_calls"][0]["function"]["name"],
        "weather"
    );

    let request = json!({"assistant_id": "asst_1", "stream": true, "thread": {"messages": [{"role": "user", "content": "left\nright"}]}});
    let (_, id) = client.post("/threads/runs", "x-calltap-sinks: none\r\n", &request);
    calltap.wait_calls("endpoint:assistants.run", 3);
    let run = calltap.record(&id);
    let thread = run["tags"]["session"].as_str().unwrap();
    let messages = client.messages(thread, 2);
    let show = calltap
        .command()
        .args(["show", "--curl", messages[0]["id"].as_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        String::from_utf8(show.stderr).unwrap().contains(&id),
        "there is no call to repeat but the run's"
    );
    assert_eq!([text(&messages[0]), text(&messages[1])], ["answer to left", "answer to right"]);
    let sum = |key: &str| {
        messages.iter().map(|message| message["usage"][key].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("input"), sum("output"), sum("total")), (100, 10, 110));
    assert!(messages.iter().all(|message| message["tags"]["user_query"] == "left\nright"));
    assert!(
        messages.iter().all(|message| message["sinks"] == json!([])),
        "{:?}",
        messages[0]["sinks"]
    );
}

#[test]
fn runs_that_do_not_complete() {
    let upstream = Provider::start();
    let calltap = Calltap::start(&upstream);
    let client = Client(&calltap, "/v1");
    for (status, outcome) in [
        ("failed", "provider_error"),
        ("expired", "provider_error"),
        ("cancelled", "completed"),
        ("incomplete", "completed"),
    ] {
        let streamed = client.thread();
        let id = client.streamed(&streamed, status, "");
        calltap.wait_calls(&format!("endpoint:assistants.run session:{streamed}"), 1);
        let run = calltap.record(&id);
        assert_eq!(run["outcome"], outcome, "{status}");
        let reason = if status == "incomplete" { "max_completion_tokens" } else { status };
        assert_eq!(run["finish_reasons"], json!([reason]));
        let polled = client.thread();
        client.polled(&polled, status, "");
        if status == "incomplete" {
            for thread in [&streamed, &polled] {
                assert_eq!(client.messages(thread, 1)[0]["usage"]["input"], 100);
            }
        } else {
            assert_eq!(run["usage"]["input"], 100, "no message carries them");
            let rest = calltap
                .wait_calls(&format!("endpoint:assistants.usage session:{polled}"), 1)
                .remove(0);
            let rest = calltap.record(rest["id"].as_str().unwrap());
            assert_eq!(
                (rest["usage"]["input"].as_u64(), rest["outcome"].as_str()),
                (Some(100), Some(outcome))
            );
            assert!(
                calltap.calls(&format!("endpoint:assistants.message session:{polled}")).is_empty()
            );
        }
        if status == "failed" {
            assert_eq!(run["error"]["message"], "it broke");
        }
    }
}

#[test]
fn a_kill_between_the_calls_of_a_turn() {
    let upstream = Provider::start();
    let mut calltap = Calltap::start(&upstream);
    let thread = Client(&calltap, "/v1").thread();
    let path = format!("/threads/{thread}/messages");
    for round in 0..3 {
        let question = format!("round {round}");
        Client(&calltap, "/v1").ask(&thread, &question);
        let run =
            Client(&calltap, "/v1").post(&format!("/threads/{thread}/runs"), TAGS, &json!({})).0;
        let run = format!("/threads/{thread}/runs/{}", run["id"].as_str().unwrap());
        while Client(&calltap, "/v1").get(&run)["usage"].is_null() {}
        // Committed, then killed: what is remembered is as durable as the records.
        let seen = calltap.calls("").len();
        std::thread::sleep(Duration::from_millis(300));
        assert!(calltap.calls("").len() >= seen);
        calltap.kill();
        calltap.restart();
        Client(&calltap, "/v1").get(&path);
        let messages = Client(&calltap, "/v1").messages(&thread, round + 1);
        check_turn(&messages[round], &thread, &question);
        calltap.kill();
        calltap.restart();
        Client(&calltap, "/v1").get(&path);
        assert_eq!(Client(&calltap, "/v1").messages(&thread, round + 1).len(), round + 1);
    }
}

#[test]
fn azure_paths_and_paths_without_version() {
    let upstream = Provider::start();
    let calltap = Calltap::start(&upstream);
    for prefix in ["", "/openai"] {
        let client = Client(&calltap, prefix);
        let thread = client.thread();
        client.polled(&thread, "where", TAGS);
        check_turn(&client.messages(&thread, 1)[0], &thread, "where");
    }
}

#[test]
fn content_that_is_not_kept_or_masked_is_nowhere() {
    let upstream = Provider::start();
    let calltap = Calltap::start(&upstream);
    let client = Client(&calltap, "/v1");
    let hush = "x-calltap-log: metadata\r\n";
    let thread = client.thread();
    client.post(
        &format!("/threads/{thread}/messages"),
        hush,
        &json!({"role": "user", "content": "zebra"}),
    );
    client.post(&format!("/threads/{thread}/runs"), hush, &json!({"stream": true}));
    let message = client.messages(&thread, 1).remove(0);
    assert_eq!(
        (message["request"].clone(), message["response"].clone()),
        (Value::Null, Value::Null)
    );
    assert_eq!(
        (message["usage"]["input"].as_u64(), message["tags"]["user_query"].clone()),
        (Some(100), Value::Null)
    );
    let secret = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";
    let other = client.thread();
    client.polled(&other, &format!("my key is {secret}"), "");
    let message = client.messages(&other, 1).remove(0);
    assert!(message["tags"]["user_query"].as_str().unwrap().starts_with("my key is "));
    let all = calltap.every_byte();
    for needle in ["zebra", secret] {
        assert!(memchr::memmem::find(&all, needle.as_bytes()).is_none(), "{needle} is on disk");
    }
}
