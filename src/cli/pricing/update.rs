//! `calltap pricing update`, `diff`, `rollback`: prices from the open books, laid over the embedded ones.

use super::super::{
    Common,
    out::{self, Exit, Stop},
};
use super::fetch::{self, Fetched};
use crate::{
    model::Timestamp,
    pricing::{Change, Difference, ImportOrigin, Imports, Kind, Merge, file_text, read_listing},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Most differences that are printed; all of them are in the JSON.
const SHOWN_MAX: usize = 200;

/// An import that is ready: what it would do, and where it comes from.
struct Plan {
    merge: Merge,
    unread: BTreeMap<String, u64>,
    source: &'static str,
    origin: ImportOrigin,
    today: Timestamp,
}

/// Reads a price book and puts what is new in it in force.
///
/// # Errors
/// When it cannot be read, or changes more than anybody would believe unasked.
pub fn update(common: &Common, from: &str, accept: bool) -> Result<Exit, Stop> {
    let imports = imports(common)?;
    let known = imports.origin().filter(|origin| origin.from == from);
    let Some(fetched) = fetch::read(from, known.and_then(|origin| origin.etag).as_deref())? else {
        let said = json!({ "installed": false, "unchanged": true });
        out::line(&if common.json {
            said.to_string()
        } else {
            "unchanged since the last import".into()
        })?;
        return Ok(Exit::Ok);
    };
    let plan = plan(common, from, &fetched, accept)?;
    let doubt = plan.merge.doubt().filter(|_| !accept);
    let install = doubt.is_none() && !plan.merge.layer.is_empty();
    if install {
        put(&imports, &plan)?;
    }
    report(common, &plan, install)?;
    if let Some(doubt) = doubt {
        return Err(Stop::new(
            Exit::Failed,
            format!("nothing was changed: {doubt}; if that is right, say --accept"),
        ));
    }
    if install && !common.json {
        out::say("a running server reads it on SIGHUP; `calltap pricing rollback` goes back");
    }
    Ok(Exit::Ok)
}

/// What an update would do, or, without a book to compare with, what the layers say differently.
/// Exits as `diff` does: 0 where nothing differs.
///
/// # Errors
/// As [`update`].
pub fn diff(common: &Common, from: Option<&str>) -> Result<Exit, Stop> {
    if let Some(from) = from {
        let Some(fetched) = fetch::read(from, None)? else { return Ok(Exit::Ok) };
        let plan = plan(common, from, &fetched, false)?;
        report(common, &plan, false)?;
        return Ok(if plan.merge.changes.is_empty() { Exit::Ok } else { Exit::Failed });
    }
    let layers = super::book(common)?.layers(Timestamp::now());
    for (layer, change) in &layers {
        if common.json {
            let mut value = to_json(change)?;
            value["layer"] = json!(layer);
            out::line(&value.to_string())?;
        } else {
            out::line(&format!("{layer}: {}", words(change)))?;
        }
    }
    Ok(if layers.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Puts the import before this one in force again.
///
/// # Errors
/// When there is none.
pub fn rollback(common: &Common) -> Result<Exit, Stop> {
    let names = imports(common)?.rollback().map_err(|why| Stop::new(Exit::Failed, why))?;
    if common.json {
        let value = serde_json::to_string(&names);
        out::line(&value.map_err(|error| Stop::new(Exit::Failed, error))?)?;
    } else {
        let name = |name: Option<String>| name.unwrap_or_else(|| "the embedded book alone".into());
        out::line(&format!("in force: {}", name(names.current)))?;
        out::say("a running server reads it on SIGHUP; the same command again undoes it");
    }
    Ok(Exit::Ok)
}

fn imports(common: &Common) -> Result<Imports, Stop> {
    let config = common.load(Vec::new())?.config;
    Ok(Imports::of(&common.data_dir(&config)?))
}

fn plan(common: &Common, from: &str, fetched: &Fetched, accept: bool) -> Result<Plan, Stop> {
    let mut listing = read_listing(&fetched.bytes)
        .map_err(|why| Stop::new(Exit::Failed, format!("{from}: {why}")))?;
    let (source, unread) = (listing.source, std::mem::take(&mut listing.unread));
    let today = Timestamp::now();
    let book = super::book(common)?.without_overrides();
    Ok(Plan {
        merge: book.merge(listing, today, accept),
        unread,
        source,
        origin: ImportOrigin {
            from: from.to_owned(),
            sha256: hex::encode(Sha256::digest(&fetched.bytes)),
            etag: fetched.etag.clone(),
            at: today.to_string(),
        },
        today,
    })
}

/// Writes what is in force already with the new entries over it.
fn put(imports: &Imports, plan: &Plan) -> Result<(), Stop> {
    let refused = |why| Stop::new(Exit::Store, why);
    let mut layer = imports.layer().map_err(refused)?;
    for (provider, models) in &plan.merge.layer {
        layer.entry(provider.clone()).or_default().extend(models.clone());
    }
    let source = format!("{} ({})", plan.source, plan.origin.from);
    let files: Vec<_> = layer
        .iter()
        .map(|(provider, models)| (provider.clone(), file_text(provider, &source, models)))
        .collect();
    let at: String = plan.today.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    imports.install(&format!("{at}-{}", plan.source), &files, &plan.origin).map_err(refused)
}

fn report(common: &Common, plan: &Plan, installed: bool) -> Result<(), Stop> {
    let Plan { merge, unread, source, origin, .. } = plan;
    if common.json {
        let changes: Vec<Value> = merge.changes.iter().map(to_json).collect::<Result<_, _>>()?;
        let value = json!({
            "source": source, "from": origin.from, "sha256": origin.sha256, "installed": installed,
            "same": merge.same, "changes": changes, "skipped": merge.skipped, "unread": unread,
        });
        return out::line(&value.to_string());
    }
    let known = || merge.changes.iter().filter(|change| change.kind != Kind::New);
    for change in known().take(SHOWN_MAX) {
        out::line(&words(change))?;
    }
    if known().count() > SHOWN_MAX {
        out::line(&format!("… and {} more; --json lists all", known().count() - SHOWN_MAX))?;
    }
    let mut new: BTreeMap<&str, usize> = BTreeMap::new();
    for change in merge.changes.iter().filter(|change| change.kind == Kind::New) {
        *new.entry(change.entry.split('/').next().unwrap_or_default()).or_default() += 1;
    }
    let new: Vec<_> = new.iter().map(|(provider, count)| format!("{provider} {count}")).collect();
    if !new.is_empty() {
        out::line(&format!("new: {}", new.join(", ")))?;
    }
    let count = |kind| merge.changes.iter().filter(|change| change.kind == kind).count();
    out::line(&format!(
        "{} new, {} changed, {} with more, {} contested, {} aliases, {} the same, {} left out",
        count(Kind::New),
        count(Kind::Changed),
        count(Kind::More),
        count(Kind::Contested),
        count(Kind::Alias),
        merge.same,
        merge.skipped.len()
    ))
}

fn words(change: &Change) -> String {
    let price = |price: &Difference| {
        let when = if price.when.is_empty() { String::new() } else { format!(" ({})", price.when) };
        format!("{} {} → {}{when}", price.unit, price.was, price.is)
    };
    let prices: Vec<_> = change.prices.iter().take(6).map(price).collect();
    let kind = match (change.kind, change.taken) {
        (Kind::New, _) => "new",
        (Kind::Changed, _) => "changed",
        (Kind::More, _) => "more units or tiers",
        (Kind::Contested, true) => "contested, taken over",
        (Kind::Contested, false) => "contested, kept",
        (Kind::Alias, _) => "another name by date, kept",
    };
    format!("{}: {kind} {}", out::safe(&change.entry, false), prices.join(", "))
        .trim_end()
        .to_owned()
}

fn to_json(change: &Change) -> Result<Value, Stop> {
    serde_json::to_value(change).map_err(|error| Stop::new(Exit::Failed, error))
}
