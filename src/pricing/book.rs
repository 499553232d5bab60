//! Finding a model's prices: a fixed ladder, never a prefix (`pricing.md` §6).

use super::format::{Model, Provider};
use crate::model::Timestamp;

/// A price entry that was found.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its provider.
    pub provider: &'a Provider,
    /// Its id there.
    pub id: String,
    /// The prices.
    pub model: &'a Model,
    /// Which step of the ladder found it.
    pub matched: &'static str,
    /// `override` or `embedded`.
    pub layer: &'static str,
}

/// Looks for `model` in the layers, strongest first.
pub fn find<'a>(
    layers: &[(&'static str, &'a [Provider])],
    provider: &str,
    model: &str,
    at: Timestamp,
) -> Option<Found<'a>> {
    layers.iter().find_map(|(layer, providers)| {
        let own = providers.iter().find(|candidate| candidate.name == provider);
        let found = own.and_then(|own| ladder(own, model, at)).or_else(|| {
            let like = own?.like.as_ref()?;
            let other = providers.iter().find(|candidate| candidate.name == *like)?;
            ladder(other, model, at).map(|found| Found { matched: "borrowed", ..found })
        })?;
        Some(Found { layer, ..found })
    })
}

fn ladder<'a>(provider: &'a Provider, name: &str, at: Timestamp) -> Option<Found<'a>> {
    let lower = name.to_lowercase();
    let exact = |name: &str, matched| exact(provider, name, at, matched);
    exact(name, "exact")
        .or_else(|| exact(&lower, "case"))
        .or_else(|| exact(unwrapped(&lower, &provider.name)?, "wrapper"))
        .or_else(|| fine_tune(&lower).into_iter().find_map(|name| exact(&name, "fine-tune")))
        .or_else(|| exact(without_date(&lower)?, "snapshot"))
}

fn exact<'a>(
    provider: &'a Provider,
    name: &str,
    at: Timestamp,
    matched: &'static str,
) -> Option<Found<'a>> {
    let moved = provider.moving.get(name).and_then(|targets| {
        let target = targets.iter().rev().find(|(from, _)| from.is_none_or(|from| from <= at));
        target.map(|(_, id)| id.as_str())
    });
    let id = moved.or_else(|| provider.aliases.get(name).map(String::as_str)).unwrap_or(name);
    let model = provider.models.get(id)?;
    Some(Found { provider, id: id.to_owned(), model, matched, layer: "" })
}

/// Without one of the wrappers that are known for this provider.
fn unwrapped<'a>(name: &'a str, provider: &str) -> Option<&'a str> {
    let own = name.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
    own.or_else(|| name.strip_prefix("models/"))
        .or_else(|| name.strip_prefix("accounts/fireworks/models/"))
        .or_else(|| name.strip_prefix("publishers/")?.split_once("/models/").map(|(_, rest)| rest))
}

/// `ft:<base>:<org>:<name>:<id>` has a price of its own, never the base model's.
fn fine_tune(name: &str) -> Vec<String> {
    let Some(base) = name.strip_prefix("ft:").and_then(|rest| rest.split(':').next()) else {
        return Vec::new();
    };
    let mut names = vec![format!("ft:{base}")];
    names.extend(without_date(base).map(|base| format!("ft:{base}")));
    names
}

/// Without one date suffix: `-2024-08-06`, `-20240806`, `@20240806`.
fn without_date(name: &str) -> Option<&str> {
    let is_date = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(have, want)| match want {
                b'0' => have.is_ascii_digit(),
                want => have == want,
            })
    };
    for (mark, shape) in [('-', "0000-00-00"), ('-', "00000000"), ('@', "00000000")] {
        let Some(at) = name.len().checked_sub(shape.len() + 1) else { continue };
        let (base, suffix) = (name.get(..at), name.get(at + 1..));
        if let (Some(base), Some(suffix)) = (base, suffix)
            && name.get(at..).is_some_and(|end| end.starts_with(mark))
            && is_date(suffix, shape)
        {
            return Some(base);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::format::read;

    fn book() -> Vec<Provider> {
        let head = |name: &str| {
            format!("schema = 1\nprovider = \"{name}\"\ncurrency = \"USD\"\nsource = \"x\"\n")
        };
        let model = |id: &str| {
            format!("[[model]]\nid = \"{id}\"\n[[model.price]]\nmtok = {{ input = \"1\" }}\n")
        };
        let p = format!(
            "{}{}{}{}[[alias]]\nname = \"latest\"\nto = [{{ model = \"m\" }}, {{ from = 2026-01-01, model = \"n\" }}]\n",
            head("p"),
            model("m"),
            model("n"),
            model("ft:m")
        );
        let like = format!("{}like = \"p\"\n{}", head("q"), model("own"));
        vec![read("p", &p).unwrap(), read("q", &like).unwrap()]
    }

    #[test]
    fn each_step_of_the_ladder() {
        let providers = book();
        let layers = [("embedded", providers.as_slice())];
        let found = |provider: &str, model: &str, at: &str| {
            find(&layers, provider, model, at.parse().unwrap())
                .map(|found| (found.id, found.matched))
        };
        let now = "2026-11-20T00:00:00Z";
        for (model, id, matched) in [
            ("m", "m", "exact"),
            ("M", "m", "case"),
            ("p/m", "m", "wrapper"),
            ("models/m", "m", "wrapper"),
            ("ft:m-2024-08-06:org::id", "ft:m", "fine-tune"),
            ("m-2024-08-06", "m", "snapshot"),
            ("m@20240806", "m", "snapshot"),
            ("latest", "n", "exact"),
        ] {
            assert_eq!(found("p", model, now), Some((id.to_owned(), matched)), "{model}");
        }
        assert_eq!(found("p", "latest", "2025-11-20T00:00:00Z"), Some(("m".to_owned(), "exact")));
        assert_eq!(found("q", "m", now), Some(("m".to_owned(), "borrowed")));
        for unknown in ["m-new", "ft:n:org::id", "m-2024", "", "x/m"] {
            assert_eq!(found("p", unknown, now), None, "{unknown}");
        }
        assert_eq!(found("unknown", "m", now), None);
    }
}
