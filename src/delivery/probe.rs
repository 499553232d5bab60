//! Whether a sink takes what it is sent: a test event, or a request that leaves nothing behind.

use super::{
    answer::{Judged, judge, unanswered},
    http::{self, Answer},
    plan::{Destination, Plan},
};
use crate::{
    interpret::begun,
    model::{Endpoint, Head, Outcome, Record, Timestamp, UsageSource},
    sink::{Request, Sink, Verdict},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

/// How a sink took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all is well.
    pub ok: bool,
    /// In words.
    pub message: String,
    /// Id of the test event; `None` where none was sent.
    pub id: Option<Uuid>,
}

/// Sends a test event.
pub async fn test(plan: &Plan) -> Report {
    let record = sample();
    let id = Some(record.id);
    let (sink, base_url, client) = match &plan.destination {
        Destination::Files(_) => return folder(plan),
        Destination::Http { sink, base_url, client } => (sink, base_url, client),
    };
    let records = [record];
    let requests = sink.requests(&records);
    if requests.is_empty() {
        return Report { ok: false, message: "the kind takes no such event".to_owned(), id };
    }
    for request in &requests {
        let judged = match http::send(client, base_url, &**sink, request).await {
            Ok(answer) => judge(&**sink, &[records[0].id], &answer, Timestamp::now()),
            Err(why) => unanswered(why),
        };
        if judged.verdict != Verdict::Delivered {
            return Report { ok: false, message: in_words(&judged), id };
        }
    }
    Report { ok: true, message: "a test event was taken".to_owned(), id }
}

/// Asks without leaving a record, where the vendor allows that; else only connects.
pub async fn probe(plan: &Plan) -> Report {
    let Destination::Http { sink, base_url, client } = &plan.destination else {
        return folder(plan);
    };
    let report = |ok, message: String| Report { ok, message, id: None };
    let Some(request) = sink.probe() else { return reach(base_url, client, &**sink).await };
    match http::send(client, base_url, &**sink, &request).await {
        Err(silence) => report(false, silence.why),
        Ok(answer) => {
            let judged = judge(&**sink, &[], &answer, Timestamp::now());
            match judged.verdict {
                // Refused is the event, not the key: that is what was asked.
                Verdict::Delivered | Verdict::Refused | Verdict::Partly(_) | Verdict::Split => {
                    report(true, "the key is taken".to_owned())
                }
                _ => report(false, in_words(&judged)),
            }
        }
    }
}

async fn reach(base_url: &str, client: &http::Client, sink: &dyn Sink) -> Report {
    let request = Request {
        method: ::http::Method::GET,
        path: "/".to_owned(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        records: Vec::new(),
        parts: Vec::new(),
    };
    match http::send(client, base_url, sink, &request).await {
        Ok(Answer { status, .. }) => Report {
            ok: true,
            message: format!(
                "answers ({status}); whether the key is taken only `calltap sinks test` can tell"
            ),
            id: None,
        },
        Err(silence) => Report { ok: false, message: silence.why, id: None },
    }
}

fn folder(plan: &Plan) -> Report {
    let dir = plan.target();
    let there = std::path::Path::new(&dir).ancestors().find(|ancestor| ancestor.exists());
    let writable = there.is_some_and(|there| {
        std::fs::metadata(there).is_ok_and(|meta| meta.is_dir() && !meta.permissions().readonly())
    });
    let message =
        if writable { format!("{dir} can be used") } else { format!("{dir} cannot be written") };
    Report { ok: writable, message, id: None }
}

fn in_words(judged: &Judged) -> String {
    match judged.verdict {
        Verdict::Pause => format!("{} ({})", judged.obstacle.text(), judged.reason),
        Verdict::Retry => format!("it takes nothing just now: {}", judged.reason),
        _ => format!("refused: {}", judged.reason),
    }
}

/// An event that says what it is.
fn sample() -> Record {
    let mut record = begun(&Head::default());
    record.id = Uuid::now_v7();
    record.started_at = Timestamp::now();
    record.ended_at = record.started_at.plus_us(1_000);
    record.endpoint = Endpoint::from("chat.completions");
    record.method = "POST".into();
    record.path = "/v1/chat/completions".into();
    record.upstream = "calltap".into();
    record.provider = "openai".into();
    record.model.requested = Some("calltap-test".to_owned());
    record.model.served = Some("calltap-test".to_owned());
    record.outcome = Outcome::Completed;
    record.status = Some(200);
    record.finish_reasons = vec!["stop".to_owned()];
    record.timing.latency_ms = 1.0;
    record.usage.source = UsageSource::Provider;
    (record.usage.input, record.usage.output, record.usage.total) = (Some(1), Some(1), Some(2));
    record.tags.prompt = Some("calltap-test".to_owned());
    record.tags.user_query = Some("Is this thing on?".to_owned());
    record.request = Some(json!({
        "model": "calltap-test",
        "messages": [{"role": "user", "content": "Is this thing on?"}],
    }));
    record.response = Some(json!({
        "id": "calltap-test", "object": "chat.completion", "created": 0, "model": "calltap-test",
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "It is."}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }));
    record
}
