//! What an answer means (`reliability.md` R7), and when its sender may be asked again.

use super::http::{Answer, Silence};
use crate::model::Timestamp;
use crate::sink::{Sink, Verdict};
use jiff::fmt::rfc2822::DateTimeParser;
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// Longest wait that a sink may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// Characters of a reply that are kept as a reason.
const REASON_CHARS: usize = 300;

/// What becomes of a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What is to be done.
    pub verdict: Verdict,
    /// Status and the beginning of the reply, or why there was none.
    pub reason: String,
    /// What stops the lane, for a verdict of [`Verdict::Pause`].
    pub obstacle: Obstacle,
    /// The sink asks to be left alone for so long.
    pub retry_after: Option<Duration>,
}

/// Why a lane stands still by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// 401, 403: the key is refused.
    KeyRefused,
    /// 404, 410, or for an hour a host without an address: nothing is there.
    Gone,
    /// A redirect, or a page where an API should answer.
    Misconfigured,
}

impl Obstacle {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::KeyRefused => "the key is refused",
            Self::Gone => "nothing is there: the service is gone, or base_url is wrong",
            Self::Misconfigured => "something else answers there: look at base_url",
        }
    }
}

/// Judges an answer to a request that carried the records with these ids. `now` is the time here.
pub fn judge(sink: &dyn Sink, ids: &[Uuid], answer: &Answer, now: Timestamp) -> Judged {
    let own = sink.verdict(ids, answer.status, &answer.body);
    let verdict = own.unwrap_or_else(|| general(answer));
    Judged {
        verdict,
        reason: reason(answer),
        obstacle: obstacle(answer.status),
        retry_after: retry_after(answer, now),
    }
}

/// A request that got no answer.
pub fn unanswered(silence: impl Into<Silence>) -> Judged {
    let Silence { why, unresolved } = silence.into();
    let obstacle = if unresolved { Obstacle::Gone } else { Obstacle::Misconfigured };
    Judged { verdict: Verdict::Retry, reason: why, obstacle, retry_after: None }
}

fn general(answer: &Answer) -> Verdict {
    match answer.status {
        200..=299 if is_page(answer) => Verdict::Pause,
        200..=299 if denies(&answer.body) => Verdict::Refused,
        200..=299 => Verdict::Delivered,
        408 | 425 | 429 | 500..=599 => Verdict::Retry,
        401 | 403 | 404 | 410 | 100..=199 | 300..=399 => Verdict::Pause,
        413 => Verdict::Split,
        _ => Verdict::Refused,
    }
}

fn obstacle(status: u16) -> Obstacle {
    match status {
        401 | 403 => Obstacle::KeyRefused,
        404 | 410 => Obstacle::Gone,
        _ => Obstacle::Misconfigured,
    }
}

/// A login page or a captive portal answers 200 too.
fn is_page(answer: &Answer) -> bool {
    let start = answer.body.trim_ascii_start().get(..14).unwrap_or_default().to_ascii_lowercase();
    answer
        .header("content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("text/html"))
        || start.starts_with(b"<!doctype html")
        || start.starts_with(b"<html")
}

/// A success whose body says that it is none.
fn denies(body: &[u8]) -> bool {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return false };
    let says = |name: &str| match body.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    };
    let is_false = |name: &str| body.get(name) == Some(&Value::Bool(false));
    let status = body.get("status").and_then(Value::as_str).unwrap_or_default();
    let failed = ["error", "failed", "failure"].iter().any(|bad| status.eq_ignore_ascii_case(bad));
    is_false("success") || is_false("ok") || failed || says("error") || says("errors")
}

fn reason(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.chars().filter(|c| !c.is_control()).take(REASON_CHARS).collect();
    format!("{} {}", answer.status, text.trim()).trim_end().to_owned()
}

/// `retry-after-ms`, `Retry-After` in seconds or as a date, `retry_after` in a JSON body (seconds).
/// What is negative or makes no sense is as if it were not there.
fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let seconds = |text: &str| {
        text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
    };
    let from_ms = answer.header("retry-after-ms").and_then(seconds).map(|ms| ms / 1000.0);
    let from_header = || {
        let text = answer.header("retry-after")?;
        seconds(text).or_else(|| until(text, answer, now))
    };
    let from_body = || {
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        match body.get("retry_after").or_else(|| body.pointer("/error/retry_after"))? {
            Value::Number(number) => seconds(&number.to_string()),
            Value::String(text) => seconds(text),
            _ => None,
        }
    };
    let wait = from_ms.or_else(from_header).or_else(from_body)?;
    Some(Duration::from_secs_f64(wait.min(RETRY_AFTER_MAX.as_secs_f64())))
}

/// Seconds from the sink's own clock to a date; from ours where it does not tell its time.
fn until(date: &str, answer: &Answer, now: Timestamp) -> Option<f64> {
    let then = http_date(date)?;
    let now = answer.header("date").and_then(http_date).unwrap_or(now.0);
    let us = u32::try_from((then - now).max(0) / 1000).unwrap_or(u32::MAX);
    Some(f64::from(us) / 1000.0)
}

