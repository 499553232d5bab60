//! Destinations: how records become a vendor's request, and what the vendor's answer means.
//!
//! Pure: no clock, no socket. The same records always give the same bytes, so a resend repeats what
//! was sent. `delivery` sends them.

mod athina;
mod batch;
mod facts;
#[cfg(test)]
mod fixtures;
mod honeyhive;
mod humanloop;
mod json;
mod keywordsai;
mod otlp;
mod own;
#[cfg(test)]
mod schema_tests;
mod talk;
#[cfg(test)]
mod tests;
mod webhook;

use crate::model::{Record, Secret, Timestamp};
use bytes::Bytes;
use std::{collections::BTreeMap, fmt, ops::Range};
use uuid::Uuid;

/// A kind of destination: one file, and one line in [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// What `type` in the configuration says.
    pub name: &'static str,
    /// Other spellings of it.
    pub aliases: &'static [&'static str],
    /// The vendor's base URL, if it has one that works.
    pub base_url: Option<&'static str>,
    /// Variables, first that is set wins, that the vendor's own clients read the base URL from.
    pub url_variables: &'static [&'static str],
    /// Ends of a base URL that requests bring themselves: vendors write it with and without.
    pub tails: &'static [&'static str],
    /// A host that is gone, and what to say to whoever still names it.
    pub retired: Option<(&'static str, &'static str)>,
    /// Variables, first that is set wins, that the vendor's own clients read the key from.
    pub key_variables: &'static [&'static str],
    /// Variables, first that is set wins, that the vendor's own clients read further headers from:
    /// `name=value,…` with values percent-encoded (OpenTelemetry protocol exporter, "Specifying headers").
    pub header_variables: &'static [&'static str],
    /// Reads the kind's own settings.
    pub build: fn(&Settings) -> Result<Box<dyn Sink>, Problem>,
}

/// Every kind of destination that is reached over HTTP.
pub static KINDS: &[Kind] = &[
    athina::KIND,
    honeyhive::KIND,
    humanloop::KIND,
    keywordsai::KEYWORDSAI,
    keywordsai::RESPAN,
    webhook::KIND,
    otlp::KIND,
];

/// What the configuration says of one sink, less what every sink has (`base_url`, `only`, …).
#[derive(Clone, Default)]
pub struct Settings {
    /// The vendor's key.
    pub api_key: Option<Secret>,
    /// The kind's own keys, such as `flavour`, `project`, `path`. What a kind does not know is a fault.
    pub own: toml::Table,
    /// The environment, for the variables that the vendor's own clients read.
    pub environment: BTreeMap<String, String>,
}

/// Values may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("own", &self.own.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key inside `[sinks.<name>]`; empty for the table as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// How much one request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records of one request; 1 where the vendor takes no batches.
    pub records: usize,
    /// Bytes of one body.
    pub bytes: usize,
}

/// A vendor's side of delivery.
pub trait Sink: fmt::Debug + Send + Sync {
    /// How much one request may carry.
    fn limits(&self) -> Limits;

    /// The requests that carry `records`, which are whole (`request` and `response` present where kept)
    /// and in order of `seq`. Several where the vendor wants them grouped. Every record is in at most
    /// one request; one that is in none cannot be expressed and counts as delivered.
    fn requests(&self, records: &[Record]) -> Vec<Request>;

    /// What this vendor means by an answer to a request that carried the records with these `ids`,
    /// where it departs from the general table (`reliability.md` R7): `None` for the general table.
    ///
    /// The general table takes any 2xx for delivered, but HTML for a page that stands in the way
    /// (pause), and a JSON object that says `"success": false` or has an `error` for a refusal. A
    /// `Retry-After` and a JSON `retry_after` are read for every kind.
    fn verdict(&self, _ids: &[Uuid], _status: u16, _body: &[u8]) -> Option<Verdict> {
        None
    }

    /// Headers that depend on when a request is sent, such as a signature with its time.
    fn sign(&self, _request: &Request, _now: Timestamp) -> Vec<(&'static str, Secret)> {
        Vec::new()
    }

    /// A request that finds out whether the key is taken, without leaving a record where the vendor
    /// allows that; `None` where only a real event can tell.
    fn probe(&self) -> Option<Request> {
        None
    }
}

/// A request to a vendor. Always a POST unless `method` says otherwise.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: http::Method,
    /// Path and query, appended to the sink's base URL; starts with `/`, or is empty where that URL is whole.
    pub path: String,
    /// Headers, `content-type` included. Values may be secrets.
    pub headers: Vec<(&'static str, Secret)>,
    /// The body.
    pub body: Bytes,
    /// Which of the records it carries, by place.
    pub records: Vec<usize>,
    /// Where the item of each of them stands in the body, if what is around the items is the same for
    /// any choice of them; else empty.
    pub parts: Vec<Range<usize>>,
}

impl Request {
    /// A POST of JSON.
    fn json(
        path: &str,
        headers: Vec<(&'static str, Secret)>,
        body: Bytes,
        records: Vec<usize>,
    ) -> Self {
        Self::post(path, headers, "application/json", body, records)
    }

    /// A POST of some kind of content.
    fn post(
        path: &str,
        mut headers: Vec<(&'static str, Secret)>,
        kind: &str,
        body: Bytes,
        records: Vec<usize>,
    ) -> Self {
        headers.extend(Secret::new(kind).map(|kind| ("content-type", kind)));
        let (method, path) = (http::Method::POST, path.to_owned());
        Self { method, path, headers, body, records, parts: Vec::new() }
    }

    /// A POST of JSON that can be taken apart.
    fn batch(
        path: &str,
        headers: Vec<(&'static str, Secret)>,
        body: batch::Body,
        records: Vec<usize>,
    ) -> Self {
        Self { parts: body.parts, ..Self::json(path, headers, body.bytes, records) }
    }

    /// The request for some of its records alone, given by their places in it: what building it from
    /// them would give. `None` where it cannot be taken apart.
    pub fn only(&self, places: &[usize]) -> Option<Self> {
        let (first, last) = (self.parts.first()?, self.parts.last()?);
        let between = self.parts.get(1).map_or(0..0, |second| first.end..second.start);
        let between = self.body.get(between)?;
        let mut body = self.body.get(..first.start)?.to_vec();
        let (mut parts, mut records) = (Vec::new(), Vec::new());
        for (at, place) in places.iter().enumerate() {
            if at > 0 {
                body.extend_from_slice(between);
            }
            let item = self.body.get(self.parts.get(*place)?.clone())?;
            parts.push(body.len()..body.len() + item.len());
            body.extend_from_slice(item);
            records.push(*self.records.get(*place)?);
        }
        body.extend_from_slice(self.body.get(last.end..)?);
        Some(Self { body: body.into(), records, parts, ..self.clone() })
    }
}

/// What becomes of the records of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken.
    Delivered,
    /// Try again later.
    Retry,
    /// The key or the address is wrong: the lane stops until someone looks.
    Pause,
    /// Too large: send in halves.
    Split,
    /// One of the records is refused: find it by quarters; alone, it is a dead letter.
    Refused,
    /// Part of the batch was taken; the records at these places were refused, with the vendor's
    /// reasons. Each is sent once more alone, and is a dead letter when refused again.
    Partly(Vec<(usize, String)>),
}
