//! The list H once more through other proxies before calltap, which may read framing their own way (S10).

use crate::{
    harness::{Calltap, Connection, Request, Step, Upstream, free_port, json_answer},
    lists::http::{BOTH, REFUSED, SMUGGLED, raw},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A proxy that gives each request that it passes on a mark of its own, and keeps its connections.
struct Front {
    name: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Front {
    /// `None` where the program is not installed.
    fn start(name: &'static str, home: &Path, behind: SocketAddr) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (config, arguments): (String, &[&str]) = match name {
            "nginx" => (nginx(home, address, behind), &["-e", "stderr", "-c"]),
            _ => (haproxy(address, behind), &["-db", "-f"]),
        };
        let file = home.join(name);
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(home.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(name);
        command.args(arguments).arg(&file).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().ok()?;
        let front = Self { name, address, child };
        let until = Instant::now() + Duration::from_secs(20);
        while Connection::try_open(address).is_none() {
            let log = std::fs::read_to_string(home.join(format!("{name}.log"))).unwrap();
            assert!(Instant::now() < until, "{name} does not listen: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(front)
    }

    /// Sends bytes and reads what comes until the peer ends or is silent; statuses.
    fn send(&self, bytes: &[u8]) -> Vec<u16> {
        let mut connection = Connection::open(self.address);
        connection.stream().set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        connection.send(bytes);
        std::iter::from_fn(|| connection.answer("POST").map(|answer| answer.status))
            .take(5)
            .collect()
    }
}

/// As little of its own strictness as it can be told to have.
fn nginx(home: &Path, address: SocketAddr, behind: SocketAddr) -> String {
    let home = home.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {home}/{kind};\n"))
        .concat();
    format!(
        "daemon off; master_process off; pid {home}/nginx.pid; error_log stderr;
        events {{}}
        http {{ access_log off; {temporary}
            ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
            upstream calltap {{ server {behind}; keepalive 4; }}
            server {{ listen {address};
                location / {{
                    proxy_pass http://calltap; proxy_http_version 1.1; proxy_request_buffering off;
                    proxy_set_header connection \"\"; proxy_set_header x-front-id $request_id;
                }}
            }}
        }}\n"
    )
}

fn haproxy(address: SocketAddr, behind: SocketAddr) -> String {
    format!(
        "defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 10s
  http-reuse always
frontend front
  bind {address}
  option accept-invalid-http-request
  http-request set-header x-front-id %[uuid()]
  default_backend calltap
backend calltap
  server calltap {behind}\n"
    )
}

fn echo(request: &Request) -> Vec<Step> {
    json_answer(200, &format!("{{\"line\":\"{}\"}}", request.line))
}

/// Requests upstream that the front did not send, or not as it sent them.
fn strays(requests: &[Request]) -> Vec<&Request> {
    let mut marks = BTreeSet::new();
    let mut is_stray = |request: &&Request| {
        let own =
            request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-front-id"));
        let own: Vec<_> = own.collect();
        own.len() != 1 || !marks.insert(own[0].1.clone())
    };
    requests.iter().filter(|request| is_stray(request)).collect()
}

fn behind(name: &'static str) {
    let upstream = Upstream::start(echo);
    let calltap = Calltap::with(&upstream, "", "[server]\nheader_timeout = \"1s\"\n");
    let home = tempfile::tempdir().unwrap();
    let Some(front) = Front::start(name, home.path(), calltap.address) else {
        println!("{name} is not installed: nothing was tried");
        return;
    };
    let more = [
        ("a length, then chunks", BOTH[0].1, "2\r\n{}\r\n0\r\n\r\n"),
        ("chunks, then a length", BOTH[1].1, "2\r\n{}\r\n0\r\n\r\n"),
        (
            "a length that ends in the chunks",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "2\r\n{}\r\n0\r\n\r\n",
        ),
        (
            "a length behind the chunks",
            "transfer-encoding: chunked\r\ncontent-length: 55\r\n",
            "0\r\n\r\n",
        ),
        ("an extension", "transfer-encoding: chunked\r\n", "2;a=b\r\n{}\r\n0\r\n\r\n"),
        ("a trailer", "transfer-encoding: chunked\r\n", "2\r\n{}\r\n0\r\nx-a: b\r\n\r\n"),
        ("an upgrade", "connection: upgrade\r\nupgrade: websocket\r\n", ""),
    ];
    let payloads: Vec<_> = REFUSED.iter().chain(&more).collect();
    let (mut passed, mut refused) = (0, 0);
    for (what, lines, body) in &payloads {
        let statuses = front.send(&[raw(lines, body), SMUGGLED.into()].concat());
        passed += statuses.iter().filter(|status| **status == 200).count();
        refused += statuses.iter().filter(|status| **status != 200).count();
        let requests = upstream.requests();
        assert!(strays(&requests).is_empty(), "{name}, {what}: {:?}", strays(&requests));
        // Whoever comes next gets what is theirs.
        let mut next = Connection::open(front.address);
        next.send(b"POST /v1/next HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
        let answer = next.answer("POST").expect("an answer");
        assert_eq!(answer.json()["line"], "POST /v1/next HTTP/1.1", "{name}, {what}");
    }
    let requests = upstream.requests();
    let until = Instant::now() + Duration::from_secs(20);
    // Whatever went upstream is a call that was accepted, and no other.
    let completed = || calltap.calls("outcome:completed").len();
    while completed() < requests.len() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(completed(), requests.len());
    let next = requests.iter().filter(|request| request.line.contains("/v1/next")).count();
    assert_eq!(next, payloads.len());
    println!(
        "{}: {} payloads, {passed} answers of the upstream's and {refused} refusals; {} requests upstream, each sent by the front, each accepted by calltap; every next request got its own answer",
        front.name,
        payloads.len(),
        requests.len()
    );
}

#[test]
fn nothing_is_smuggled_behind_nginx() {
    behind("nginx");
}

#[test]
fn nothing_is_smuggled_behind_haproxy() {
    behind("haproxy");
}
