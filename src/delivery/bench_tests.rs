//! What the tests of lanes stand on: a scripted sink on a socket, a store of its own, a lane in a hurry.

use super::{
    backoff::Tempo,
    board::Board,
    control::Command,
    lane::{Lane, Parts},
    *,
};
use crate::{
    config::Sink as Options,
    model::{Endpoint, Head, Outcome, Record, Timestamp},
    sink::{Limits, Request, Sink, Verdict},
    store::{Entry, Exception, LaneRow},
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Mutex as Lock,
    time::Instant,
};
use tempfile::TempDir;
use uuid::Uuid;

/// A kind that sends the numbers of records, one JSON array a request.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) batch: usize,
    pub(super) bytes: usize,
}

pub(super) fn number(record: &Record) -> u64 {
    record.tags.reference.as_ref().unwrap().parse().unwrap()
}

impl Sink for Numbers {
    fn limits(&self) -> Limits {
        Limits { records: self.batch, bytes: self.bytes }
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let numbers: Vec<u64> = records.iter().map(number).collect();
        assert!(!numbers.contains(&10_666), "a record that the kind cannot take");
        let long = records.iter().filter_map(|record| record.tags.user_query.clone());
        let body = serde_json::json!({ "numbers": numbers, "text": long.collect::<String>() });
        vec![Request {
            method: ::http::Method::POST,
            path: "/log".into(),
            headers: vec![],
            body: body.to_string().into(),
            records: (0..records.len()).collect(),
            parts: Vec::new(),
        }]
    }

    fn verdict(&self, _ids: &[Uuid], status: u16, body: &[u8]) -> Option<Verdict> {
        (status == 207).then(|| {
            let refused: Vec<usize> = serde_json::from_slice(body).unwrap();
            Verdict::Partly(refused.into_iter().map(|at| (at, "not this one".into())).collect())
        })
    }
}

/// What the sink does with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Answer(u16, &'static str, String),
    Cut,
    Hang(Duration),
}

/// When a request came, the numbers in it, and its body.
pub(super) type Seen = (Instant, Vec<u64>, Bytes);

type Script = dyn Fn(&[u64], usize) -> Act + Send + Sync;

/// A sink on a socket. Keeps every request that it took, and when.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    seen: Arc<Lock<Vec<Seen>>>,
}

impl Service {
    pub(super) fn start(script: impl Fn(&[u64], usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Lock::new(Vec::new()));
        let (shared, script): (_, Arc<Script>) = (Arc::clone(&seen), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (Arc::clone(&shared), Arc::clone(&script));
                std::thread::spawn(move || while serve(&stream, &seen, &*script).is_some() {});
            }
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, seen: &Lock<Vec<Seen>>, script: &Script) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; len.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    let json: Value = serde_json::from_slice(&body).unwrap();
    let numbers: Vec<u64> =
        json["numbers"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    let at = {
        let mut seen = seen.lock().unwrap();
        seen.push((Instant::now(), numbers.clone(), body.into()));
        seen.len()
    };
    match script(&numbers, at) {
        Act::Cut => None,
        Act::Hang(time) => {
            std::thread::sleep(time);
            None
        }
        Act::Answer(status, headers, body) => {
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).ok()
        }
    }
}

pub(super) fn ok() -> Act {
    Act::Answer(200, "", "{}".into())
}

/// A store with a lane over it.
pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) reader: Reader,
    plan: Arc<Plan>,
    pub(super) board: Arc<Board>,
    pub(super) metrics: Arc<Metrics>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _dir: TempDir,
}

fn options(text: &str) -> Options {
    let table = toml::from_str(&format!("type = \"numbers\"\n{text}")).unwrap();
    Options::read("n", &crate::config::SinkTable(table)).unwrap().0
}

pub(super) async fn bench(address: SocketAddr, kind: Numbers, keys: &str) -> Bench {
    bench_to(&format!("http://{address}"), kind, keys).await
}

pub(super) async fn bench_to(base_url: &str, kind: Numbers, keys: &str) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &crate::config::Store::default()).unwrap();
    let options = options(keys);
    let client = http::client(&options).unwrap();
    let destination =
        Destination::Http { sink: Box::new(kind), base_url: base_url.to_owned(), client };
    let only = options.only.parse().unwrap();
    let plan = Arc::new(Plan::by_hand("n", options, only, destination));
    let mut bench = Bench {
        reader: store.reader().unwrap(),
        store,
        plan,
        board: Arc::default(),
        metrics: Arc::default(),
        commands: mpsc::channel(1).0,
        stop: CancellationToken::new(),
        task: None,
        _dir: dir,
    };
    bench.start().await;
    bench
}

impl Bench {
    pub(super) async fn start(&mut self) {
        let tempo = Tempo {
            first: Duration::from_millis(4),
            longest: Duration::from_millis(40),
            probe: Duration::from_millis(60),
            unresolved: Duration::from_millis(100),
            look: Duration::from_millis(10),
        };
        let parts = Parts {
            plan: Arc::clone(&self.plan),
            store: self.store.clone(),
            reader: self.reader.clone(),
            metrics: Arc::clone(&self.metrics),
            board: Arc::clone(&self.board),
            tempo,
        };
        self.stop = CancellationToken::new();
        let lane: Lane = open(parts, &self.stop).await.unwrap().unwrap();
        let (commands, inbox) = mpsc::channel(4);
        self.commands = commands;
        self.task = Some(tokio::spawn(lane.run(inbox, self.stop.clone())));
    }

    pub(super) async fn end(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    pub(super) fn put(&self, range: std::ops::Range<u64>) {
        self.put_with(range, |_| {});
    }

    pub(super) fn put_with(&self, range: std::ops::Range<u64>, change: impl Fn(&mut Record)) {
        for at in range {
            let mut record = crate::interpret::begun(&Head::default());
            record.id = Uuid::now_v7();
            record.started_at = Timestamp::now();
            record.ended_at = record.started_at;
            record.endpoint = Endpoint::from("chat.completions");
            record.method = "POST".into();
            record.outcome = Outcome::Completed;
            record.tags.reference = Some(at.to_string());
            change(&mut record);
            self.store
                .append(Entry { record, bodies: None, answer: None, json: None, text: None }, None);
        }
    }

    pub(super) async fn act(&self, op: Op) -> Result<Done, String> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command { op, reply }).await.unwrap();
        answer.await.unwrap()
    }

    pub(super) fn row(&self) -> LaneRow {
        self.reader.lane("n").unwrap().unwrap()
    }

    pub(super) fn dead(&self) -> Vec<Exception> {
        self.reader.dead("n", 0, 1000).unwrap().0
    }

    /// Waits until everything up to `seq` is settled and nothing waits alone.
    pub(super) async fn settled(&self, seq: i64) {
        self.wait(|| self.row().cursor >= seq && self.row().waiting == 0).await;
    }

    pub(super) async fn wait(&self, what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            let (row, posted) = (self.row(), self.board.read());
            assert!(start.elapsed() < Duration::from_mins(1), "{row:?} {posted:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How often each number was in a request.
pub(super) fn times(seen: &[Seen]) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for number in seen.iter().flat_map(|(_, numbers, _)| numbers) {
        *times.entry(*number).or_default() += 1;
    }
    times
}

pub(super) const ROOMY: usize = 1 << 20;
