//! Records on their way to sinks: outages, sick neighbours, kills, poison, history, and who looks after it.

mod control;
mod history;
mod kills;
mod outage;
mod poison;

use crate::harness::{Calltap, Connection, Request, Step, Upstream, chat_body, fetch, json_answer};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// How a sink is.
pub const WELL: usize = 0;
pub const UNAVAILABLE: usize = 1;
pub const HANGS: usize = 2;
pub const POISONED: usize = 3;
pub const SLOW: usize = 4;
pub const REFUSES: usize = 5;
const CUTS: usize = 6;

/// A webhook receiver: what it took of each record, byte for byte.
pub struct Hook {
    pub server: Option<Upstream>,
    pub address: SocketAddr,
    pub mode: Arc<AtomicUsize>,
    taken: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    pub requests: Arc<AtomicUsize>,
    /// Records that came again.
    pub repeats: Arc<AtomicUsize>,
    /// Time that each request takes it.
    pub pause: Duration,
    /// A socket that takes no more connections, and the ones that fill it.
    full: Vec<socket2::Socket>,
}

impl Hook {
    pub fn start() -> Self {
        Self::slowed(Duration::ZERO)
    }

    pub fn slowed(pause: Duration) -> Self {
        let mut hook = Self {
            server: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            mode: Arc::default(),
            taken: Arc::default(),
            requests: Arc::default(),
            repeats: Arc::default(),
            pause,
            full: Vec::new(),
        };
        hook.up();
        hook
    }

    /// Listens, where it did before.
    pub fn up(&mut self) {
        self.full.clear();
        let (mode, taken) = (Arc::clone(&self.mode), Arc::clone(&self.taken));
        let (requests, pause) = (Arc::clone(&self.requests), self.pause);
        let repeats = Arc::clone(&self.repeats);
        let server = Upstream::at(self.address, move |request| {
            requests.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(pause);
            answer(request, mode.load(Ordering::Relaxed), &taken, &repeats)
        });
        self.address = server.address;
        self.server = Some(server);
    }

    /// Nobody listens any more: open connections are cut, new ones refused.
    pub fn down(&mut self) {
        self.set(CUTS);
        self.server = None;
    }

    /// What is sent to it is swallowed: open connections are cut, new ones get no answer at all.
    pub fn swallow(&mut self) {
        use socket2::{Domain, Socket, Type};
        self.down();
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_reuse_address(true).unwrap();
        let until = Instant::now() + PATIENCE;
        while listener.bind(&self.address.into()).is_err() {
            assert!(Instant::now() < until, "the port is still taken");
            std::thread::sleep(Duration::from_millis(10));
        }
        listener.listen(0).unwrap();
        self.full.push(listener);
        // Once its queue is full, the system drops every further attempt to connect.
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let soon = Duration::from_millis(300);
            if socket.connect_timeout(&self.address.into(), soon).is_err() {
                return;
            }
            self.full.push(socket);
        }
    }

    pub fn set(&self, mode: usize) {
        self.mode.store(mode, Ordering::Relaxed);
    }

    /// `[sinks.<name>]` that delivers here.
    pub fn section(&self, name: &str, keys: &str) -> String {
        format!(
            "[sinks.{name}]\ntype = \"webhook\"\nbase_url = \"http://{}\"\nsecret = \"s3cret\"\n{keys}\n",
            self.address
        )
    }

    /// Copies of each record that was taken.
    pub fn taken(&self) -> BTreeMap<String, Vec<String>> {
        self.taken.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// Waits until so many records were taken.
    pub fn wait(&self, count: usize, calltap: &Calltap) {
        let (mut until, mut seen) = (Instant::now() + PATIENCE, 0);
        while self.count() < count {
            if self.count() > seen {
                (until, seen) = (Instant::now() + PATIENCE, self.count());
            }
            let at = format!("{} of {count}: {:#}", self.count(), sinks(calltap));
            assert!(Instant::now() < until, "{at}\n{}", calltap.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn answer(
    request: &Request,
    mode: usize,
    taken: &Mutex<BTreeMap<String, Vec<String>>>,
    repeats: &AtomicUsize,
) -> Vec<Step> {
    let records: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
    let is_poison = |record: &Value| {
        record["tags"]["reference"]
            .as_str()
            .is_some_and(|reference| reference.starts_with("poison"))
    };
    match mode {
        UNAVAILABLE => return json_answer(503, "{}"),
        HANGS => return vec![Step::Stall],
        CUTS => return vec![Step::Rst],
        POISONED if records.iter().any(is_poison) => {
            return json_answer(422, "{\"detail\":\"poison\"}");
        }
        SLOW => {
            let head = "HTTP/1.1 429 X\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n";
            return vec![Step::Send(head.into())];
        }
        REFUSES => return json_answer(400, "{\"detail\":\"never\"}"),
        _ => {}
    }
    let mut taken = taken.lock().unwrap();
    for record in records {
        let id = record["id"].as_str().unwrap().to_owned();
        let copies = taken.entry(id).or_default();
        repeats.fetch_add(usize::from(!copies.is_empty()), Ordering::Relaxed);
        copies.push(record.to_string());
    }
    json_answer(200, "{}")
}

/// Clients that call until told to stop: ids and latencies of what was answered.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Vec<(String, Duration)>>>,
}

impl Load {
    /// So many clients, each with a pause between its calls.
    pub fn start(address: SocketAddr, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let mut answered = Vec::new();
                    let mut kept = None;
                    while !stop.load(Ordering::Relaxed) {
                        let started = Instant::now();
                        let Some(id) = call(address, &mut kept, "") else { continue };
                        answered.push((id, started.elapsed()));
                        std::thread::sleep(pause);
                    }
                    answered
                })
            })
            .collect();
        Self { stop, threads }
    }

    /// Ids of answered calls, and their latencies, sorted.
    pub fn end(self) -> (Vec<String>, Vec<Duration>) {
        self.stop.store(true, Ordering::Relaxed);
        let all = self.threads.into_iter().flat_map(|thread| thread.join().unwrap());
        let (ids, mut latencies): (Vec<_>, Vec<_>) = all.unzip();
        latencies.sort();
        (ids, latencies)
    }
}

