//! The commands, as a script would use them.

use crate::harness::{Calltap, Upstream, chat, chat_body, free_port, post};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

fn output(mut command: Command, arguments: &[&str]) -> (i32, String, String) {
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// As in an image that holds nothing but the binary.
#[test]
fn commands_need_no_certificates_of_the_system() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    for arguments in [&["health"][..], &["health", "--ready"], &["sinks", "status"], &["doctor"]] {
        let mut command = calltap.command();
        command.envs([("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")]);
        let (code, _, error) = output(command, arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
    }
}

#[test]
fn reading_commands_work_beside_a_server_and_without() {
    let upstream = Upstream::start(chat(2, Duration::ZERO));
    let mut calltap = Calltap::start(&upstream);
    let header = "x-calltap-session: s1\r\nx-calltap-prompt: =cmd|x\r\n";
    post(calltap.address, "/v1/chat/completions", header, &chat_body(true));
    calltap.wait_calls("", 1);
    for running in [true, false] {
        let run = |arguments: &[&str]| output(calltap.command(), arguments);
        let (code, logs, _) = run(&["logs", "session:s1", "--json"]);
        assert_eq!(code, 0);
        let row: serde_json::Value = serde_json::from_str(logs.trim()).unwrap();
        let id = row["id"].as_str().unwrap();
        let (_, show, _) = run(&["show", "--json", &id[..13]]);
        let record: serde_json::Value = serde_json::from_str(&show).unwrap();
        assert_eq!(record["response"]["choices"][0]["message"]["content"], "w0 w1 ");
        assert!(run(&["show", id]).1.contains("w0 w1"));
        assert!(run(&["show", id, "--curl"]).1.contains("$OPENAI_API_KEY"));
        assert!(run(&["show", id, "--raw"]).1.contains("data: [DONE]"));
        assert!(run(&["stats"]).1.contains("gpt-4o-mini-2024-07-18"));
        assert!(run(&["export", "session:s1", "--format", "csv"]).1.contains("'=cmd|x"));
        assert_eq!(run(&["store", "verify"]).0, 0);
        assert!(run(&["store", "info"]).1.contains("calls    1"));
        assert_eq!(run(&["logs", "session:none", "--exit-code"]).0, 1);
        assert_eq!(run(&["logs", "session:s1", "-outcome:completed", "--exit-code"]).0, 1);
        assert_eq!(run(&["show", "00000000-0000-0000-0000-000000000000"]).0, 1);
        let (code, _, error) = run(&["logs", "modl:x"]);
        assert_eq!(code, 2);
        assert!(error.contains("did you mean `model`"), "{error}");
        assert_eq!(run(&["health"]).0, i32::from(!running));
        let health: serde_json::Value =
            serde_json::from_str(&run(&["health", "--json"]).1).unwrap();
        assert_eq!(health["ok"], running);
        if running {
            calltap.signal("TERM");
            assert!(calltap.wait().success());
        }
    }
}

#[test]
fn an_export_is_whole_and_one_line_a_record() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    for _ in 0..30 {
        post(
            calltap.address,
            "/v1/chat/completions",
            "x-calltap-user: a\u{2028}b\r\n",
            &chat_body(false),
        );
    }
    calltap.wait_calls("", 30);
    // An export that fails leaves nothing behind.
    let folder = calltap.data_dir().join("folder");
    std::fs::create_dir_all(folder.join("x")).unwrap();
    let (code, ..) = output(calltap.command(), &["export", "-o", folder.to_str().unwrap()]);
    assert_eq!((code, folder.with_added_extension("part").exists()), (74, false));
    let file = calltap.data_dir().join("out.jsonl");
    let (code, _, error) = output(calltap.command(), &["export", "-o", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 30);
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["tags"]["user"], "a\u{2028}b");
    }
}

