//! Finding a model's prices: a fixed ladder, never a prefix (`pricing.md` §6).

use super::{format::Provider, schedule::Model};
use crate::model::Timestamp;

/// A price entry that was found.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// Its provider.
    pub provider: &'a Provider,
    /// Its id there.
    pub id: String,
    /// The prices.
    pub model: &'a Model,
    /// Prices of a weaker layer that those are laid over.
    pub under: Option<&'a Model>,
    /// Which step of the ladder found it.
    pub matched: &'static str,
    /// `override`, `imported` or `embedded`.
    pub layer: &'static str,
}

/// A price file and the layer it stands in.
pub type Layered<'a> = (&'static str, &'a Provider);

/// Slugs of this house, with the other names that a provider goes by.
const NAMES: &[(&str, &[&str])] = &[
    ("alibaba", &["dashscope", "qwen"]),
    ("azure", &["azure-openai", "azure_openai"]),
    ("bedrock", &["aws", "aws-bedrock", "amazon-bedrock"]),
    ("cohere", &["cohere_chat"]),
    ("deepseek", &["deepseek-ai"]),
    ("fireworks", &["fireworks_ai", "fireworks-ai"]),
    ("google", &["gemini", "google-ai-studio", "google-gla"]),
    ("mistral", &["mistralai"]),
    ("moonshot", &["moonshotai", "kimi"]),
    ("perplexity", &["pplx"]),
    ("together", &["together_ai", "togetherai", "together-ai"]),
    ("vertex", &["vertex_ai", "vertexai", "google-vertex"]),
    ("xai", &["x-ai"]),
    ("zai", &["z-ai", "z.ai", "zai-org", "zhipu"]),
];

/// Regions that Bedrock puts before a model's id.
const BEDROCK_REGIONS: [&str; 8] = ["us", "eu", "apac", "au", "jp", "ca", "us-gov", "global"];

/// The slug under which a provider's prices stand.
pub fn slug(provider: &str) -> String {
    let name = provider.to_lowercase();
    let known = NAMES.iter().find(|(_, others)| others.contains(&name.as_str()));
    known.map_or(name, |(slug, _)| (*slug).to_owned())
}

/// Looks for `model` among a provider's files, strongest layer first; `of` gives the files of a slug.
pub fn find<'a>(
    of: &dyn Fn(&str) -> Vec<Layered<'a>>,
    provider: &str,
    model: &str,
    at: Timestamp,
) -> Option<Found<'a>> {
    let own = of(provider);
    let borrowed = |like: &str, layer: Option<&str>| {
        let files = of(like).into_iter().filter(|file| layer.is_none_or(|layer| layer == file.0));
        let mut found = files.filter_map(|file| ladder(file, model, at));
        found.next().map(|found| Found { matched: "borrowed", ..found })
    };
    let hit = own.iter().find_map(|file| {
        let (layer, prices) = *file;
        ladder(*file, model, at)
            .or_else(|| borrowed(prices.like.as_ref()?, Some(layer)))
            .or_else(|| pattern(*file, model))
    });
    let mut likes = own.iter().filter_map(|(_, prices)| prices.like.as_deref());
    let found = hit.or_else(|| likes.find_map(|like| borrowed(like, None)))?;
    let found = in_strongest(&of(&found.provider.name), found);
    if !found.model.extend {
        return Some(found);
    }
    let mut weaker = own.iter().skip_while(|(layer, _)| *layer == found.layer);
    let under = weaker.find_map(|file| ladder(*file, model, at));
    Some(Found { under: under.map(|under| under.model), ..found })
}

/// A name may stand in a weaker layer alone; the prices of its model are those of the strongest.
fn in_strongest<'a>(layers: &[Layered<'a>], found: Found<'a>) -> Found<'a> {
    let stronger = layers.iter().take_while(|(layer, _)| *layer != found.layer);
    let mut same = stronger
        .filter_map(|(layer, provider)| Some((*layer, *provider, provider.models.get(&found.id)?)));
    match same.next() {
        Some((layer, provider, model)) => Found { provider, model, layer, ..found },
        None => found,
    }
}

fn ladder<'a>(file: Layered<'a>, name: &str, at: Timestamp) -> Option<Found<'a>> {
    let exact = |name: &str, matched| exact(file, name, at, matched);
    let lower = name.to_lowercase();
    let cased = |name: &str, matched| exact(file.1.spelling.get(name)?, matched);
    let bare = unwrapped(&lower, &file.1.name);
    exact(name, "exact")
        .or_else(|| cased(&lower, "case"))
        .or_else(|| cased(bare?, "wrapper"))
        .or_else(|| fine_tune(&lower).into_iter().find_map(|name| cased(&name, "fine-tune")))
        .or_else(|| cased(without_date(&lower)?, "snapshot"))
        .or_else(|| cased(without_date(bare?)?, "snapshot"))
}

fn exact<'a>(
    file: Layered<'a>,
    name: &str,
    at: Timestamp,
    matched: &'static str,
) -> Option<Found<'a>> {
    let (layer, provider) = file;
    let targets = provider.aliases.get(name).map(Vec::as_slice).unwrap_or_default();
    let target = targets.iter().rev().find(|(from, _)| from.is_none_or(|from| from <= at));
    let (id, model) = provider.models.get_key_value(target.map_or(name, |(_, id)| id.as_str()))?;
    Some(Found { provider, id: id.clone(), model, under: None, matched, layer })
}

/// An id with a trailing `*`, the longest that fits; only for one's own files.
fn pattern<'a>(file: Layered<'a>, name: &str) -> Option<Found<'a>> {
    let (layer, provider) = file;
    if layer == "embedded" {
        return None;
    }
    let fits = |id: &str| id.strip_suffix('*').is_some_and(|start| name.starts_with(start));
    let fitting = provider.models.iter().filter(|(id, _)| fits(id));
    let (id, model) = fitting.max_by_key(|(id, _)| id.len())?;
    Some(Found { provider, id: id.clone(), model, under: None, matched: "pattern", layer })
}

