//! From `[sinks.<name>]` to a destination that can be sent to, or to what is wrong with it.

use super::http;
use crate::{
    config::{Config, Environment, Fault, Files, Sink as Options, SinkTable},
    model::Secret,
    query::{Expr, Field, Query, Term},
    sink::{KINDS, Kind, Settings, Sink},
};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// The kind that is no vendor: files in a folder.
const FILES: &str = "jsonl";
/// Records of one write into a file.
const FILE_BATCH: usize = 500;

/// Calls that generate or embed, and messages of assistants: what hosted sinks get (SPEC §13.3).
const HOSTED: &str = "-outcome:refused (endpoint:assistants.message OR (method:POST \
    (endpoint:chat.completions OR endpoint:completions OR endpoint:responses OR endpoint:embeddings \
     OR endpoint:images.* OR endpoint:audio.* OR endpoint:moderations)) OR endpoint:realtime)";

/// A sink that is to be delivered to.
#[derive(Debug)]
pub struct Plan {
    /// Its name in the configuration.
    pub name: String,
    /// Under what its state is kept.
    pub id: String,
    /// Its kind.
    pub kind: &'static str,
    /// The keys that every sink has.
    pub options: Options,
    /// Which calls it gets.
    pub only: Query,
    /// Where they go.
    pub destination: Destination,
    /// What it was made from.
    source: (SinkTable, Option<String>, Option<Secret>),
}

/// Where records go.
#[derive(Debug)]
pub enum Destination {
    /// A service.
    Http {
        /// The vendor's side.
        sink: Box<dyn Sink>,
        /// Without a slash at its end.
        base_url: String,
        /// Connections to it.
        client: http::Client,
    },
    /// Files.
    Files(Files),
}

impl Plan {
    /// Most records of a request.
    pub fn batch(&self) -> usize {
        let most = match &self.destination {
            Destination::Http { sink, .. } => sink.limits().records.max(1),
            Destination::Files(_) => FILE_BATCH,
        };
        self.options.batch.map_or(most, |batch| batch.min(most))
    }

    /// Most requests at once. Lines of a file are written one after the other.
    pub fn concurrency(&self) -> usize {
        if matches!(self.destination, Destination::Files(_)) { 1 } else { self.options.concurrency }
    }

    /// Whether another plan says the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.source == other.source
    }

    /// What is doubtful about it though nothing is wrong, for people.
    pub fn warning(&self) -> Option<&'static str> {
        let Destination::Http { base_url, .. } = &self.destination else { return None };
        let kind = KINDS.iter().find(|kind| kind.name == self.kind)?;
        let url: ::http::Uri = base_url.parse().ok()?;
        let (host, warning) = kind.retired?;
        url.host().is_some_and(|named| named.eq_ignore_ascii_case(host)).then_some(warning)
    }

    /// Where it delivers to, for people.
    pub fn target(&self) -> String {
        match &self.destination {
            Destination::Http { base_url, .. } => base_url.clone(),
            Destination::Files(files) => {
                files.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default()
            }
        }
    }
}

/// All sinks of a configuration.
///
/// # Errors
/// Everything that is wrong with them.
pub fn plans(config: &Config) -> Result<Vec<Plan>, Vec<Fault>> {
    let (mut plans, mut faults) = (Vec::new(), Vec::new());
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    // What a missing variable left open was told already.
    let whole = |table: &SinkTable| !table.0.to_string().contains("${");
    for (name, table) in config.sinks.iter().filter(|(_, table)| whole(table)) {
        match plan(name, table, &config.environment) {
            Ok(plan) => {
                if let Some(other) = ids.insert(plan.id.clone(), name.clone()) {
                    let path = format!("sinks.{name}.id");
                    let why = format!("the sinks `{other}` and `{name}` have one id");
                    faults.push(Fault::at(path, why));
                }
                plans.push(plan);
            }
            Err(wrong) => faults.extend(wrong),
        }
    }
    if faults.is_empty() { Ok(plans) } else { Err(faults) }
}

/// Every kind there is.
pub fn kind_names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).chain([FILES]).collect()
}

