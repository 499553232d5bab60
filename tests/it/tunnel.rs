//! Websockets.

use crate::harness::{Calltap, Upstream, chat};
use futures_util::{SinkExt, StreamExt};
use std::time::Duration;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_tunnelled_and_recorded() {
    let unused = Upstream::start(chat(0, Duration::ZERO));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                let text = format!("echo {message}");
                socket.send(Message::text(text)).await.unwrap();
            }
        }
    });
    let sections = format!("[upstreams.ws]\nbase_url = \"http://{address}/v1\"\n");
    let calltap = Calltap::with(&unused, "", &sections);
    let mut request = format!("ws://{}/ws/v1/realtime?model=gpt-realtime", calltap.address)
        .into_client_request()
        .unwrap();
    request.headers_mut().insert("x-calltap-session", "rt".parse().unwrap());
    request.headers_mut().insert("authorization", "Bearer sk-realtime-secret".parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert!(answer.headers().contains_key("x-calltap-id"));
    let told = r#"{"type":"session.update","session":{"tools":[{"authorization":"Bearer sk-inside-0123456789abcdefghijklmnop"}]}}"#;
    socket.send(Message::text(told)).await.unwrap();
    socket.next().await.unwrap().unwrap();
    for at in 0..20 {
        socket.send(Message::text(format!("{{\"n\":{at}}}"))).await.unwrap();
        let back = socket.next().await.unwrap().unwrap();
        assert_eq!(back.to_string(), format!("echo {{\"n\":{at}}}"));
    }
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    tokio::task::spawn_blocking(move || {
        let record = calltap.only_record();
        assert_eq!(record["endpoint"], "realtime");
        assert_eq!(record["status"], 101);
        assert_eq!(record["outcome"], "completed");
        assert_eq!(record["tags"]["session"], "rt");
        assert_eq!(record["model"]["requested"], "gpt-realtime");
        assert_eq!(record["request"]["events"][0]["type"], "session.update");
        assert_eq!(record["request"]["events"][20]["n"], 19);
        assert!(!record.to_string().contains("sk-inside"));
        assert!(record["bytes"]["request"].as_u64().unwrap() > 100);
        assert!(record["bytes"]["response"].as_u64().unwrap() > 100);
        let bytes = calltap.every_byte();
        assert!(memchr::memmem::find(&bytes, b"sk-realtime-secret").is_none());
    })
    .await
    .unwrap();
}
