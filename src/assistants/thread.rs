//! What is remembered of one thread, and when its messages are ready to be told.

use super::{
    Seen,
    news::News,
    record::{Derived, Telling},
    share,
};
use crate::model::{Client, Tags, Timestamp, Trace};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use uuid::Uuid;

/// How long a message waits for the end of its run: as long as a run may last.
const PATIENCE_US: i64 = 10 * 60 * 1_000_000;
/// Most runs, steps of a run and ids of told messages remembered of a thread.
const RUNS_MAX: usize = 32;
const STEPS_MAX: usize = 256;
const TOLD_MAX: usize = 512;
/// Members that hold no content.
const FACTS: &[&str] = &[
    "id",
    "object",
    "created_at",
    "completed_at",
    "incomplete_at",
    "started_at",
    "thread_id",
    "run_id",
    "assistant_id",
    "role",
    "type",
    "status",
    "model",
    "usage",
    "incomplete_details",
];

/// A thread.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Thread {
    id: String,
    question: Option<Question>,
    runs: Vec<Run>,
    told: VecDeque<String>,
    /// When anything new was last heard of it.
    pub(super) touched: Timestamp,
}

/// A message of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    /// Text or parts.
    pub(super) content: Value,
    /// By the provider's clock, in seconds.
    pub(super) created_at: i64,
}

/// A run and what waits for its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) made: Made,
    /// The run as it was last seen; null while only messages of it were.
    pub(super) object: Value,
    question: Option<Value>,
    steps: Vec<Value>,
    waiting: Vec<Message>,
    /// Its tokens stand in a record.
    given: bool,
    touched: Timestamp,
}

/// The call that began a run, or the first one that showed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) call: Uuid,
    pub(super) started_at: Timestamp,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) upstream: String,
    pub(super) provider: String,
    pub(super) host: Option<String>,
    pub(super) tags: Tags,
    pub(super) client: Client,
    pub(super) trace: Trace,
    pub(super) sinks: Option<Vec<String>>,
    pub(super) keep: bool,
    pub(super) model: Option<String>,
}

/// A message that has no record yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) object: Value,
    pub(super) keep: bool,
    /// It will not change any more.
    whole: bool,
    question: Option<Value>,
    pub(super) streamed: Option<Streamed>,
}

/// How a message came in an event stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Streamed {
    pub(super) started_at: Timestamp,
    pub(super) latency_ms: f64,
    pub(super) first_byte_ms: Option<f64>,
    pub(super) ttft_ms: Option<f64>,
    /// The stream was this message's alone, so its times are the message's.
    pub(super) alone: bool,
    /// The client left before the end.
    pub(super) client_left: bool,
}

impl Thread {
    pub(super) fn new(id: String) -> Self {
        Self { id, ..Self::default() }
    }

    /// Takes in what a call told.
    pub(super) fn take(&mut self, news: News, seen: Seen<'_>, now: Timestamp) {
        let before = (self.question.clone(), self.runs.len());
        if let Some(question) = news.question.filter(|_| seen.keep) {
            let old = self.question.as_ref().map(|old| old.created_at);
            if old.is_none_or(|old| old <= question.created_at) {
                self.question = Some(question);
            }
        }
        let no_answers = news.messages.is_empty();
        for object in news.runs {
            self.take_run(object, seen, news.stream && no_answers, now);
        }
        for step in news.steps {
            self.take_step(step, seen.keep);
        }
        let mut alone = news.messages.len() == 1;
        let mut first = true;
        for (object, question) in news.messages {
            let streamed = news.stream.then(|| Streamed::of(seen, first, alone));
            self.take_message(object, question, streamed, seen, now);
            (first, alone) = (false, false);
        }
        if before != (self.question.clone(), self.runs.len()) {
            self.touched = now;
        }
    }

    fn take_run(&mut self, object: Value, seen: Seen<'_>, counts_itself: bool, now: Timestamp) {
        let Some(id) = object["id"].as_str() else { return };
        let begins = seen.record.endpoint.as_str() == "assistants.run"
            && !seen.record.path.ends_with("/submit_tool_outputs");
        let question = self.question.as_ref().filter(|question| {
            begins || Some(question.created_at) <= object["created_at"].as_i64()
        });
        let question = question.map(|question| question.content.clone());
        let run = self.run(id, seen, now);
        let object = if seen.keep && run.made.keep { object } else { facts(&object) };
        if run.object.is_null() {
            run.question = question;
        }
        if run.object != object {
            run.object = object;
            run.touched = now;
        }
        run.given |= counts_itself && run.has_ended() && run.usage().is_some();
        self.touched = self.touched.max(now);
    }