/// Microseconds of a date in any of the three forms of RFC 9110 §5.6.7. A wrong day of the week is not
/// the point.
fn http_date(text: &str) -> Option<i64> {
    static DATES: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);
    let text = text.trim();
    if let Ok(time) = DATES.parse_timestamp(text) {
        return Some(time.as_microsecond());
    }
    let (_, rest) = text.split_once(' ')?;
    let old = [("%d-%b-%y %H:%M:%S GMT", rest), ("%b %e %H:%M:%S %Y", rest)];
    old.into_iter().find_map(|(form, text)| {
        let date = jiff::civil::DateTime::strptime(form, text).ok()?;
        Some(jiff::tz::TimeZone::UTC.to_timestamp(date).ok()?.as_microsecond())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;
    use crate::sink::{Limits, Request};

    #[derive(Debug)]
    struct Plain;

    impl Sink for Plain {
        fn limits(&self) -> Limits {
            Limits { records: 1, bytes: 1 }
        }
        fn requests(&self, _: &[Record]) -> Vec<Request> {
            Vec::new()
        }
    }

    fn judged(status: u16, headers: &[(&str, &str)], body: &str) -> Judged {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let answer = Answer { status, headers, body: body.as_bytes().to_vec() };
        judge(&Plain, &[], &answer, Timestamp(1_763_691_161_000_000)) // 2025-11-21T02:12:41Z
    }

    #[test]
    fn the_table_of_r7() {
        for (status, body, verdict) in [
            (200, "{\"message\":\"log successful\"}", Verdict::Delivered),
            (204, "", Verdict::Delivered),
            (201, "{\"success\":true,\"error\":null,\"errors\":[]}", Verdict::Delivered),
            (200, "{\"success\":false}", Verdict::Refused),
            (200, "{\"error\":\"no\"}", Verdict::Refused),
            (200, "{\"status\":\"error\",\"message\":\"no\"}", Verdict::Refused),
            (200, "{\"status\":\"success\"}", Verdict::Delivered),
            (200, " <!DOCTYPE html><p>", Verdict::Pause),
            (302, "", Verdict::Pause),
            (401, "", Verdict::Pause),
            (404, "", Verdict::Pause),
            (410, "", Verdict::Pause),
            (400, "", Verdict::Refused),
            (422, "", Verdict::Refused),
            (415, "", Verdict::Refused),
            (413, "", Verdict::Split),
            (408, "", Verdict::Retry),
            (425, "", Verdict::Retry),
            (429, "", Verdict::Retry),
            (500, "", Verdict::Retry),
            (501, "", Verdict::Retry),
            (599, "", Verdict::Retry),
        ] {
            assert_eq!(judged(status, &[], body).verdict, verdict, "{status} {body}");
        }
        assert_eq!(judged(200, &[("content-type", "text/html")], "hi").verdict, Verdict::Pause);
        assert_eq!(judged(403, &[], "").obstacle, Obstacle::KeyRefused);
        assert_eq!(judged(400, &[], "no\nway").reason, "400 noway");
    }

    #[test]
    fn retry_after_in_every_form() {
        let after = |headers: &[(&str, &str)], body: &str| {
            judged(429, headers, body).retry_after.map(|wait| wait.as_secs_f64())
        };
        assert_eq!(after(&[("retry-after", "30")], ""), Some(30.0));
        assert_eq!(after(&[("retry-after", "0")], ""), Some(0.0));
        assert_eq!(after(&[("retry-after", "1.5")], ""), Some(1.5));
        assert_eq!(after(&[("retry-after-ms", "1500"), ("retry-after", "9")], ""), Some(1.5));
        for text in ["-5", "abc", "", "NaN", "inf"] {
            assert_eq!(after(&[("retry-after", text)], ""), None, "{text}");
        }
        assert_eq!(after(&[("retry-after", "99999999")], ""), Some(3600.0));
        assert_eq!(after(&[], "{\"detail\":\"slow\",\"retry_after\":7}"), Some(7.0));
        for date in [
            "Fri, 21 Nov 2025 02:13:41 GMT",
            "Mon, 21 Nov 2025 02:13:41 GMT",
            "Friday, 21-Nov-25 02:13:41 GMT",
            "Fri Nov 21 02:13:41 2025",
        ] {
            assert_eq!(after(&[("retry-after", date)], ""), Some(60.0), "{date}");
        }
        // Its clock is two days off: what counts is the span it means.
        let off = ("date", "Sun, 23 Nov 2025 02:12:41 GMT");
        assert_eq!(after(&[("retry-after", "Sun, 23 Nov 2025 02:12:46 GMT"), off], ""), Some(5.0));
        assert_eq!(after(&[("retry-after", "Fri, 21 Nov 2025 02:00:00 GMT")], ""), Some(0.0));
    }
}
