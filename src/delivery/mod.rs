//! From the record log to every sink: one lane each, started, reloaded and stopped together.
//!
//! The record log is the queue; a lane is a cursor over it (`reliability.md` D2, D3).

mod answer;
mod backoff;
#[cfg(test)]
mod bench_tests;
mod board;
mod control;
mod files;
mod http;
mod intake;
mod lane;
mod plan;
mod probe;
mod settle;
mod shorten;
mod status;
mod supply;
#[cfg(test)]
mod tests;
mod window;

pub use board::State;
pub use control::{Done, Op, apply};
pub use plan::{Destination, Plan, kind_names, plans};
pub use probe::{Report, probe, test};
pub use status::{Backfill, CallState, Status};

use crate::{
    config::{Config, Period, Start},
    metrics::Metrics,
    model::{Record, Timestamp},
    store::{LaneChange, Reader, Store, StoreError},
};
use backoff::Tempo;
use board::Board;
use control::Command;
use lane::{Lane, Parts};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex, RwLock, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How often the metrics of sinks are taken.
const SURVEY: Duration = Duration::from_secs(5);

/// All lanes. Cheap to clone.
#[derive(Clone)]
pub struct Delivery {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    reader: Reader,
    metrics: Arc<Metrics>,
    data_dir: PathBuf,
    sinks: RwLock<Sinks>,
    /// One reload at a time.
    reloading: Mutex<()>,
    stop: CancellationToken,
}

/// By id. One that is being replaced can still be seen.
type Sinks = BTreeMap<String, Arc<Running>>;

/// A configured sink; without a lane where it is not enabled.
struct Running {
    plan: Arc<Plan>,
    board: Arc<Board>,
    lane: Option<LaneHandle>,
}

struct LaneHandle {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("data_dir", &self.inner.data_dir).finish_non_exhaustive()
    }
}

impl Delivery {
    /// No lane runs before the first [`Self::reload`].
    ///
    /// # Errors
    /// The store's.
    pub fn new(store: Store, metrics: Arc<Metrics>, data_dir: &Path) -> Result<Self, StoreError> {
        let reader = store.reader()?;
        let inner = Inner {
            store,
            reader,
            metrics,
            data_dir: data_dir.to_owned(),
            sinks: RwLock::default(),
            reloading: Mutex::default(),
            stop: CancellationToken::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Brings the lanes to what the configuration says: new ones start, others stop, changed ones are
    /// replaced, and those that stand still try again.
    pub async fn reload(&self, plans: Vec<Plan>) {
        let _one = self.inner.reloading.lock().await;
        if self.inner.stop.is_cancelled() {
            return;
        }
        let mut old = self.inner.sinks.read().await.clone();
        let mut next = BTreeMap::new();
        for plan in plans {
            let plan = Arc::new(in_dir(plan, &self.inner.data_dir));
            match old.remove(&plan.id) {
                Some(same) if same.plan.is_same(&plan) => {
                    if let Some(lane) = &same.lane {
                        let (reply, _) = oneshot::channel();
                        lane.commands.send(Command { op: Op::Wake, reply }).await.ok();
                    }
                    next.insert(plan.id.clone(), same);
                }
                changed => {
                    if let Some(changed) = changed {
                        changed.stop().await;
                    }
                    next.insert(plan.id.clone(), Arc::new(self.start(plan)));
                }
            }
        }
        for gone in old.into_values() {
            gone.stop().await;
        }
        self.release(&next).await;
        *self.inner.sinks.write().await = next;
    }

    /// Nothing is kept for sinks that are not delivered to.
    async fn release(&self, sinks: &Sinks) {
        let reader = self.inner.reader.clone();
        let Ok(Ok(rows)) = tokio::task::spawn_blocking(move || reader.lanes()).await else {
            return;
        };
        for row in rows {
            if sinks.get(&row.sink).is_none_or(|sink| sink.lane.is_none()) {
                drop(self.inner.store.change_lane(&row.sink, LaneChange::Release));
            }
        }
    }

    fn start(&self, plan: Arc<Plan>) -> Running {
        let board = Arc::new(Board::default());
        let mut running =
            Running { plan: Arc::clone(&plan), board: Arc::clone(&board), lane: None };
        if !plan.options.enabled {
            return running;
        }
        if let Some(warning) = plan.warning() {
            tracing::warn!(sink = plan.name, "{warning}");
        }
        let (commands, inbox) = mpsc::channel(16);
        let stop = self.inner.stop.child_token();
        let parts = Parts {
            plan,
            store: self.inner.store.clone(),
            reader: self.inner.reader.clone(),
            metrics: Arc::clone(&self.inner.metrics),
            board,
            tempo: Tempo::default(),
        };
        let token = stop.clone();
        let task = tokio::spawn(async move {
            let name = parts.plan.name.clone();
            match open(parts, &token).await {
                Ok(Some(lane)) => lane.run(inbox, token).await,
                Ok(None) => {}
                Err(error) => tracing::error!(sink = name, %error, "the lane cannot start"),
            }
        });
        running.lane = Some(LaneHandle { commands, stop, task: Mutex::new(Some(task)) });
        running
    }

    /// Keeps the metrics of all sinks until delivery stops.
    pub async fn survey(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(SURVEY) => {}
            }
            let Ok(all) = self.status().await else { continue };
            for status in all {
                self.inner.metrics.sink_state(
                    &status.name,
                    status.queue + status.waiting,
                    status.oldest_age_s.unwrap_or(0.0),
                    status.dead,
                    status.state == State::Paused,
                );
            }
        }
    }

