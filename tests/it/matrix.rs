//! Every fault with every durability, shape of call and kind of sink (`reliability.md` R33): a cell is a call
//! that meets the fault. Each says that it did, has one record, and reaches the sink that it is for.

use crate::harness::{
    Calltap, Connection, Request, Step, Upstream, chat, fetch, free_port, json_answer, post,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);
const SINKS: [&str; 5] = ["athina", "honeyhive", "humanloop", "keywordsai", "none"];

/// What a call meets, and the outcome of its record.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The upstream does this to it.
    Upstream(&'static str, &'static str),
    /// Another process holds the store.
    StoreIsLocked,
    /// The sinks do this to what they get.
    Sink(usize, &'static str),
    /// calltap is killed while it runs.
    Kill,
}

const WELL: usize = 0;

const FAULTS: [Fault; 15] = [
    Fault::Upstream("refuses connections", "connect_failed"),
    Fault::Upstream("has no address", "connect_failed"),
    Fault::Upstream("resets before the answer", "upstream_truncated"),
    Fault::Upstream("resets in the answer", "upstream_truncated"),
    Fault::Upstream("speaks no HTTP", "upstream_truncated"),
    Fault::Upstream("says nothing", "upstream_timeout"),
    Fault::Upstream("is left by the client", "client_aborted"),
    Fault::Upstream("gives a 500", "provider_error"),
    Fault::StoreIsLocked,
    Fault::Sink(1, "is unavailable"),
    Fault::Sink(2, "is slow"),
    Fault::Sink(3, "drops connections"),
    Fault::Sink(4, "refuses the key"),
    Fault::Sink(5, "refuses the record"),
    Fault::Kill,
];

/// One vendor: what it was sent while it was ill, and what it took.
#[derive(Default)]
struct Vendor {
    mode: AtomicUsize,
    ill: Mutex<Vec<Vec<u8>>>,
    took: Mutex<Vec<Vec<u8>>>,
}

impl Vendor {
    fn answer(&self, request: &Request) -> Vec<Step> {
        let mode = self.mode.load(Ordering::Relaxed);
        if mode != WELL {
            self.ill.lock().unwrap().push(request.body.clone());
        }
        match mode {
            1 => return json_answer(503, "{}"),
            2 => std::thread::sleep(Duration::from_millis(300)),
            3 => return vec![Step::Rst],
            4 => return json_answer(401, "{}"),
            5 => return json_answer(422, "{}"),
            _ => {}
        }
        self.took.lock().unwrap().push(request.body.clone());
        json_answer(200, "{}")
    }

    fn has(bodies: &Mutex<Vec<Vec<u8>>>, mark: &str) -> bool {
        let bodies = bodies.lock().unwrap();
        bodies.iter().any(|body| memchr::memmem::find(body, mark.as_bytes()).is_some())
    }
}

/// A call that is to meet a fault.
struct Cell {
    mark: String,
    stream: bool,
    sink: &'static str,
}

fn cells(fault: usize, durability: &str) -> Vec<Cell> {
    let shapes = [false, true].into_iter();
    let cell = |stream, sink| Cell {
        mark: format!("cell-{fault}-{durability}-{stream}-{sink}-end"),
        stream,
        sink,
    };
    shapes.flat_map(|stream| SINKS.map(|sink| cell(stream, sink))).collect()
}

