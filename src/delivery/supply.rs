//! Keeps a lane's window full: what is read from the record log, and what is built anew.

use super::{
    intake::{self, Intake, Load, Parcel},
    lane::{Job, Lane, Origin, STORE_PAUSE},
    window::Window,
};
use crate::store::{Exception, StoreError};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Bytes of built requests beyond which nothing more is read.
const HELD_BYTES_MAX: usize = 8 << 20;
/// Batches that are built ahead of what may be sent; requests, where records travel alone.
const BATCHES_AHEAD: usize = 2;
const RECORDS_AHEAD: usize = 64;
/// How long a sink that takes batches waits for more calls.
pub(super) const LINGER: Duration = Duration::from_millis(250);

/// What came back from a thread that may block.
#[derive(Debug)]
pub(super) enum Built {
    /// What was read after this place.
    Read(Origin, i64, Result<Intake, StoreError>),
    Due(Result<Vec<(Exception, Vec<Parcel>)>, StoreError>),
    /// New requests in place of one.
    Again(Origin, u64, Vec<Vec<i64>>, bool, Result<Vec<Parcel>, StoreError>),
}

impl Lane {
    /// Reads on where there is room: exceptions that are due, new calls and backfill in turn.
    pub(super) fn read(&mut self) {
        let now = Instant::now();
        let stands = self.paused.is_some() || self.obstacle.is_some() || self.gate.in_trouble();
        let waits = self.paused.is_some() || now < self.read_from;
        if self.reading || waits || (stands && !self.ready.is_empty()) {
            return;
        }
        if self.held > HELD_BYTES_MAX {
            return;
        }
        let window = if stands { 1 } else { self.parts.plan.concurrency() };
        if now >= self.look && self.alone.len() < window {
            self.read_due(window - self.alone.len());
            return;
        }
        let batch = self.parts.plan.batch();
        let ahead = self.live.ahead() + self.fill.as_ref().map_or(0, Window::ahead);
        let room = match (stands, batch) {
            (true, _) => 1,
            (false, 1) => RECORDS_AHEAD,
            (false, _) => BATCHES_AHEAD,
        };
        if ahead > room / 2 {
            return;
        }
        let behind = *self.committed.borrow() - self.live.next;
        if behind <= 0 {
            self.fresh_since = None;
        } else if self.fresh_since.is_none() {
            self.fresh_since = Some(now);
        }
        let few = batch > 1 && usize::try_from(behind).is_ok_and(|behind| behind < batch);
        let live = self.fresh_since.is_some_and(|since| !few || now >= since + LINGER);
        let fill = self
            .fill
            .as_ref()
            .is_some_and(|fill| fill.until.is_some_and(|until| fill.next < until));
        let origin = match (live, fill) {
            (true, true) if self.fill_turn => Origin::Fill,
            (true, _) => Origin::Live,
            (false, true) => Origin::Fill,
            (false, false) => return,
        };
        self.fill_turn = origin == Origin::Live;
        let stretch = if origin == Origin::Live { Some(&self.live) } else { self.fill.as_ref() };
        let Some((after, until)) = stretch.map(|stretch| (stretch.next, stretch.until)) else {
            return;
        };
        let calls = if batch > 1 { batch } else { room };
        let (reader, plan) = (self.parts.reader.clone(), Arc::clone(&self.parts.plan));
        self.reading = true;
        self.builds.spawn_blocking(move || {
            Built::Read(origin, after, intake::read(&reader, &plan, after, until, calls))
        });
    }

    fn read_due(&mut self, limit: usize) {
        self.look = Instant::now() + self.parts.tempo.look;
        let (reader, plan) = (self.parts.reader.clone(), Arc::clone(&self.parts.plan));
        let tried = self.alone.clone();
        self.reading = true;
        self.builds.spawn_blocking(move || {
            let due = reader.due(&plan.id, limit + tried.len()).and_then(|due| {
                due.into_iter()
                    .filter(|exception| !tried.contains(&exception.seq))
                    .map(|exception| {
                        let parcels = intake::again(&reader, &plan, &[vec![exception.seq]], false)?;
                        Ok((exception, parcels))
                    })
                    .collect()
            });
            Built::Due(due)
        });
    }

    /// Builds new requests in place of one that was settled.
    pub(super) fn rebuild(
        &mut self,
        origin: Origin,
        entry: u64,
        groups: Vec<Vec<i64>>,
        shortened: bool,
    ) {
        let (reader, plan) = (self.parts.reader.clone(), Arc::clone(&self.parts.plan));
        self.builds.spawn_blocking(move || {
            let parcels = intake::again(&reader, &plan, &groups, shortened);
            Built::Again(origin, entry, groups, shortened, parcels)
        });
    }

    pub(super) fn built(&mut self, built: Option<Built>) {
        match built {
            Some(Built::Read(origin, after, Ok(intake))) => {
                self.reading = false;
                self.take_in(origin, after, intake);
            }
            Some(Built::Due(Ok(due))) => {
                self.reading = false;
                if !due.is_empty() {
                    self.look = Instant::now();
                }
                for (exception, parcels) in due {
                    self.alone.insert(exception.seq);
                    self.queue(Origin::Alone(exception.attempts), 0, parcels);
                    self.forget_empty(vec![vec![exception.seq]]);
                }
            }
            Some(Built::Again(origin, entry, groups, _, Ok(parcels))) => {
                // The entry had one open for this build.
                if self.settle_entry(origin, entry, parcels.len()) {
                    self.queue(origin, entry, parcels);
                }
                if matches!(origin, Origin::Alone(_)) {
                    self.forget_empty(groups);
                }
            }
            Some(Built::Again(origin, entry, groups, shortened, Err(error))) => {
                tracing::warn!(sink = self.parts.plan.name, %error, "the store could not be read");
                self.rebuild(origin, entry, groups, shortened);
            }
            Some(Built::Read(_, _, Err(error)) | Built::Due(Err(error))) => {
                tracing::warn!(sink = self.parts.plan.name, %error, "the store could not be read");
                self.reading = false;
                self.read_from = Instant::now() + STORE_PAUSE;
            }
            None => self.reading = false,
        }
    }

    /// Exceptions that turned out to need no request.
    fn forget_empty(&mut self, groups: Vec<Vec<i64>>) {
        for seq in groups.into_iter().flatten() {
            let tried = self.ready.iter().any(|job| job.parcel.seqs.contains(&seq));
            let dead = self.progress.exceptions.iter().any(|exception| exception.seq == seq);
            if !tried && !dead {
                self.progress.settled.push(seq);
            }
        }
    }

    /// A read that comes after its window was replaced is of no use.
    fn take_in(&mut self, origin: Origin, after: i64, intake: Intake) {
        for (at, (through, parcels)) in intake.stretches.into_iter().enumerate() {
            let window =
                if origin == Origin::Fill { self.fill.as_mut() } else { Some(&mut self.live) };
            let Some(window) = window.filter(|window| at > 0 || window.next == after) else {
                return;
            };
            let entry = window.push(through, parcels.len());
            self.queue(origin, entry, parcels);
        }
        if origin == Origin::Live {
            self.fresh_since = None;
        }
    }

    pub(super) fn queue(&mut self, origin: Origin, entry: u64, parcels: Vec<Parcel>) {
        for parcel in parcels {
            let due = Instant::now();
            let job = Job { origin, entry, parcel, attempts: 0, due, before: u64::MAX };
            if let Load::Unfit(why) = &job.parcel.load {
                let why = why.clone();
                self.dead(&job, &why);
                continue;
            }
            self.held += job.parcel.bytes();
            self.ready.push(job);
        }
    }
}
