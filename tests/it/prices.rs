//! The price book from outside: imports, rollback, bad files, unknown models.

use crate::harness::{Calltap, Upstream, chat, chat_body, json_answer, post};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

fn output(mut command: Command, arguments: &[&str]) -> (i32, String, String) {
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A price book in the shape of litellm's: the served model at `input` dollars a token.
fn book(model: &str, input: &str) -> String {
    let value: Value = serde_json::from_str(input).unwrap();
    json!({ model: {"litellm_provider": "openai", "mode": "chat",
        "input_cost_per_token": value, "output_cost_per_token": value} })
    .to_string()
}

fn cost(calltap: &Calltap, model: &str) -> Value {
    let arguments = ["pricing", "explain", "--model", model, "--json"];
    let (_, said, error) = output(calltap.command(), &arguments);
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{error}"))
}

#[test]
fn an_import_comes_into_force_and_goes_back() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let run = |arguments: &[&str]| output(calltap.command(), arguments);
    let file = calltap.data_dir().join("book.json");
    let path = file.to_str().unwrap();
    std::fs::write(&file, book("brand-new-model", "1e-06")).unwrap();
    assert_eq!(cost(&calltap, "brand-new-model")["status"], "unpriced");
    let (code, said, _) = run(&["pricing", "diff", "--from", path]);
    assert_eq!((code, said.contains("1 new")), (1, true), "{said}");
    assert_eq!(cost(&calltap, "brand-new-model")["status"], "unpriced", "looking changes nothing");
    let (code, said, error) = run(&["pricing", "update", "--from", path, "--json"]);
    assert_eq!(code, 0, "{error}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["installed"], &said["source"]), (&json!(true), &json!("litellm")));
    let priced = cost(&calltap, "brand-new-model");
    assert_eq!((&priced["total"], &priced["price"]["layer"]), (&json!("2"), &json!("imported")));
    assert!(priced["price"]["book"].as_str().unwrap().ends_with("-litellm"));

    std::fs::write(&file, book("brand-new-model", "9e-06")).unwrap();
    let (code, _, error) = run(&["pricing", "update", "--from", path]);
    assert_eq!((code, error.contains("--accept")), (1, true), "{error}");
    assert_eq!(cost(&calltap, "brand-new-model")["total"], "2", "nothing was changed");
    assert_eq!(run(&["pricing", "update", "--from", path, "--accept"]).0, 0);
    assert_eq!(cost(&calltap, "brand-new-model")["total"], "18");
    assert_eq!(run(&["pricing", "rollback"]).0, 0);
    assert_eq!(cost(&calltap, "brand-new-model")["total"], "2");
    let (code, said, _) = run(&["pricing", "diff"]);
    assert_eq!((code, said.trim()), (1, "imported: openai/brand-new-model: new"));

    for (bad, exit) in [("{\"a\": ", 1), ("[]", 1)] {
        std::fs::write(&file, bad).unwrap();
        assert_eq!(run(&["pricing", "update", "--from", path]).0, exit, "{bad}");
    }
    assert_eq!(run(&["pricing", "update", "--from", "/no/such/file"]).0, 74);
    assert_eq!(run(&["pricing", "update", "--from", "http://prices.example/x"]).0, 2);
    assert_eq!(cost(&calltap, "brand-new-model")["total"], "2");
}

/// Answers one request on a free port.
fn serve_once(head: &'static str, body: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/book.json", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = client.read(&mut request).unwrap();
        let size = body.len();
        // Whoever has read enough closes before the end.
        write!(
            client,
            "HTTP/1.1 {head}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}"
        )
        .ok();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (url, served)
}

#[test]
fn a_book_is_fetched_only_when_it_is_named() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let run = |arguments: &[&str]| output(calltap.command(), arguments);
    let (url, served) = serve_once("200 OK\r\netag: \"v1\"", book("fetched-model", "1e-06"));
    let (code, _, error) = run(&["pricing", "update", "--from", &url]);
    assert_eq!(code, 0, "{error}");
    assert!(!served.join().unwrap().to_lowercase().contains("if-none-match"));
    assert_eq!(cost(&calltap, "fetched-model")["total"], "2");
    let (code, _, error) = run(&["pricing", "update", "--from", &url]);
    assert_eq!(code, 69, "nobody listens any more");
    assert!(error.contains("--from FILE"), "{error}");
    let (url, served) = serve_once("302 Found\r\nlocation: http://127.0.0.1:1/", String::new());
    assert_eq!(run(&["pricing", "update", "--from", &url]).0, 69, "redirects are not followed");
    served.join().unwrap();
}

