//! Headers of one connection: what may be named away, and what may not (S11).

use super::Asker;
use crate::harness::{Calltap, Upstream, json_answer};

/// Headers that end-to-end safety hangs on, with a value.
const KEPT: &[(&str, &str)] = &[
    ("authorization", "Bearer a"),
    ("api-key", "b"),
    ("x-api-key", "c"),
    ("x-goog-api-key", "d"),
    ("cookie", "e=f"),
    ("content-type", "text/plain"),
    ("content-encoding", "identity"),
    ("te", "trailers"),
];

/// Ways to name a header in `Connection`.
const SPELLINGS: &[&str] = &[
    "connection: {}\r\n",
    "connection: close, {}\r\n",
    "connection: keep-alive, {}, x-hop\r\n",
    "Connection: x-hop,{}\r\n",
    "connection: x-hop\r\nconnection: {}\r\n",
    "connection:\t{}\t\r\n",
    "connection: ,,{},,\r\n",
    "proxy-connection: {}\r\n",
];

/// Headers that belong to one connection: none goes on, named or not.
const HOPS: &[&str] = &[
    "keep-alive: timeout=5\r\n",
    "proxy-connection: keep-alive\r\n",
    "proxy-authorization: Basic eA==\r\n",
    "te: gzip\r\n",
    "te: gzip, trailers\r\n",
    "upgrade: h2c\r\n",
    "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "connection: x-hop\r\nx-hop: 1\r\n",
    "connection: X-HOP\r\nx-hop: 1\r\n",
    "connection: x-calltap-session\r\nx-calltap-session: s\r\n",
    "x-calltap-key: k\r\n",
    "x-calltap-anything: k\r\n",
];

#[test]
fn nobody_names_a_security_header_away() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::start(&upstream);
    let (mut asker, mut tried) = (Asker::new(calltap.address), 0);
    let own_host = upstream.address.to_string();
    for spelling in SPELLINGS {
        for (name, value) in KEPT {
            for spelt in [(*name).to_owned(), name.to_uppercase()] {
                tried += 1;
                let lines =
                    format!("host: x\r\n{name}: {value}\r\n{}", spelling.replace("{}", &spelt));
                assert_eq!(asker.ask("POST /v1/x", &lines, "{}").unwrap().status, 200, "{lines}");
                let request = upstream.last().unwrap();
                assert_eq!(request.header(name), Some(*value), "{lines}");
                assert_eq!(request.header("x-hop"), None, "{lines}");
            }
        }
        for name in ["host", "content-length", "via", "transfer-encoding"] {
            tried += 1;
            let lines = format!("host: x\r\n{}", spelling.replace("{}", name));
            assert_eq!(asker.ask("POST /v1/x", &lines, "{}").unwrap().status, 200, "{lines}");
            let request = upstream.last().unwrap();
            assert_eq!((request.header("host"), &request.body[..]), (Some(&*own_host), &b"{}"[..]));
            let via = request.header("via").unwrap_or_default();
            assert!(via.contains("1.1 calltap-"), "{lines}: loops are noticed by `via`: {via:?}");
        }
    }
    for lines in HOPS {
        tried += 1;
        let answer = asker.ask("POST /v1/x", &format!("host: x\r\n{lines}"), "{}").unwrap();
        assert_eq!(answer.status, 200, "{lines}");
        let request = upstream.last().unwrap();
        for (name, _) in &request.headers {
            let name = name.to_ascii_lowercase();
            let one_hop = ["connection", "keep-alive", "te", "upgrade", "http2-settings", "x-hop"];
            let is_own = name.starts_with("proxy-") || name.starts_with("x-calltap-");
            assert!(!is_own && !one_hop.contains(&&*name), "{lines}: {name}");
        }
    }
    println!("{tried} spellings: every end-to-end header arrived, no other did");
}

/// Two calltaps that lead to each other: a call goes round once, also where its caller names `Via` away.
#[test]
fn a_loop_of_two_is_cut() {
    let unused = Upstream::start(|_| json_answer(200, "{}"));
    let first = Calltap::start(&unused);
    let back = format!("[upstreams.back]\nbase_url = \"http://{}/there/v1\"\n", first.address);
    let second = Calltap::with(&unused, "", &back);
    let text = std::fs::read_to_string(first.config()).unwrap();
    let there = format!("[upstreams.there]\nbase_url = \"http://{}/back/v1\"\n", second.address);
    std::fs::write(first.config(), format!("{text}\n{there}")).unwrap();
    first.signal("HUP");
    let mut asker = Asker::new(first.address);
    for at in 0..500 {
        let answer = asker.ask("POST /there/v1/x", "host: x\r\nconnection: via\r\n", "{}").unwrap();
        if answer.status == 508 {
            break;
        }
        assert!(answer.status == 404 && at < 499, "{answer:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let rounds = second.wait_calls("upstream:back", 1);
    assert_eq!(rounds[0]["status"], 508, "{rounds:?}");
    assert!(unused.requests().is_empty());
}
