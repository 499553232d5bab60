//! Sizes (`16MiB`), periods (`30s`, `10m`, `30d`) and money (`25 USD`) as they stand in the configuration.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// As an index type (saturating on small machines).
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        let factor: u64 = match unit {
            "" | "B" => 1,
            "KB" | "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => {
                return Err(format!(
                    "`{text}` is not a size: use a number and B, KiB, MiB, GiB, KB, MB or GB"
                ));
            }
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// So many days.
    pub const fn days(count: u64) -> Self {
        Self(Duration::from_secs(count * 86_400))
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        let ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => {
                return Err(format!("`{text}` is not a period: use a number and ms, s, m, h or d"));
            }
        };
        let ms = number.checked_mul(ms).ok_or_else(|| format!("`{text}` is too long"))?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            if ms > 0 && ms.is_multiple_of(size) {
                return write!(f, "{}{unit}", ms / size);
            }
        }
        write!(f, "{ms}ms")
    }
}

/// An amount of money, in nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(pub u64);

/// Nano-dollars in a dollar.
const NANO: u64 = 1_000_000_000;
/// Decimal places of an amount.
const PLACES: usize = 9;

impl FromStr for Dollars {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim();
        let number = number.strip_suffix("USD").unwrap_or(number).trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || fraction.len() > PLACES {
            return Err(format!(
                "`{text}` is no amount: use dollars with at most {PLACES} decimals, such as `25 USD` or `0.50`"
            ));
        }
        let nano = format!("{fraction:0<PLACES$}").parse().ok();
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(NANO));
        let sum = whole.zip(nano).and_then(|(whole, nano)| whole.checked_add(nano));
        sum.map(Self).ok_or_else(|| format!("`{text}` is too much"))
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = format!("{}.{:0PLACES$}", self.0 / NANO, self.0 % NANO);
        write!(f, "{} USD", number.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Splits `16MiB` into 16 and `MiB`.
fn split(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse().map_err(|_| format!("`{text}` does not start with a number"))?;
    Ok((number, unit.trim()))
}

macro_rules! from_text {
    ($type:ident, $pattern:literal, $about:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $about })
            }
        }
    };
}

from_text!(ByteSize, "^[0-9]+ ?(B|KB|kB|MB|GB|KiB|MiB|GiB)?$", "A size such as 16MiB");
from_text!(Dollars, "^[0-9]+(\\.[0-9]{1,9})?( ?USD)?$", "US dollars such as 25 USD or 0.50");
from_text!(Period, "^[0-9]+ ?(ms|s|m|h|d)$", "A period such as 30s, 10m or 30d");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_periods() {
        assert_eq!("16MiB".parse(), Ok(ByteSize(16 << 20)));
        assert_eq!("10 GB".parse(), Ok(ByteSize(10_000_000_000)));
        assert_eq!("30d".parse(), Ok(Period::days(30)));
        assert_eq!("250ms".parse(), Ok(Period(Duration::from_millis(250))));
        assert_eq!(ByteSize::mib(16).to_string(), "16MiB");
        assert_eq!(Period::days(30).to_string(), "30d");
        assert!("ten".parse::<ByteSize>().is_err());
        assert!("10".parse::<Period>().is_err());
        assert!("99999999999999999999s".parse::<Period>().is_err());
    }

    #[test]
    fn money() {
        for (text, nano, shown) in [
            ("25 USD", 25 * NANO, "25 USD"),
            ("0.50", NANO / 2, "0.5 USD"),
            ("100USD", 100 * NANO, "100 USD"),
            (" 0.000000001 USD ", 1, "0.000000001 USD"),
            ("18446744073.709551615", u64::MAX, "18446744073.709551615 USD"),
        ] {
            assert_eq!(text.parse(), Ok(Dollars(nano)), "{text}");
            assert_eq!(Dollars(nano).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Dollars(nano)));
        }
        for wrong in
            ["", "USD", "-1", "1e3", "1.", ".5", "1,5", "25 EUR", "0.0000000001", "18446744073.71"]
        {
            assert!(wrong.parse::<Dollars>().is_err(), "{wrong}");
        }
    }
}