/// Serves several answers at one address, each to one connection; gives the requests.
fn serve(answers: Vec<(&'static str, String)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/book.json", listener.local_addr().unwrap());
    let answer = move |(head, body): (&str, String)| {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = client.read(&mut request).unwrap();
        write!(client, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}").ok();
        String::from_utf8_lossy(&request[..length]).to_lowercase()
    };
    (url, std::thread::spawn(move || answers.into_iter().map(answer).collect()))
}

#[test]
fn odd_answers_of_a_source_keep_the_book() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let run = |arguments: &[&str]| output(calltap.command(), arguments);
    let sound = book("kept-model", "1e-06");
    let cut = sound[..sound.len() / 2].to_owned();
    let (url, served) = serve(vec![
        ("200 OK\r\netag: \"v1\"", sound.clone()),
        ("304 Not Modified", String::new()),
        ("500 Internal Server Error", "sorry".to_owned()),
        ("200 OK\r\ncontent-type: text/html", "<!doctype html><p>Sign in".to_owned()),
        ("200 OK", cut.clone()),
        ("200 OK\r\ncontent-length: 100000", cut),
        ("200 OK", "{}".to_owned()),
        ("200 OK", " ".repeat(65 << 20)),
        ("200 OK\r\netag: \"v2\"", book("newer-model", "1e-06")),
        ("304 Not Modified", String::new()),
    ]);
    let update = || run(&["pricing", "update", "--from", &url]);
    assert_eq!(update().0, 0);
    let (code, said, _) = update();
    assert_eq!((code, said.trim()), (0, "unchanged since the last import"));
    for (exit, why) in [
        (69, "it answers 500"),
        (1, "not a price book"),
        (1, "not a price book"),
        (69, "--from FILE"),
        (1, "not a price book"),
        (1, "larger than 64 MiB"),
    ] {
        let (code, _, error) = update();
        assert_eq!((code, error.contains(why)), (exit, true), "{why}: {error}");
        assert_eq!(cost(&calltap, "kept-model")["total"], "2");
    }
    assert_eq!(update().0, 0);
    assert_eq!(cost(&calltap, "kept-model")["total"], "2", "nothing is deleted");
    assert_eq!(cost(&calltap, "newer-model")["total"], "2");
    assert_eq!(run(&["pricing", "update", "--from", &url, "--json"]).0, 0);
    let asked = served.join().unwrap();
    let with = |request: &String| {
        let tag = request.lines().find_map(|line| line.strip_prefix("if-none-match: "));
        tag.map(str::to_owned)
    };
    let tags: Vec<Option<String>> = asked.iter().map(with).collect();
    let (v1, v2) = (Some("\"v1\"".to_owned()), Some("\"v2\"".to_owned()));
    assert_eq!((&tags[0], &tags[9]), (&None, &v2));
    assert!(tags[1..9].iter().all(|tag| *tag == v1), "{tags:?}");
}

/// The layer of every stored call's price, in the order of the calls.
fn layers(calltap: &Calltap) -> Vec<String> {
    let (_, lines, _) = output(calltap.command(), &["export", "--format", "jsonl"]);
    let record = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let mut records: Vec<Value> = lines.lines().map(record).collect();
    records.sort_by_key(|record| record["seq"].as_i64());
    let layer = |record: &Value| record["cost"]["price"]["layer"].as_str().unwrap().to_owned();
    records.iter().map(layer).collect()
}

#[test]
fn a_server_reads_imports_and_refuses_bad_files_of_ones_own() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let prices = tempfile::tempdir().unwrap();
    let section = format!("[pricing]\ndir = {:?}\n", prices.path());
    let mut calltap = Calltap::with(&upstream, "", &section);
    let mut calls = 0;
    let mut call = |calltap: &Calltap| {
        post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
        calls += 1;
        calltap.wait_calls("", calls);
    };
    let wait_log = |calltap: &Calltap, text: &str, times: usize| {
        let until = Instant::now() + Duration::from_secs(10);
        while calltap.log().matches(text).count() < times {
            assert!(Instant::now() < until, "{}", calltap.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    call(&calltap);
    let file = calltap.data_dir().join("book.json");
    std::fs::write(&file, book("gpt-4o-mini", "2e-07")).unwrap();
    let arguments = ["pricing", "update", "--accept", "--from", file.to_str().unwrap()];
    assert_eq!(output(calltap.command(), &arguments).0, 0);
    calltap.signal("HUP");
    wait_log(&calltap, "configuration reloaded", 1);
    call(&calltap);
    let own = |price: &str| {
        format!(
            "schema = 1\nprovider = \"openai\"\ncurrency = \"USD\"\nsource = \"contract\"\n[[model]]\nid = \"gpt-4o-mini\"\n[[model.price]]\nmtok = {{ input = \"{price}\", output = \"1\" }}\n"
        )
    };
    std::fs::write(prices.path().join("own.toml"), own("1")).unwrap();
    calltap.signal("HUP");
    wait_log(&calltap, "configuration reloaded", 2);
    call(&calltap);
    std::fs::write(prices.path().join("own.toml"), own("0")).unwrap();
    calltap.signal("HUP");
    wait_log(&calltap, "not reloaded", 1);
    call(&calltap);
    assert_eq!(layers(&calltap), ["embedded", "imported", "override", "override"]);
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    let (code, _, error) = output(calltap.command(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 78, "{error}");
    assert!(error.contains("own.toml:6") && error.contains("mtok.input"), "{error}");
}

#[test]
fn an_unknown_model_is_counted_and_said_once() {
    let upstream = Upstream::start(|_| {
        json_answer(
            200,
            r#"{"id":"x","object":"chat.completion","model":"acme-9","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#,
        )
    });
    let calltap = Calltap::start(&upstream);
    let body = chat_body(false).replace("gpt-4o-mini", "acme-9");
    for _ in 0..3 {
        post(calltap.address, "/v1/chat/completions", "", &body);
    }
    calltap.wait_calls("", 3);
    let (code, said, _) = output(calltap.command(), &["pricing", "missing", "--json"]);
    let row: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!((code, &row["model"], &row["calls"]), (0, &json!("acme-9"), &json!(3)));
    assert_eq!(row["known_now"], false);
    assert_eq!(calltap.log().matches("no price is known").count(), 1);
}
