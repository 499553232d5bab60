//! The closed list of what can have a price, and where its amount stands in a cost.

use std::fmt;

/// Something that is counted and billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Prompt tokens that are nothing more special.
    Input,
    /// Prompt tokens read from a cache.
    CacheRead,
    /// Prompt tokens written to a cache for its usual lifetime.
    CacheWrite,
    /// Prompt tokens written to a cache for an hour.
    CacheWrite1h,
    /// Prompt tokens written to a cache for twelve hours.
    CacheWrite12h,
    /// Output tokens that are nothing more special.
    Output,
    /// Output tokens spent on reasoning, where they have a price of their own.
    Reasoning,
    /// Tokens of cited pages, where they are billed.
    Citation,
    /// Prompt tokens that are audio.
    InputAudio,
    /// Audio prompt tokens read from a cache.
    CacheReadAudio,
    /// Output tokens that are audio.
    OutputAudio,
    /// Prompt tokens that are images.
    InputImage,
    /// Image prompt tokens read from a cache.
    CacheReadImage,
    /// Output tokens that are images.
    OutputImage,
    /// Prompt tokens that are video.
    InputVideo,
    /// Output tokens that are video.
    OutputVideo,
    /// Seconds of audio heard.
    InputSeconds,
    /// Characters read aloud.
    InputCharacters,
    /// Pages read.
    Pages,
    /// Searches of the web.
    WebSearch,
    /// Searches of stored files.
    FileSearch,
    /// Sessions of a code interpreter.
    CodeSession,
    /// Look-ups on a map.
    Maps,
    /// Calls.
    Request,
}

/// The part of a cost that an amount belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Plain input.
    Input,
    /// Input read from a cache.
    CacheRead,
    /// Input written to a cache.
    CacheWrite,
    /// Output.
    Output,
    /// Audio, both directions.
    Audio,
    /// Images and video, both directions.
    Image,
    /// Billed tool calls.
    Tools,
    /// Fees a request.
    Request,
}

/// A table of a price file: its key, and how many units its prices buy.
#[derive(Debug)]
pub struct Table {
    /// Key in the file.
    pub key: &'static str,
    /// Units that a price buys.
    pub per: u64,
    /// Units that it prices.
    pub units: &'static [Unit],
}

/// Every table, in the order of the price files.
pub const TABLES: [Table; 5] = [
    Table {
        key: "mtok",
        per: 1_000_000,
        units: &[
            Unit::Input,
            Unit::CacheRead,
            Unit::CacheWrite,
            Unit::CacheWrite1h,
            Unit::CacheWrite12h,
            Unit::Output,
            Unit::Reasoning,
            Unit::Citation,
            Unit::InputAudio,
            Unit::CacheReadAudio,
            Unit::OutputAudio,
            Unit::InputImage,
            Unit::CacheReadImage,
            Unit::OutputImage,
            Unit::InputVideo,
            Unit::OutputVideo,
        ],
    },
    Table {
        key: "kcall",
        per: 1000,
        units: &[Unit::WebSearch, Unit::FileSearch, Unit::CodeSession, Unit::Maps, Unit::Request],
    },
    Table { key: "hour", per: 3600, units: &[Unit::InputSeconds] },
    Table { key: "mchar", per: 1_000_000, units: &[Unit::InputCharacters] },
    Table { key: "kpage", per: 1000, units: &[Unit::Pages] },
];

impl Unit {
    /// The name in price files and cost lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::CacheWrite12h => "cache_write_12h",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::Citation => "citation",
            Self::InputAudio => "input_audio",
            Self::CacheReadAudio => "cache_read_audio",
            Self::OutputAudio => "output_audio",
            Self::InputImage => "input_image",
            Self::CacheReadImage => "cache_read_image",
            Self::OutputImage => "output_image",
            Self::InputVideo => "input_video",
            Self::OutputVideo => "output_video",
            Self::InputSeconds => "input_seconds",
            Self::InputCharacters => "input_characters",
            Self::Pages => "pages",
            Self::WebSearch => "web_search",
            Self::FileSearch => "file_search",
            Self::CodeSession => "code_session",
            Self::Maps => "maps",
            Self::Request => "request",
        }
    }

    /// Where the amount stands.
    pub fn part(self) -> Part {
        match self {
            Self::Input | Self::Citation | Self::InputCharacters | Self::Pages => Part::Input,
            Self::CacheRead => Part::CacheRead,
            Self::CacheWrite | Self::CacheWrite1h | Self::CacheWrite12h => Part::CacheWrite,
            Self::Output | Self::Reasoning => Part::Output,
            Self::InputAudio | Self::CacheReadAudio | Self::OutputAudio | Self::InputSeconds => {
                Part::Audio
            }
            Self::InputImage
            | Self::CacheReadImage
            | Self::OutputImage
            | Self::InputVideo
            | Self::OutputVideo => Part::Image,
            Self::WebSearch | Self::FileSearch | Self::CodeSession | Self::Maps => Part::Tools,
            Self::Request => Part::Request,
        }
    }

    /// Where the tokens stay when the unit has no price of its own, nearest first. Audio is never
    /// silently billed as text.
    pub fn parents(self) -> &'static [Self] {
        match self {
            Self::CacheRead | Self::CacheWrite | Self::InputImage | Self::InputVideo => {
                &[Self::Input]
            }
            Self::CacheWrite1h | Self::CacheWrite12h => &[Self::CacheWrite, Self::Input],
            Self::CacheReadAudio => &[Self::InputAudio],
            Self::CacheReadImage => &[Self::CacheRead, Self::InputImage, Self::Input],
            Self::Reasoning | Self::OutputImage | Self::OutputVideo => &[Self::Output],
            _ => &[],
        }
    }

    /// Whether it counts tokens: those are subject to regional factors.
    pub fn is_token(self) -> bool {
        TABLES.first().is_some_and(|tokens| tokens.units.contains(&self))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
