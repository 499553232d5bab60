//! Listeners: connections with limits and timers, and their orderly end.

mod flush;

pub use flush::Flushes;

use axum::body::Body;
use flush::CountedIo;
use futures_util::FutureExt;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
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

/// Answers requests.
pub trait Answer: Clone + Send + 'static {
    /// The answer to one request. What a client sets off by asking has begun when this returns. A
    /// connection keeps the future in memory of its own: it is not allocated for each request.
    fn answer(
        &self,
        request: Request<Incoming>,
        flushes: Flushes,
    ) -> impl Future<Output = Response<Body>> + Send + 'static + use<Self>;
}

/// Serves until told to stop, then lets running calls finish within the grace. Before any is cut off,
/// `cut` is called. With each request comes the count of its connection's flushes.
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
        let flushes = Flushes::default();
        let io = CountedIo::new(TokioIo::new(stream), flushes.clone());
        let service = service_fn(move |request| {
            service.answer(request, flushes.clone()).map(Ok::<_, Infallible>)
        });
        let connection = builder.serve_connection_with_upgrades(io, service);
        let connection = graceful.watch(connection.into_owned());
        connections.spawn(async move {
            // How a connection ends is told by the calls on it.
            connection.await.ok();
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
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .adaptive_window(true);
    builder
}
