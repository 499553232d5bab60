//! No secret in any byte that is written.

use crate::harness::{Calltap, Connection, Upstream, json_answer, post};
use memchr::memmem;

/// Secrets in every position where a client or a provider may put one; none may be found below the
/// data directory, in the log, or in what the API and an export give out.
#[test]
fn planted_secrets_are_found_nowhere() {
    let canary = |at: usize| format!("sk-canary{at:02}ZxQvB7nM4kLp9wRt2yHs6dFg");
    let echo = canary(40);
    let upstream = Upstream::start(move |request| {
        if request.line.contains("/fail") {
            return json_answer(
                401,
                &format!(
                    "{{\"error\":{{\"message\":\"Incorrect API key provided: {echo}\",\"code\":\"invalid_api_key\"}}}}"
                ),
            );
        }
        // A stream that hides a secret across its events.
        let (left, right) = echo.split_at(12);
        crate::harness::sse_answer(
            &[
                format!(
                    "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{left}\"}}}}]}}\n\n"
                ),
                format!(
                    "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{right}\"}},\"finish_reason\":\"stop\"}}]}}\n\n"
                ),
                "data: [DONE]\n\n".to_owned(),
            ],
            std::time::Duration::ZERO,
        )
    });
    let calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"trace\"\n");
    let headers = format!(
        "authorization: Bearer {}\r\nx-api-key: {}\r\napi-key: {}\r\nx-goog-api-key: {}\r\ncookie: s={}\r\nproxy-authorization: Basic {}\r\nx-foo-token: {}\r\nopenai-organization: {}\r\nx-calltap-key: {}\r\n",
        canary(1),
        canary(2),
        canary(3),
        canary(4),
        canary(5),
        canary(6),
        canary(7),
        canary(8),
        canary(9)
    );
    let body = format!(
        "{{\"model\":\"m\",\"stream\":true,\"user\":\"{}\",\"messages\":[{{\"role\":\"user\",\"content\":\"my key is {}\"}}]}}",
        canary(20),
        canary(21)
    );
    for path in ["/v1/chat/completions", "/v1/fail", "/nosuch/v1/x"] {
        let path = format!("{path}?key={}&api_key={}", canary(10), canary(11));
        post(calltap.address, &path, &headers, &body);
    }
    // A call that is left in its middle.
    let mut connection = Connection::open(calltap.address);
    connection.send(format!("POST /v1/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 50\r\n\r\n", canary(12)).as_bytes());
    std::thread::sleep(std::time::Duration::from_millis(50));
    drop(connection);
    let calls = calltap.wait_calls("", 4);
    let mut bytes = calltap.every_byte();
    for call in &calls {
        let id = call["id"].as_str().unwrap();
        for path in ["", "/raw", "/raw?part=request", "/raw?part=response"] {
            let answer =
                crate::harness::fetch(calltap.address, &format!("/api/v1/calls/{id}{path}"))
                    .unwrap();
            bytes.extend(answer.body);
        }
    }
    let export = calltap.command().arg("export").output().unwrap();
    bytes.extend(export.stdout);
    bytes.extend(crate::harness::fetch(calltap.address, "/metrics").unwrap().body);
    let found: Vec<usize> = (0..50)
        .filter(|at| {
            let canary = canary(*at);
            // Any part long enough to be of use.
            (0..canary.len() - 16).any(|from| {
                memmem::find(&bytes, &canary.as_bytes()[from..from + 16])
                    .is_some_and(|_| canary[from..from + 16].contains(&format!("{at:02}")))
            })
        })
        .collect();
    assert!(found.is_empty(), "canaries found: {found:?}");
    assert!(memmem::find(&bytes, b"[redacted:openai-key:").is_some(), "the secrets did come by");
}
