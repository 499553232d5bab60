//! Values that must never be printed, stored or sent anywhere but to their owner.

use serde::{Deserialize, Deserializer, de::Error as _};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A credential. It has no `Display` and no `Serialize`, and its `Debug` shows only that there is one.
/// Its memory is wiped with its last clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// What is said of a secret without content.
    pub const EMPTY: &str = "is empty";

    /// Wraps `value`, without the line end that a secret read from a file usually carries.
    /// `None` when nothing but white space is left: an empty secret would match everything.
    pub fn new(value: &str) -> Option<Self> {
        let value = value.trim_end_matches(['\r', '\n']);
        (!value.trim().is_empty()).then(|| Self(Arc::new(Zeroizing::new(value.to_owned()))))
    }

    /// The value itself. Call it only where it leaves towards its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Zeroizing::new(String::deserialize(deserializer)?);
        Self::new(&value).ok_or_else(|| D::Error::custom(Self::EMPTY))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_printed_and_never_empty() {
        let secret = Secret::new("sk-abc\n").unwrap();
        assert_eq!(secret.expose(), "sk-abc");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(Secret::new(" \n").is_none());
    }

    #[test]
    fn wiped_when_dropped() {
        fn wiped(_: &impl zeroize::ZeroizeOnDrop) {}
        let secret = Secret::new("sk-abc").unwrap();
        wiped(&*secret.0);
        assert_eq!(Arc::strong_count(&secret.clone().0), 2, "clones share one copy");
    }
}