/// Without one of the wrappers that are known for this provider.
fn unwrapped<'a>(name: &'a str, provider: &str) -> Option<&'a str> {
    let others =
        NAMES.iter().find(|(slug, _)| *slug == provider).map_or(&[][..], |(_, others)| others);
    let mut names = std::iter::once(&provider).chain(others);
    let own = names.find_map(|own| name.strip_prefix(*own)?.strip_prefix('/'));
    let region = || {
        let (region, rest) = name.split_once('.')?;
        (provider == "bedrock" && BEDROCK_REGIONS.contains(&region)).then_some(rest)
    };
    own.or_else(|| name.strip_prefix("models/"))
        .or_else(|| name.strip_prefix("accounts/fireworks/models/"))
        .or_else(|| name.strip_prefix("publishers/")?.split_once("/models/").map(|(_, rest)| rest))
        .or_else(region)
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

    fn file(name: &str, more: &str) -> Provider {
        let head =
            format!("schema = 1\nprovider = \"{name}\"\ncurrency = \"USD\"\nsource = \"x\"\n");
        read(name, &format!("{head}{more}")).unwrap()
    }

    fn model(id: &str) -> String {
        format!("[[model]]\nid = \"{id}\"\n[[model.price]]\nmtok = {{ input = \"1\" }}\n")
    }

    fn of<'a>(files: &'a [(&'static str, Provider)], slug: &str) -> Vec<Layered<'a>> {
        let own = files.iter().filter(|(_, file)| file.name == slug);
        own.map(|(layer, file)| (*layer, file)).collect()
    }

    fn found(
        files: &[(&'static str, Provider)],
        provider: &str,
        model: &str,
        at: &str,
    ) -> Option<(String, &'static str, &'static str)> {
        let found = find(&|slug| of(files, slug), provider, model, at.parse().unwrap())?;
        Some((found.id, found.matched, found.layer))
    }

    const NOW: &str = "2026-11-20T00:00:00Z";

    #[test]
    fn each_step_of_the_ladder() {
        let moved = "[[alias]]\nname = \"latest\"\nto = [{ model = \"m\" }, { from = 2026-01-01, model = \"N\" }]\n";
        let xai = [model("m"), model("N"), model("ft:m"), moved.to_owned()].concat();
        let files = [
            ("embedded", file("xai", &xai)),
            ("embedded", file("q", &format!("like = \"xai\"\n{}", model("own")))),
        ];
        for (name, id, matched) in [
            ("m", "m", "exact"),
            ("M", "m", "case"),
            ("n", "N", "case"),
            ("xai/m", "m", "wrapper"),
            ("x-ai/n", "N", "wrapper"),
            ("models/m", "m", "wrapper"),
            ("publishers/someone/models/m", "m", "wrapper"),
            ("ft:m-2024-08-06:org::Id", "ft:m", "fine-tune"),
            ("ft:m:org::id", "ft:m", "fine-tune"),
            ("m-2024-08-06", "m", "snapshot"),
            ("m-20240806", "m", "snapshot"),
            ("n@20240806", "N", "snapshot"),
            ("models/m-2024-08-06", "m", "snapshot"),
            ("latest", "N", "exact"),
        ] {
            let want = Some((id.to_owned(), matched, "embedded"));
            assert_eq!(found(&files, "xai", name, NOW), want, "{name}");
        }
        let then = found(&files, "xai", "latest", "2025-12-31T23:59:59Z");
        assert_eq!(then, Some(("m".to_owned(), "exact", "embedded")));
        let borrowed = Some(("m".to_owned(), "borrowed", "embedded"));
        assert_eq!(found(&files, "q", "m", NOW), borrowed);
        for unknown in
            ["m-new", "ft:n:org::id", "m-2024", "m-2024-08-06-2024-08-06", "", "y/m", "é-20240806"]
        {
            assert_eq!(found(&files, "xai", unknown, NOW), None, "{unknown}");
        }
        assert_eq!(found(&files, "unknown", "m", NOW), None);
    }

    #[test]
    fn stronger_layers_win_model_by_model() {
        let extended = model("m").replace("[[model.price]]", "extend = true\n[[model.price]]");
        let files = [
            (
                "override",
                file("p", &format!("{extended}{}{}", model("own-*"), model("own-long-*"))),
            ),
            ("embedded", file("p", &format!("{}{}", model("m"), model("other")))),
        ];
        let hit = find(&|slug| of(&files, slug), "p", "m", Timestamp(0)).unwrap();
        assert!(hit.under.is_some());
        let of = |name| found(&files, "p", name, NOW).map(|(id, _, layer)| (id, layer));
        let want = |id: &str, layer| Some((id.to_owned(), layer));
        assert_eq!(of("m"), want("m", "override"));
        assert_eq!(of("other"), want("other", "embedded"));
        assert_eq!(of("own-x"), want("own-*", "override"));
        assert_eq!(of("own-long-x"), want("own-long-*", "override"));
        assert_eq!(of("ow"), None);
    }

    #[test]
    fn bedrock_regions_and_other_names() {
        let files = [("embedded", file("bedrock", &model("anthropic.m")))];
        let region = found(&files, "bedrock", "eu.anthropic.m", NOW);
        assert_eq!(region, Some(("anthropic.m".to_owned(), "wrapper", "embedded")));
        assert_eq!(found(&files, "bedrock", "xx.anthropic.m", NOW), None);
        assert_eq!((slug("Gemini").as_str(), slug("own").as_str()), ("google", "own"));
    }
}
