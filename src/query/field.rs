//! The fields a query can name.

/// A field of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// One with a column of its own.
    Column(&'static str),
    /// `status`: a number, `4xx`, `ok` or `error`.
    Status,
    /// `tag`: one of the labels.
    Label,
    /// `meta.<name>`.
    Meta(String),
}

/// What a field's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A number.
    Number,
    /// Milliseconds; `2s` and `300ms` are understood.
    Duration,
    /// A point in time: a date, or how long ago (`1h`).
    Time,
    /// `true` or `false`.
    Flag,
    /// `status`.
    Status,
}

/// (name in a query, column, kind).
const FIELDS: &[(&str, &str, Kind)] = &[
    ("id", "id", Kind::Text),
    ("model", "model", Kind::Text),
    ("requested", "model_requested", Kind::Text),
    ("outcome", "outcome", Kind::Text),
    ("endpoint", "endpoint", Kind::Text),
    ("method", "method", Kind::Text),
    ("path", "path", Kind::Text),
    ("upstream", "upstream", Kind::Text),
    ("provider", "provider", Kind::Text),
    ("prompt", "prompt", Kind::Text),
    ("slug", "prompt", Kind::Text),
    ("version", "prompt_version", Kind::Text),
    ("session", "session", Kind::Text),
    ("env", "environment", Kind::Text),
    ("environment", "environment", Kind::Text),
    ("customer", "customer", Kind::Text),
    ("user", "user", Kind::Text),
    ("ref", "reference", Kind::Text),
    ("reference", "reference", Kind::Text),
    ("key", "client_key", Kind::Text),
    ("client", "sdk", Kind::Text),
    ("sdk", "sdk", Kind::Text),
    ("trace", "trace_id", Kind::Text),
    ("finish", "finish_reason", Kind::Text),
    ("error", "error_code", Kind::Text),
    ("usage", "usage_source", Kind::Text),
    ("priced", "cost_status", Kind::Text),
    ("stream", "stream", Kind::Flag),
    ("cost", "cost", Kind::Number),
    ("latency", "latency_ms", Kind::Duration),
    ("ttft", "ttft_ms", Kind::Duration),
    ("tokens", "total_tokens", Kind::Number),
    ("input", "input_tokens", Kind::Number),
    ("output", "output_tokens", Kind::Number),
    ("cached", "cached_tokens", Kind::Number),
    ("reasoning", "reasoning_tokens", Kind::Number),
    ("seq", "seq", Kind::Number),
    ("since", "started_us", Kind::Time),
    ("after", "started_us", Kind::Time),
    ("before", "started_us", Kind::Time),
    ("until", "started_us", Kind::Time),
];

/// The field called `name`, and what its values are.
///
/// # Errors
/// A known name that `name` may have meant, where one is close.
pub fn find(name: &str) -> Result<(Field, Kind), Option<&'static str>> {
    let lower = name.to_lowercase();
    if let Some(meta) = lower.strip_prefix("meta.").filter(|meta| !meta.is_empty()) {
        return Ok((Field::Meta(meta.to_owned()), Kind::Text));
    }
    match lower.as_str() {
        "status" => return Ok((Field::Status, Kind::Status)),
        "tag" | "tags" | "label" => return Ok((Field::Label, Kind::Text)),
        _ => {}
    }
    if let Some((_, column, kind)) = FIELDS.iter().find(|(known, ..)| *known == lower) {
        return Ok((Field::Column(column), *kind));
    }
    let close = names()
        .map(|known| (strsim::damerau_levenshtein(known, &lower), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    Err(close.map(|(_, known)| known))
}

/// Every name that a query can use.
pub fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, ..)| *name).chain(["status", "tag", "has"])
}
