//! How every sink is doing, from what the store knows and what the lanes post.

use super::{
    answer::Obstacle,
    board::{Posted, State, Trouble},
    intake::is_for,
    plan::Plan,
};
use crate::{
    model::{Record, Timestamp},
    query::Query,
    store::{LaneRow, Reader, StoreError},
};
use serde::Serialize;

/// One sink.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name; its id where the configuration does not name it any more.
    pub name: String,
    /// Under what its state is kept.
    pub id: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: Option<&'static str>,
    /// Where it delivers to.
    pub target: Option<String>,
    /// Whether it delivers.
    pub state: State,
    /// Why it does not, in words.
    pub reason: Option<String>,
    /// The same for programs: `key_refused`, `gone`, `misconfigured`.
    pub obstacle: Option<Obstacle>,
    /// All up to this call is settled.
    pub cursor: i64,
    /// Calls that wait, exceptions and backfill not counted.
    pub queue: u64,
    /// Age of the oldest call that waits, in seconds.
    pub oldest_age_s: Option<f64>,
    /// Records that wait to be tried alone.
    pub waiting: u64,
    /// Dead records.
    pub dead: u64,
    /// Records that were taken.
    pub delivered: u64,
    /// Requests in flight.
    pub in_flight: usize,
    /// When the sink last took something.
    pub last_delivery_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<Trouble>,
    /// When it is tried next, in times of trouble.
    pub next_try_at: Option<Timestamp>,
    /// A backfill under way.
    pub backfill: Option<Backfill>,
}

/// A backfill under way.
#[derive(Clone, Debug, Serialize)]
pub struct Backfill {
    /// All up to this call is settled.
    pub cursor: i64,
    /// The last call.
    pub until: i64,
    /// Calls that are left.
    pub queue: u64,
}

/// What is known of a configured sink. Blocks.
///
/// # Errors
/// The store's.
pub fn configured(reader: &Reader, plan: &Plan, posted: Posted) -> Result<Status, StoreError> {
    let row = reader.lane(&plan.id)?.unwrap_or_default();
    let waits = |after, until| backlog(reader, &plan.only, after, until);
    // A lane that was never started has no place yet.
    let (queue, oldest) = if row.sink.is_empty() { (0, None) } else { waits(row.cursor, None)? };
    let backfill = match row.fill {
        Some((cursor, until)) => {
            Some(Backfill { cursor, until, queue: waits(cursor, Some(until))?.0 })
        }
        None => None,
    };
    let mut status = of(row, &plan.name, posted);
    status.kind = Some(plan.kind);
    status.target = Some(plan.target());
    if !plan.options.enabled {
        status.state = State::Disabled;
    }
    status.queue = queue;
    status.oldest_age_s = oldest.map(|oldest| age_s(oldest, Timestamp::now()));
    status.backfill = backfill;
    Ok(status)
}

/// What became of one call at one sink.
#[derive(Clone, Debug, Serialize)]
pub struct CallState {
    /// Name of the sink.
    pub sink: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `delivered`, `pending`, `waiting`, `dead`, or `skipped`: it does not go there.
    pub state: &'static str,
    /// How often it was tried alone.
    pub attempts: Option<u32>,
    /// Why it was not taken.
    pub error: Option<String>,
    /// When it died.
    pub at: Option<Timestamp>,
    /// When it is tried next.
    pub next_try_at: Option<Timestamp>,
}

/// What became of a call at a configured sink. Blocks.
///
/// # Errors
/// The store's.
pub fn of_call(reader: &Reader, plan: &Plan, record: &Record) -> Result<CallState, StoreError> {
    let seq = record.seq.unwrap_or_default();
    let exception = reader.exception(&plan.id, seq)?;
    let wanted = is_for(plan, record) && reader.backlog(&plan.only, seq - 1, Some(seq))?.0 > 0;
    let row = reader.lane(&plan.id)?;
    let state = match (&exception, row) {
        (Some(exception), _) if exception.dead => "dead",
        (Some(_), _) => "waiting",
        (None, Some(row)) if wanted => match row.fill {
            Some((position, until)) if seq > position && seq <= until => "pending",
            _ if seq <= row.first => "skipped",
            _ if seq <= row.cursor => "delivered",
            _ => "pending",
        },
        (None, _) => "skipped",
    };
    let dead = exception.as_ref().is_some_and(|exception| exception.dead);
    let time = exception.as_ref().map(|exception| exception.at);
    Ok(CallState {
        sink: plan.name.clone(),
        kind: plan.kind,
        state,
        attempts: exception.as_ref().map(|exception| exception.attempts),
        error: exception.map(|exception| exception.reason),
        at: time.filter(|_| dead),
        next_try_at: time.filter(|_| !dead),
    })
}

/// What is left of a sink that the configuration does not name any more.
pub fn removed(row: LaneRow) -> Status {
    let name = row.sink.clone();
    Status { state: State::Removed, ..of(row, &name, Posted::default()) }
}

fn of(row: LaneRow, name: &str, posted: Posted) -> Status {
    let by_itself = posted.obstacle.map(|obstacle| obstacle.text().to_owned());
    let failing = (posted.state == State::Retrying)
        .then(|| posted.last_error.as_ref().map(|error| error.message.clone()))
        .flatten();
    let paused = row.paused.as_ref().map(|why| format!("paused {why}"));
    Status {
        name: name.to_owned(),
        id: if row.sink.is_empty() { name.to_owned() } else { row.sink },
        kind: None,
        target: None,
        state: if row.paused.is_some() { State::Paused } else { posted.state },
        reason: paused.or(by_itself).or(failing),
        obstacle: posted.obstacle,
        cursor: row.cursor,
        queue: 0,
        oldest_age_s: None,
        waiting: row.waiting,
        dead: row.dead,
        delivered: row.delivered,
        in_flight: posted.in_flight,
        last_delivery_at: posted.last_delivery_at,
        last_error: posted.last_error,
        next_try_at: posted.next_try_at,
        backfill: None,
    }
}

/// Counted where that is quick; else as many as there are calls.
fn backlog(
    reader: &Reader,
    only: &Query,
    after: i64,
    until: Option<i64>,
) -> Result<(u64, Option<Timestamp>), StoreError> {
    match reader.backlog(only, after, until) {
        Err(StoreError::Deadline) => {
            let last = until.map_or_else(|| reader.last_seq(), Ok)?;
            Ok((u64::try_from(last - after).unwrap_or(0), None))
        }
        counted => counted,
    }
}

fn age_s(then: Timestamp, now: Timestamp) -> f64 {
    let ms = u32::try_from((now.0 - then.0).max(0) / 1000).unwrap_or(u32::MAX);
    f64::from(ms) / 1000.0
}
