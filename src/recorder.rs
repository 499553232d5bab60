//! From finished exchanges to stored records, on a thread of its own.
//!
//! Invariant: every exchange that reaches the recorder becomes exactly one record, even when reading
//! it panics.

use crate::{
    assistants::{Assistants, Derived, Found, Seen},
    codec, content,
    counted::{Counted, count_elsewhere},
    failpoint,
    interpret::{Interpreted, QUERY_KEPT, begun, interpret, started, text_of, whole},
    lineage::{Lineage, Link},
    metrics::Metrics,
    model::{Exchange, Headers, Outcome, Record, Tags, Timestamp, UsageSource},
    pricing::PriceBook,
    proxy::{Captured, KeyLimits, Live, Running, Spiller, Waiter},
    redact::Redactor,
    store::{Attached, Bodies, Entry, Started, Store},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::Value;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::mpsc};

/// A call that ends sooner than this never stands in the journal: its record is as fast.
const JOURNAL_AFTER: Duration = Duration::from_millis(25);
/// How often the recorder looks around when nothing comes.
const IDLE: Duration = Duration::from_millis(250);
/// How long calls gather, where nobody waits for their records: waking up costs more than reading one.
const GATHER: Duration = Duration::from_millis(2);
/// Events taken from the queue at once.
const BATCH: usize = 256;
/// Bytes of an answer looked at for the words that a list shows.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Bytes of a question that are masked before its beginning is kept: no secret there is longer.
const QUERY_MASKED: usize = 8 << 10;
/// Most bytes of calls that wait for their tokens to be counted.
const UNCOUNTED_BYTES_MAX: usize = 64 << 20;
/// Room for the JSON of a usual record.
const JSON_BYTES: usize = 4 << 10;
/// Pause while the store has no room.
const STORE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// What the recorder works with; all of it is shared with others.
#[derive(Debug)]
pub struct Recorder {
    /// Takes the records.
    pub store: Store,
    /// Prices.
    pub book: Arc<ArcSwap<PriceBook>>,
    /// Masks before anything is stored.
    pub redactor: Arc<ArcSwap<Redactor>>,
    /// Reads back what was spilled.
    pub spiller: Spiller,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether calls are journalled before their end.
    pub journal: bool,
    /// Running calls.
    pub running: Arc<Running>,
    /// What keys have spent.
    pub limits: Arc<KeyLimits>,
    /// Sessions of responses that go on from one another.
    pub lineage: Mutex<Lineage>,
    /// Whose usage is in a record already.
    pub counted: Mutex<Counted>,
    /// Conversations of Assistants.
    pub assistants: Mutex<Assistants>,
    /// Calls that found no place in the queue since the last look.
    pub unrecorded: Arc<AtomicU64>,
    /// No call begins any more: an empty queue stays empty.
    pub stopping: Arc<AtomicBool>,
    /// Bytes of calls that wait for their tokens to be counted.
    pub uncounted: AtomicUsize,
    /// Wall and monotonic clock when they were first read together.
    pub since: (Timestamp, Instant),
}

/// A call without usage on its way to the thread that counts tokens.
struct Uncounted {
    exchange: Exchange,
    read: Interpreted,
    done: Option<Waiter>,
    size: usize,
}

impl Recorder {
    /// Works until the last sender of `ended` is gone, or calltap stops and nothing comes any more.
    /// Blocks.
    pub fn run(self, ended: mpsc::Receiver<Box<Captured>>, runtime: &Handle) {
        let (later, jobs) = std::sync::mpsc::channel();
        let recorder = &self;
        std::thread::scope(|scope| {
            let counting = std::thread::Builder::new().name("calltap-tokens".to_owned());
            let counter = counting.spawn_scoped(scope, move || recorder.count_tokens(&jobs));
            // The thread ends with the last sender.
            let later = counter.is_ok().then_some(later);
            recorder.work(ended, runtime, later.as_ref());
        });
    }

