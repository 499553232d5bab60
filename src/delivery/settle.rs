//! What follows from an answer (`reliability.md` R7).

use super::{
    answer::{Judged, Obstacle},
    board::Trouble,
    lane::{Job, Lane, Origin},
};
use crate::{model::Timestamp, sink::Verdict, store::Exception};
use tokio::time::Instant;

/// Tries after which a request leaves the straight path, if the sink took others meanwhile.
const TRIES: u32 = 3;

impl Lane {
    pub(super) fn settle(&mut self, job: Job, sent: Instant, judged: &Judged) {
        self.unresolved = match (&judged.verdict, judged.obstacle) {
            (Verdict::Retry, Obstacle::Gone) => self.unresolved.or_else(|| Some(Instant::now())),
            _ => None,
        };
        match &judged.verdict {
            Verdict::Delivered => self.delivered(&job),
            Verdict::Retry
                if self
                    .unresolved
                    .is_some_and(|since| since.elapsed() > self.parts.tempo.unresolved) =>
            {
                self.stand_still(job, judged);
            }
            Verdict::Retry => self.retry(job, sent, judged),
            Verdict::Pause => self.stand_still(job, judged),
            Verdict::Split if job.parcel.seqs.len() == 1 && !job.parcel.shortened => {
                self.lives();
                self.count("shortened", 1);
                self.rebuild(job.origin, job.entry, vec![job.parcel.seqs], true);
            }
            Verdict::Split | Verdict::Refused if job.parcel.seqs.len() > 1 => {
                self.lives();
                self.count("split", 1);
                let places: Vec<usize> = (0..job.parcel.seqs.len()).collect();
                // One at fault is found by quarters in as many requests as by halves, and in half as
                // many rounds.
                let pieces = if judged.verdict == Verdict::Split { 2 } else { 4 };
                let groups = places.chunks(places.len().div_ceil(pieces)).map(<[usize]>::to_vec);
                self.divide(&job, groups.collect());
            }
            Verdict::Split | Verdict::Refused => {
                self.lives();
                self.dead(&job, &judged.reason);
            }
            Verdict::Partly(refused) => self.partly(&job, judged, refused),
        }
    }

    /// The sink takes what it is sent.
    fn lives(&mut self) {
        if self.obstacle.take().is_some() || self.gate.in_trouble() {
            tracing::info!(sink = self.parts.plan.name, "delivers again");
        }
        self.gate.answered();
    }

    fn delivered(&mut self, job: &Job) {
        self.lives();
        self.took(&job.parcel.seqs, job.origin);
        self.settle_entry(job.origin, job.entry, 0);
    }

    fn took(&mut self, seqs: &[i64], origin: Origin) {
        let count = seqs.len() as u64;
        self.delivered += count;
        self.progress.delivered += count;
        self.count("delivered", count);
        self.parts.board.update(|posted| posted.last_delivery_at = Some(Timestamp::now()));
        if matches!(origin, Origin::Alone(_)) {
            self.progress.settled.extend(seqs);
        }
    }

    pub(super) fn dead(&mut self, job: &Job, reason: &str) {
        self.count("dead", job.parcel.seqs.len() as u64);
        self.trouble(reason);
        for (seq, id) in job.parcel.seqs.iter().zip(&job.parcel.ids) {
            tracing::warn!(sink = self.parts.plan.name, call.id = %id, reason, "a record is refused");
            self.progress.exceptions.push(Exception {
                seq: *seq,
                id: *id,
                dead: true,
                attempts: job.attempts + 1,
                at: Timestamp::now(),
                reason: reason.to_owned(),
            });
        }
        self.settle_entry(job.origin, job.entry, 0);
    }

    /// Those refused are sent once more, each alone; alone already, it is dead.
    fn partly(&mut self, job: &Job, judged: &Judged, refused: &[(usize, String)]) {
        if job.parcel.seqs.len() == 1 && !refused.is_empty() {
            self.lives();
            let reason =
                refused.iter().map(|(_, reason)| reason.as_str()).find(|text| !text.is_empty());
            return self.dead(job, reason.unwrap_or(&judged.reason));
        }
        self.lives();
        let is_refused = |at: usize| refused.iter().any(|(place, _)| *place == at);
        let (mut taken, mut again) = (Vec::new(), Vec::new());
        for (at, seq) in job.parcel.seqs.iter().enumerate() {
            if is_refused(at) { again.push(vec![at]) } else { taken.push(*seq) }
        }
        self.took(&taken, job.origin);
        if again.is_empty() {
            self.settle_entry(job.origin, job.entry, 0);
        } else {
            self.divide(job, again);
        }
    }

