//! What many calls say together: counts of values, totals over time, prompts.

use super::{ApiError, Context, Parameters, blocking};
use crate::{
    model::Timestamp,
    pricing::BOOK,
    query::{Field, Kind, Query},
    store::Question,
};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Fields counted where the caller names none.
const FACETS: &str = "model,outcome,prompt,env,customer,client,error,finish";
/// Values of a field, and most that can be asked for.
const VALUES: usize = 10;
const VALUES_MAX: usize = 100;
/// Series of a chart, and most that can be asked for.
const SERIES: usize = 8;
const SERIES_MAX: usize = 50;
/// A day and a year in microseconds.
const DAY_US: i64 = 86_400_000_000;
/// Years that a range may touch: 2000 to 2100.
const YEARS_US: std::ops::Range<i64> = 946_684_800_000_000..4_102_444_800_000_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FacetParameters {
    q: String,
    fields: Option<String>,
    limit: Option<usize>,
    prefix: String,
}

pub(super) async fn facets(
    State(context): State<Context>,
    Parameters(parameters): Parameters<FacetParameters>,
) -> Result<Json<Value>, ApiError> {
    let query: Query = parameters.q.parse()?;
    let fields = parameters
        .fields
        .as_deref()
        .unwrap_or(FACETS)
        .split(',')
        .map(|name| {
            Field::named(name.trim())
                .filter(|field| matches!(field.kind(), Kind::Text | Kind::Status | Kind::Flag))
                .ok_or_else(|| {
                    ApiError::bad_parameter("fields", format!("`{name}` cannot be counted"))
                })
        })
        .collect::<Result<Vec<Field>, ApiError>>()?;
    if fields.len() > VALUES {
        return Err(ApiError::bad_parameter("fields", "are at most 10"));
    }
    let limit = parameters.limit.unwrap_or(VALUES).clamp(1, VALUES_MAX);
    let prefix = parameters.prefix;
    let facets = blocking(move || context.reader.facets(&query, &fields, limit, &prefix)).await?;
    Ok(Json(serde_json::to_value(facets).unwrap_or_default()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SeriesParameters {
    q: String,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    by: Option<String>,
    limit: Option<usize>,
    compare: Option<String>,
}

pub(super) async fn metrics(
    State(context): State<Context>,
    Parameters(parameters): Parameters<SeriesParameters>,
) -> Result<Json<Value>, ApiError> {
    let to = parameters.to.unwrap_or_else(Timestamp::now);
    let from = parameters.from.unwrap_or_else(|| to.plus_us(-DAY_US));
    if from >= to || !YEARS_US.contains(&from.0) || !YEARS_US.contains(&to.0) {
        let why = "a range begins before it ends, between the years 2000 and 2100";
        return Err(ApiError::bad_parameter("from", why));
    }
    let question = Question {
        from,
        to,
        by: parameters.by.unwrap_or_else(|| "nothing".to_owned()),
        limit: parameters.limit.unwrap_or(SERIES).clamp(1, SERIES_MAX),
        query: parameters.q.parse()?,
    };
    let compare = parameters.compare.is_some_and(|compare| compare != "0");
    let earlier = Question {
        from: from.plus_us(from.0 - to.0),
        to: from,
        by: "nothing".to_owned(),
        ..question.clone()
    };
    let (series, previous) = blocking(move || {
        let series = context.reader.series(&question)?;
        let previous = compare.then(|| context.reader.series(&earlier)).transpose()?;
        Ok((series, previous))
    })
    .await?;
    let mut answer = json!({ "from": from, "to": to, "as_of": Timestamp::now() });
    if let (Value::Object(answer), Ok(Value::Object(series))) =
        (&mut answer, serde_json::to_value(series))
    {
        answer.extend(series);
        if let Some(previous) = previous {
            let totals = serde_json::to_value(previous.totals).unwrap_or_default();
            answer.insert("previous".to_owned(), totals);
        }
    }
    Ok(Json(answer))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PromptParameters {
    since: Option<String>,
}

impl PromptParameters {
    /// The moment that `since` names, as in the query language; 30 days ago without it.
    fn since(&self) -> Result<Timestamp, ApiError> {
        use crate::query::{Expr, Moment, Term};
        let Some(since) = &self.since else { return Ok(Timestamp::now().plus_us(-30 * DAY_US)) };
        let query: Result<Query, _> = format!("since:{since}").parse();
        match query.map(|query| query.root) {
            Ok(Some(Expr::Term(Term::Since(Moment::At(time))))) => Ok(time),
            Ok(Some(Expr::Term(Term::Since(Moment::Ago(ms))))) => {
                let us = i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000);
                Ok(Timestamp::now().plus_us(us.saturating_neg()))
            }
            _ => Err(ApiError::bad_parameter("since", "is a period such as 30d, or a time")),
        }
    }
}

pub(super) async fn prompts(
    State(context): State<Context>,
    Parameters(parameters): Parameters<PromptParameters>,
) -> Result<Json<Value>, ApiError> {
    let since = parameters.since()?;
    let rows = blocking(move || context.reader.prompts(since)).await?;
    Ok(Json(json!({ "items": rows, "next": null })))
}

pub(super) async fn prompt(
    State(context): State<Context>,
    Path(prompt): Path<String>,
    Parameters(parameters): Parameters<PromptParameters>,
) -> Result<Json<Value>, ApiError> {
    let since = parameters.since()?;
    let name = prompt.clone();
    let found = blocking(move || context.reader.prompt(&name, since)).await?;
    let (totals, versions) =
        found.ok_or_else(|| ApiError::not_found("no call of this prompt in that time"))?;
    Ok(Json(json!({ "prompt": prompt, "totals": totals, "versions": versions })))
}

/// The price book, and the models of stored calls that it knows no price of.
pub(super) async fn pricing(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    let book = (context.book)();
    let answer = blocking(move || {
        let layers: Vec<Value> = book
            .sizes()
            .into_iter()
            .filter(|(_, entries)| *entries > 0)
            .map(|(layer, entries)| json!({ "layer": layer, "entries": entries }))
            .collect();
        let missing: Vec<Value> = context
            .reader
            .unpriced()?
            .into_iter()
            .map(|row| {
                let status = if row.partial == row.calls { "partial" } else { "unpriced" };
                json!({ "provider": row.provider, "model": Some(row.model).filter(|model| !model.is_empty()),
                    "status": status, "calls": row.calls, "first_at": row.first, "last_at": row.last })
            })
            .collect();
        Ok(json!({ "book": BOOK, "layers": layers, "missing": missing }))
    })
    .await?;
    Ok(Json(answer))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrammarParameters {
    q: String,
    explain: Option<String>,
}

/// Most terms that are tried without.
const EXPLAINED: usize = 8;

/// The grammar, and what a query means in it.
pub(super) async fn grammar(
    State(context): State<Context>,
    Parameters(parameters): Parameters<GrammarParameters>,
) -> Result<Json<Value>, ApiError> {
    let fields: Vec<Value> = Field::all()
        .map(|field| {
            let kind = format!("{:?}", field.kind()).to_ascii_lowercase();
            json!({ "name": field.name(), "aliases": field.aliases(), "kind": kind })
        })
        .collect();
    let parsed = parameters.q.parse::<Query>();
    let error =
        parsed.as_ref().err().map(|error| json!({ "message": error.message, "at": error.at }));
    let mut terms = Vec::new();
    let explain = parameters.explain.is_some_and(|explain| explain != "0") && parsed.is_ok();
    let places = if explain { Query::terms(&parameters.q) } else { Vec::new() };
    for place in places.into_iter().take(EXPLAINED) {
        let mut rest = parameters.q.clone();
        rest.replace_range(place.clone(), "");
        let text = parameters.q.get(place.clone());
        let (reader, query) = (context.reader.clone(), rest.parse::<Query>()?);
        let found = blocking(move || reader.list(&query, 1, None)).await?;
        terms.push(json!({ "text": text, "from": place.start, "to": place.end,
            "rest": rest.trim(), "without": !found.items.is_empty() }));
    }
    Ok(Json(json!({ "fields": fields, "error": error, "terms": terms })))
}
