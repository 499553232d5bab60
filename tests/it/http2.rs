//! HTTP/2 on both sides.

use crate::harness::{Calltap, Upstream, chat, chat_body, free_port};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, future::Future, net::SocketAddr, time::Duration};

async fn h2_post(address: SocketAddr, body: String) -> (u16, Bytes) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    assert!(answer.headers().contains_key("x-calltap-id"));
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_may_speak_http2() {
    let upstream = Upstream::start(chat(20, Duration::from_millis(1)));
    let calltap = Calltap::start(&upstream);
    let (status, body) = h2_post(calltap.address, chat_body(true)).await;
    assert_eq!(status, 200);
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    let address = calltap.address;
    let calls: Vec<_> = (0..50).map(|_| tokio::spawn(h2_post(address, chat_body(false)))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().0, 200);
    }
    tokio::task::spawn_blocking(move || calltap.wait_calls("outcome:completed", 51)).await.unwrap();
}

/// An upstream that speaks HTTP/2 only, and answers so.
async fn http2_upstream<F: Future<Output = Response<Body>> + Send + 'static>(
    answer: impl Fn(Request<Incoming>) -> F + Copy + Send + 'static,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async { Ok::<_, Infallible>(answered.await) }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_may_speak_http2() {
    let unused = Upstream::start(chat(0, Duration::ZERO));
    let address = http2_upstream(|request| async move {
        let version = format!("{:?}", request.version());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let answer = format!("{{\"version\":\"{version}\",\"bytes\":{}}}", body.len());
        let mut response = Response::new(Body::from(answer));
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    })
    .await;
    let sections = format!(
        "[upstreams.two]\nbase_url = \"http://{address}/v1\"\nhttp2 = \"prior-knowledge\"\n[upstreams.gone]\nbase_url = \"http://127.0.0.1:{}/v1\"\n",
        free_port()
    );
    let calltap = Calltap::with(&unused, "", &sections);
    let body = chat_body(false);
    let expected = format!("{{\"version\":\"HTTP/2.0\",\"bytes\":{}}}", body.len());
    tokio::task::spawn_blocking(move || {
        let answer = crate::harness::post(calltap.address, "/two/v1/chat/completions", "", &body);
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
        assert_eq!(calltap.only_record()["outcome"], "completed");
    })
    .await
    .unwrap();
}

/// A burst of small frames, and a client that does not read yet: nothing is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn many_small_frames_of_an_upstream_may_wait() {
    const EVENT: &[u8] = b"data: {\"choices\":[]}\n\n";
    let unused = Upstream::start(chat(0, Duration::ZERO));
    let address = http2_upstream(|_| async {
        let events = (0..20_000).map(|_| Ok::<_, Infallible>(Bytes::from_static(EVENT)));
        let mut response = Response::new(Body::from_stream(futures_util::stream::iter(events)));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        response
    })
    .await;
    let sections = format!(
        "[upstreams.two]\nbase_url = \"http://{address}/v1\"\nhttp2 = \"prior-knowledge\"\n"
    );
    let calltap = Calltap::with(&unused, "", &sections);
    tokio::task::spawn_blocking(move || {
        let body = chat_body(true);
        let mut connection = crate::harness::Connection::open(calltap.address);
        connection.send(
            format!(
                "POST /two/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        std::thread::sleep(Duration::from_millis(300));
        let answer = connection.answer("POST").unwrap();
        assert!(answer.whole);
        assert_eq!(answer.body.len(), 20_000 * EVENT.len());
    })
    .await
    .unwrap();
}
