//! Attacks, by the claims that `docs/security.md` lists: each test tries its rows against the binary, and
//! says how many there were.

mod access;
mod bombs;
mod cross_site;
mod egress;
mod fronts;
mod hops;
mod isolation;
mod logs;
mod rules;
mod slow;
mod targets;
mod tls;

use crate::harness::{Answer, Connection};
use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A request on a connection that is kept as long as the peer keeps it; the answer.
struct Asker {
    address: SocketAddr,
    kept: Option<Connection>,
}

impl Asker {
    fn new(address: SocketAddr) -> Self {
        Self { address, kept: None }
    }

    /// Sends lines as they are, below the first one and before an empty one.
    fn ask(&mut self, first: &str, lines: &str, body: &str) -> Option<Answer> {
        let method = first.split(' ').next().unwrap_or_default();
        let request =
            format!("{first} HTTP/1.1\r\n{lines}content-length: {}\r\n\r\n{body}", body.len());
        // A kept connection may have been closed meanwhile: then once more on a new one.
        for _ in 0..2 {
            let fresh = self.kept.is_none();
            let mut connection = self.kept.take().unwrap_or_else(|| Connection::open(self.address));
            connection.stream().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            connection.send(request.as_bytes());
            let answer = connection.answer(method);
            if answer.is_some() || fresh {
                let keeps = answer.as_ref().is_some_and(|answer| {
                    answer.whole && answer.header("connection") != Some("close")
                });
                self.kept = keeps.then_some(connection);
                return answer;
            }
        }
        None
    }
}

/// A place where nobody may come: how many did.
struct Foreign {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Foreign {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }
}

/// `auth.keys` with these names and keys; each but the last has a credential for upstream.
fn keys(pairs: &[(&str, &str)]) -> String {
    use sha2::Digest;
    let rows = pairs.iter().enumerate().map(|(at, (name, key))| {
        let hash = hex::encode(sha2::Sha256::digest(key));
        let upstream = if at + 1 < pairs.len() {
            format!(", upstream_key = \"sk-upstream-of-{name}\"")
        } else {
            String::new()
        };
        format!("  {{ name = \"{name}\", sha256 = \"{hash}\"{upstream} }},\n")
    });
    format!("keys = [\n{}]\n", rows.collect::<String>())
}