    /// How every sink is doing, configured ones first.
    ///
    /// # Errors
    /// The store's.
    pub async fn status(&self) -> Result<Vec<Status>, StoreError> {
        let sinks = self.inner.sinks.read().await;
        let mut known: Vec<(Arc<Plan>, board::Posted)> =
            sinks.values().map(|sink| (Arc::clone(&sink.plan), sink.board.read())).collect();
        drop(sinks);
        known.sort_by(|one, other| one.0.name.cmp(&other.0.name));
        let reader = self.inner.reader.clone();
        let work = move || {
            let mut all = Vec::new();
            for (plan, posted) in &known {
                all.push(status::configured(&reader, plan, posted.clone())?);
            }
            for row in reader.lanes()? {
                if !known.iter().any(|(plan, _)| plan.id == row.sink) {
                    all.push(status::removed(row));
                }
            }
            Ok(all)
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(StoreError::Invalid(error.to_string())))
    }

    /// Does something with a sink, by name or id. `None` when there is no such sink.
    pub async fn act(&self, name: &str, op: Op) -> Option<Result<Done, String>> {
        let sinks = self.inner.sinks.read().await;
        let found = find(&sinks, name);
        let id = found.map_or_else(|| name.to_owned(), |sink| sink.plan.id.clone());
        let lane = found.and_then(|sink| sink.lane.as_ref()).map(|lane| lane.commands.clone());
        drop(sinks);
        if let Some(lane) = lane {
            let (reply, answer) = oneshot::channel();
            let asked = lane.send(Command { op, reply }).await.is_ok();
            let answer = if asked { answer.await.ok() } else { None };
            return Some(answer.unwrap_or_else(|| Err("the lane is stopping".to_owned())));
        }
        let reader = self.inner.reader.clone();
        let known = id.clone();
        let row = tokio::task::spawn_blocking(move || reader.lane(&known)).await;
        if !matches!(row, Ok(Ok(Some(_)))) {
            return None;
        }
        Some(apply(&self.inner.store, &self.inner.reader, &id, op).await)
    }

