//! The price files inside the program, each read when its provider is first priced.

use super::format::{self, Provider};
use std::sync::OnceLock;

/// Version of the embedded book.
pub const BOOK: &str = "2026.11.20";

struct File {
    slug: &'static str,
    text: &'static str,
    read: OnceLock<Option<Provider>>,
}

impl File {
    const fn new(slug: &'static str, text: &'static str) -> Self {
        Self { slug, text, read: OnceLock::new() }
    }

    fn provider(&self) -> Option<&Provider> {
        let read = || match format::read(self.slug, self.text) {
            Ok(provider) => Some(Provider { book: BOOK.to_owned(), ..provider }),
            Err(error) => {
                tracing::error!(error, "an embedded price file is damaged"); // a test reads them all
                None
            }
        };
        self.read.get_or_init(read).as_ref()
    }
}

static FILES: [File; 18] = [
    File::new("alibaba", include_str!("../../pricing/alibaba.toml")),
    File::new("anthropic", include_str!("../../pricing/anthropic.toml")),
    File::new("azure", include_str!("../../pricing/azure.toml")),
    File::new("bedrock", include_str!("../../pricing/bedrock.toml")),
    File::new("cerebras", include_str!("../../pricing/cerebras.toml")),
    File::new("cohere", include_str!("../../pricing/cohere.toml")),
    File::new("deepseek", include_str!("../../pricing/deepseek.toml")),
    File::new("fireworks", include_str!("../../pricing/fireworks.toml")),
    File::new("google", include_str!("../../pricing/google.toml")),
    File::new("groq", include_str!("../../pricing/groq.toml")),
    File::new("mistral", include_str!("../../pricing/mistral.toml")),
    File::new("moonshot", include_str!("../../pricing/moonshot.toml")),
    File::new("openai", include_str!("../../pricing/openai.toml")),
    File::new("perplexity", include_str!("../../pricing/perplexity.toml")),
    File::new("together", include_str!("../../pricing/together.toml")),
    File::new("vertex", include_str!("../../pricing/vertex.toml")),
    File::new("xai", include_str!("../../pricing/xai.toml")),
    File::new("zai", include_str!("../../pricing/zai.toml")),
];

/// A provider's embedded prices.
pub fn provider(slug: &str) -> Option<&'static Provider> {
    FILES.iter().find(|file| file.slug == slug)?.provider()
}

/// Every embedded file.
pub fn all() -> impl Iterator<Item = &'static Provider> {
    FILES.iter().filter_map(File::provider)
}

/// The embedded files as they stand: slug and text.
#[cfg(test)]
pub fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().map(|file| (file.slug, file.text))
}
