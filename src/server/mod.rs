//! Listeners: connections with limits and timers, and their orderly end.

mod flush;
mod turn;

pub use flush::Flushes;
pub use turn::Turn;

use axum::body::Body;
use flush::CountedIo;
use futures_util::{FutureExt, future::Either};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// Largest head of an HTTP/1 request, in bytes; beyond it the answer is 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header lines of a request.
const HEADER_LINES_MAX: usize = 100;
/// Streams of one HTTP/2 connection at once.
const H2_STREAMS_MAX: u32 = 128;
/// Bytes of one such stream that wait to be sent; hyper's own limit is 400 KB.
const H2_SEND_BYTES: usize = 64 * 1024;
/// Beyond its time, a head has this much more until its connection is cut without an answer.
const HEAD_GRACE: Duration = Duration::from_secs(1);
/// Pause after the system refused another connection (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two words about that in the log.
const WARN_PAUSE: Duration = Duration::from_mins(1);

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest wait for a request head.
    pub header_timeout: Duration,
    /// Most connections at once.
    pub connections: usize,
    /// Longest wait for running calls once told to stop.
    pub grace: Duration,
}

/// Opens a port.
///
/// # Errors
/// A sentence that says which address and why.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; is another calltap running? choose another with --listen"
            }
            io::ErrorKind::PermissionDenied => "; ports below 1024 need rights",
            _ => "",
        };
        format!("cannot listen on {address}: {error}{hint}")
    })
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Serve.
    #[default]
    No,
    /// Take nothing new, finish what runs.
    Drain,
    /// At once.
    Now,
}

/// What a call may know of the connection that it came by. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// How often everything it was given has left.
    pub flushes: Flushes,
    /// Of its task.
    pub turn: Turn,
}

/// Answers requests.
pub trait Answer: Clone + Send + 'static {
    /// The answer to one request. What a client sets off by asking has begun when this returns. A
    /// connection keeps the future in memory of its own: it is not allocated for each request.
    fn answer(
        &self,
        request: Request<Incoming>,
        wire: Wire,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<Self>;
}

/// Serves until told to stop, then lets running calls finish within the grace. Before any is cut off,
/// `cut` is called. With each request comes what it may know of its connection.
pub async fn serve(
    listener: TcpListener,
    limits: Limits,
    mut stop: watch::Receiver<Stop>,
    cut: impl FnOnce(),
    service: impl Answer,
) {
    let builder = Arc::new(builder(limits));
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut warned = None;
    loop {
        // One more than fits waits in the system's queue, unaccepted.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop != Stop::No) => break,
            accepted = next => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if warned.is_none_or(|at: Instant| at.elapsed() >= WARN_PAUSE) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        prepare(&stream);
        let service = service.clone();
        let wire = Wire::default();
        let asked = Arc::new(AtomicBool::new(false));
        let unused = unused(limits.header_timeout, Arc::clone(&asked));
        let io = CountedIo::new(TokioIo::new(stream), wire.flushes.clone());
        let turn = wire.turn.clone();
        let service = service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            // Called at once: a call is under watch before its future is ever polled.
            let answer = catch_unwind(AssertUnwindSafe(|| service.answer(request, wire.clone())));
            contained(answer).map(Ok::<_, Infallible>)
        });
        let connection = builder.serve_connection_with_upgrades(io, service);
        let connection = turn.run(graceful.watch(connection.into_owned()));
        connections.spawn(async move {
            // How a connection ends is told by the calls on it.
            tokio::select! {
                biased;
                _ = connection => {}
                () = unused => {}
            }
            drop(place);
        });
    }
    drop(listener);
    let finished = tokio::select! {
        finished = tokio::time::timeout(limits.grace, graceful.shutdown()) => finished.is_ok(),
        _ = stop.wait_for(|stop| *stop == Stop::Now) => false,
    };
    if !finished {
        cut();
    }
    connections.shutdown().await;
}

/// Returns when a connection was there for long enough without a request. What waits to know which
/// HTTP is spoken has no timer of its own.
async fn unused(patience: Duration, asked: Arc<AtomicBool>) {
    let mut waiting = pin!(tokio::time::sleep(patience + HEAD_GRACE));
    poll_fn(
        |cx| {
            if asked.load(Ordering::Relaxed) { Poll::Pending } else { waiting.as_mut().poll(cx) }
        },
    )
    .await;
}

/// A panic ends its call only: the client is told, and the connection closes.
fn contained(
    answer: std::thread::Result<impl Future<Output = Response<Body>>>,
) -> impl Future<Output = Response<Body>> {
    // No `async` block: it would hold the future twice, and with it every connection.
    match answer {
        Ok(answer) => {
            let answer = AssertUnwindSafe(answer).catch_unwind();
            Either::Left(answer.map(|answer| answer.unwrap_or_else(|_| broken())))
        }
        Err(_) => Either::Right(std::future::ready(broken())),
    }
}

/// In OpenAI's shape, like every error that calltap makes.
fn broken() -> Response<Body> {
    let told = r#"{"error":{"message":"calltap failed at this call; its log says where","type":"server_error","param":null,"code":"calltap_internal"}}"#;
    let mut response = Response::new(Body::from(told));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONNECTION, "close"),
        (HeaderName::from_static("x-calltap-error"), "1"),
        (HeaderName::from_static("x-should-retry"), "false"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
}

fn builder(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_send_buf_size(H2_SEND_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .adaptive_window(true);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::{sync::atomic::AtomicU32, task::Wake};

    /// Counts how often it was woken.
    #[derive(Default)]
    pub(super) struct Woken(pub(super) AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[derive(Clone)]
    struct Panics;

    impl Answer for Panics {
        fn answer(
            &self,
            request: Request<Incoming>,
            _wire: Wire,
        ) -> impl Future<Output = Response<Body>> + Send + 'static + use<> {
            assert_ne!(request.uri().path(), "/at-once");
            async move {
                assert_ne!(request.uri().path(), "/later");
                Response::new(Body::from("well"))
            }
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_call_only() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(Stop::No);
        let limits = Limits {
            header_timeout: Duration::from_secs(5),
            connections: 9,
            grace: Duration::ZERO,
        };
        let serving = tokio::spawn(serve(listener, limits, stopped, || (), Panics));
        let ask = async |path: &str| {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let request = Request::get(path).header("host", "x").body(String::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.unwrap().to_bytes())
        };
        for _ in 0..3 {
            for path in ["/at-once", "/later"] {
                let (status, body) = ask(path).await;
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!((status, &body["error"]["code"]), (500, &"calltap_internal".into()));
            }
            assert_eq!(ask("/").await, (200, "well".into()));
        }
        stop.send_replace(Stop::Now);
        serving.await.unwrap();
    }
}
