//! Lanes against a scripted sink over a real socket, on a store of their own.

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
    store::{Entry, Exception},
};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Mutex as Lock,
    time::Instant,
};
use tempfile::TempDir;
use uuid::Uuid;

/// A kind that sends the numbers of records, one JSON array a request.
#[derive(Debug)]
struct Numbers {
    batch: usize,
    bytes: usize,
}

fn number(record: &Record) -> u64 {
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
enum Act {
    Answer(u16, &'static str, String),
    Cut,
    Hang(Duration),
}

type Script = dyn Fn(&[u64], usize) -> Act + Send + Sync;

/// A sink on a socket. Keeps every request that it took, and when.
struct Service {
    address: SocketAddr,
    seen: Arc<Lock<Vec<(Instant, Vec<u64>, Bytes)>>>,
}

impl Service {
    fn start(script: impl Fn(&[u64], usize) -> Act + Send + Sync + 'static) -> Self {
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

    fn seen(&self) -> Vec<(Instant, Vec<u64>, Bytes)> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    seen: &Lock<Vec<(Instant, Vec<u64>, Bytes)>>,
    script: &Script,
) -> Option<()> {
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

fn ok() -> Act {
    Act::Answer(200, "", "{}".into())
}

/// A store with a lane over it.
struct Bench {
    store: Store,
    reader: Reader,
    plan: Arc<Plan>,
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _dir: TempDir,
}

fn options(text: &str) -> Options {
    let table = toml::from_str(&format!("type = \"numbers\"\n{text}")).unwrap();
    Options::read("n", &crate::config::SinkTable(table)).unwrap().0
}

async fn bench(address: SocketAddr, kind: Numbers, keys: &str) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &crate::config::Store::default()).unwrap();
    let options = options(keys);
    let client = http::client(&options).unwrap();
    let destination =
        Destination::Http { sink: Box::new(kind), base_url: format!("http://{address}"), client };
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
    async fn start(&mut self) {
        let tempo = Tempo {
            first: Duration::from_millis(4),
            longest: Duration::from_millis(40),
            probe: Duration::from_millis(60),
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

    async fn end(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    fn put(&self, range: std::ops::Range<u64>) {
        self.put_with(range, |_| {});
    }

    fn put_with(&self, range: std::ops::Range<u64>, change: impl Fn(&mut Record)) {
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
            self.store.append(Entry { record, bodies: None }, None);
        }
    }

    async fn act(&self, op: Op) -> Result<Done, String> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command { op, reply }).await.unwrap();
        answer.await.unwrap()
    }

    fn row(&self) -> crate::store::LaneRow {
        self.reader.lane("n").unwrap().unwrap()
    }

    fn dead(&self) -> Vec<Exception> {
        self.reader.dead("n", 0, 1000).unwrap().0
    }

    /// Waits until everything up to `seq` is settled and nothing waits alone.
    async fn settled(&self, seq: i64) {
        self.wait(|| self.row().cursor >= seq && self.row().waiting == 0).await;
    }

    async fn wait(&self, what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            let (row, posted) = (self.row(), self.board.read());
            assert!(start.elapsed() < Duration::from_secs(60), "{row:?} {posted:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// How often each number was in a request.
fn times(seen: &[(Instant, Vec<u64>, Bytes)]) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for number in seen.iter().flat_map(|(_, numbers, _)| numbers) {
        *times.entry(*number).or_default() += 1;
    }
    times
}

const ROOMY: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_delivered_once_and_in_order() {
    for batch in [1, 100] {
        let service = Service::start(|_, _| ok());
        let kind = Numbers { batch, bytes: ROOMY };
        let mut bench = bench(service.address, kind, "concurrency = 1").await;
        bench.put(0..500);
        bench.settled(500).await;
        let numbers: Vec<u64> =
            service.seen().into_iter().flat_map(|(_, numbers, _)| numbers).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>(), "batch {batch}");
        assert_eq!((bench.row().delivered, bench.row().dead), (500, 0));
        // It goes on where it was.
        bench.end().await;
        bench.put(500..510);
        bench.start().await;
        bench.settled(510).await;
        assert!(times(&service.seen()).values().all(|times| *times == 1), "batch {batch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_in_a_batch_is_found_by_halves() {
    let service = Service::start(|numbers, _| {
        if numbers.iter().any(|number| number % 100 == 37) {
            Act::Answer(422, "", r#"{"detail":"bad 37"}"#.into())
        } else {
            ok()
        }
    });
    let bench =
        bench(service.address, Numbers { batch: 100, bytes: ROOMY }, "concurrency = 4").await;
    bench.put(0..1000);
    bench.settled(1000).await;
    let dead = bench.dead();
    assert_eq!(dead.len(), 10);
    assert!(dead.iter().all(|dead| dead.reason == r#"422 {"detail":"bad 37"}"#), "{dead:?}");
    let row = bench.row();
    assert_eq!((row.delivered, row.dead, row.waiting), (990, 10, 0));
    // Each is found within log2(100) + 1 rounds, two requests each.
    let requests = service.seen().len();
    assert!(requests <= 10 * (2 * 7 + 1) + 10, "{requests} requests");
    let refused: BTreeSet<u64> = (0..10).map(|at| at * 100 + 37).collect();
    for (number, times) in times(&service.seen()) {
        assert!(refused.contains(&number) || times <= 8, "{number}: {times}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_batch_may_be_refused() {
    let service = Service::start(|numbers, _| {
        let refused: Vec<usize> = numbers
            .iter()
            .enumerate()
            .filter(|(_, number)| **number % 10 == 3)
            .map(|(at, _)| at)
            .collect();
        if refused.is_empty() { ok() } else { Act::Answer(207, "", format!("{refused:?}")) }
    });
    let bench = bench(service.address, Numbers { batch: 50, bytes: ROOMY }, "").await;
    bench.put(0..200);
    bench.settled(200).await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (180, 20));
    assert!(bench.dead().iter().all(|dead| dead.reason == "not this one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_records_are_redriven_and_dropped() {
    let fixed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = Arc::clone(&fixed);
    let service = Service::start(move |numbers, _| {
        let bad = numbers.iter().any(|number| number % 5 == 0);
        if bad && !flag.load(std::sync::atomic::Ordering::Relaxed) {
            Act::Answer(400, "", "no".into())
        } else {
            ok()
        }
    });
    let bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "").await;
    bench.put(0..50);
    bench.settled(50).await;
    let dead = bench.dead();
    assert_eq!(dead.len(), 10);
    fixed.store(true, std::sync::atomic::Ordering::Relaxed);
    let one = Some(vec![dead[0].id.to_string()]);
    assert_eq!(bench.act(Op::Drop(one)).await.unwrap().records, 1);
    assert_eq!(bench.act(Op::Redrive(None)).await.unwrap().records, 9);
    bench.wait(|| bench.row().waiting == 0 && bench.row().delivered == 49).await;
    assert_eq!(bench.row().dead, 0);
    assert!(bench.act(Op::Redrive(Some(vec!["nonsense".into()]))).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_pauses_and_loses_nothing() {
    let service =
        Service::start(
            |_, at| {
                if at <= 5 { Act::Answer(401, "", "who are you".into()) } else { ok() }
            },
        );
    let bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "concurrency = 2").await;
    bench.put(0..20);
    bench.wait(|| bench.board.read().state == State::Paused).await;
    let posted = bench.board.read();
    assert_eq!(posted.last_error.unwrap().message, "401 who are you");
    // It resumes by itself, and a person need not wait for that.
    bench.settled(20).await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (20, 0));
    assert_eq!(bench.board.read().state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_may_stop_it_also_over_a_restart() {
    let service = Service::start(|_, _| ok());
    let mut bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "").await;
    bench.act(Op::Pause).await.unwrap();
    bench.put(0..10);
    bench.end().await;
    bench.start().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(service.seen().is_empty());
    bench.act(Op::Resume).await.unwrap();
    bench.settled(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_split_then_cut_then_dead() {
    // Its own limit, before anything is sent; and the sink's, by 413.
    let service = Service::start(|numbers, _| {
        if numbers.len() > 2 || numbers.contains(&7) {
            Act::Answer(413, "", "too much".into())
        } else {
            ok()
        }
    });
    let bench = bench(service.address, Numbers { batch: 8, bytes: 3000 }, "").await;
    bench.put_with(0..16, |record| {
        if record.tags.reference.as_deref() == Some("3") {
            record.tags.user_query = Some("x".repeat(10_000));
        }
    });
    bench.settled(16).await;
    assert_eq!(bench.dead().len(), 1, "{:?}", bench.dead());
    assert_eq!(bench.dead()[0].reason, "413 too much");
    let seen = service.seen();
    let cut = seen.iter().find(|(_, numbers, _)| numbers == &[3]).unwrap();
    assert!(cut.2.len() < 3000 && String::from_utf8_lossy(&cut.2).contains("[cut, 10000 bytes]"));
    assert_eq!(bench.row().delivered, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_breaks_the_kind_is_dead_and_alone() {
    let service = Service::start(|_, _| ok());
    let bench = bench(service.address, Numbers { batch: 20, bytes: ROOMY }, "").await;
    bench.put(10_660..10_700);
    bench.settled(40).await;
    assert_eq!((bench.row().delivered, bench.dead().len()), (39, 1));
    assert_eq!(bench.dead()[0].reason, "the record cannot be put into a request");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_always_fails_holds_nobody_up() {
    let service = Service::start(|numbers, _| {
        if numbers.contains(&5) { Act::Answer(500, "", "boom".into()) } else { ok() }
    });
    let bench = bench(service.address, Numbers { batch: 1, bytes: ROOMY }, "concurrency = 4").await;
    bench.put(0..200);
    bench.wait(|| bench.row().cursor == 200).await;
    let row = bench.row();
    assert_eq!((row.delivered, row.waiting, row.dead), (199, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_samples_and_choices_hold() {
    let service = Service::start(|_, _| ok());
    let kind = Numbers { batch: 10, bytes: ROOMY };
    let bench = bench(service.address, kind, "only = \"env:prod\"").await;
    bench.put_with(0..30, |record| {
        let at = number(record);
        record.tags.environment = Some(if at % 2 == 0 { "prod" } else { "dev" }.into());
        record.sinks = match at % 6 {
            0 => Some(vec!["other".into()]),
            2 => Some(vec!["n".into(), "other".into()]),
            _ => None,
        };
    });
    bench.settled(30).await;
    let wanted: Vec<u64> = (0..30).filter(|at| at % 2 == 0 && at % 6 != 0).collect();
    assert_eq!(times(&service.seen()).into_keys().collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_interrupted_and_resumed() {
    let service = Service::start(|_, _| ok());
    let kind = Numbers { batch: 5, bytes: ROOMY };
    // It starts with what comes after it.
    let mut bench = bench(service.address, kind, "concurrency = 2").await;
    bench.end().await;
    bench.put(0..400);
    bench.wait(|| bench.reader.last_seq().unwrap() == 400).await;
    let conn = bench.reader.clone();
    // As if the sink was added now.
    drop(
        bench
            .store
            .change_lane(
                "n",
                LaneChange::Progress(crate::store::Progress {
                    cursor: Some(400),
                    ..Default::default()
                }),
            )
            .await,
    );
    assert_eq!(conn.lane("n").unwrap().unwrap().cursor, 400);
    bench.start().await;
    bench.act(Op::Backfill(None)).await.unwrap();
    bench.put(400..420);
    bench.wait(|| bench.row().delivered > 60).await;
    bench.end().await;
    let row = bench.row();
    println!("interrupted at {:?}, delivered {}", row.fill, row.delivered);
    let again = bench.row().fill.is_some();
    bench.start().await;
    bench.settled(420).await;
    bench.wait(|| bench.row().fill.is_none()).await;
    let times = times(&service.seen());
    assert_eq!(times.len(), 420);
    assert!(!again || times.values().filter(|times| **times > 1).count() <= 10);
}

/// Random answers; every record ends delivered, dead for the right reason, or is still tried.
#[tokio::test(flavor = "multi_thread")]
async fn random_answers_lose_and_misjudge_nothing() {
    let wanted: usize =
        std::env::var("CALLTAP_TEST_ANSWERS").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    let early = Arc::new(Lock::new((None::<Instant>, 0, 0)));
    let floor = Arc::clone(&early);
    let taken = Arc::new(Lock::new(BTreeSet::new()));
    let took = Arc::clone(&taken);
    let service = Service::start(move |numbers, at| {
        let mut floor = floor.lock().unwrap();
        if let Some(until) = floor.0.take() {
            // Only what is sent after the answer arrived can be too early: one request at a time here.
            floor.2 += 1;
            if Instant::now() < until {
                floor.1 += 1
            }
        }
        // A number decides for itself what is wrong with it; the rest is chance.
        let poison = numbers.iter().any(|number| number % 17 == 3);
        if poison {
            return Act::Answer(if at % 2 == 0 { 400 } else { 422 }, "", "poison".into());
        }
        match at.wrapping_mul(2_654_435_761) % 11 {
            0 => {
                floor.0 = Some(Instant::now() + Duration::from_millis(30));
                Act::Answer(429, "retry-after-ms: 30\r\n", String::new())
            }
            1 => {
                floor.0 = Some(Instant::now() + Duration::from_millis(20));
                Act::Answer(503, "retry-after: 0.02\r\n", String::new())
            }
            2 => Act::Answer(500, "", "<h1>oops".into()),
            3 => Act::Cut,
            4 => Act::Answer(408, "retry-after: -5\r\n", String::new()),
            5 if at % 3 == 0 => Act::Answer(403, "", String::new()),
            5 if at % 3 == 1 => {
                Act::Answer(302, "location: http://127.0.0.1:1/\r\n", String::new())
            }
            6 if numbers.len() > 1 => Act::Answer(413, "", String::new()),
            _ => {
                took.lock().unwrap().extend(numbers.iter().copied());
                ok()
            }
        }
    });
    let bench = bench(service.address, Numbers { batch: 4, bytes: ROOMY }, "concurrency = 1").await;
    let mut put = 0;
    while service.seen().len() < wanted {
        bench.put(put..put + 50);
        put += 50;
        let limit = i64::try_from(put).unwrap();
        bench.settled(limit).await;
    }
    let dead = bench.dead();
    let row = bench.row();
    assert_eq!(row.delivered + row.dead, put, "{row:?}");
    let poisoned = (0..put).filter(|number| number % 17 == 3).count();
    let (found, _) = bench.reader.dead("n", 0, 1000).unwrap();
    assert_eq!(usize::try_from(row.dead).unwrap(), poisoned);
    assert!(found.iter().all(|dead| dead.reason.ends_with("poison")), "{dead:?}");
    assert_eq!(taken.lock().unwrap().len() as u64, row.delivered);
    let (_, early, asked) = *early.lock().unwrap();
    println!(
        "{} answers, {put} records, {} dead, {asked} waits asked for, {early} early",
        service.seen().len(),
        row.dead
    );
    assert!(asked > 20 && early == 0, "{early} of {asked} came early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_is_left_after_its_time() {
    let service =
        Service::start(|_, at| if at == 1 { Act::Hang(Duration::from_secs(5)) } else { ok() });
    let kind = Numbers { batch: 1, bytes: ROOMY };
    let bench = bench(service.address, kind, "timeout = \"200ms\"\nconcurrency = 1").await;
    bench.put(0..3);
    bench.settled(3).await;
    assert_eq!(bench.board.read().last_error.unwrap().message, "no answer in time");
    let seen = service.seen();
    assert_eq!(seen[0].2, seen[1].2, "the same bytes again");
}
