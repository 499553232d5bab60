//! What people ask of a lane, with a server through its lane and without one on the store.

use crate::{
    model::Timestamp,
    store::{LaneChange, LaneRow, Reader, Store, StoreError},
};
use serde::Serialize;
use tokio::sync::oneshot;

/// Something to do with a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Stop until told otherwise.
    Pause,
    /// Go on, at once.
    Resume,
    /// Try dead records again: these ids, or all.
    Redrive(Option<Vec<String>>),
    /// Give dead records up: these ids, or all.
    Drop(Option<Vec<String>>),
    /// Send older calls: since then, or all.
    Backfill(Option<Timestamp>),
    /// The configuration was read again: try at once what stands still by itself.
    Wake,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Records concerned.
    pub records: u64,
    /// In words.
    pub message: String,
}

/// An [`Op`] and who waits for its end.
#[derive(Debug)]
pub struct Command {
    /// What to do.
    pub op: Op,
    /// Told how it went.
    pub reply: oneshot::Sender<Result<Done, String>>,
}

/// Changes what the store says of the lane.
///
/// # Errors
/// In words, when it makes no sense or the store does not take it.
pub async fn apply(store: &Store, reader: &Reader, sink: &str, op: Op) -> Result<Done, String> {
    let (reader, id) = (reader.clone(), sink.to_owned());
    let planned = tokio::task::spawn_blocking(move || {
        let row = reader.lane(&id)?;
        let row = row.ok_or_else(|| StoreError::Invalid(format!("nothing is known of {id}")))?;
        plan(&reader, &row, op)
    });
    let planned = planned.await.map_err(|error| error.to_string())?;
    let (change, mut done) = planned.map_err(|error| error.to_string())?;
    let Some(change) = change else { return Ok(done) };
    let counts = matches!(change, LaneChange::Redrive(_) | LaneChange::Drop(_));
    let committed = store.change_lane(sink, change).await;
    let rows = committed.map_err(|_| "the store takes no changes just now".to_owned())??;
    if counts {
        done.records = u64::try_from(rows).unwrap_or(0);
        done.message = format!("{} {}", done.records, done.message);
    }
    Ok(done)
}

/// The change that `op` means, and what to say of it.
fn plan(reader: &Reader, row: &LaneRow, op: Op) -> Result<(Option<LaneChange>, Done), StoreError> {
    let said = |message: &str| Done { records: 0, message: message.to_owned() };
    let seqs = |ids: Option<Vec<String>>| ids.map(|ids| reader.seqs_of(&ids)).transpose();
    Ok(match op {
        Op::Pause => (Some(LaneChange::Pause(Some("by hand".to_owned()))), said("paused")),
        Op::Resume => (Some(LaneChange::Pause(None)), said("goes on")),
        Op::Redrive(ids) => {
            (Some(LaneChange::Redrive(seqs(ids)?)), said("dead records are tried again"))
        }
        Op::Drop(ids) => (Some(LaneChange::Drop(seqs(ids)?)), said("dead records are given up")),
        Op::Wake => (None, said("woken")),
        Op::Backfill(since) => {
            let from = since.map_or(Ok(0), |time| reader.seq_before(time))?;
            backfill(row, from)
        }
    })
}

/// Calls that the sink never had are filled in. Where it had all of them once, they are sent again.
fn backfill(row: &LaneRow, from: i64) -> (Option<LaneChange>, Done) {
    let until = match row.fill {
        Some((_, until)) if from >= row.first => {
            let message = format!("a backfill up to call {until} is under way");
            return (None, Done { records: 0, message });
        }
        Some((_, until)) => until.max(row.first),
        None if from < row.first => row.first,
        None => row.cursor,
    };
    if from >= until {
        return (None, Done { records: 0, message: "there is nothing to fill".to_owned() });
    }
    let message = format!("calls after {from} up to {until} are sent");
    let records = u64::try_from(until - from).unwrap_or(0);
    (Some(LaneChange::Fill { from, until }), Done { records, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backfill_fills_the_gap_first_and_repeats_only_what_was_all_sent() {
        let row = LaneRow { first: 100, cursor: 150, ..LaneRow::default() };
        let range = |row: &LaneRow, from| match backfill(row, from).0 {
            Some(LaneChange::Fill { from, until }) => Some((from, until)),
            _ => None,
        };
        assert_eq!(range(&row, 0), Some((0, 100)));
        assert_eq!(range(&row, 120), Some((120, 150)));
        assert_eq!(range(&row, 150), None);
        let filling = LaneRow { first: 50, fill: Some((60, 100)), ..row };
        assert_eq!(range(&filling, 50), None, "under way");
        assert_eq!(range(&filling, 0), Some((0, 100)));
    }
}