fn plan(name: &str, table: &SinkTable, environment: &Environment) -> Result<Plan, Vec<Fault>> {
    let (mut options, own) = Options::read(name, table)?;
    let path = format!("sinks.{name}");
    let mut only = options.only.parse::<Query>().map_err(|error| {
        vec![Fault::at(
            format!("{path}.only"),
            format!("`{path}.only`: {error} (at byte {})", error.at),
        )]
    })?;
    let id = options.id.clone().unwrap_or_else(|| name.to_owned());
    if options.kind == FILES {
        let destination = Destination::Files(files(&path, own)?);
        let source = (table.clone(), None, None);
        return Ok(Plan {
            name: name.to_owned(),
            id,
            kind: FILES,
            options,
            only,
            destination,
            source,
        });
    }
    if !only.root.as_ref().is_some_and(names_endpoint) {
        only = both(HOSTED.parse().unwrap_or_default(), only);
    }
    let kind = KINDS
        .iter()
        .find(|kind| kind.name == options.kind || kind.aliases.contains(&options.kind.as_str()))
        .ok_or_else(|| vec![unknown_kind(&path, &options.kind)])?;
    let base_url = base_url(&path, kind, &options, environment).map_err(|fault| vec![fault])?;
    let key = options.api_key.clone();
    let key = key.or_else(|| Secret::new(environment.first(kind.key_variables)?));
    let source = (table.clone(), Some(base_url.clone()), key.clone());
    let settings = Settings { api_key: key, own, environment: environment.0.clone() };
    let sink = (kind.build)(&settings).map_err(|problem| {
        let at =
            if problem.key.is_empty() { path.clone() } else { format!("{path}.{}", problem.key) };
        let hint = (problem.key == "api_key" && !kind.key_variables.is_empty())
            .then(|| format!("or set the variable {}", kind.key_variables.join(" or ")));
        vec![Fault { hint, ..Fault::at(at.clone(), format!("`{at}`: {}", problem.message)) }]
    })?;
    for (name, value) in more_headers(environment.first(kind.header_variables)) {
        // What the configuration says wins.
        let by_key = name == "authorization" && settings.api_key.is_some();
        if !by_key && !options.headers.keys().any(|have| have.eq_ignore_ascii_case(&name)) {
            options.headers.insert(name, value);
        }
    }
    let client = http::client(&options).map_err(|(key, why)| {
        vec![Fault::at(format!("{path}.{key}"), format!("`{path}`: {why}"))]
    })?;
    let destination = Destination::Http { sink, base_url, client };
    Ok(Plan { name: name.to_owned(), id, kind: kind.name, options, only, destination, source })
}

fn files(path: &str, own: toml::Table) -> Result<Files, Vec<Fault>> {
    serde_path_to_error::deserialize::<_, Files>(toml::Value::Table(own)).map_err(|error| {
        let key = error.path().to_string();
        let message = error.into_inner().message().to_owned();
        vec![Fault::at(format!("{path}.{key}"), format!("`{path}`: {message}"))]
    })
}

fn unknown_kind(path: &str, kind: &str) -> Fault {
    let names = kind_names();
    let close = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, kind), *name))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let hint = match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("known are: {}", names.join(", ")),
    };
    let fault = Fault::at(format!("{path}.type"), "there is no such kind of sink".to_owned());
    Fault { hint: Some(hint), ..fault }
}

/// What the configuration says, else what the vendor's own clients would read, else the vendor's.
fn base_url(
    path: &str,
    kind: &Kind,
    options: &Options,
    environment: &Environment,
) -> Result<String, Fault> {
    let fault =
        |why: &str| Fault::at(format!("{path}.base_url"), format!("`{path}.base_url` {why}"));
    let url = options
        .base_url
        .as_deref()
        .or_else(|| environment.first(kind.url_variables))
        .or(kind.base_url)
        .ok_or_else(|| Fault::at(path.to_owned(), format!("{path} needs a `base_url`")))?;
    let url = url.trim().trim_end_matches('/');
    let tail = kind.tails.iter().find_map(|tail| url.strip_suffix(tail));
    let url = tail.unwrap_or(url).trim_end_matches('/');
    let uri: ::http::Uri = url.parse().map_err(|_| fault("is not a URL"))?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme_str().is_some()) else {
        return Err(fault("needs a scheme and a host: https://…"));
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(fault("is http:// or https://"));
    }
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err(fault("holds no user, password or query"));
    }
    Ok(url.to_owned())
}

