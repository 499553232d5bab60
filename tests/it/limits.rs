//! Limits of calltap's own keys (`reliability.md` S28).

use crate::harness::{
    Answer, Calltap, Connection, Step, Upstream, chat, chat_body, count, fetch, json_answer, post,
};
use sha2::Digest;
use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Clients that call at the same moment.
const CLIENTS: usize = 50;
/// What a call of `chat` costs at the prices of gpt-4o-mini: 9 tokens in, 1 out.
const CALL_NANO: u64 = 1950;
const APP: &str = "x-calltap-key: ct-app\r\n";
const FREE: &str = "x-calltap-key: ct-free\r\n";

/// Two keys: `app` with these limits, `free` without.
fn keys(limits: &str) -> String {
    let hash = |key: &str| hex::encode(sha2::Sha256::digest(key));
    format!(
        "[[auth.keys]]\nname = \"app\"\nsha256 = \"{}\"\n{limits}\n[[auth.keys]]\nname = \"free\"\nsha256 = \"{}\"\n",
        hash("ct-app"),
        hash("ct-free")
    )
}

fn limited(upstream: &Upstream, limits: &str) -> Calltap {
    Calltap::with(upstream, "", &keys(limits))
}

/// A budget for so many calls of `chat`.
fn budget(calls: u64) -> String {
    format!("budget_per_day = \"0.{:09} USD\"", calls * CALL_NANO)
}

fn call(calltap: &Calltap, headers: &str) -> Answer {
    post(calltap.address, "/v1/chat/completions", headers, &chat_body(false))
}

/// All clients at once, `each` calls one after the other.
fn race(calltap: &Calltap, each: usize) -> Vec<Answer> {
    let (start, answers) = (Barrier::new(CLIENTS), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..each {
                    let answer = call(calltap, APP);
                    answers.lock().unwrap().push(answer);
                }
            });
        }
    });
    answers.into_inner().unwrap()
}

/// How many went through; all others were refused with `code`, and say so in full.
fn passed(answers: &[Answer], code: &str) -> usize {
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.json()["error"]["code"], code);
        assert_eq!(refused.header("x-calltap-error"), Some("1"));
        assert!(refused.header("x-calltap-id").is_some());
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

/// Budgets begin anew at midnight: a test that needs one day does not run over it.
fn away_from_midnight() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let left = 86_400 - now.as_secs() % 86_400;
    if left < 60 {
        thread::sleep(Duration::from_secs(left + 1));
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An upstream that knows how many calls it works on, and how many there were at most.
fn counting(work: Duration) -> (Upstream, Arc<AtomicUsize>) {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let upstream = Upstream::start(move |request| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(work);
        now.fetch_sub(1, Ordering::SeqCst);
        chat(0, Duration::ZERO)(request)
    });
    (upstream, most)
}

/// An upstream that answers once the gate is open.
fn gated() -> (Upstream, Arc<AtomicUsize>) {
    let gate = Arc::new(AtomicUsize::new(0));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        let mut steps = vec![Step::Until(Arc::clone(&opened), 1)];
        steps.extend(chat(0, Duration::ZERO)(request));
        steps
    });
    (upstream, gate)
}

#[test]
fn calls_at_once_are_exact() {
    let (upstream, most) = counting(Duration::from_millis(15));
    let calltap = limited(&upstream, "max_parallel_requests = 5");
    let answers = race(&calltap, 6);
    let passed = passed(&answers, "calltap_rate_limited");
    let refused = answers.len() - passed;
    assert!(passed >= 5 && refused > 0, "{passed} passed, {refused} refused");
    assert_eq!(most.load(Ordering::SeqCst), 5);
    assert_eq!(upstream.requests().len(), passed);
    let told = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(told.header("retry-after"), Some("1"));
    assert_eq!(told.header("x-should-retry"), Some("true"));
    assert_eq!(told.json()["error"]["type"], "rate_limit_error");
    // Refusals are records of the key, and are counted.
    calltap.wait_calls("key:app outcome:refused", refused);
    calltap.wait_calls("key:app outcome:completed", passed);
    let metrics = String::from_utf8(fetch(calltap.address, "/metrics").unwrap().body).unwrap();
    let line =
        format!("calltap_refused_requests_total{{code=\"calltap_rate_limited\"}} {refused}\n");
    assert!(metrics.contains(&line), "{line} in {metrics}");
}

