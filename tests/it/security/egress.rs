//! Whom calltap talks to: those that are configured, and nobody else (S24).

use crate::{
    delivery::Hook,
    harness::{Calltap, Upstream, chat, chat_body, fetch, post},
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// System calls that begin a connection, or send without one: DNS included.
const TRACED: &str = "trace=connect,sendto,sendmsg,sendmmsg";

/// Commands that read the store or the configuration.
const COMMANDS: &[&[&str]] = &[
    &["logs", "model:gpt*"],
    &["stats"],
    &["export"],
    &["export", "--format", "csv"],
    &["sinks", "status"],
    &["sinks", "test", "hook"],
    &["pricing", "show"],
    &["pricing", "check"],
    &["pricing", "missing"],
    &["store", "info"],
    &["store", "verify"],
    &["config", "check"],
    &["config", "show"],
    &["doctor"],
    &["health"],
    &["reindex"],
    &["recost"],
    &["version"],
];

/// What a calltap, and what follows it, does on the network; `None` where strace is not here or may not look.
fn trace(pid: u32, to: &Path) -> Option<Child> {
    let mut tracer = Command::new("strace")
        .args(["-f", "-qq", "-e", TRACED, "-o"])
        .arg(to)
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until && tracer.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        if status.contains(&format!("TracerPid:\t{}\n", tracer.id())) {
            return Some(tracer);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    tracer.kill().ok();
    tracer.wait().ok();
    None
}

/// Peers of a trace: address and port of the internet, or the path of a local socket.
fn peers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| line.contains("sa_family=")) {
        let between = |from: &str, to: &str| Some(line.split_once(from)?.1.split_once(to)?.0);
        let port = between("htons(", ")").unwrap_or("?");
        let host = between("inet_addr(\"", "\"").or(between("inet_pton(AF_INET6, \"", "\""));
        let path = between("sun_path=", "}");
        found.insert(host.or(path).map_or(line.to_owned(), |host| format!("{host}:{port}")));
    }
    found
}

#[test]
fn nobody_is_contacted_who_is_not_configured() {
    let (upstream, hook) = (Upstream::start(chat(3, Duration::ZERO)), Hook::start());
    let sections = format!(
        "{}[sinks.files]\ntype = \"jsonl\"\n[log]\nlevel = \"debug\"\n",
        hook.section("hook", "")
    );
    let mut calltap = Calltap::with(&upstream, "", &sections);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("serve");
    let Some(mut tracer) = trace(calltap.pid(), &log) else {
        println!("strace is not here, or may not look on: nothing is shown");
        return;
    };
    for at in 0..20 {
        let headers = format!(
            "x-calltap-session: s{}\r\nx-calltap-prompt: p\r\nreferer: http://evil.example/\r\nx-calltap-meta-link: http://evil.example/\r\n",
            at % 3
        );
        post(calltap.address, "/v1/chat/completions", &headers, &chat_body(at % 2 == 0));
    }
    for (path, body) in [
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":[{"type":"input_image","image_url":"http://evil.example/x.png"}]}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://evil.example/x.png"}}]}]}"#,
        ),
        ("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"x"}"#),
        ("/nosuch/v1/x", "{}"),
    ] {
        post(calltap.address, path, "", body);
    }
    hook.wait(23, &calltap);
    let routes = fs::read_to_string("src/api/mod.rs").unwrap();
    let routes = routes.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    for path in routes.filter(|path| !path.contains('{') && *path != "/api/v1/events") {
        fetch(calltap.address, path);
    }
    calltap.signal("HUP");
    calltap.wait_calls("", 24);
    let allowed: BTreeSet<String> =
        [upstream.address, hook.address, calltap.address].map(|address| address.to_string()).into();
    let mut commands = 0;
    let mut seen = BTreeSet::new();
    for command in COMMANDS {
        let log = folder.path().join("command");
        let own = calltap.command();
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-e", TRACED, "-o"]).arg(&log).arg(own.get_program());
        traced.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = traced.args(*command).stdin(Stdio::null()).output().unwrap();
        commands += usize::from(!output.stdout.is_empty() || output.status.success());
        let found = peers(&fs::read_to_string(&log).unwrap());
        assert!(found.is_subset(&allowed), "calltap {}: {found:?}", command.join(" "));
        seen.extend(found);
    }
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    tracer.wait().unwrap();
    let found = peers(&fs::read_to_string(&log).unwrap());
    assert!(found.contains(&upstream.address.to_string()), "it was looked on: {found:?}");
    assert!(found.is_subset(&allowed), "{found:?}");
    assert!(commands > COMMANDS.len() / 2, "{commands} commands worked");
    seen.extend(found);
    println!(
        "serving and {} commands: {} peers, all of them configured",
        COMMANDS.len(),
        seen.len()
    );
}
