//! A price file as it is written: one table a key, nothing read into it (`pricing.md` §5).

use serde::{Deserialize, Deserializer, de};
use std::{collections::BTreeMap, fmt};
use toml::{Spanned, value::Datetime};

/// A provider's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub schema: u32,
    pub provider: String,
    pub currency: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub regions: BTreeMap<String, Decimal>,
    pub factor: Option<Decimal>,
    pub like: Option<String>,
    #[serde(default)]
    pub model: Vec<FileModel>,
    #[serde(default)]
    pub alias: Vec<FileAlias>,
}

/// A model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileModel {
    pub id: Spanned<String>,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub checked: Option<Datetime>,
    pub source: Option<String>,
    #[serde(default)]
    pub confirmed_by: Vec<String>,
    pub retired: Option<Datetime>,
    /// Why the prices may break the rules of [`super::check`].
    pub odd: Option<String>,
    #[serde(default)]
    pub free: bool,
    #[serde(default)]
    pub extend: bool,
    #[serde(default)]
    pub regions: BTreeMap<String, Decimal>,
    #[serde(default)]
    pub price: Vec<FilePrice>,
}

/// Prices by unit, as a file writes them.
pub type FileTable = BTreeMap<String, Decimal>;

/// Prices that hold from a day on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePrice {
    pub from: Option<Datetime>,
    #[serde(default)]
    pub mtok: FileTable,
    #[serde(default)]
    pub kcall: FileTable,
    #[serde(default)]
    pub hour: FileTable,
    #[serde(default)]
    pub mchar: FileTable,
    #[serde(default)]
    pub kpage: FileTable,
    #[serde(default)]
    pub when: Vec<FileWhen>,
}

/// Prices under conditions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileWhen {
    pub prompt_over: Option<u64>,
    pub prompt_from: Option<u64>,
    pub tier: Option<String>,
    #[serde(default)]
    pub any_prompt: bool,
    #[serde(default)]
    pub utc: Vec<String>,
    #[serde(default)]
    pub days: Vec<String>,
    #[serde(default)]
    pub mtok: FileTable,
    #[serde(default)]
    pub kcall: FileTable,
    #[serde(default)]
    pub hour: FileTable,
    #[serde(default)]
    pub mchar: FileTable,
    #[serde(default)]
    pub kpage: FileTable,
}

/// A name that moved.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAlias {
    pub name: Spanned<String>,
    pub to: Vec<FileTarget>,
}

/// What a name stood for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileTarget {
    pub from: Option<Datetime>,
    pub model: String,
}

/// A decimal number: a string, or a bare number through its shortest spelling.
#[derive(Clone, Debug)]
pub struct Decimal(pub String);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number, best in quotes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Decimal, E> {
                Ok(Decimal(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