#[test]
fn exactly_so_many_of_fifty_get_through() {
    let (upstream, gate) = gated();
    let calltap = limited(&upstream, "max_parallel_requests = 7");
    let answers = thread::scope(|scope| {
        let racing = scope.spawn(|| race(&calltap, 1));
        // Those that got through hold their places until all others have been refused.
        calltap.wait_calls("outcome:refused", CLIENTS - 7);
        assert_eq!(upstream.requests().len(), 7);
        // The limit is that key's.
        let free = scope.spawn(|| call(&calltap, FREE));
        until("the other key's call", || upstream.requests().len() == 8);
        gate.store(1, Ordering::Relaxed);
        assert_eq!(free.join().unwrap().status, 200);
        racing.join().unwrap()
    });
    assert_eq!(passed(&answers, "calltap_rate_limited"), 7);
    for _ in 0..20 {
        assert_eq!(call(&calltap, APP).status, 200, "one after the other is never too many");
    }
}

/// `CALLTAP_TEST_MINUTES`: over how many minutes the rate is watched; without it, within one.
#[test]
fn calls_a_minute_are_exact() {
    const RATE: usize = 20;
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrivals);
    let upstream = Upstream::start(move |request| {
        seen.lock().unwrap().push(Instant::now());
        chat(0, Duration::ZERO)(request)
    });
    let calltap = limited(&upstream, &format!("requests_per_minute = {RATE}"));
    let began = Instant::now();
    let answers = race(&calltap, 1);
    assert_eq!(passed(&answers, "calltap_rate_limited"), RATE);
    for refused in answers.iter().filter(|answer| answer.status == 429) {
        let number = |name: &str| refused.header(name).unwrap().parse::<u64>().unwrap();
        let ms = number("retry-after-ms");
        assert!((1..=60_000).contains(&ms), "{ms}");
        assert_eq!(number("retry-after"), ms.div_ceil(1000));
        assert_eq!(refused.header("x-should-retry"), Some("true"));
    }
    assert_eq!(upstream.requests().len(), RATE);
    assert_eq!(call(&calltap, FREE).status, 200);
    arrivals.lock().unwrap().pop();
    let minutes = count("CALLTAP_TEST_MINUTES", 0);
    let end = began + Duration::from_secs(60 * minutes as u64 + 5);
    let (asked, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    if minutes > 0 {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while Instant::now() < end {
                        asked.fetch_add(1, Ordering::Relaxed);
                        if call(&calltap, APP).status == 200 {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                        thread::sleep(Duration::from_millis(250));
                    }
                });
            }
        });
        println!("rate: {asked:?} asked, {taken:?} taken in {minutes} more minutes");
        assert!(asked.load(Ordering::Relaxed) > 2 * RATE * minutes);
        assert!(taken.load(Ordering::Relaxed) >= RATE * minutes - 1);
    }
    // Calls do not arrive in just the moment in which they were let in.
    let window = Duration::from_millis(59_500);
    let arrivals = arrivals.lock().unwrap();
    for first in arrivals.iter() {
        let inside = arrivals.iter().filter(|at| **at >= *first && **at < *first + window).count();
        assert!(inside <= RATE, "{inside} within a minute");
    }
}

