//! What every sink has in `[sinks.<name>]`, beside the keys of its kind.

use super::{ByteSize, Content, Fault, Period};
use crate::model::{Secret, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};
use toml::{Table, Value};

/// `[sinks.<name>]` as it stands in the file. Values may be secrets.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct SinkTable(pub Table);

impl fmt::Debug for SinkTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The process's environment, for keys and addresses that vendors' own clients read from it.
#[derive(Clone, Default, PartialEq)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// The first of `names` that is set to something.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        let values = names.iter().filter_map(|name| self.0.get(*name));
        values.map(String::as_str).find(|value| !value.trim().is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

/// Where a new sink begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the calls that end from now on.
    #[default]
    Now,
    /// With the oldest call that is kept.
    Beginning,
    /// With the first call that started then or later.
    At(Timestamp),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            "beginning" => Ok(Self::Beginning),
            time => {
                let day = format!("{time}T00:00:00Z");
                time.parse().or_else(|_| day.parse()).map(Self::At).map_err(|_| {
                    "is `now`, `beginning`, or a time such as 2026-11-20T08:00:00Z".to_owned()
                })
            }
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The keys that every sink has.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// What kind of destination it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Under what id its state is kept; the name where not given. Keep it to rename a sink.
    #[serde(default)]
    pub id: Option<String>,
    /// Whether anything is delivered.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The vendor's key.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub api_key: Option<Secret>,
    /// Base URL; the vendor's where not given.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Which calls, in the query language.
    #[serde(default)]
    pub only: String,
    /// Which share of the calls, from 0 to 1.
    #[serde(default = "all")]
    pub sample: f64,
    /// Whether bodies, and what is taken from them, are delivered.
    #[serde(default)]
    pub content: Content,
    /// Most requests at once.
    #[serde(default = "eight")]
    pub concurrency: usize,
    /// Most records of a request; as many as the kind takes where not given.
    #[serde(default)]
    pub batch: Option<usize>,
    /// Longest wait for an answer.
    #[serde(default = "half_a_minute")]
    pub timeout: Period,
    /// Where a new sink begins.
    #[serde(default)]
    #[schemars(with = "String")]
    pub start: Start,
    /// Headers of every request beside the kind's own, or in their place.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: BTreeMap<String, Secret>,
    /// PEM file with the only certificate authorities to trust.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// Names of the keys above.
const KEYS: [&str; 14] = [
    "type",
    "id",
    "enabled",
    "api_key",
    "base_url",
    "only",
    "sample",
    "content",
    "concurrency",
    "batch",
    "timeout",
    "start",
    "headers",
    "ca_file",
];

fn yes() -> bool {
    true
}

fn all() -> f64 {
    1.0
}

fn eight() -> usize {
    8
}

fn half_a_minute() -> Period {
    Period::seconds(30)
}

impl Sink {
    /// Reads `[sinks.<name>]`: the common keys, and what is left for the kind.
    ///
    /// # Errors
    /// A fault at each key that makes no sense. Values are not quoted: they may be secrets.
    pub fn read(name: &str, table: &SinkTable) -> Result<(Self, Table), Vec<Fault>> {
        let path = format!("sinks.{name}");
        if !table.0.get("type").is_some_and(Value::is_str) {
            return Err(vec![Fault::at(path.clone(), format!("{path} needs a `type`"))]);
        }
        let (mut common, mut own) = (Table::new(), Table::new());
        for (key, value) in &table.0 {
            let side = if KEYS.contains(&key.as_str()) { &mut common } else { &mut own };
            side.insert(key.clone(), value.clone());
        }
        let mut faults = Vec::new();
        loop {
            let error =
                match serde_path_to_error::deserialize::<_, Self>(Value::Table(common.clone())) {
                    Ok(sink) => {
                        faults.extend(sink.check(&path));
                        return if faults.is_empty() { Ok((sink, own)) } else { Err(faults) };
                    }
                    Err(error) => error,
                };
            let key = error.path().to_string();
            let message = error.into_inner().message().to_owned();
            let message = match (key.as_str(), message.rsplit_once(", expected ")) {
                (_, Some((_, expected))) => format!("is not {expected}"),
                ("api_key", None) => Secret::EMPTY.to_owned(),
                ("timeout", None) => "is not a period such as 30s".to_owned(),
                (_, None) => message,
            };
            faults.push(Fault::at(format!("{path}.{key}"), format!("`{path}.{key}`: {message}")));
            if common.remove(&key).is_none() {
                return Err(faults);
            }
        }
    }

    fn check(&self, path: &str) -> Vec<Fault> {
        let rules = [
            (
                "id",
                self.id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 64),
                "is from 1 to 64 characters",
            ),
            ("sample", !(0.0..=1.0).contains(&self.sample), "is a share from 0 to 1"),
            ("concurrency", !(1..=256).contains(&self.concurrency), "is from 1 to 256"),
            ("batch", self.batch.is_some_and(|batch| batch == 0), "is 1 or more"),
            ("timeout", self.timeout.0.is_zero(), "is more than zero"),
        ];
        let broken = rules.into_iter().filter(|(_, broken, _)| *broken);
        broken
            .map(|(key, _, rule)| {
                Fault::at(format!("{path}.{key}"), format!("`{path}.{key}` {rule}"))
            })
            .collect()
    }
}

/// The keys of a `jsonl` sink: files in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// The folder; one named after the sink in the data directory where not given.
    pub dir: Option<PathBuf>,
    /// Size at which a file is closed and the next begun.
    pub max_size: ByteSize,
    /// Age at which it is.
    pub max_age: Period,
    /// Whether closed files are compressed (gzip).
    pub compress: bool,
}

impl Default for Files {
    fn default() -> Self {
        Self { dir: None, max_size: ByteSize::mib(100), max_age: Period::days(1), compress: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Sink, Table), Vec<String>> {
        Sink::read("x", &SinkTable(toml::from_str(text).unwrap()))
            .map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
    }

    #[test]
    fn common_keys_are_read_and_the_rest_left_to_the_kind() {
        let (sink, own) = read(
            "type = \"athina\"\napi_key = \"k\"\nflavour = \"v2\"\nstart = \"2026-11-20\"\nsample = 0.5",
        )
        .unwrap();
        assert_eq!((sink.concurrency, sink.sample, sink.enabled), (8, 0.5, true));
        assert_eq!(sink.start, Start::At("2026-11-20T00:00:00Z".parse().unwrap()));
        assert_eq!(own.keys().collect::<Vec<_>>(), ["flavour"]);
        let shown = format!("{sink:?} {:?}", SinkTable(own));
        assert!(!shown.contains("\"k\"") && !shown.contains("v2"), "{shown}");
    }

    #[test]
    fn faults_name_the_key_and_quote_no_value() {
        let faults = read(
            "type = \"a\"\napi_key = 7\ntimeout = \"secret\"\nsample = 2.0\nstart = \"secret\"\ncontent = \"secret\"",
        )
        .unwrap_err();
        let all = faults.join("\n");
        for key in ["api_key", "timeout", "start", "content", "sample"] {
            assert!(all.contains(&format!("sinks.x.{key}")), "{key} in {all}");
        }
        assert!(!all.contains("secret"), "{all}");
        assert_eq!(read("api_key = \"k\"").unwrap_err(), ["sinks.x needs a `type`"]);
    }
}
