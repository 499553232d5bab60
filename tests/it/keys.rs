//! calltap's own keys.

use crate::harness::{Calltap, Upstream, chat, chat_body, post};
use sha2::Digest;
use std::time::Duration;

fn with_keys(upstream: &Upstream) -> Calltap {
    let hash = |key: &str| hex::encode(sha2::Sha256::digest(key));
    let sections = format!(
        "[auth]\nkeys = [\n  {{ name = \"ci\", sha256 = \"{}\", upstream_key = \"sk-upstream\", defaults = {{ environment = \"ci\", customer = \"acme\" }} }},\n  {{ name = \"plain\", sha256 = \"{}\" }},\n]\n",
        hash("ct-first-key"),
        hash("ct-second-key")
    );
    Calltap::with(upstream, "", &sections)
}

#[test]
fn keys_open_and_are_replaced() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = with_keys(&upstream);
    let call =
        |headers: &str| post(calltap.address, "/v1/chat/completions", headers, &chat_body(false));
    for refused in [
        "",
        "authorization: Bearer sk-own\r\n",
        "authorization: Bearer ct-first-ke\r\n",
        "api-key: nope\r\n",
    ] {
        let answer = call(refused);
        assert_eq!(answer.status, 401, "{refused}");
        assert_eq!(answer.json()["error"]["code"], "calltap_invalid_key");
    }
    assert!(upstream.requests().is_empty());
    for (headers, sent) in [
        ("authorization: Bearer ct-first-key\r\n", Some("Bearer sk-upstream")),
        ("api-key: ct-first-key\r\n", Some("Bearer sk-upstream")),
        (
            "x-calltap-key: ct-first-key\r\nauthorization: Bearer sk-own\r\n",
            Some("Bearer sk-upstream"),
        ),
        ("x-calltap-key: ct-second-key\r\nauthorization: Bearer sk-own\r\n", Some("Bearer sk-own")),
        ("authorization: Bearer ct-second-key\r\n", None),
    ] {
        assert_eq!(call(headers).status, 200, "{headers}");
        let requests = upstream.requests();
        assert_eq!(requests.last().unwrap().header("authorization"), sent, "{headers}");
        assert!(requests.last().unwrap().header("api-key").is_none());
    }
    // A built-in upstream that nobody has configured gets no credential of calltap's.
    let answer = post(
        calltap.address,
        "/lmstudio/v1/models",
        "authorization: Bearer ct-first-key\r\n",
        "{}",
    );
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"]["code"], "calltap_forbidden");
    let calls = calltap.wait_calls("key:ci", 3);
    assert_eq!(calls[0]["tags"]["environment"], "ci");
    assert_eq!(calls[0]["tags"]["customer"], "acme");
    calltap.wait_calls("outcome:refused", 5);
    let bytes = calltap.every_byte();
    for secret in ["ct-first-key", "ct-second-key", "sk-upstream", "sk-own"] {
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret}");
    }
}