    fn take_step(&mut self, step: Value, keep: bool) {
        let run = self.runs.iter_mut().find(|run| step["run_id"].as_str() == Some(&run.id));
        let Some(run) = run.filter(|run| !run.given) else { return };
        let step = if keep && run.made.keep { step } else { facts(&step) };
        if let Some(old) = run.steps.iter_mut().find(|old| old["id"] == step["id"]) {
            *old = step;
        } else if run.steps.len() < STEPS_MAX {
            run.steps.push(step);
        }
    }

    fn take_message(
        &mut self,
        object: Value,
        question: Option<Value>,
        streamed: Option<Streamed>,
        seen: Seen<'_>,
        now: Timestamp,
    ) {
        let id = object["id"].as_str().unwrap_or_default();
        if self.told.iter().any(|told| told == id) {
            return;
        }
        let run_id = object["run_id"].as_str().unwrap_or_default().to_owned();
        let run = self.run(&run_id, seen, now);
        let whole = object["status"] != "in_progress" || (streamed.is_some() && run.has_ended());
        let keep = seen.keep && run.made.keep;
        let object = if keep { object } else { facts(&object) };
        let old = run.waiting.iter_mut().find(|old| old.object["id"] == object["id"]);
        let message =
            Message { object, keep, whole, question: question.filter(|_| keep), streamed };
        match old {
            // What streamed keeps its times; a later look brings the rest of it.
            Some(old) if whole || !old.whole => {
                let streamed = old.streamed.take().or(message.streamed);
                *old = Message { streamed, ..message };
            }
            Some(_) => {}
            None => run.waiting.push(message),
        }
    }

    /// The run, remembered from now on.
    fn run(&mut self, id: &str, seen: Seen<'_>, now: Timestamp) -> &mut Run {
        let at = self.runs.iter().position(|run| run.id == id).unwrap_or(self.runs.len());
        if at == self.runs.len() {
            self.runs.push(Run {
                id: id.to_owned(),
                made: Made::of(seen),
                object: Value::Null,
                question: None,
                steps: Vec::new(),
                waiting: Vec::new(),
                given: false,
                touched: now,
            });
        }
        &mut self.runs[at]
    }

    /// When something is to be told though nothing more comes.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let waits = self.runs.iter().filter(|run| !run.waiting.is_empty() || run.has_tokens_left());
        waits.map(|run| run.touched.plus_us(PATIENCE_US)).min()
    }

    /// Tells what is ready, and what has waited too long.
    pub(super) fn settle(&mut self, now: Timestamp) -> Vec<Derived> {
        let mut derived = Vec::new();
        for at in 0..self.runs.len() {
            let late = self.runs[at].touched.plus_us(PATIENCE_US) <= now;
            derived.append(&mut self.settle_run(at, late));
        }
        while self.runs.len() > RUNS_MAX {
            derived.append(&mut self.settle_run(0, true));
            self.runs.remove(0);
        }
        derived
    }

    /// Tells all that waits.
    pub(super) fn flush(&mut self, _now: Timestamp) -> Vec<Derived> {
        (0..self.runs.len()).flat_map(|at| self.settle_run(at, true)).collect()
    }

    /// Gives up what takes most room: all is told, only the last run and the last ids stay.
    pub(super) fn shrink(&mut self, now: Timestamp) -> Vec<Derived> {
        let derived = self.flush(now);
        self.runs.drain(..self.runs.len().saturating_sub(1));
        self.told.drain(..self.told.len().saturating_sub(TOLD_MAX / 8));
        for run in &mut self.runs {
            run.object = facts(&run.object);
            run.question = None;
            run.made.tags.inputs = Map::new();
            (run.made.tags.context, run.made.tags.expected) = (None, None);
        }
        derived
    }

    fn settle_run(&mut self, at: usize, late: bool) -> Vec<Derived> {
        let question = self.question.as_ref().map(|question| question.content.clone());
        let Some(run) = self.runs.get_mut(at) else { return Vec::new() };
        let (mut told, rest) = run.ready(late);
        run.waiting = rest;
        let mut derived = run.tell(&self.id, &mut told, question.as_ref());
        if run.has_tokens_left() && run.waiting.is_empty() && (late || run.ended_badly()) {
            run.given = true;
            derived.push(Telling { thread: &self.id, run }.of_tokens());
        }
        if run.has_ended() && run.waiting.is_empty() && !run.has_tokens_left() {
            (run.steps, run.question) = (Vec::new(), None);
        }
        for message in &told {
            self.told.extend(message.object["id"].as_str().map(str::to_owned));
        }
        self.told.drain(..self.told.len().saturating_sub(TOLD_MAX));
        derived
    }
}

impl Run {
    pub(super) fn has_ended(&self) -> bool {
        let status = self.object["status"].as_str().unwrap_or_default();
        matches!(status, "completed" | "incomplete") || self.ended_badly()
    }