/// One call on a kept connection; its id.
pub fn call(address: SocketAddr, kept: &mut Option<Connection>, headers: &str) -> Option<String> {
    let body = chat_body(false);
    let mut connection = kept.take().or_else(|| Connection::try_open(address))?;
    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    let answer = connection.answer("POST").filter(|answer| answer.whole)?;
    *kept = Some(connection);
    answer.header("x-calltap-id").map(str::to_owned)
}

/// So many calls, by a few clients at once.
pub fn calls(
    address: SocketAddr,
    count: usize,
    headers: impl Fn(usize) -> String + Sync,
) -> Vec<String> {
    let ids = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (ids, headers) = (&ids, &headers);
            scope.spawn(move || {
                let mut kept = None;
                for at in (client..count).step_by(4) {
                    let id = loop {
                        if let Some(id) = call(address, &mut kept, &headers(at)) {
                            break id;
                        }
                    };
                    ids.lock().unwrap().push(id);
                }
            });
        }
    });
    ids.into_inner().unwrap()
}

/// How the sinks are doing.
pub fn sinks(calltap: &Calltap) -> Value {
    fetch(calltap.address, "/api/v1/sinks").map(|answer| answer.json()).unwrap_or_default()
}

/// One of them.
pub fn sink(calltap: &Calltap, name: &str) -> Value {
    let all = sinks(calltap);
    let all = all["items"].as_array().unwrap();
    all.iter().find(|sink| sink["name"] == name).cloned().unwrap_or_default()
}

/// Waits until a sink is as wanted.
pub fn wait_sink(calltap: &Calltap, name: &str, what: impl Fn(&Value) -> bool) -> Value {
    wait_sink_for(PATIENCE, calltap, name, what)
}

/// The same, for so long.
pub fn wait_sink_for(
    patience: Duration,
    calltap: &Calltap,
    name: &str,
    what: impl Fn(&Value) -> bool,
) -> Value {
    let until = Instant::now() + patience;
    loop {
        let sink = sink(calltap, name);
        if what(&sink) {
            return sink;
        }
        assert!(Instant::now() < until, "{sink:#}\n{}", calltap.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The latency that so many percent stay below.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or_default()
}
