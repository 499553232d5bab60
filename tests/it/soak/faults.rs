//! What goes wrong meanwhile, one thing after the other, and how it is known that it did.

use super::load::Seen;
use crate::{
    disk::{Volume, fill},
    harness::{Calltap, Request, Step, Upstream, chat, json_answer},
};
use serde_json::Value;
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    SinkHangs,
    SinkIsUnavailable,
    SinkRefusesTheKey,
    SinkRefusesRecords,
    UpstreamRefusesConnections,
    UpstreamBreaksOff,
    StoreIsLocked,
    DiskIsFull,
}

pub const FAULTS: [Fault; 8] = [
    Fault::SinkHangs,
    Fault::UpstreamRefusesConnections,
    Fault::SinkIsUnavailable,
    Fault::StoreIsLocked,
    Fault::SinkRefusesTheKey,
    Fault::UpstreamBreaksOff,
    Fault::SinkRefusesRecords,
    Fault::DiskIsFull,
];

const WELL: usize = 0;
const HANGS: usize = 1;
const UNAVAILABLE: usize = 2;
const NO_KEY: usize = 3;
const REFUSES: usize = 4;
const RESETS: usize = 5;
const BREAKS_OFF: usize = 6;

/// A webhook receiver that remembers ids only.
pub struct Receiver {
    server: Upstream,
    mode: Arc<AtomicUsize>,
    /// Requests that met it while it was not well.
    hit: Arc<AtomicUsize>,
    taken: Arc<Mutex<HashSet<String>>>,
    /// Records that came again.
    pub repeats: Arc<AtomicUsize>,
}

impl Receiver {
    pub fn start() -> Self {
        let (mode, hit) = (Arc::new(AtomicUsize::new(WELL)), Arc::new(AtomicUsize::new(0)));
        let (taken, repeats) =
            (Arc::<Mutex<HashSet<String>>>::default(), Arc::<AtomicUsize>::default());
        let shared =
            (Arc::clone(&mode), Arc::clone(&hit), Arc::clone(&taken), Arc::clone(&repeats));
        let server = Upstream::start(move |request| {
            let mode = shared.0.load(Ordering::Relaxed);
            if mode != WELL {
                shared.1.fetch_add(1, Ordering::Relaxed);
            }
            match mode {
                HANGS => return vec![Step::Stall],
                UNAVAILABLE => return json_answer(503, "{}"),
                NO_KEY => return json_answer(401, "{}"),
                REFUSES => return json_answer(400, "{}"),
                _ => {}
            }
            let records: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
            let mut taken = shared.2.lock().unwrap();
            for record in records {
                let is_new = taken.insert(record["id"].as_str().unwrap().to_owned());
                shared.3.fetch_add(usize::from(!is_new), Ordering::Relaxed);
            }
            json_answer(200, "{}")
        });
        Self { server, mode, hit, taken, repeats }
    }

    pub fn section(&self, name: &str) -> String {
        format!(
            "[sinks.{name}]\ntype = \"webhook\"\nbase_url = \"http://{}\"\nsecret = \"s3cret\"\ntimeout = \"1s\"\n",
            self.server.address
        )
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.server.forget();
    }

    pub fn taken(&self) -> HashSet<String> {
        self.taken.lock().unwrap().clone()
    }
}

/// Everything that can be made to fail.
pub struct World {
    pub calltap: Calltap,
    pub volume: Option<Volume>,
    pub healthy: Receiver,
    pub sick: Receiver,
    pub upstream: Option<Upstream>,
    upstream_mode: Arc<AtomicUsize>,
    /// Where the upstream is to listen again.
    port: Option<SocketAddr>,
    /// Holds the write lock of the store.
    lock: Option<rusqlite::Connection>,
    /// What the counter of the active fault was before it.
    before: usize,
}

impl World {
    /// Bodies are pruned meanwhile; the volume is that of the data directory.
    pub fn start(volume: &str) -> Self {
        let upstream_mode = Arc::new(AtomicUsize::new(WELL));
        let upstream = Upstream::start(provider(&upstream_mode));
        let (healthy, sick) = (Receiver::start(), Receiver::start());
        let sections = format!(
            "{}{}[store]\nkeep_bodies = \"5m\"\n[log]\nlevel = \"error\"\n",
            healthy.section("healthy"),
            sick.section("sick")
        );
        let mut mounted = None;
        let calltap = Calltap::prepared(&upstream, "", &sections, |home| {
            mounted = Volume::mount(&home.join("data"), volume);
        });
        Self {
            calltap,
            volume: mounted,
            healthy,
            sick,
            upstream: Some(upstream),
            upstream_mode,
            port: None,
            lock: None,
            before: 0,
        }
    }