    /// Requests for these records in place of one for all: taken out of it, or built anew where its
    /// body is more than its items.
    fn divide(&mut self, job: &Job, groups: Vec<Vec<usize>>) {
        let parts: Option<Vec<_>> = groups.iter().map(|places| job.parcel.only(places)).collect();
        if let Some(parts) = parts {
            if self.settle_entry(job.origin, job.entry, parts.len()) {
                self.queue(job.origin, job.entry, parts);
            }
            return;
        }
        let seqs = |places: Vec<usize>| {
            places.into_iter().filter_map(|at| job.parcel.seqs.get(at).copied()).collect()
        };
        let groups = groups.into_iter().map(seqs).collect();
        self.rebuild(job.origin, job.entry, groups, job.parcel.shortened);
    }

    fn retry(&mut self, mut job: Job, sent: Instant, judged: &Judged) {
        let now = Instant::now();
        self.count("retried", 1);
        self.trouble(&judged.reason);
        self.obstacle = None;
        if !self.gate.in_trouble() {
            tracing::warn!(
                sink = self.parts.plan.name,
                reason = judged.reason,
                "takes nothing just now; it is tried again"
            );
        }
        // Where others are taken meanwhile, the trouble is the record's, not the sink's.
        let others = self.delivered > job.before;
        if let Origin::Alone(tried) = job.origin {
            if others {
                self.gate.wait(now, judged.retry_after);
            } else {
                self.gate.failed(sent, now, judged.retry_after);
            }
            return self.set_aside(&job, tried + 1, judged);
        }
        self.gate.failed(sent, now, judged.retry_after);
        job.attempts += 1;
        if job.attempts >= TRIES && others {
            return self.set_aside(&job, 0, judged);
        }
        job.due = now
            + judged
                .retry_after
                .unwrap_or_default()
                .max(self.parts.tempo.full_jitter(job.attempts));
        self.requeue(job);
    }

    /// Others are taken while this is not: it is tried alone from now on and holds nobody up.
    fn set_aside(&mut self, job: &Job, attempts: u32, judged: &Judged) {
        let wait =
            self.parts.tempo.full_jitter(attempts + 1).max(judged.retry_after.unwrap_or_default());
        let at = Timestamp::now().plus_us(i64::try_from(wait.as_micros()).unwrap_or(0));
        for (seq, id) in job.parcel.seqs.iter().zip(&job.parcel.ids) {
            self.progress.exceptions.push(Exception {
                seq: *seq,
                id: *id,
                dead: false,
                attempts,
                at,
                reason: judged.reason.clone(),
            });
        }
        self.settle_entry(job.origin, job.entry, 0);
    }

    /// Nothing is lost and nothing is sent until the key or the address is right.
    fn stand_still(&mut self, job: Job, judged: &Judged) {
        if self.obstacle.is_none() {
            tracing::error!(
                sink = self.parts.plan.name,
                reason = judged.reason,
                "delivery is paused: {}; it is tried again every minute",
                judged.obstacle.text()
            );
        }
        self.count("paused", 1);
        self.trouble(&judged.reason);
        self.obstacle = Some((judged.obstacle, Instant::now() + self.parts.tempo.probe));
        self.requeue(job);
    }

    fn requeue(&mut self, job: Job) {
        self.held += job.parcel.bytes();
        self.ready.push(job);
    }

    /// A request of an entry was settled, or became `more` requests.
    pub(super) fn settle_entry(&mut self, origin: Origin, entry: u64, more: usize) -> bool {
        match origin {
            Origin::Live => self.live.settle(entry, more),
            Origin::Fill => self.fill.as_mut().is_some_and(|fill| fill.settle(entry, more)),
            Origin::Alone(_) => true,
        }
    }

    fn trouble(&self, reason: &str) {
        let trouble = Trouble { at: Timestamp::now(), message: reason.to_owned() };
        self.parts.board.update(|posted| posted.last_error = Some(trouble));
    }

    fn count(&self, outcome: &'static str, count: u64) {
        self.parts.metrics.sink_delivery(&self.parts.plan.name, outcome, count);
    }
}