    /// What became of a call at every configured sink.
    ///
    /// # Errors
    /// The store's.
    pub async fn of_call(&self, record: Record) -> Result<Vec<CallState>, StoreError> {
        let sinks = self.inner.sinks.read().await;
        let mut plans: Vec<_> = sinks.values().map(|sink| Arc::clone(&sink.plan)).collect();
        drop(sinks);
        plans.sort_by(|one, other| one.name.cmp(&other.name));
        let reader = self.inner.reader.clone();
        let work =
            move || plans.iter().map(|plan| status::of_call(&reader, plan, &record)).collect();
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(StoreError::Invalid(error.to_string())))
    }

    /// Sends a test event. `None` when no such sink is configured.
    pub async fn test(&self, name: &str) -> Option<Report> {
        let sinks = self.inner.sinks.read().await;
        let plan = find(&sinks, name).map(|sink| Arc::clone(&sink.plan))?;
        drop(sinks);
        Some(test(&plan).await)
    }

    /// Stops all lanes. Answers that come within `patience` are still counted; what is in flight then
    /// is sent again by the next start.
    pub async fn stop(&self, patience: Duration) {
        self.inner.stop.cancel();
        let stopping = async {
            let _one = self.inner.reloading.lock().await;
            let sinks = std::mem::take(&mut *self.inner.sinks.write().await);
            for sink in sinks.into_values() {
                sink.stop().await;
            }
        };
        if tokio::time::timeout(patience, stopping).await.is_err() {
            tracing::warn!("lanes were cut off; what was in flight is sent again");
        }
    }
}

impl Running {
    async fn stop(&self) {
        let Some(lane) = &self.lane else { return };
        lane.stop.cancel();
        let Some(task) = lane.task.lock().await.take() else { return };
        if task.await.is_err() {
            tracing::error!(sink = self.plan.name, "the lane panicked");
        }
    }
}

fn find<'a>(sinks: &'a Sinks, name: &str) -> Option<&'a Arc<Running>> {
    sinks.values().find(|sink| sink.plan.name == name).or_else(|| sinks.get(name))
}

/// Finds or makes the lane's place in the record log. `None` when it is stopped meanwhile.
async fn open(parts: Parts, stop: &CancellationToken) -> Result<Option<Lane>, StoreError> {
    let (reader, start) = (parts.reader.clone(), parts.plan.options.start);
    let begin = move || match start {
        Start::Now => reader.last_seq(),
        Start::Beginning => Ok(0),
        Start::At(time) => reader.seq_before(time),
    };
    let gone = |error: tokio::task::JoinError| StoreError::Invalid(error.to_string());
    let first = tokio::task::spawn_blocking(begin).await.map_err(gone)??;
    loop {
        let change = LaneChange::Open { first };
        let opened = parts.store.change_lane(&parts.plan.id, change);
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            opened = opened => if opened.is_ok() { break },
        }
        // The store took no change just now.
        tokio::time::sleep(lane::STORE_PAUSE).await;
    }
    tokio::task::spawn_blocking(move || Lane::new(parts).map(Some)).await.map_err(gone)?
}

/// Files without a folder of their own go into the data directory.
fn in_dir(mut plan: Plan, data_dir: &Path) -> Plan {
    if let Destination::Files(files) = &mut plan.destination
        && files.dir.is_none()
    {
        // A name is the user's: as a file name it is escaped.
        let name =
            percent_encoding::utf8_percent_encode(&plan.id, percent_encoding::NON_ALPHANUMERIC);
        files.dir = Some(data_dir.join("sinks").join(name.to_string()));
    }
    plan
}

/// How every sink is doing as far as the store knows: no server runs. Blocks.
///
/// # Errors
/// The store's.
pub fn offline(reader: &Reader, plans: &[Plan]) -> Result<Vec<Status>, StoreError> {
    let mut all = Vec::new();
    for plan in plans {
        let posted = board::Posted { state: State::Stopped, ..board::Posted::default() };
        all.push(status::configured(reader, plan, posted)?);
    }
    for row in reader.lanes()? {
        if !plans.iter().any(|plan| plan.id == row.sink) {
            all.push(status::removed(row));
        }
    }
    Ok(all)
}

/// A moment as people write it: `7d` ago, a day, or RFC 3339.
///
/// # Errors
/// In words.
pub fn time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(period) = text.parse::<Period>() {
        let us = i64::try_from(period.0.as_micros()).unwrap_or(i64::MAX);
        return Ok(now.plus_us(us.saturating_neg()));
    }
    match text.parse() {
        Ok(Start::At(time)) => Ok(time),
        _ => Err("is a time such as 7d, 2026-11-20 or 2026-11-20T08:00:00Z".to_owned()),
    }
}

/// Everything that is wrong with the sinks of a configuration.
pub fn faults(config: &Config) -> Vec<crate::config::Fault> {
    plans(config).err().unwrap_or_default()
}