    fn ended_badly(&self) -> bool {
        let status = self.object["status"].as_str().unwrap_or_default();
        matches!(status, "failed" | "cancelled" | "expired")
    }

    fn usage(&self) -> Option<&Value> {
        self.object.get("usage").filter(|usage| usage.is_object())
    }

    /// Its tokens are known, and no record counts them.
    fn has_tokens_left(&self) -> bool {
        let usage = self.usage().filter(|usage| !share::is_empty(usage));
        self.has_ended() && !self.given && usage.is_some()
    }

    /// Messages that can be told now, and those that go on waiting.
    fn ready(&mut self, late: bool) -> (Vec<Message>, Vec<Message>) {
        let waiting = std::mem::take(&mut self.waiting);
        if late || (self.has_ended() && waiting.iter().all(|message| message.whole)) {
            return (waiting, Vec::new());
        }
        // Of a run that nobody showed, no tokens are to be expected.
        let is_unknown = self.object.is_null();
        waiting.into_iter().partition(|message| is_unknown && message.whole)
    }

    /// A record for each message, the tokens spread over all.
    fn tell(
        &mut self,
        thread: &str,
        messages: &mut [Message],
        question: Option<&Value>,
    ) -> Vec<Derived> {
        if messages.is_empty() {
            return Vec::new();
        }
        let (steps, used) = self.allot(messages);
        let usage = self.usage().filter(|_| self.has_ended() && !self.given);
        let shares = usage.map(|usage| share::spread(usage, &used));
        let count = messages.len();
        let mut derived = Vec::with_capacity(count);
        for (at, (message, steps)) in messages.iter_mut().zip(steps).enumerate() {
            let asked = self.question.clone().or_else(|| message.question.take());
            let telling = Telling { thread, run: self };
            let share = shares.as_ref().and_then(|shares| shares.get(at)).cloned();
            let place = (at == 0, at + 1 == count);
            derived.push(telling.of_message(
                message,
                asked.or(question.cloned()),
                share,
                steps,
                place,
            ));
        }
        self.given |= shares.is_some();
        derived
    }

    /// The steps that led to each message, and what they used where all of it is known.
    fn allot(&self, messages: &[Message]) -> (Vec<Vec<Value>>, Vec<Option<Value>>) {
        let mut steps = self.steps.clone();
        steps.sort_by_key(|step| step["created_at"].as_i64());
        let mut allotted = vec![Vec::new(); messages.len()];
        let mut held = Vec::new();
        for step in steps {
            let made = &step["step_details"]["message_creation"]["message_id"];
            let at = messages.iter().position(|message| message.object["id"] == *made);
            held.push(step);
            if let Some(steps) = at.and_then(|at| allotted.get_mut(at)) {
                steps.append(&mut held);
            }
        }
        if let Some(last) = allotted.last_mut() {
            last.append(&mut held);
        }
        let used = allotted.iter().map(|steps| {
            let known = steps.iter().all(|step| step["usage"].is_object());
            (known && !steps.is_empty()).then(|| {
                steps.iter().fold(Value::Null, |all, step| share::sum(&all, &step["usage"]))
            })
        });
        let used = used.collect();
        (allotted, used)
    }
}

impl Made {
    fn of(seen: Seen<'_>) -> Self {
        let record = seen.record;
        Self {
            call: record.id,
            started_at: record.started_at,
            method: record.method.clone(),
            path: record.path.clone(),
            upstream: record.upstream.clone(),
            provider: record.provider.clone(),
            host: seen.host.map(str::to_owned),
            tags: record.tags.clone(),
            client: record.client.clone(),
            trace: record.trace.clone(),
            sinks: record.sinks.clone(),
            keep: seen.keep,
            model: record.model.requested.clone(),
        }
    }
}

impl Streamed {
    fn of(seen: Seen<'_>, first: bool, alone: bool) -> Self {
        let timing = &seen.record.timing;
        Self {
            started_at: seen.record.started_at,
            latency_ms: timing.latency_ms,
            first_byte_ms: timing.first_byte_ms.filter(|_| first),
            ttft_ms: timing.ttft_ms.filter(|_| first),
            alone,
            client_left: seen.record.outcome == crate::model::Outcome::ClientAborted,
        }
    }
}

/// An object without its content.
fn facts(object: &Value) -> Value {
    let Value::Object(members) = object else { return Value::Null };
    let kept = members.iter().filter(|(key, _)| FACTS.contains(&key.as_str()));
    let mut kept: Map<String, Value> =
        kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    let details = members.get("step_details");
    if let Some(details) = details.filter(|details| details["type"] == "message_creation") {
        kept.insert("step_details".to_owned(), details.clone());
    }
    let code = members.get("last_error").and_then(|error| error.get("code"));
    if let Some(code) = code {
        kept.insert("last_error".to_owned(), serde_json::json!({"code": code}));
    }
    Value::Object(kept)
}