/// Headers as a variable holds them: `name=value,…`, values percent-encoded.
fn more_headers(variable: Option<&str>) -> impl Iterator<Item = (String, Secret)> {
    variable.unwrap_or_default().split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_ascii_lowercase(), Secret::new(&value)?))
    })
}

/// Whether a query chooses calls by what kind of call they are.
fn names_endpoint(expr: &Expr) -> bool {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().any(names_endpoint),
        Expr::Not(inner) => names_endpoint(inner),
        Expr::Term(Term::Text(field, _)) => {
            matches!(field, Field::Endpoint | Field::Method | Field::Path)
        }
        Expr::Term(_) => false,
    }
}

fn both(one: Query, other: Query) -> Query {
    let parts: Vec<Expr> = [one.root, other.root].into_iter().flatten().collect();
    match parts.len() {
        0 | 1 => Query { root: parts.into_iter().next() },
        _ => Query { root: Some(Expr::And(parts)) },
    }
}

#[cfg(test)]
impl Plan {
    /// A plan that no configuration says.
    pub fn by_hand(name: &str, options: Options, only: Query, destination: Destination) -> Self {
        let source = (SinkTable::default(), None, None);
        Self {
            name: name.into(),
            id: name.into(),
            kind: "test",
            options,
            only,
            destination,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> (String, Option<&'static str>) {
        let sinks = toml::from_str(text).unwrap();
        let plans = plans(&Config { sinks, ..Config::default() }).unwrap();
        (plans[0].target(), plans[0].warning())
    }

    #[test]
    fn base_urls_are_taken_as_vendors_write_them() {
        for (kind, given, taken) in [
            ("respan", "https://api.respan.ai/api/", "https://api.respan.ai"),
            ("respan", "https://api.respan.ai", "https://api.respan.ai"),
            ("keywordsai", "http://127.0.0.1:9/x/api", "http://127.0.0.1:9/x"),
            ("otlp", "http://c:4318/v1/traces", "http://c:4318"),
            ("otlp", "http://c:4318/otlp/", "http://c:4318/otlp"),
            ("athina", "http://a:9000", "http://a:9000"),
        ] {
            let text = format!("[s]\ntype = \"{kind}\"\napi_key = \"k\"\nbase_url = \"{given}\"");
            assert_eq!(target(&text), (taken.to_owned(), None));
        }
    }

    #[test]
    fn a_service_that_is_gone_is_told() {
        let text =
            |url: &str| format!("[s]\ntype = \"humanloop\"\napi_key = \"k\"\nbase_url = \"{url}\"");
        let (_, warning) = target(&text("https://api.humanloop.com/v5"));
        assert!(warning.unwrap().contains("closed"));
        assert_eq!(target(&text("https://own.example/v5")).1, None);
    }

    #[test]
    fn headers_of_ones_own_are_checked_and_not_shown() {
        let text = |header: &str| format!("[s]\ntype = \"otlp\"\nheaders = {{ {header} }}\n");
        target(&text("x-scope-orgid = \"tenant\", Authorization = \"Basic c2VjcmV0\""));
        let read = |variable| {
            let pairs = more_headers(variable);
            pairs.map(|(name, value)| (name, value.expose().to_owned())).collect::<Vec<_>>()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read(Some("api-key=k1, Authorization=Basic%20c2VjcmV0=,broken,empty=")),
            [pair("api-key", "k1"), pair("authorization", "Basic c2VjcmV0=")]
        );
        assert_eq!(read(None), []);
        for wrong in ["\"a b\" = \"secret\"", "host = \"secret\"", "x = \"se\\u0001cret\""] {
            let sinks = toml::from_str(&text(wrong)).unwrap();
            let faults = plans(&Config { sinks, ..Config::default() }).unwrap_err();
            assert_eq!(faults.len(), 1);
            assert!(faults[0].message.contains("headers"), "{:?}", faults[0]);
            assert!(!faults[0].message.contains("secret"), "{:?}", faults[0]);
        }
    }
}