fn provider(request: &Request) -> Vec<Step> {
    let send = |text: &str| Step::Send(text.as_bytes().to_vec());
    let is_stream = request.json()["stream"] == true;
    let begun = if is_stream {
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\na\r\ndata: 12\n\n\r\n"
    } else {
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n8\r\n{\"id\":1,\r\n"
    };
    match request.header("x-way").unwrap_or_default() {
        "resets before the answer" => vec![Step::Rst],
        "resets in the answer" => {
            vec![send(begun), Step::Pause(Duration::from_millis(5)), Step::Rst]
        }
        "speaks no HTTP" => vec![send("SSH-2.0 nonsense\r\n\r\n"), Step::Fin],
        "says nothing" => vec![Step::Stall],
        "is left by the client" | "goes on" => vec![send(begun), Step::Stall],
        "gives a 500" => json_answer(500, r#"{"error":{"message":"no","type":"server_error"}}"#),
        _ => chat(3, Duration::ZERO)(request),
    }
}

struct World {
    durability: &'static str,
    calltap: Calltap,
    upstream: Upstream,
    vendors: Vec<Arc<Vendor>>,
    /// Kept for their sockets.
    _servers: Vec<Upstream>,
}

impl World {
    fn start(durability: &'static str) -> Self {
        let upstream = Upstream::start(provider);
        let mut sections = format!(
            "[store]\ndurability = \"{durability}\"\n[log]\nlevel = \"error\"\n[upstreams.away]\nbase_url = \"http://127.0.0.1:{}/v1\"\n[upstreams.nameless]\nbase_url = \"http://provider.invalid/v1\"\n[upstreams.patient]\nbase_url = \"{}\"\n",
            free_port(),
            upstream.url()
        );
        let (mut vendors, mut servers) = (Vec::new(), Vec::new());
        for name in &SINKS[..4] {
            let vendor = Arc::new(Vendor::default());
            let shared = Arc::clone(&vendor);
            let server = Upstream::start(move |request| shared.answer(request));
            let project = if *name == "honeyhive" { "project = \"p\"\n" } else { "" };
            sections += &format!(
                "[sinks.{name}]\ntype = \"{name}\"\nbase_url = \"http://{}\"\napi_key = \"k\"\n{project}timeout = \"2s\"\n",
                server.address
            );
            vendors.push(vendor);
            servers.push(server);
        }
        let calltap = Calltap::with(&upstream, "first_byte_timeout = \"400ms\"", &sections);
        Self { durability, calltap, upstream, vendors, _servers: servers }
    }

    fn vendor(&self, sink: &str) -> Option<&Vendor> {
        let at = SINKS[..4].iter().position(|name| *name == sink)?;
        Some(&self.vendors[at])
    }

    /// Sends a cell's call.
    fn send(&self, path: &str, way: &str, cell: &Cell) -> Connection {
        let mut connection = Connection::open(self.calltap.address);
        let Cell { mark, stream, sink } = cell;
        let body = format!(
            r#"{{"model":"gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":"{mark}"}}]}}"#
        );
        connection.send(format!("POST {path}/v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-way: {way}\r\nx-calltap-ref: {mark}\r\nx-calltap-sinks: {sink}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        connection
    }

    /// Calls that are all made at once; their status, and whether they are whole.
    fn ask(&self, path: &str, way: &str, cells: &[Cell]) -> Vec<(u16, bool)> {
        let open: Vec<_> = cells.iter().map(|cell| self.send(path, way, cell)).collect();
        let answers = open.into_iter().map(|mut connection| connection.answer("POST"));
        answers
            .map(|answer| answer.map_or((0, false), |answer| (answer.status, answer.whole)))
            .collect()
    }

    /// Lets every cell meet the fault; which did.
    fn meet(&mut self, fault: Fault, cells: &[Cell]) -> Vec<bool> {
        match fault {
            Fault::Upstream(what, _) => self.meet_upstream(what, cells),
            Fault::StoreIsLocked => self.meet_lock(cells),
            Fault::Sink(mode, _) => self.meet_sinks(mode, cells),
            Fault::Kill => self.meet_kill(cells),
        }
    }

    fn meet_upstream(&self, what: &str, cells: &[Cell]) -> Vec<bool> {
        let before = self.upstream.requests().len();
        match what {
            "refuses connections" | "has no address" => {
                let path = if what == "has no address" { "/nameless" } else { "/away" };
                let answers = self.ask(path, what, cells);
                assert_eq!(self.upstream.requests().len(), before, "nobody was there");
                answers.iter().map(|(status, _)| *status == 502).collect()
            }
            "is left by the client" => {
                let open: Vec<_> = cells.iter().map(|cell| self.send("", what, cell)).collect();
                open.into_iter().map(|mut connection| connection.read_body(8) > 0).collect()
            }
            _ => {
                let expected = match what {
                    "says nothing" => (504, true),
                    "resets in the answer" => (200, false),
                    "gives a 500" => (500, true),
                    _ => (502, true),
                };
                let answers = self.ask("", what, cells);
                assert_eq!(self.upstream.requests().len(), before + cells.len(), "each arrived");
                answers.iter().map(|answer| *answer == expected).collect()
            }
        }
    }

    /// `group` records them when it can again, `strict` takes none.
    fn meet_lock(&self, cells: &[Cell]) -> Vec<bool> {
        let file = self.calltap.data_dir().join("calltap.db");
        let lock = rusqlite::Connection::open(file).unwrap();
        lock.busy_timeout(Duration::from_secs(10)).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut first = cells.first().map(|cell| {
            let cell = Cell { mark: format!("first-{}", self.durability), ..*cell };
            self.send("", "", &cell)
        });
        self.wait("the trouble shows", || {
            fetch(self.calltap.address, "/readyz").is_some_and(|answer| answer.status == 503)
        });
        let before = self.upstream.requests().len();
        let answers = self.ask("", "", cells);
        let arrived = self.upstream.requests().len() - before;
        let expected = if self.durability == "strict" { (503, 0) } else { (200, cells.len()) };
        assert_eq!(arrived, expected.1, "what went upstream");
        let count: i64 = lock
            .query_row("SELECT count(*) FROM calls WHERE reference = ?1", [&cells[0].mark], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(count, 0, "nothing was recorded meanwhile");
        lock.execute_batch("ROLLBACK").unwrap();
        first.as_mut().map(|first| first.answer("POST"));
        self.wait("it recovers", || {
            fetch(self.calltap.address, "/readyz").is_some_and(|answer| answer.status == 200)
        });
        answers.iter().map(|(status, _)| *status == expected.0).collect()
    }

    fn meet_sinks(&self, mode: usize, cells: &[Cell]) -> Vec<bool> {
        for vendor in &self.vendors {
            vendor.mode.store(mode, Ordering::Relaxed);
            vendor.ill.lock().unwrap().clear();
        }
        let answers = self.ask("", "", cells);
        assert!(answers.iter().all(|answer| *answer == (200, true)), "clients notice nothing");
        let met = |cell: &Cell| match self.vendor(cell.sink) {
            Some(vendor) => Vendor::has(&vendor.ill, &cell.mark),
            // For no sink: while all of them were ill.
            None => self.vendors.iter().all(|vendor| !vendor.ill.lock().unwrap().is_empty()),
        };
        // A sink that is away or refuses the key may be asked for one only: the others wait behind it.
        let one_is_enough = matches!(mode, 1 | 3 | 4);
        let of = |sink: &str| cells.iter().any(|cell| cell.sink == sink && met(cell));
        self.wait("the sinks are asked", || {
            if one_is_enough { SINKS.iter().all(|sink| of(sink)) } else { cells.iter().all(met) }
        });
        if mode == 5 {
            self.wait("records are dead", || {
                let sinks = fetch(self.calltap.address, "/api/v1/sinks").unwrap().json();
                sinks["items"].as_array().unwrap().iter().all(|sink| sink["dead"] == 2)
            });
        }
        let met = cells.iter().map(|cell| met(cell) || one_is_enough).collect();
        for (vendor, name) in self.vendors.iter().zip(SINKS) {
            vendor.mode.store(WELL, Ordering::Relaxed);
            for order in ["redrive", "resume"] {
                let path = format!("/api/v1/sinks/{name}/{order}");
                assert_eq!(post(self.calltap.address, &path, "", "{}").status, 200, "{path}");
            }
        }
        met
    }

    fn meet_kill(&mut self, cells: &[Cell]) -> Vec<bool> {
        let mut open: Vec<_> =
            cells.iter().map(|cell| self.send("/patient", "goes on", cell)).collect();
        let begun: Vec<bool> =
            open.iter_mut().map(|connection| connection.read_body(8) > 0).collect();
        // From 25 ms on a call is known to the store; it gets a while on a busy machine.
        let journal = self.calltap.data_dir().join("calltap.db");
        let journal = rusqlite::Connection::open(journal).unwrap();
        self.wait("the journal knows them", || {
            let count: Result<usize, _> = journal
                .query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, u32>(0))
                .map(|count| usize::try_from(count).unwrap());
            count.is_ok_and(|count| count >= cells.len())
        });
        drop(journal);
        self.calltap.kill();
        drop(open);
        self.calltap.restart();
        begun
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            let sinks = fetch(self.calltap.address, "/api/v1/sinks").map(|answer| answer.json());
            assert!(Instant::now() < until, "{what}, {}: {sinks:#?}", self.durability);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One record a cell, with the outcome that the fault makes, delivered where it was to go and nowhere else.
    fn conserved(&self, fault: Fault, cells: &[Cell]) {
        let expected = match fault {
            Fault::Upstream(_, outcome) => outcome,
            Fault::StoreIsLocked if self.durability == "strict" => "refused",
            Fault::StoreIsLocked | Fault::Sink(..) => "completed",
            Fault::Kill => "interrupted",
        };
        for cell in cells {
            let query = format!("ref:{}", cell.mark);
            self.wait(&query, || !self.calltap.calls(&query).is_empty());
            let records = self.calltap.calls(&query);
            assert_eq!(records.len(), 1, "{fault:?}, {}", cell.mark);
            assert_eq!(records[0]["outcome"], expected, "{fault:?}, {}", cell.mark);
            let path = format!("/api/v1/calls/{}/delivery", records[0]["id"].as_str().unwrap());
            let states = || {
                let answer = fetch(self.calltap.address, &path).unwrap().json();
                let items = answer["items"].as_array().unwrap().clone();
                let pair = |item: &serde_json::Value| {
                    (
                        item["sink"].as_str().unwrap().to_owned(),
                        item["state"].as_str().unwrap().to_owned(),
                    )
                };
                items.iter().map(pair).collect::<BTreeMap<_, _>>()
            };
            // What calltap refused goes to no sink.
            let goes = if expected == "refused" { "none" } else { cell.sink };
            let settled = |sink: &str, state: &str| {
                state == if sink == goes { "delivered" } else { "skipped" }
            };
            self.wait(&format!("{fault:?}, {}: {:?}", cell.mark, states()), || {
                states().iter().all(|(sink, state)| settled(sink, state))
            });
            for (vendor, name) in self.vendors.iter().zip(SINKS) {
                let took = Vendor::has(&vendor.took, &cell.mark);
                assert_eq!(took, name == goes, "{fault:?}, {}: {name}", cell.mark);
            }
        }
    }
}

/// Cells of one durability by fault: how many there are, and how many met it.
fn run(durability: &'static str) -> Vec<(Fault, usize, usize)> {
    let mut world = World::start(durability);
    let mut row = |(at, fault)| {
        let cells = cells(at, durability);
        let met = world.meet(fault, &cells).into_iter().filter(|met| *met).count();
        world.conserved(fault, &cells);
        (fault, cells.len(), met)
    };
    let rows = FAULTS.into_iter().enumerate().map(&mut row).collect();
    let (stored, dropped) = world.calltap.counts();
    // The cells, and the call that first met the lock.
    assert_eq!((stored, dropped), (FAULTS.len() * SINKS.len() * 2 + 1, 0), "{durability}");
    rows
}

#[test]
fn every_fault_with_every_durability_shape_and_sink() {
    let (group, strict) = std::thread::scope(|scope| {
        let group = scope.spawn(|| run("group"));
        let strict = run("strict");
        (group.join().unwrap(), strict)
    });
    let (mut all, mut met) = (0, 0);
    for ((fault, cells, seen), (_, other_cells, other_seen)) in group.iter().zip(&strict) {
        println!("{fault:?}: group {seen} of {cells} cells, strict {other_seen} of {other_cells}");
        all += cells + other_cells;
        met += seen + other_seen;
    }
    println!(
        "{met} of {all} cells met their fault; each has one record, with the outcome that it makes, at its sink and at no other"
    );
    assert!(met * 100 >= all * 95, "{met} of {all} cells were executed");
}