    fn work(
        &self,
        mut ended: mpsc::Receiver<Box<Captured>>,
        runtime: &Handle,
        later: Option<&std::sync::mpsc::Sender<Uncounted>>,
    ) {
        let (mut batch, mut looked) = (Vec::with_capacity(BATCH), Instant::now());
        loop {
            let young = self.running.has_young();
            let wait = if young { JOURNAL_AFTER } else { IDLE };
            let taken = runtime.block_on(async {
                tokio::select! {
                    biased;
                    taken = ended.recv_many(&mut batch, BATCH) => Some(taken),
                    () = self.running.begun.notified() => None,
                    () = tokio::time::sleep(wait) => None,
                }
            });
            let idle = taken.is_none() && !young;
            if taken == Some(0) || (idle && self.stopping.load(Ordering::Relaxed)) {
                break;
            }
            let hurries = batch.len() == BATCH || batch.iter().any(|call| call.is_awaited());
            for captured in batch.drain(..) {
                self.guard(|| self.record(*captured, later));
            }
            if looked.elapsed() >= JOURNAL_AFTER {
                looked = Instant::now();
                self.guard(|| self.write_journal());
            }
            self.guard(|| self.tell_overdue());
            for _ in 0..self.unrecorded.swap(0, Ordering::Relaxed) {
                self.store.count_dropped("recorder_full");
            }
            if taken.is_some() && !hurries {
                std::thread::sleep(GATHER);
            }
        }
    }

