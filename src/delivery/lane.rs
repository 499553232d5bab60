//! One sink's lane: reads the record log, keeps a window in flight, moves its cursor.
//!
//! Invariants: the stored cursor never passes a record that is neither delivered nor an exception;
//! what is in memory does not depend on what waits; a lane waits for nobody but its own sink and the
//! store's writer.

use super::{
    answer::{Judged, Obstacle, judge, unanswered},
    backoff::{Gate, Tempo},
    board::{Board, State},
    control::{self, Command, Op},
    files::Files,
    http,
    intake::{Load, Parcel},
    plan::{Destination, Plan},
    supply::{Built, LINGER},
    window::Window,
};
use crate::{
    metrics::Metrics,
    model::Timestamp,
    sink::Verdict,
    store::{LaneChange, Progress, Reader, Store, StoreError},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long stopping waits for answers, and then for the last commit.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// Pause after the store took no change.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What a lane works with.
pub struct Parts {
    /// What it delivers, and where to.
    pub plan: Arc<Plan>,
    /// Takes what was settled.
    pub store: Store,
    /// Gives the calls.
    pub reader: Reader,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What others see.
    pub board: Arc<Board>,
    /// How long it waits for what.
    pub tempo: Tempo,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Live,
    Fill,
    /// A record off the straight path, tried alone for so many times.
    Alone(u32),
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) origin: Origin,
    pub(super) entry: u64,
    pub(super) parcel: Parcel,
    pub(super) attempts: u32,
    pub(super) due: Instant,
    /// What the lane had delivered when this was first sent.
    pub(super) before: u64,
}

/// A change on its way to the store: the news of it, what it is, and the entries that it settles.
type Writing = (oneshot::Receiver<Result<i64, String>>, Progress, usize);

pub(super) struct Lane {
    pub(super) parts: Parts,
    files: Option<Arc<Mutex<Files>>>,
    pub(super) committed: watch::Receiver<i64>,
    pub(super) live: Window,
    pub(super) fill: Option<Window>,
    /// Entries that were passed and whose cursor is not on disk yet.
    pub(super) unwritten: usize,
    pub(super) fill_turn: bool,
    pub(super) reading: bool,
    pub(super) read_from: Instant,
    /// Since when calls wait that were not read.
    pub(super) fresh_since: Option<Instant>,
    pub(super) ready: Vec<Job>,
    flying: JoinSet<(Job, Instant, Judged)>,
    pub(super) builds: JoinSet<Built>,
    pub(super) held: usize,
    pub(super) gate: Gate,
    pub(super) obstacle: Option<(Obstacle, Instant)>,
    /// Since when the host has had no address.
    pub(super) unresolved: Option<Instant>,
    pub(super) paused: Option<String>,
    pub(super) progress: Progress,
    writing: Option<Writing>,
    write_from: Instant,
    wrote: Instant,
    pub(super) delivered: u64,
    /// Exceptions that are being tried.
    pub(super) alone: HashSet<i64>,
    pub(super) look: Instant,
}

impl Lane {
    /// A lane that goes on where the store says.
    ///
    /// # Errors
    /// When the store does not know it.
    pub(super) fn new(parts: Parts) -> Result<Self, StoreError> {
        let now = Instant::now();
        let files = match &parts.plan.destination {
            Destination::Files(options) => Some(Arc::new(Mutex::new(Files::new(options)))),
            Destination::Http { .. } => None,
        };
        let mut lane = Self {
            files,
            committed: parts.store.committed(),
            live: Window::new(0, None),
            fill: None,
            unwritten: 0,
            fill_turn: false,
            reading: false,
            read_from: now,
            fresh_since: None,
            ready: Vec::new(),
            flying: JoinSet::new(),
            builds: JoinSet::new(),
            held: 0,
            gate: Gate::new(parts.plan.concurrency(), parts.tempo, now),
            obstacle: None,
            unresolved: None,
            paused: None,
            progress: Progress::default(),
            writing: None,
            write_from: now,
            wrote: now,
            delivered: 0,
            alone: HashSet::new(),
            look: now,
            parts,
        };
        let row = lane.parts.reader.lane(&lane.parts.plan.id)?.unwrap_or_default();
        lane.live = Window::new(row.cursor, None);
        lane.fill = row.fill.map(|(position, until)| Window::new(position, Some(until)));
        lane.paused = row.paused;
        Ok(lane)
    }

