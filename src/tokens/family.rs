//! What is known of a model's way to count (`openai-surface.md` §20.1, §20.3): its vocabulary, and
//! what stands around the text.

use std::sync::OnceLock;
use tiktoken_rs::CoreBPE;

/// A vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    O200k,
    Cl100k,
    P50k,
    R50k,
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::O200k => "o200k_base",
            Self::Cl100k => "cl100k_base",
            Self::P50k => "p50k_base",
            Self::R50k => "r50k_base",
        }
    }

    /// Loads it on first need, once.
    pub(super) fn vocabulary(self) -> Option<&'static CoreBPE> {
        static LOADED: [OnceLock<Option<CoreBPE>>; 4] = [const { OnceLock::new() }; 4];
        let [o200k, cl100k, p50k, r50k] = &LOADED;
        let loaded = match self {
            Self::O200k => o200k.get_or_init(|| tiktoken_rs::o200k_base().ok()),
            Self::Cl100k => cl100k.get_or_init(|| tiktoken_rs::cl100k_base().ok()),
            Self::P50k => p50k.get_or_init(|| tiktoken_rs::p50k_base().ok()),
            Self::R50k => r50k.get_or_init(|| tiktoken_rs::r50k_base().ok()),
        };
        loaded.as_ref()
    }
}

/// How an image is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    /// A base, and so much for each tile of 512 × 512.
    Tiles(u64, u64),
    /// Hundredths of a token for each patch of 32 × 32.
    Patches(u64),
}

/// What a request with tools costs beyond its text; fitted to recorded usage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tooling {
    pub(super) once: u64,
    pub(super) per_call: u64,
    pub(super) per_result: u64,
    pub(super) parallel: u64,
}

/// One row of what was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) encoding: Encoding,
    /// Tokens that open the answer, after the messages.
    pub(super) reply: u64,
    pub(super) tooling: Tooling,
    /// Tokens around an answer that ended.
    pub(super) around_answer: u64,
    /// Whether it may think without showing it.
    pub(super) hidden_reasoning: bool,
    pub(super) images: Images,
    /// Whether the vocabulary only stands in for the model's own.
    pub(super) stand_in: bool,
    /// Reported for a hundred counted: other vendors have vocabularies of their own.
    pub(super) percent: u64,
    /// What a template adds to or spares of the frame around the messages.
    pub(super) template: i64,
}

const GPT_4O: Family = Family {
    encoding: Encoding::O200k,
    reply: 3,
    tooling: Tooling { once: 1, per_call: 2, per_result: 2, parallel: 14 },
    around_answer: 0,
    hidden_reasoning: false,
    images: Images::Tiles(85, 170),
    stand_in: false,
    percent: 100,
    template: 0,
};
const GPT_4: Family = Family {
    encoding: Encoding::Cl100k,
    tooling: Tooling { once: 0, per_call: 1, per_result: 1, parallel: 0 },
    ..GPT_4O
};
const GPT_5: Family = Family {
    reply: 2,
    tooling: Tooling { once: 82, per_call: 5, per_result: 5, parallel: 10 },
    around_answer: 3,
    hidden_reasoning: true,
    images: Images::Tiles(70, 140),
    ..GPT_4O
};
const O_SERIES: Family = Family {
    reply: 2,
    tooling: Tooling { once: 4, per_call: 4, per_result: 4, parallel: 0 },
    around_answer: 12,
    hidden_reasoning: true,
    images: Images::Tiles(75, 150),
    ..GPT_4O
};

/// Another vendor's: the closest vocabulary, stretched.
const fn other(percent: u64, template: i64) -> Family {
    Family { stand_in: true, percent, template, ..GPT_4O }
}

/// Beginnings of `OpenAI`'s names; the longest that fits counts.
const OPENAI: &[(&str, Family)] = &[
    ("gpt-3.5", GPT_4),
    ("gpt-35", GPT_4),
    ("gpt-4", GPT_4),
    ("gpt-4o", GPT_4O),
    ("gpt-4o-mini", Family { images: Images::Tiles(2833, 5667), ..GPT_4O }),
    ("gpt-4.1", GPT_4O),
    ("gpt-4.1-mini", Family { images: Images::Patches(162), ..GPT_4O }),
    ("gpt-4.1-nano", Family { images: Images::Patches(246), ..GPT_4O }),
    ("gpt-4.5", GPT_4O),
    ("chatgpt-4o", GPT_4O),
    ("gpt-5", GPT_5),
    ("gpt-5-mini", Family { images: Images::Patches(120), ..GPT_5 }),
    ("gpt-5-nano", Family { images: Images::Patches(150), ..GPT_5 }),
    ("gpt-5.2", Family { images: Images::Patches(120), ..GPT_5 }),
    ("gpt-5.3", Family { images: Images::Patches(120), ..GPT_5 }),
    ("gpt-5.4", Family { images: Images::Patches(120), ..GPT_5 }),
    ("gpt-6", GPT_5),
    ("gpt-oss", other(122, 61)),
    ("o1", O_SERIES),
    ("o3", O_SERIES),
    ("o4-mini", Family { images: Images::Patches(172), ..O_SERIES }),
    ("codex-mini", O_SERIES),
    ("computer-use", Family { images: Images::Tiles(65, 129), ..GPT_4O }),
    ("text-embedding-", GPT_4),
    ("davinci-002", GPT_4),
    ("babbage-002", GPT_4),
    // What served these two since 2024 says so only after a colon.
    ("davinci:", GPT_4),
    ("babbage:", GPT_4),
    ("text-davinci-", Family { encoding: Encoding::P50k, ..GPT_4 }),
    ("code-", Family { encoding: Encoding::P50k, ..GPT_4 }),
    ("text-", Family { encoding: Encoding::R50k, ..GPT_4 }),
    ("davinci", Family { encoding: Encoding::R50k, ..GPT_4 }),
    ("curie", Family { encoding: Encoding::R50k, ..GPT_4 }),
    ("babbage", Family { encoding: Encoding::R50k, ..GPT_4 }),
    ("ada", Family { encoding: Encoding::R50k, ..GPT_4 }),
];

/// Words in the names of other vendors' models.
const OTHERS: &[(&str, Family)] = &[
    ("deepseek", other(103, -3)),
    ("glm", other(103, -1)),
    ("qwen", other(105, 5)),
    ("llama3-", other(107, 4)),
    ("llama-3.1-sonar", other(107, 4)),
    ("llama", other(107, 28)),
    ("stral", other(108, 8)),
    ("claude", other(116, 5)),
    ("gemini", other(106, -7)),
    ("grok", other(97, -1)),
];

/// What is known of `model`; a name that says nothing is taken for a recent one.
pub(super) fn of(model: &str) -> Family {
    let name = model.to_ascii_lowercase();
    let name = name.rsplit('/').next().unwrap_or_default();
    let name = name.strip_prefix("ft:").and_then(|rest| rest.split(':').next()).unwrap_or(name);
    let fits = OPENAI.iter().filter(|(start, _)| name.starts_with(start));
    fits.max_by_key(|(start, _)| start.len())
        .or_else(|| OTHERS.iter().find(|(word, _)| name.contains(word)))
        .map_or(other(100, 0), |(_, family)| *family)
}