#[test]
fn a_budget_is_exact_one_after_the_other_and_in_a_race() {
    away_from_midnight();
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    for in_race in [false, true] {
        upstream.forget();
        let calltap = limited(&upstream, &budget(10));
        assert_eq!(call(&calltap, APP).status, 200);
        // From its record it is known what a call costs.
        let first = calltap.wait_calls("key:app", 1);
        assert_eq!(first[0]["cost"]["total"], "0.00000195");
        let answers = if in_race {
            race(&calltap, 1)
        } else {
            (0..CLIENTS).map(|_| call(&calltap, APP)).collect()
        };
        assert_eq!(passed(&answers, "calltap_budget_exceeded"), 9, "in a race: {in_race}");
        assert_eq!(upstream.requests().len(), 10);
        calltap.wait_calls("outcome:completed", 10);
        let refused = call(&calltap, APP);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert_eq!(refused.json()["error"]["type"], "insufficient_quota");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("`app`") && message.contains("0.0000195 USD"), "{message}");
        assert_eq!(call(&calltap, FREE).status, 200);
    }
}

#[test]
fn before_a_cost_is_known_a_call_counts_as_a_cent() {
    away_from_midnight();
    for (budget, first, then) in [(budget(10), 1, 9), ("budget_per_day = \"0.07\"".into(), 7, 50)] {
        let (upstream, gate) = gated();
        let calltap = limited(&upstream, &budget);
        let answers = thread::scope(|scope| {
            let racing = scope.spawn(|| race(&calltap, 1));
            calltap.wait_calls("outcome:refused", CLIENTS - first);
            gate.store(1, Ordering::Relaxed);
            racing.join().unwrap()
        });
        assert_eq!(passed(&answers, "calltap_budget_exceeded"), first);
        let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
        assert_eq!(refused.header("retry-after"), Some("1"), "more may be left than is expected");
        calltap.wait_calls("outcome:completed", first);
        assert_eq!(passed(&race(&calltap, 1), "calltap_budget_exceeded"), then);
    }
}

/// The head of a stream and two words, then what follows.
fn broken_off(then: &[Step]) -> Upstream {
    let then = then.to_vec();
    Upstream::start(move |request| {
        let mut steps = chat(5, Duration::ZERO)(request);
        steps.truncate(4);
        steps.extend(then.clone());
        steps
    })
}

/// A client that has read the beginning of a stream.
fn streaming(calltap: &Calltap) -> Connection {
    let body = chat_body(true);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json";
    let mut connection = Connection::open(calltap.address);
    let request = format!("{head}\r\n{APP}content-length: {}\r\n\r\n{body}", body.len());
    connection.send(request.as_bytes());
    assert!(connection.read_body(50) > 0, "the stream has begun");
    connection
}

#[test]
fn an_aborted_call_frees_its_place() {
    let upstream = broken_off(&[Step::Stall]);
    let calltap = limited(&upstream, "max_parallel_requests = 2");
    for _ in 0..3 {
        let running = [streaming(&calltap), streaming(&calltap)];
        assert_eq!(passed(&[call(&calltap, APP)], "calltap_rate_limited"), 0);
        running.into_iter().for_each(Connection::reset);
        // Until both are noticed to be gone.
        until("the places", || {
            fetch(calltap.address, "/metrics").is_some_and(|metrics| {
                String::from_utf8_lossy(&metrics.body).contains("calltap_inflight_requests 0\n")
            })
        });
    }
    calltap.wait_calls("outcome:client_aborted", 6);
}

#[test]
fn an_aborted_call_is_charged() {
    away_from_midnight();
    let upstream = broken_off(&[Step::Stall]);
    let calltap = limited(&upstream, "budget_per_day = \"0.000001\"");
    streaming(&calltap).reset();
    let aborted = calltap.wait_calls("outcome:client_aborted", 1);
    assert_eq!(aborted[0]["usage"]["source"], "partial");
    let cost: f64 = aborted[0]["cost"]["total"].as_str().unwrap().parse().unwrap();
    assert!(cost >= 0.000_001, "{cost}");
    let refused = call(&calltap, APP);
    assert_eq!(refused.json()["error"]["code"], "calltap_budget_exceeded", "{refused:?}");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
}

