//! From the record log to requests. Blocks; runs on a thread that may.
//!
//! What is sent is a function of the stored record alone, so a resend repeats what was sent.

use super::{
    plan::{Destination, Plan},
    shorten::shorten,
};
use crate::{
    config::Content,
    interpret::{restore, strip_content},
    model::Record,
    sink::{Request, Sink},
    store::{Reader, Room, StoreError, Stored},
};
use sha2::{Digest, Sha256};
use std::{
    borrow::Borrow,
    panic::{AssertUnwindSafe, catch_unwind},
};
use uuid::Uuid;

/// Raw bytes of the calls of one read.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Records that travel together.
#[derive(Debug)]
pub struct Parcel {
    /// Their places in the record log, ascending.
    pub seqs: Vec<i64>,
    /// Their ids, in the same order.
    pub ids: Vec<Uuid>,
    /// What is sent.
    pub load: Load,
    /// Whether the record was cut to fit.
    pub shortened: bool,
}

/// What is sent.
#[derive(Debug)]
pub enum Load {
    /// To a service.
    Request(Request),
    /// Into a file: a line a record.
    Lines(Vec<String>),
    /// It cannot be sent, for this reason.
    Unfit(String),
}

impl Parcel {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        match &self.load {
            Load::Request(request) => request.body.len(),
            Load::Lines(lines) => lines.iter().map(String::len).sum(),
            Load::Unfit(_) => 0,
        }
    }

    /// The parcel of some of its records, given by their places in it, where that can be had without
    /// building it anew.
    pub fn only(&self, places: &[usize]) -> Option<Self> {
        let Load::Request(request) = &self.load else { return None };
        Some(Self {
            load: Load::Request(request.only(places)?),
            seqs: places.iter().map(|at| self.seqs.get(*at).copied()).collect::<Option<_>>()?,
            ids: places.iter().map(|at| self.ids.get(*at).copied()).collect::<Option<_>>()?,
            shortened: self.shortened,
        })
    }
}

/// What one read brought.
#[derive(Debug)]
pub struct Intake {
    /// How far each stretch reaches, and what it carries.
    pub stretches: Vec<(i64, Vec<Parcel>)>,
}

/// Reads on after `after`: at most `calls`, in stretches of the sink's batch.
///
/// # Errors
/// The store's.
pub fn read(
    reader: &Reader,
    plan: &Plan,
    after: i64,
    until: Option<i64>,
    calls: usize,
) -> Result<Intake, StoreError> {
    let room = Room { calls, bytes: READ_BYTES_MAX };
    let taken = reader.take(&plan.only, after, until, room)?;
    let wanted: Vec<Stored> =
        taken.calls.into_iter().filter(|stored| is_for(plan, &stored.record)).collect();
    let mut stretches = Vec::new();
    let mut wanted = wanted.into_iter().peekable();
    while wanted.peek().is_some() {
        let batch: Vec<Stored> = wanted.by_ref().take(plan.batch()).collect();
        let last = batch.last().and_then(|stored| stored.record.seq).unwrap_or(after);
        stretches.push((last, pack(plan, batch, false)));
    }
    match stretches.last_mut() {
        Some((through, _)) => *through = taken.through,
        None => stretches.push((taken.through, Vec::new())),
    }
    Ok(Intake { stretches })
}

/// Builds these records anew, each group by itself.
///
/// # Errors
/// The store's.
pub fn again(
    reader: &Reader,
    plan: &Plan,
    groups: &[Vec<i64>],
    shortened: bool,
) -> Result<Vec<Parcel>, StoreError> {
    let mut parcels = Vec::new();
    for group in groups {
        let calls = reader.calls_at(group)?;
        let gone: Vec<i64> = group
            .iter()
            .filter(|seq| !calls.iter().any(|call| call.record.seq == Some(**seq)))
            .copied()
            .collect();
        if !gone.is_empty() {
            // Nothing is left of them: they are settled as they are.
            parcels.push(Parcel {
                ids: vec![Uuid::nil(); gone.len()],
                seqs: gone,
                load: Load::Unfit("the call is not kept any more".to_owned()),
                shortened,
            });
        }
        parcels.extend(pack(plan, calls, shortened));
    }
    Ok(parcels)
}

