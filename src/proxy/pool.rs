//! The client of an upstream, which keeps idle connections for less long than the upstream does.
//!
//! A request that is written while the server closes its connection is lost, and cannot be sent again: it
//! may have been read. How long a server waits is learnt from the connections that it closed.

use super::{body::UpstreamBody, upstream::TimedConnector};
use arc_swap::{ArcSwap, Guard};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Idle connections are dropped before providers do so themselves.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Whatever ends sooner is no idle timer's work.
const TIMER_MIN: Duration = Duration::from_millis(5);
/// Largest read buffer of an upstream connection, in bytes.
const READ_BUFFER_MAX: usize = 64 * 1024;
/// What one stream of HTTP/2 may send ahead of its client, in bytes.
const H2_STREAM_WINDOW: u32 = 1 << 20;
/// All streams of a connection together. The library ends a connection when small frames that nobody has
/// read cost more than half of this, so it is as good as none: the streams bound what is held.
const H2_CONNECTION_WINDOW: u32 = 1 << 30;

/// Sends requests to one upstream.
pub type UpstreamClient = Client<TimedConnector, UpstreamBody>;

/// A client and its idle connections.
#[derive(Debug)]
pub struct Pool {
    connector: TimedConnector,
    http2_only: bool,
    patience: Arc<Patience>,
    /// The client, and for how long it keeps idle connections.
    current: ArcSwap<(UpstreamClient, Duration)>,
}

impl Pool {
    /// Connects by `connector`, which tells `patience` of the ends it sees.
    pub fn new(connector: TimedConnector, http2_only: bool, patience: Arc<Patience>) -> Self {
        let current = (client(&connector, http2_only, POOL_IDLE), POOL_IDLE);
        Self { connector, http2_only, patience, current: ArcSwap::from_pointee(current) }
    }

    /// The client for the next request. A shorter patience needs a new one: calls on their way stay with
    /// theirs, idle connections go.
    pub fn client(&self) -> Guard<Arc<(UpstreamClient, Duration)>> {
        let keeps = self.patience.keeps();
        let current = self.current.load();
        if keeps >= current.1 {
            return current;
        }
        let fresh = client(&self.connector, self.http2_only, keeps);
        self.current.store(Arc::new((fresh, keeps)));
        self.current.load()
    }
}

/// How long a server keeps idle connections open, as far as is known.
#[derive(Debug, Default)]
pub struct Patience {
    /// The last connection's, in microseconds.
    last: AtomicU64,
    /// What two in a row had at least, in microseconds, the shortest.
    known: AtomicU64,
}

impl Patience {
    /// The server closed a connection that had been idle for `idle`. One end alone says little: the
    /// server may have been stopped.
    pub fn ended(&self, idle: Duration) {
        if idle < TIMER_MIN {
            return;
        }
        let idle = u64::try_from(idle.as_micros()).unwrap_or(u64::MAX);
        let before = self.last.swap(idle, Ordering::Relaxed);
        if before > 0 {
            let lowest = self.known.load(Ordering::Relaxed);
            let both = before.max(idle);
            if lowest == 0 || both < lowest {
                self.known.store(both, Ordering::Relaxed);
            }
        }
    }

    /// Whether a server's patience was learnt.
    #[cfg(test)]
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed) > 0
    }

    /// How long an idle connection may be kept: three quarters of that, as its end takes time to arrive.
    fn keeps(&self) -> Duration {
        match self.known.load(Ordering::Relaxed) {
            0 => POOL_IDLE,
            known => POOL_IDLE.min(Duration::from_micros(known / 4 * 3)),
        }
    }
}

fn client(connector: &TimedConnector, http2_only: bool, keeps: Duration) -> UpstreamClient {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(keeps)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http1_max_buf_size(READ_BUFFER_MAX)
        .http2_only(http2_only)
        .http2_initial_stream_window_size(H2_STREAM_WINDOW)
        .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .build(connector.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn two_ends_in_a_row_say_how_long_a_server_waits() {
        let patience = Patience::default();
        assert_eq!(patience.keeps(), POOL_IDLE);
        patience.ended(300 * MS);
        assert_eq!(patience.keeps(), POOL_IDLE, "the server may have been stopped");
        patience.ended(4 * MS);
        assert_eq!(patience.keeps(), POOL_IDLE, "no idle timer is that short");
        patience.ended(5000 * MS);
        assert_eq!(patience.keeps(), 3750 * MS);
        patience.ended(5004 * MS);
        assert_eq!(patience.keeps(), 3750 * MS);
        patience.ended(1000 * MS);
        patience.ended(1004 * MS);
        assert_eq!(patience.keeps(), 753 * MS, "the server has another timer now");
    }

    #[test]
    fn a_patient_server_changes_nothing() {
        let patience = Patience::default();
        patience.ended(POOL_IDLE * 3);
        patience.ended(POOL_IDLE * 3);
        assert_eq!(patience.keeps(), POOL_IDLE);
    }
}