    pub fn begin(&mut self, fault: Fault, seen: &Seen) {
        self.before = self.landed(fault, seen);
        let sick = |mode| self.sick.mode.store(mode, Ordering::Relaxed);
        match fault {
            Fault::SinkHangs => sick(HANGS),
            Fault::SinkIsUnavailable => sick(UNAVAILABLE),
            Fault::SinkRefusesTheKey => sick(NO_KEY),
            Fault::SinkRefusesRecords => sick(REFUSES),
            Fault::UpstreamRefusesConnections => {
                // Connections that are open are reset with the next call.
                self.upstream_mode.store(RESETS, Ordering::Relaxed);
                self.port = self.upstream.take().map(|upstream| upstream.address);
            }
            Fault::UpstreamBreaksOff => self.upstream_mode.store(BREAKS_OFF, Ordering::Relaxed),
            Fault::StoreIsLocked => {
                let file = self.calltap.data_dir().join("calltap.db");
                let lock = rusqlite::Connection::open(file).unwrap();
                lock.busy_timeout(Duration::from_secs(10)).unwrap();
                lock.execute_batch("BEGIN IMMEDIATE").unwrap();
                self.lock = Some(lock);
            }
            Fault::DiskIsFull => self.go_on(fault),
        }
    }

    /// What the store gives up to go on is taken away as well.
    pub fn go_on(&self, fault: Fault) {
        if fault == Fault::DiskIsFull {
            fill(&self.filler());
        }
    }

    /// The end of a fault; how often it was met.
    pub fn end(&mut self, fault: Fault, seen: &Seen) -> usize {
        let landed = self.met(fault, seen);
        self.sick.mode.store(WELL, Ordering::Relaxed);
        self.upstream_mode.store(WELL, Ordering::Relaxed);
        if let Some(address) = self.port.take() {
            self.upstream = Some(Upstream::at(address, provider(&self.upstream_mode)));
        }
        if let Some(lock) = self.lock.take() {
            lock.execute_batch("ROLLBACK").unwrap();
        }
        match fault {
            Fault::DiskIsFull => std::fs::remove_file(self.filler()).unwrap(),
            // Whoever has put a good key in its place says so.
            Fault::SinkRefusesTheKey => self.calltap.signal("HUP"),
            _ => {}
        }
        landed
    }

    /// How often the active fault was met so far.
    pub fn met(&self, fault: Fault, seen: &Seen) -> usize {
        self.landed(fault, seen) - self.before
    }

    fn landed(&self, fault: Fault, seen: &Seen) -> usize {
        match fault {
            Fault::UpstreamRefusesConnections => seen.unreachable.load(Ordering::Relaxed),
            Fault::UpstreamBreaksOff => seen.cut.load(Ordering::Relaxed),
            Fault::StoreIsLocked | Fault::DiskIsFull => {
                self.calltap.log().matches("the store cannot be written").count()
            }
            _ => self.sick.hit.load(Ordering::Relaxed),
        }
    }

    fn filler(&self) -> std::path::PathBuf {
        self.calltap.data_dir().join("filler")
    }
}

/// A provider that does what the call asks for in `x-soak`, while it is well.
fn provider(mode: &Arc<AtomicUsize>) -> impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static {
    let mode = Arc::clone(mode);
    let (usual, slow) = (chat(20, Duration::from_millis(10)), chat(40, Duration::from_millis(100)));
    move |request| {
        let mut steps = match request.header("x-soak") {
            Some("error") => {
                json_answer(500, r#"{"error":{"message":"no","type":"server_error"}}"#)
            }
            Some("slow") => slow(request),
            _ => usual(request),
        };
        match mode.load(Ordering::Relaxed) {
            RESETS => return vec![Step::Rst],
            BREAKS_OFF => {
                steps.truncate(steps.len().div_ceil(2));
                if let Some(Step::Send(last)) = steps.last_mut() {
                    last.truncate(last.len() - 1);
                }
                steps.push(Step::Rst);
            }
            _ => {}
        }
        steps
    }
}