/// Whether the call goes to this sink, beyond what its query says.
pub fn is_for(plan: &Plan, record: &Record) -> bool {
    let chosen = record.sinks.as_ref().is_none_or(|names| names.contains(&plan.name));
    chosen && is_sampled(record.id, plan.options.sample)
}

/// The same calls at every sink and every time.
fn is_sampled(id: Uuid, share: f64) -> bool {
    let digest = Sha256::digest(id.as_bytes());
    let [a, b, c, d, ..] = digest[..] else { return true };
    share >= 1.0 || f64::from(u32::from_be_bytes([a, b, c, d])) / 4_294_967_296.0 < share
}

fn pack(plan: &Plan, calls: Vec<Stored>, shortened: bool) -> Vec<Parcel> {
    let records: Vec<Record> = calls.into_iter().map(|stored| whole(plan, stored)).collect();
    parcels(plan, records, shortened)
}

/// The record as the sink may see it. A body that cannot be read leaves what the row says.
fn whole(plan: &Plan, stored: Stored) -> Record {
    let bare = stored.record.clone();
    let mut record = catch_unwind(AssertUnwindSafe(|| restore(stored))).unwrap_or(bare);
    if plan.options.content == Content::Metadata {
        strip_content(&mut record);
    }
    record
}

fn parcels(plan: &Plan, mut records: Vec<Record>, shortened: bool) -> Vec<Parcel> {
    if records.is_empty() {
        return Vec::new();
    }
    if shortened {
        records.iter_mut().for_each(shorten);
    }
    match &plan.destination {
        Destination::Files(_) => {
            let lines = records.iter().map(|record| record.line().unwrap_or_default());
            vec![parcel(&records, Load::Lines(lines.collect()), shortened)]
        }
        Destination::Http { sink, .. } => requests(plan, &**sink, records, shortened),
    }
}

fn requests(plan: &Plan, sink: &dyn Sink, records: Vec<Record>, shortened: bool) -> Vec<Parcel> {
    let Ok(requests) = catch_unwind(AssertUnwindSafe(|| sink.requests(&records))) else {
        if records.len() == 1 {
            let why = "the record cannot be put into a request".to_owned();
            return vec![parcel(&records, Load::Unfit(why), shortened)];
        }
        // One of them is at fault: the others need not suffer.
        let each = records.into_iter();
        return each.flat_map(|one| requests(plan, sink, vec![one], shortened)).collect();
    };
    let mut parcels = Vec::new();
    for request in requests {
        let carried: Vec<&Record> =
            request.records.iter().filter_map(|at| records.get(*at)).collect();
        let size = request.body.len();
        let limit = sink.limits().bytes;
        if size <= limit {
            parcels.push(parcel(&carried, Load::Request(request), shortened));
        } else if carried.len() > 1 {
            for half in carried.chunks(carried.len().div_ceil(2)) {
                let half = half.iter().map(|record| (*record).clone()).collect();
                parcels.extend(self::requests(plan, sink, half, shortened));
            }
        } else if !shortened {
            let alone = carried.into_iter().cloned().collect();
            parcels.extend(self::parcels(plan, alone, true));
        } else {
            let why = format!("too large: {size} bytes also when cut; the sink takes {limit}");
            parcels.push(parcel(&carried, Load::Unfit(why), shortened));
        }
    }
    parcels
}

fn parcel<R: Borrow<Record>>(records: &[R], load: Load, shortened: bool) -> Parcel {
    Parcel {
        seqs: records.iter().map(|record| record.borrow().seq.unwrap_or_default()).collect(),
        ids: records.iter().map(|record| record.borrow().id).collect(),
        load,
        shortened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_calls_each_time_and_about_the_share() {
        let ids: Vec<Uuid> = (0..4000).map(|_| Uuid::now_v7()).collect();
        let taken = |share| ids.iter().filter(|id| is_sampled(**id, share)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, 4000));
        assert!((800..1200).contains(&taken(0.25)), "{}", taken(0.25));
        assert!(ids.iter().all(|id| !is_sampled(*id, 0.2) || is_sampled(*id, 0.3)));
    }
}