#[test]
fn tail_follows_a_server() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let mut command = calltap.command();
    command
        .args(["tail", "--json", "--count", "2", "session:t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tail = command.spawn().unwrap();
    // It says when it follows.
    let mut said = String::new();
    BufReader::new(tail.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("following"), "{said}");
    for session in ["t", "other", "t"] {
        let header = format!("x-calltap-session: {session}\r\n");
        post(calltap.address, "/v1/chat/completions", &header, &chat_body(false));
    }
    let output = tail.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

#[test]
fn bad_starts_are_told_in_a_line_with_the_right_code() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let serve = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = calltap.command();
        command.envs(environment.iter().copied());
        output(command, arguments)
    };
    let other = free_port().to_string();
    let other = format!("127.0.0.1:{other}");
    let home = calltap.data_dir();
    let file = calltap.config().to_str().unwrap().to_owned();
    for (what, arguments, environment, code, says) in [
        (
            "a port in use",
            vec!["serve", "--data-dir", "/tmp/calltap-test-unused"],
            vec![],
            69,
            "cannot listen",
        ),
        (
            "a store in use",
            vec!["serve"],
            vec![("CALLTAP_SERVER__LISTEN", other.as_str())],
            74,
            "another calltap",
        ),
        (
            "a file as folder",
            vec!["serve", "--data-dir", &file],
            vec![("CALLTAP_SERVER__LISTEN", other.as_str())],
            74,
            "directory",
        ),
        (
            "an unknown key",
            vec!["serve"],
            vec![("CALLTAP_SERVER__LISTN", "x")],
            78,
            "did you mean `listen`",
        ),
        (
            "an empty secret",
            vec!["serve"],
            vec![("CALLTAP_AUTH__ADMIN_TOKEN", " ")],
            78,
            "is empty",
        ),
        (
            "an open door",
            vec!["serve"],
            vec![("CALLTAP_SERVER__LISTEN", "0.0.0.0:0")],
            78,
            "auth.keys",
        ),
        ("no such file", vec!["serve", "--config", "/no/such/file"], vec![], 78, "/no/such/file"),
        ("no such flag", vec!["serve", "--nonsense"], vec![], 2, "--nonsense"),
    ] {
        let (seen, _, error) = serve(&arguments, &environment);
        assert_eq!(seen, code, "{what}: {error}");
        assert!(error.contains(says), "{what}: {error}");
    }
    std::fs::remove_dir_all("/tmp/calltap-test-unused").ok();
    assert!(home.exists());
}

#[test]
fn configuration_commands() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[auth]\nadmin_token = \"very-secret\"\n");
    let run = |arguments: &[&str]| output(calltap.command(), arguments);
    assert_eq!(run(&["config", "check"]).0, 0);
    let mut empty = calltap.command();
    empty.env("CALLTAP_DATA_DIR", "").env("CALLTAP_COLOR", "").env("CALLTAP_JSON", "");
    assert_eq!(output(empty, &["config", "check"]).0, 0, "an empty variable is none");
    let json =
        |arguments: &[&str]| serde_json::from_str::<serde_json::Value>(&run(arguments).1).unwrap();
    assert_eq!(json(&["config", "check", "--json"])["ok"], true);
    assert_eq!(json(&["config", "show", "--json"])["auth.admin_token"]["value"], "•••");
    assert!(run(&["config", "check", "--live"]).1.contains("✓"));
    let (_, shown, _) = run(&["config", "show"]);
    assert!(shown.contains("admin_token") && !shown.contains("very-secret"), "{shown}");
    assert!(
        shown.contains("CALLTAP_SERVER__LISTEN") && shown.contains("calltap.toml:2"),
        "{shown}"
    );
    let schema: serde_json::Value = serde_json::from_str(&run(&["config", "schema"]).1).unwrap();
    assert!(schema["properties"]["upstreams"].is_object());
    let path = calltap.data_dir().join("new.toml");
    assert_eq!(run(&["config", "init", path.to_str().unwrap()]).0, 0);
    assert_eq!(run(&["config", "init", path.to_str().unwrap()]).0, 74);
    assert_eq!(run(&["config", "check", "--config", path.to_str().unwrap()]).0, 0);
    assert!(run(&["version"]).1.starts_with("calltap 0.1.0"));
    assert!(run(&["completions", "bash"]).1.contains("calltap"));
}