    /// A panic costs what it was about, which is counted, and not the thread that every call depends on.
    fn guard(&self, step: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(step)).is_err() {
            self.metrics.capture_dropped("capture_error");
            self.store.count_dropped("capture_error");
            tracing::error!("something could not be recorded");
        }
    }

    /// Calls that have been running for a while are known to the store from now on.
    fn write_journal(&self) {
        let due = self.running.due(JOURNAL_AFTER);
        if self.journal && !due.is_empty() {
            self.store.journal(due.iter().map(|live| self.journal_entry(live)).collect());
        }
    }

    fn journal_entry(&self, Live { head, request }: &Live) -> Started {
        let request = Some(request).filter(|body| head.keep_content && !body.is_empty());
        let read = || started(head, request.unwrap_or(&Bytes::new()));
        let record = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| begun(head));
        let redactor = self.redactor.load();
        let request = request.map(|body| match redactor.redact(body) {
            Some((masked, _)) => Bytes::from(masked),
            None => body.clone(),
        });
        Started { record: mask(record, &redactor).0, request }
    }

    fn record(&self, captured: Captured, later: Option<&std::sync::mpsc::Sender<Uncounted>>) {
        let Some((exchange, done)) = captured.into_exchange(|id| self.spiller.read_back(id)) else {
            return;
        };
        let read = || interpret(&exchange, &self.book.load());
        let Ok(read) = catch_unwind(AssertUnwindSafe(read)) else {
            return self.finish(&exchange, None, done);
        };
        if read.unmeasured.is_none() {
            return self.finish(&exchange, Some(read), done);
        }
        // Each body stands there twice: as bytes and as what was read from them.
        let size = (exchange.request.kept.len() + exchange.response.kept.len()).saturating_mul(2);
        let waiting = self.uncounted.fetch_add(size, Ordering::Relaxed) + size;
        let job = Uncounted { exchange, read, done, size };
        let sent = match later {
            Some(later) if waiting <= UNCOUNTED_BYTES_MAX => later.send(job).map_err(|back| back.0),
            _ => Err(job),
        };
        if let Err(mut job) = sent {
            self.uncounted.fetch_sub(job.size, Ordering::Relaxed);
            job.read.unmeasured = None;
            job.read
                .record
                .notes
                .push("tokens were not counted: too many calls wait for it".to_owned());
            self.finish(&job.exchange, Some(job.read), job.done);
        }
    }

    /// Counts the tokens of calls without usage, so that no other call waits for it.
    fn count_tokens(&self, jobs: &std::sync::mpsc::Receiver<Uncounted>) {
        while let Ok(Uncounted { exchange, mut read, done, size }) = jobs.recv() {
            let book = self.book.load();
            if catch_unwind(AssertUnwindSafe(|| read.measure(&book))).is_err() {
                read.record.notes.push("capture_error: tokens could not be counted".to_owned());
            }
            self.guard(|| self.finish(&exchange, Some(read), done));
            self.uncounted.fetch_sub(size, Ordering::Relaxed);
        }
    }

    /// Masks and stores; what could not be read leaves a bare record.
    fn finish(&self, exchange: &Exchange, read: Option<Interpreted>, done: Option<Waiter>) {
        let masked = read
            .map(|read| self.count_once(read))
            .ok_or(())
            .and_then(|read| catch_unwind(AssertUnwindSafe(|| self.masked(read))).map_err(|_| ()));
        let mut entry = masked.unwrap_or_else(|()| {
            self.metrics.capture_dropped("capture_error");
            tracing::error!(call.id = %exchange.head.id, "a call could not be read; its record is bare");
            let masked = || mask(begun(&exchange.head), &self.redactor.load()).0;
            let mut record = catch_unwind(AssertUnwindSafe(masked))
                .unwrap_or_else(|_| without_texts(begun(&exchange.head)));
            record.notes.push("capture_error: the call could not be read".to_owned());
            Entry { record, bodies: None, answer: None, json: None, text: None }
        });
        if self.link(&mut entry.record) {
            entry.json = None;
        }
        self.metrics.recorded(&entry.record);
        self.limits.charge(&exchange.head, &entry.record.cost);
        log(&entry.record);
        let attached = self.follow(exchange, &entry.record);
        self.append(entry, attached, done);
    }

    /// What stands with the provider can be read many times; it was used once.
    fn count_once(&self, mut read: Interpreted) -> Interpreted {
        let record = &mut read.record;
        let Some(id) = record.response_id.clone() else { return read };
        if record.usage.source != UsageSource::Provider {
            return read;
        }
        let stored = || self.store.has_usage_of(&id, &record.upstream).unwrap_or(false);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = counted.remember(&record.upstream, &id);
        if read.is_read_again && (is_known || stored()) {
            count_elsewhere(record);
        }
        read
    }

    /// What a call tells of a conversation with an assistant: records of messages, and what is to be
    /// remembered with them.
    fn follow(&self, exchange: &Exchange, record: &Record) -> Attached {
        let head = &exchange.head;
        if !head.endpoint.as_str().starts_with("assistants.") {
            return Attached::default();
        }
        let found = catch_unwind(AssertUnwindSafe(|| {
            let whole = whole(exchange, record);
            let seen = Seen { record: &whole, keep: head.keep_content, host: head.host.as_deref() };
            let mut assistants = self.assistants.lock().unwrap_or_else(PoisonError::into_inner);
            assistants.observe(seen, self.steady())
        }));
        self.attached(found.unwrap_or_default())
    }

    /// The time, as if the wall clock had not been set since the start: deadlines are measured by it.
    fn steady(&self) -> Timestamp {
        let passed = self.since.1.elapsed().as_micros();
        self.since.0.plus_us(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// Messages that have waited too long for their run.
    fn tell_overdue(&self) {
        let mut assistants = self.assistants.lock().unwrap_or_else(PoisonError::into_inner);
        let found = assistants.due(self.steady());
        drop(assistants);
        if !found.derived.is_empty() {
            self.store.append_derived(self.attached(found));
        }
    }

    fn attached(&self, found: Found) -> Attached {
        let derived = found.derived.iter().filter_map(|derived| self.derived(derived)).collect();
        let redactor = self.redactor.load();
        let threads = found.threads.into_iter();
        let threads = threads.map(|(key, state)| (key, state.map(|json| masked(&json, &redactor))));
        Attached { derived, threads: threads.collect() }
    }

    fn derived(&self, derived: &Derived) -> Option<Entry> {
        let read = catch_unwind(AssertUnwindSafe(|| self.read(&derived.exchange)));
        let mut entry = read.ok()?;
        entry.record.timing.clone_from(&derived.timing);
        entry.record.stream = derived.stream;
        entry.json = None;
        self.metrics.spent(&entry.record);
        self.limits.charge(&derived.exchange.head, &entry.record.cost);
        Some(entry)
    }

    /// A response without a session is in that of the response it goes on from. Whether the record
    /// changed.
    fn link(&self, record: &mut Record) -> bool {
        if record.endpoint.as_str() != "responses" {
            return false;
        }
        let previous = record.tags.metadata.get("previous_response_id").and_then(Value::as_str);
        let link = Link {
            id: record.response_id.as_deref(),
            previous,
            said: record.tags.session.as_deref(),
            is_read_again: record.method == "GET",
            is_kept: record.parameters.get("store") != Some(&Value::Bool(false)),
        };
        let mut lineage = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        let session = lineage.session(link, |id| self.store.session_of_response(id).ok().flatten());
        let changed = session != record.tags.session;
        record.tags.session = session;
        changed
    }

    fn read(&self, exchange: &Exchange) -> Entry {
        self.masked(interpret(exchange, &self.book.load()))
    }

    fn masked(&self, read: Interpreted) -> Entry {
        let Interpreted { mut record, bodies, response, holds_query, .. } = read;
        let redactor = self.redactor.load();
        let kept = response.as_ref().filter(|_| bodies.is_some());
        let text =
            self.store.wants_text().then(|| text_of(record.tags.user_query.as_deref(), kept));
        if holds_query {
            shorten_query(&mut record, &redactor);
        }
        let (mut record, json) = mask(record, &redactor);
        let notes = record.notes.len();
        let bodies = bodies.map(|mut bodies| {
            if record.status == Some(101) {
                mask_socket(&mut bodies, &mut record, &redactor);
            } else {
                mask_request(&mut bodies, &mut record, &redactor);
                mask_response(&mut bodies, &mut record, response.as_ref(), &redactor);
            }
            bodies
        });
        let answer = response.as_ref().filter(|_| bodies.is_some()).and_then(codec::answer_text);
        let answer = answer.map(|text| masked_start(&text, &redactor));
        let json = json.filter(|_| record.notes.len() == notes);
        // Where something was masked, the text is read from what is stored.
        let text = text.filter(|_| json.is_some());
        Entry { record, bodies, answer, json, text }
    }

    /// The store bounds what waits in it; what has no room there yet waits here.
    fn append(&self, entry: Entry, attached: Attached, done: Option<Waiter>) {
        failpoint::reach("store");
        // A strict client waits: it is told at once what becomes of its record.
        while done.is_none() && !self.store.has_room() {
            std::thread::sleep(STORE_FULL_PAUSE);
        }
        self.store.append_with(entry, attached, done);
    }
}

/// The beginning of a text, masked. Masked before it is cut short, so that no secret is cut out of shape.
fn masked_start(text: &str, redactor: &Redactor) -> String {
    masked(text.get(..text.floor_char_boundary(ANSWER_BYTES_MAX)).unwrap_or_default(), redactor)
}

/// A long question is whole in the request; the record keeps its beginning.
fn shorten_query(record: &mut Record, redactor: &Redactor) {
    let Some(query) = record.tags.user_query.as_ref().filter(|query| query.len() > QUERY_KEPT)
    else {
        return;
    };
    let looked_at = query.floor_char_boundary(QUERY_MASKED);
    let mut kept = masked(query.get(..looked_at).unwrap_or_default(), redactor);
    if kept.len() <= QUERY_KEPT {
        // What was masked is most of it: the beginning would not be known again in the request.
        kept = masked(query, redactor);
    } else {
        kept.truncate(kept.floor_char_boundary(QUERY_KEPT));
    }
    record.tags.user_query = Some(kept);
}

fn masked(text: &str, redactor: &Redactor) -> String {
    match redactor.redact(text.as_bytes()) {
        Some((masked, _)) => String::from_utf8_lossy(&masked).into_owned(),
        None => text.to_owned(),
    }
}

/// The record with every match masked, wherever it stood; as JSON too, where nothing had to be.
fn mask(record: Record, redactor: &Redactor) -> (Record, Option<String>) {
    failpoint::reach("redact");
    let mut json = Vec::with_capacity(JSON_BYTES);
    let written = serde_json::to_writer(&mut json, &record).map(|()| String::from_utf8(json));
    let Ok(Ok(json)) = written else { return (without_texts(record), None) };
    let Some((masked, kinds)) = redactor.redact(json.as_bytes()) else {
        return (record, Some(json));
    };
    if let Ok(mut masked) = serde_json::from_slice::<Record>(&masked) {
        masked.notes.push(format!("redacted: {}", kinds.join(", ")));
        return (masked, None);
    }
    (without_texts(record), None)
}

/// The record without anything that a caller or provider wrote.
fn without_texts(mut record: Record) -> Record {
    record.tags = Tags::default();
    record.parameters.clear();
    record.error = None;
    record.headers = Headers::default();
    record.notes = vec!["redacted: metadata could not be masked and was left out".to_owned()];
    record
}

/// Masks the messages of a websocket. Where something matched, they take the place of the frames.
fn mask_socket(bodies: &mut Bodies, record: &mut Record, redactor: &Redactor) {
    for (whose, body) in [("request", &mut bodies.request), ("response", &mut bodies.response)] {
        if let Some((masked, kinds)) = redactor.redact(&codec::socket_texts(&body.kept)) {
            body.kept = masked.into();
            record.notes.push(format!("{whose} redacted: {}", kinds.join(", ")));
        }
    }
}

/// A body that is content-encoded, without that: nothing can be seen in it before.
fn decoded(headers: &[(String, String)], body: &Bytes) -> Option<Bytes> {
    let (_, encoding) = headers.iter().find(|(name, _)| name == "content-encoding")?;
    Some(content::decode(Some(encoding), body, std::iter::empty()).bytes)
}

fn mask_request(bodies: &mut Bodies, record: &mut Record, redactor: &Redactor) {
    let headers = &mut record.headers.request;
    let decoded = decoded(headers, &bodies.request.kept);
    let text = decoded.as_ref().unwrap_or(&bodies.request.kept);
    let Some((masked, kinds)) = redactor.redact(text) else { return };
    headers.retain(|(name, _)| name != "content-encoding");
    // Positions have moved; the member was read long ago and can go.
    let without_member = bodies.member.take().and_then(|cut| {
        let kept = &bodies.request.kept;
        let rest = [kept.get(..cut.start)?, kept.get(cut.end..)?].concat();
        Some(redactor.redact(&rest).map_or(rest, |(masked, _)| masked))
    });
    bodies.request.kept = without_member.unwrap_or(masked).into();
    record.notes.push(format!("request redacted: {}", kinds.join(", ")));
}

/// Masks the response as it stands. Where a stream hides a match across its events, what it adds up
/// to takes the place of the raw bytes.
fn mask_response(
    bodies: &mut Bodies,
    record: &mut Record,
    response: Option<&Value>,
    redactor: &Redactor,
) {
    let headers = &mut record.headers.response;
    let decoded = decoded(headers, &bodies.response.kept);
    let whole = response
        .filter(|_| record.stream)
        .and_then(|value| serde_json::to_vec(value).ok())
        .and_then(|json| redactor.redact(&json));
    let (masked, kinds) = if let Some(masked) = whole {
        headers.retain(|(name, _)| name != "content-type");
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        masked
    } else if let Some(masked) = redactor.redact(decoded.as_ref().unwrap_or(&bodies.response.kept))
    {
        masked
    } else {
        return;
    };
    bodies.response.kept = masked.into();
    headers.retain(|(name, _)| name != "content-encoding");
    record.notes.push(format!("response redacted: {}", kinds.join(", ")));
}

/// One line a call.
fn log(record: &Record) {
    let model = record.model.served.as_deref().or(record.model.requested.as_deref());
    let text = if record.outcome == Outcome::Completed { "call completed" } else { "call ended" };
    tracing::info!(
        id = %record.id,
        outcome = record.outcome.as_str(),
        status = record.status,
        upstream = record.upstream,
        endpoint = record.endpoint.as_str(),
        model,
        latency_ms = record.timing.latency_ms,
        "{text}"
    );
}