    /// Delivers until it is stopped.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        loop {
            self.write();
            self.read();
            self.launch();
            let wake = self.post();
            let drained = self.live.next >= *self.committed.borrow();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(command) = commands.recv() => self.obey(command).await,
                written = done(&mut self.writing) => self.written(written.is_some()),
                Some(built) = self.builds.join_next() => self.built(built.ok()),
                Some(flown) = self.flying.join_next() => self.landed(flown.ok()),
                changed = self.committed.changed(), if drained => if changed.is_err() { break },
                () = sleep_until(wake) => {}
            }
        }
        self.end().await;
    }

    /// Answers that are near are still counted, and the last of them reaches the store.
    async fn end(mut self) {
        let until = Instant::now() + LAST_ANSWERS;
        while let Ok(Some(flown)) = tokio::time::timeout_at(until, self.flying.join_next()).await {
            self.landed(flown.ok());
        }
        self.flush().await;
        self.parts.board.update(|posted| posted.in_flight = 0);
    }

    /// Brings all that is settled to disk. False when the store does not take it in time.
    pub(super) async fn flush(&mut self) -> bool {
        let writing = async {
            loop {
                self.write_from = Instant::now();
                self.wrote =
                    self.write_from.checked_sub(self.parts.tempo.look).unwrap_or(self.write_from);
                self.write();
                if self.writing.is_none() {
                    return;
                }
                let written = done(&mut self.writing).await;
                self.written(written.is_some());
                if written.is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        timeout(LAST_ANSWERS, writing).await.is_ok()
    }

    /// One change at a time is on its way to the store, so its rate is the store's own.
    fn write(&mut self) {
        let now = Instant::now();
        self.advance();
        if self.writing.is_some() || self.progress.is_empty() || now < self.write_from {
            return;
        }
        // Passing over calls that are not wanted is not urgent.
        let passed_over = self.progress.delivered == 0
            && self.unwritten == 0
            && self.progress.exceptions.is_empty()
            && self.progress.settled.is_empty();
        if passed_over && now < self.wrote + self.parts.tempo.look {
            return;
        }
        let progress = std::mem::take(&mut self.progress);
        let change = LaneChange::Progress(progress.clone());
        let committed = self.parts.store.change_lane(&self.parts.plan.id, change);
        self.writing = Some((committed, progress, self.unwritten));
        self.wrote = now;
    }

    fn advance(&mut self) {
        if let Some((seq, entries)) = self.live.advance() {
            self.progress.cursor = Some(seq);
            self.unwritten += entries;
        }
        let Some(fill) = &mut self.fill else { return };
        if let Some((seq, entries)) = fill.advance() {
            self.progress.fill = Some(seq);
            self.unwritten += entries;
        }
        if fill.is_done() {
            tracing::info!(sink = self.parts.plan.name, "the backfill is done");
            self.progress.fill = Some(fill.settled());
            self.fill = None;
        }
    }

    fn written(&mut self, ok: bool) {
        let Some((_, mut progress, entries)) = self.writing.take() else { return };
        if ok {
            self.unwritten -= entries;
            // Only now does the store not name them any more.
            let exceptions = progress.exceptions.iter().map(|exception| exception.seq);
            for seq in exceptions.chain(progress.settled) {
                self.alone.remove(&seq);
            }
            return;
        }
        // What was settled since wins over what could not be written.
        let newer = std::mem::take(&mut self.progress);
        progress.cursor = newer.cursor.or(progress.cursor);
        progress.fill = newer.fill.or(progress.fill);
        progress.exceptions.extend(newer.exceptions);
        progress.settled.extend(newer.settled);
        progress.delivered += newer.delivered;
        self.progress = progress;
        self.write_from = Instant::now() + STORE_PAUSE;
    }

    /// Sends what is due, as far as the gate lets it.
    fn launch(&mut self) {
        let now = Instant::now();
        if self.paused.is_some() {
            return;
        }
        let free = match &self.obstacle {
            Some((_, probe)) if now < *probe => 0,
            Some(_) => usize::from(self.flying.is_empty()),
            None => self.gate.free(self.flying.len(), now),
        };
        for _ in 0..free {
            let room = self.has_room();
            let next = self
                .ready
                .iter()
                .enumerate()
                .filter(|(_, job)| self.obstacle.is_some() || job.due <= now)
                .filter(|(_, job)| room || self.has_begun(job))
                .min_by_key(|(_, job)| job.parcel.seqs.first().copied())
                .map(|(at, _)| at);
            let Some(at) = next else { return };
            let mut job = self.ready.swap_remove(at);
            job.before = job.before.min(self.delivered);
            match job.origin {
                Origin::Live => self.live.begin(job.entry),
                Origin::Fill => self.fill.iter_mut().for_each(|fill| fill.begin(job.entry)),
                Origin::Alone(_) => {}
            }
            self.send(job, now);
        }
    }

    /// Whether one more entry may begin. What a kill would repeat is what was begun and is not yet
    /// behind the cursor on disk: as many entries as may be in flight.
    fn has_room(&self) -> bool {
        let begun = self.live.begun() + self.fill.as_ref().map_or(0, Window::begun);
        begun + self.unwritten < self.parts.plan.concurrency()
    }

    fn has_begun(&self, job: &Job) -> bool {
        match job.origin {
            Origin::Live => self.live.has_begun(job.entry),
            Origin::Fill => self.fill.as_ref().is_some_and(|fill| fill.has_begun(job.entry)),
            Origin::Alone(_) => true,
        }
    }

    fn send(&mut self, job: Job, now: Instant) {
        let plan = Arc::clone(&self.parts.plan);
        let files = self.files.clone();
        self.flying.spawn(async move {
            let judged = match (&plan.destination, &job.parcel.load) {
                (Destination::Http { sink, base_url, client }, Load::Request(request)) => {
                    match http::send(client, base_url, &**sink, request).await {
                        Ok(answer) => judge(&**sink, &job.parcel.ids, &answer, Timestamp::now()),
                        Err(why) => unanswered(why),
                    }
                }
                (_, Load::Lines(lines)) => {
                    write_lines(files, job.parcel.ids.clone(), lines.clone()).await
                }
                _ => unanswered("this cannot be sent".to_owned()),
            };
            (job, now, judged)
        });
    }

    fn landed(&mut self, flown: Option<(Job, Instant, Judged)>) {
        if let Some((job, sent, judged)) = flown {
            self.held -= job.parcel.bytes().min(self.held);
            self.settle(job, sent, &judged);
        }
    }

    /// Tells others how things are; gives when there is something to do next.
    fn post(&self) -> Instant {
        let (now, look) = (Instant::now(), self.parts.tempo.look);
        let trying = self.ready.iter().map(|job| job.due).min();
        let next = match &self.obstacle {
            Some((_, probe)) => *probe,
            None => trying.map_or(now + look, |due| due.max(self.gate.opens())),
        };
        let state = if self.paused.is_some() || self.obstacle.is_some() {
            State::Paused
        } else if self.gate.in_trouble() {
            State::Retrying
        } else {
            State::Running
        };
        let waits = state == State::Retrying || self.obstacle.is_some();
        let wait = i64::try_from(next.saturating_duration_since(now).as_micros()).unwrap_or(0);
        self.parts.board.update(|posted| {
            posted.state = state;
            posted.obstacle = self.obstacle.as_ref().map(|(obstacle, _)| *obstacle);
            posted.next_try_at = waits.then(|| Timestamp::now().plus_us(wait));
            posted.in_flight = self.flying.len();
            posted.concurrency = self.parts.plan.concurrency();
        });
        let linger = self.fresh_since.map(|since| since + LINGER).filter(|until| *until > now);
        let soonest = [Some(next).filter(|next| *next > now), linger];
        soonest.into_iter().flatten().min().unwrap_or(now + look).min(now + look)
    }

    /// Does what a person asked for, after all that was settled before is on disk.
    async fn obey(&mut self, command: Command) {
        let Command { op, reply } = command;
        let by_hand = op == Op::Resume;
        let result = if self.flush().await {
            control::apply(&self.parts.store, &self.parts.reader, &self.parts.plan.id, op).await
        } else {
            Err("the store takes no changes just now".to_owned())
        };
        if result.is_ok() {
            self.reload();
        }
        if by_hand {
            // Whoever lets it go on wants to see it at once, whatever the sink asked for.
            let now = Instant::now();
            self.gate.open(now);
            self.ready.iter_mut().for_each(|job| job.due = now);
        }
        // Whoever asked may be gone.
        drop(reply.send(result));
    }

    /// Takes over what the store says now.
    fn reload(&mut self) {
        let Ok(Some(row)) = self.parts.reader.lane(&self.parts.plan.id) else { return };
        self.paused = row.paused;
        if self.paused.is_none() {
            self.obstacle = None;
        }
        self.look = Instant::now();
        let same = self.fill.as_ref().map(|fill| (fill.settled(), fill.until));
        if same != row.fill.map(|(position, until)| (position, Some(until))) {
            self.fill = row.fill.map(|(position, until)| Window::new(position, Some(until)));
            let held: usize = self
                .ready
                .iter()
                .filter(|job| job.origin == Origin::Fill)
                .map(|job| job.parcel.bytes())
                .sum();
            self.held -= held.min(self.held);
            self.ready.retain(|job| job.origin != Origin::Fill);
        }
    }
}

/// Waits for a write that is on its way; `None` when the store did not take it.
async fn done(writing: &mut Option<Writing>) -> Option<i64> {
    match writing {
        Some((committed, ..)) => committed.await.ok().and_then(Result::ok),
        None => std::future::pending().await,
    }
}

async fn write_lines(
    files: Option<Arc<Mutex<Files>>>,
    ids: Vec<Uuid>,
    lines: Vec<String>,
) -> Judged {
    let written = tokio::task::spawn_blocking(move || {
        let Some(files) = files else { return Ok(()) };
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        files.write(&ids, &lines, Timestamp::now())
    });
    match written.await {
        Ok(Ok(())) => Judged { verdict: Verdict::Delivered, ..unanswered(String::new()) },
        Ok(Err(error)) => unanswered(error.to_string()),
        Err(error) => unanswered(error.to_string()),
    }
}