#[test]
fn the_demo_shows_something() {
    let home = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    // A configuration of real work, and variables of all kinds: none of the sample calls goes there.
    let real = "[upstreams.corp]\nbase_url = \"http://127.0.0.1:1/v1\"\ndefault = true\n";
    std::fs::write(home.path().join("calltap.toml"), real).unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_calltap"))
        .env_clear()
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("CALLTAP_JSON", "1")
        .env(
            "NOT_UTF_8",
            <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(vec![0xff]),
        )
        .args(["demo", "--listen", &address, "--count", "8", "--data-dir"])
        .arg(home.path().join("data"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(30);
    let address = address.parse().unwrap();
    loop {
        let page = crate::harness::fetch(address, "/api/v1/calls").map(|answer| answer.json());
        let items = page.and_then(|page| page["items"].as_array().cloned()).unwrap_or_default();
        if items.len() >= 8 {
            assert!(items.iter().all(|call| call["upstream"] == "openai"), "{items:#?}");
            assert!(items.iter().any(|call| call["outcome"] == "provider_error"));
            assert!(items.iter().any(|call| call["outcome"] == "client_aborted"));
            break;
        }
        assert!(std::time::Instant::now() < until, "{items:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    demo.kill().unwrap();
    demo.wait().unwrap();
}

/// A program calls what its variables say, beside a server and with a calltap of its own.
#[test]
fn a_program_is_run_and_summed_up() {
    let upstream = Upstream::start(chat(2, Duration::ZERO));
    let mut calltap = Calltap::start(&upstream);
    let body = chat_body(false);
    let call = format!(
        "import os, urllib.request as u\n\
         r = u.Request(os.environ['OPENAI_BASE_URL'] + '/chat/completions', b'{body}', {{'content-type': 'application/json'}})\n\
         print(len(u.build_opener(u.ProxyHandler({{}})).open(r).read()) > 0); raise SystemExit(7)"
    );
    let arguments = ["run", "--session", "night run", "--", "python3", "-c", &call];
    for running in [true, false] {
        let mut command = calltap.command();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let (code, out, said) = output(command, &arguments);
        assert_eq!((code, out.as_str()), (7, "True\n"), "{said}");
        assert!(said.contains("calltap: 1 calls, 0 failed"), "{said}");
        let marked = said.rsplit("calltap logs ").next().unwrap().trim().to_owned();
        let (_, logs, _) = output(calltap.command(), &["logs", "--json", &marked]);
        let row: serde_json::Value = serde_json::from_str(logs.trim()).unwrap();
        assert_eq!(row["tags"]["session"], "night run");
        if running {
            calltap.kill();
        }
    }
    let (code, _, said) = output(calltap.command(), &["run", "--", "/no/such/program"]);
    assert_eq!(code, 127, "{said}");
}

#[test]
fn variables_are_printed_for_a_shell() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let (code, out, _) = output(calltap.command(), &["env", "--prompt", "it's"]);
    let wanted = format!("export OPENAI_BASE_URL='http://{}/-/prompt=it%27s/v1'", calltap.address);
    assert_eq!((code, out.lines().next()), (0, Some(wanted.as_str())));
}

#[test]
fn the_doctor_names_what_is_wrong() {
    let upstream = Upstream::start(|_| crate::harness::json_answer(401, "{}"));
    let mut calltap = Calltap::start(&upstream);
    let findings = |calltap: &Calltap| {
        let (code, out, said) = output(calltap.command(), &["doctor", "--json"]);
        let findings: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (code, findings, said)
    };
    let of = |findings: &[serde_json::Value], name: &str| {
        findings.iter().find(|finding| finding["name"] == name).cloned().unwrap_or_default()
    };
    let (code, well, said) = findings(&calltap);
    assert_eq!(code, 0, "{well:#?} {said}");
    assert!(of(&well, "port")["found"].as_str().unwrap().contains("answers at"));
    assert!(of(&well, "upstream")["found"].as_str().unwrap().ends_with("answers 401"));
    calltap.kill();
    let taken = std::net::TcpListener::bind(calltap.address).unwrap();
    drop(upstream);
    let (code, ill, _) = findings(&calltap);
    assert_eq!(code, 1);
    for name in ["port", "upstream"] {
        assert_eq!(of(&ill, name)["verdict"], "fail", "{ill:#?}");
        assert!(!of(&ill, name)["fix"].as_str().unwrap().is_empty());
    }
    drop(taken);
}
