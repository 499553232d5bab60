//! The fields that a query can name.

/// A field of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is named and explained in FIELDS")]
pub enum Field {
    Model,
    Status,
    Outcome,
    Endpoint,
    Method,
    Path,
    Upstream,
    Provider,
    Prompt,
    Version,
    Session,
    User,
    Customer,
    Environment,
    Reference,
    Tag,
    Key,
    Client,
    Finish,
    Error,
    Id,
    Trace,
    UsageSource,
    CostStatus,
    Stream,
    Cost,
    Latency,
    FirstByte,
    Ttft,
    Overhead,
    Tokens,
    Input,
    Output,
    Cached,
    Reasoning,
    Retry,
    Delivery,
    Seq,
    Since,
    Before,
    Has,
}

/// What values a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, with wildcards.
    Text,
    /// A plain number.
    Number,
    /// A duration: `250ms`, `2s`, `1m`; a plain number counts milliseconds.
    Duration,
    /// US dollars.
    Money,
    /// `true` or `false`.
    Flag,
    /// A number, `4xx`, `ok` or `error`.
    Status,
    /// How far the sinks are with it.
    Delivery,
    /// A moment, or a period counted back from now.
    Time,
    /// The name of a field.
    Field,
}

/// Field, its names (the first is the one to show), and the kind of its values.
const FIELDS: &[(Field, &[&str], Kind)] = &[
    (Field::Model, &["model"], Kind::Text),
    (Field::Status, &["status"], Kind::Status),
    (Field::Outcome, &["outcome"], Kind::Text),
    (Field::Endpoint, &["endpoint"], Kind::Text),
    (Field::Method, &["method"], Kind::Text),
    (Field::Path, &["path"], Kind::Text),
    (Field::Upstream, &["upstream"], Kind::Text),
    (Field::Provider, &["provider"], Kind::Text),
    (Field::Prompt, &["prompt", "slug"], Kind::Text),
    (Field::Version, &["version", "prompt_version"], Kind::Text),
    (Field::Session, &["session"], Kind::Text),
    (Field::User, &["user"], Kind::Text),
    (Field::Customer, &["customer"], Kind::Text),
    (Field::Environment, &["env", "environment"], Kind::Text),
    (Field::Reference, &["ref", "reference"], Kind::Text),
    (Field::Tag, &["tag", "label"], Kind::Text),
    (Field::Key, &["key"], Kind::Text),
    (Field::Client, &["client", "sdk"], Kind::Text),
    (Field::Finish, &["finish", "finish_reason"], Kind::Text),
    (Field::Error, &["error"], Kind::Text),
    (Field::Id, &["id"], Kind::Text),
    (Field::Trace, &["trace", "trace_id"], Kind::Text),
    (Field::UsageSource, &["usage"], Kind::Text),
    (Field::CostStatus, &["cost_status"], Kind::Text),
    (Field::Stream, &["stream"], Kind::Flag),
    (Field::Cost, &["cost"], Kind::Money),
    (Field::Latency, &["latency"], Kind::Duration),
    (Field::FirstByte, &["first_byte"], Kind::Duration),
    (Field::Ttft, &["ttft"], Kind::Duration),
    (Field::Overhead, &["overhead"], Kind::Duration),
    (Field::Tokens, &["tokens"], Kind::Number),
    (Field::Input, &["input"], Kind::Number),
    (Field::Output, &["output"], Kind::Number),
    (Field::Cached, &["cached"], Kind::Number),
    (Field::Reasoning, &["reasoning"], Kind::Number),
    (Field::Retry, &["retry"], Kind::Number),
    (Field::Delivery, &["delivery"], Kind::Delivery),
    (Field::Seq, &["seq"], Kind::Number),
    (Field::Since, &["since", "after"], Kind::Time),
    (Field::Before, &["before", "until"], Kind::Time),
    (Field::Has, &["has"], Kind::Field),
];

impl Field {
    /// The field of this name; upper and lower case are one.
    pub fn named(name: &str) -> Option<Self> {
        let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        FIELDS.iter().find(|(_, names, _)| known(names)).map(|(field, ..)| *field)
    }

    /// The known name nearest to `name`, if one is near.
    pub fn nearest(name: &str) -> Option<&'static str> {
        Self::names()
            .map(|known| (strsim::damerau_levenshtein(known, &name.to_ascii_lowercase()), known))
            .filter(|(distance, known)| *distance <= 2.min(known.len() / 2))
            .min()
            .map(|(_, known)| known)
    }

    /// All names, aliases included.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().flat_map(|(_, names, _)| names.iter().copied())
    }

    /// All fields.
    pub fn all() -> impl Iterator<Item = Self> {
        FIELDS.iter().map(|(field, ..)| *field)
    }

    /// The name to show.
    pub fn name(self) -> &'static str {
        self.entry().and_then(|(_, names, _)| names.first().copied()).unwrap_or_default()
    }

    /// Its other names.
    pub fn aliases(self) -> &'static [&'static str] {
        self.entry().and_then(|(_, names, _)| names.get(1..)).unwrap_or_default()
    }

    /// What values it takes.
    pub fn kind(self) -> Kind {
        self.entry().map_or(Kind::Text, |(_, _, kind)| *kind)
    }

    /// The unit in which numbers of this field are kept.
    pub(super) fn unit(self) -> &'static str {
        if self.kind() == Kind::Duration { "ms" } else { "" }
    }

    fn entry(self) -> Option<&'static (Self, &'static [&'static str], Kind)> {
        FIELDS.iter().find(|(field, ..)| *field == self)
    }
}
