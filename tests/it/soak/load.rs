//! Clients of every kind, at a light and even pace.

use crate::harness::{Connection, Random, chat_body};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Clients, and how often each calls: some 40 calls a second in all, less what slow answers take.
pub const CLIENTS: u32 = 44;
const PACE: Duration = Duration::from_secs(1);

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls that were sent; each has its number in `x-calltap-ref`.
    pub calls: AtomicUsize,
    pub streams: AtomicUsize,
    pub slow: AtomicUsize,
    /// Calls that the client broke off.
    pub aborted: AtomicUsize,
    /// Errors of the provider.
    pub errors: AtomicUsize,
    /// Calls told that the upstream cannot be reached.
    pub unreachable: AtomicUsize,
    /// Answers that broke off.
    pub cut: AtomicUsize,
    /// Calls without any answer.
    pub unheard: AtomicUsize,
}

/// What a call is to be like.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Error,
    Abort,
    Slow,
    Stream,
    Plain,
}

impl Kind {
    fn any(dice: &mut Random) -> Self {
        match dice.below(100) {
            0..2 => Self::Error,
            2..4 => Self::Abort,
            4..7 => Self::Slow,
            7..62 => Self::Stream,
            _ => Self::Plain,
        }
    }

    /// What the upstream is told of it, in `x-soak`.
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Slow => "slow",
            _ => "usual",
        }
    }
}

/// Clients that call until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start(address: SocketAddr) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let threads = (0..CLIENTS)
            .map(|client| {
                let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
                std::thread::spawn(move || {
                    std::thread::sleep(PACE * client / CLIENTS);
                    let (mut dice, mut kept) = (Random(client.into()), None);
                    while !stop.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        call(address, &mut kept, &mut dice, &seen);
                        std::thread::sleep(PACE.saturating_sub(begun.elapsed()));
                    }
                })
            })
            .collect();
        Self { stop, seen, threads }
    }

    /// Ends when the last call has.
    pub fn end(self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.seen
    }
}

fn call(address: SocketAddr, kept: &mut Option<Connection>, dice: &mut Random, seen: &Seen) {
    let kind = Kind::any(dice);
    let number = seen.calls.fetch_add(1, Ordering::Relaxed);
    let more = |count: &AtomicUsize| count.fetch_add(1, Ordering::Relaxed);
    let words: String = (0..100 + dice.below(500))
        .map(|_| format!("{:x} ", dice.0 ^ dice.below(1 << 30)))
        .collect();
    let body = chat_body(!matches!(kind, Kind::Plain | Kind::Error))
        .replace("\"hi\"", &format!("\"{words}\""));
    let mut connection = match kept.take() {
        Some(connection) if kind != Kind::Abort && dice.below(10) > 0 => connection,
        _ => Connection::open(address),
    };
    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-soak: {}\r\nx-calltap-ref: {number}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", kind.name(), body.len()).as_bytes());
    if kind == Kind::Abort {
        let came = connection.read_some(100).len();
        more(if came > 0 { &seen.aborted } else { &seen.unheard });
        if dice.below(2) == 0 {
            connection.reset();
        }
        return;
    }
    let Some(answer) = connection.answer("POST") else {
        more(&seen.unheard);
        return;
    };
    match answer.status {
        200 if !answer.whole => more(&seen.cut),
        200 if kind == Kind::Slow => more(&seen.slow),
        200 if kind == Kind::Stream => more(&seen.streams),
        200 => 0,
        502 => more(&seen.unreachable),
        _ => more(&seen.errors),
    };
    *kept = Some(connection).filter(|_| answer.whole);
}