#[test]
fn a_call_that_is_drained_holds_its_place() {
    let gate = Arc::new(AtomicUsize::new(0));
    let upstream = broken_off(&[Step::Until(Arc::clone(&gate), 1), Step::Fin]);
    let limits = keys("max_parallel_requests = 1");
    let calltap = Calltap::with(&upstream, "on_disconnect = \"drain\"\n", &limits);
    streaming(&calltap).reset();
    // Its client is long gone, and the upstream works on.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(passed(&[call(&calltap, APP)], "calltap_rate_limited"), 0);
    assert_eq!(upstream.requests().len(), 1);
    gate.store(1, Ordering::Relaxed);
    until("the place", || call(&calltap, APP).status != 429);
}

#[test]
fn a_websocket_holds_its_place() {
    let upstream = Upstream::start(|request| {
        if request.header("upgrade").is_none() {
            return chat(0, Duration::ZERO)(request);
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        vec![Step::Send(head.into()), Step::Stall]
    });
    let calltap = limited(&upstream, "max_parallel_requests = 1");
    let mut socket = Connection::open(calltap.address);
    let request = "GET /v1/realtime HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    socket.send(format!("{request}\r\n{APP}\r\n").as_bytes());
    assert_eq!(socket.answer("GET").unwrap().status, 101);
    assert_eq!(passed(&[call(&calltap, APP)], "calltap_rate_limited"), 0);
    drop(socket);
    until("the place", || call(&calltap, APP).status == 200);
}

#[test]
fn every_end_frees_its_place() {
    let kinds = AtomicUsize::new(0);
    let upstream =
        Upstream::start(move |request| match kinds.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => json_answer(500, r#"{"error":{"message":"no"}}"#),
            1 => vec![Step::Rst],
            2 => {
                let mut steps = chat(5, Duration::ZERO)(request);
                steps.truncate(1);
                steps.push(Step::Rst);
                steps
            }
            3 => vec![Step::Stall],
            _ => chat(0, Duration::ZERO)(request),
        });
    let upstream_keys = "first_byte_timeout = \"300ms\"\n";
    let limits = keys("max_parallel_requests = 1");
    let calltap = Calltap::with(&upstream, upstream_keys, &limits);
    let mut seen = Vec::new();
    for round in 0..10 {
        let stream = chat_body(round % 5 == 2);
        let answer = post(calltap.address, "/v1/chat/completions", APP, &stream);
        assert_ne!(answer.status, 429, "after {seen:?}");
        seen.push(answer.status);
        // Too large, and refused after it was let in.
        let large = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n";
        let mut connection = Connection::open(calltap.address);
        connection.send(format!("{large}{APP}\r\n").as_bytes());
        assert_eq!(connection.answer("POST").unwrap().status, 413);
    }
    for status in [200, 500, 502, 504] {
        assert!(seen.contains(&status), "{status} in {seen:?}");
    }
}

#[test]
fn a_restart_keeps_what_was_spent() {
    away_from_midnight();
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let mut calltap = limited(&upstream, &budget(10));
    for done in [3, 6] {
        for ended in done - 2..=done {
            assert_eq!(call(&calltap, APP).status, 200);
            calltap.wait_calls("outcome:completed", ended);
        }
        if done == 3 {
            calltap.kill();
        } else {
            calltap.signal("TERM");
            calltap.wait();
        }
        calltap.restart();
    }
    let answers = race(&calltap, 1);
    assert_eq!(passed(&answers, "calltap_budget_exceeded"), 4);
    assert_eq!(upstream.requests().len(), 10);
}

#[test]
fn a_reload_changes_limits_and_keeps_what_was_used() {
    away_from_midnight();
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = limited(&upstream, "");
    for _ in 0..5 {
        assert_eq!(call(&calltap, APP).status, 200);
    }
    calltap.wait_calls("outcome:completed", 5);
    let text = std::fs::read_to_string(calltap.config()).unwrap();
    let text = text.replacen("name = \"app\"\n", &format!("name = \"app\"\n{}\n", budget(8)), 1);
    std::fs::write(calltap.config(), text).unwrap();
    calltap.signal("HUP");
    until("the reload", || calltap.log().contains("configuration reloaded"));
    let answers = race(&calltap, 1);
    assert_eq!(passed(&answers, "calltap_budget_exceeded"), 3);
}

#[test]
fn what_is_charged_is_recorded() {
    away_from_midnight();
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = limited(&upstream, &budget(3));
    let off = "x-calltap-log: off\r\n";
    let member = chat_body(false).replacen('{', r#"{"calltap":{"log":"off"},"#, 1);
    assert_eq!(call(&calltap, APP).status, 200);
    calltap.wait_calls("key:app", 1);
    assert_eq!(call(&calltap, &format!("{APP}{off}")).status, 200);
    assert_eq!(post(calltap.address, "/v1/chat/completions", APP, &member).status, 200);
    let calls = calltap.wait_calls("key:app", 3);
    for row in &calls[..2] {
        let record = calltap.record(row["id"].as_str().unwrap());
        assert!(record["request"].is_null() && record["response"].is_null(), "{record}");
        assert_eq!(record["cost"]["total"], "0.00000195");
    }
    assert_eq!(call(&calltap, &format!("{APP}{off}")).status, 429);
    // A key without a budget may leave no record.
    assert_eq!(call(&calltap, &format!("{FREE}{off}")).status, 200);
    assert_eq!(call(&calltap, FREE).status, 200);
    calltap.wait_calls("key:free", 1);
}

#[test]
fn a_key_calls_its_upstreams_only() {
    let (upstream, other) =
        (Upstream::start(chat(0, Duration::ZERO)), Upstream::start(chat(0, Duration::ZERO)));
    let sections = format!(
        "[upstreams.other]\nbase_url = \"{}\"\n{}",
        other.url(),
        keys("upstreams = [\"openai\", \"groq\"]")
    );
    let calltap = Calltap::with(&upstream, "", &sections);
    let body = chat_body(false);
    let path = "/other/v1/chat/completions";
    for (path, headers) in [
        (path, APP.to_owned()),
        ("/-/session=s1/other/v1/chat/completions", APP.to_owned()),
        ("/v1/chat/completions", format!("{APP}x-calltap-upstream: other\r\n")),
    ] {
        let refused = post(calltap.address, path, &headers, &body);
        assert_eq!(refused.status, 403, "{path} {headers}");
        assert_eq!(refused.json()["error"]["code"], "calltap_forbidden");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
    }
    assert!(other.requests().is_empty());
    calltap.wait_calls("outcome:refused upstream:other", 3);
    assert_eq!(post(calltap.address, path, FREE, &body).status, 200);
    assert_eq!(call(&calltap, APP).status, 200);
    assert_eq!((upstream.requests().len(), other.requests().len()), (1, 1));
}

#[test]
fn wrong_limits_are_told_with_their_place() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    for (limit, told) in [
        ("max_parallel_requests = 0", "must be more than zero"),
        ("max_parallel_requests = -1", "max_parallel_requests"),
        ("requests_per_minute = 0", "must be more than zero"),
        ("requests_per_minute = 1000001", "at most 1000000"),
        ("budget_per_day = \"0 USD\"", "must be more than zero"),
        ("budget_per_day = \"25 EUR\"", "such as `25 USD`"),
        ("budget_per_day = 25", "string"),
        ("budget_per_month = \"25\"", "known are: name, sha256"),
        ("upstreams = []", "may call no upstream"),
        ("upstreams = [\"opnai\"]", "`opnai`, which is no upstream"),
    ] {
        std::fs::write(calltap.config(), keys(limit)).unwrap();
        let output = calltap.command().args(["config", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{limit}: {said}");
        let place = format!("4 │ {limit}");
        assert!(said.contains(told) && said.contains(&place) && said.contains('^'), "{said}");
    }
    let all = "upstreams = [\"openai\"]\nmax_parallel_requests = 20\nrequests_per_minute = 600\nbudget_per_day = \"25 USD\"";
    std::fs::write(calltap.config(), keys(all)).unwrap();
    let output = calltap.command().args(["config", "show"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["max_parallel_requests = 20", "budget_per_day = \"25 USD\""] {
        assert!(shown.contains(part), "{shown}");
    }
}
