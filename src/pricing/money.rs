//! Money as integers.
//!
//! A price is held in nano-dollars for a stated quantity (a million tokens, a thousand calls), so that
//! it stays as the provider printed it; an amount in pico-dollars. Each line is multiplied first and
//! divided once, rounded half to even (`pricing.md` §6).

/// Decimal places of an amount in dollars: pico-dollars.
const AMOUNT_PLACES: usize = 12;
/// Decimal places of a price in dollars: nano-dollars.
const PRICE_PLACES: usize = 9;
/// Nano-dollars in a dollar.
const NANO: u64 = 1_000_000_000;

/// A price: nano-dollars for `per` units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Nano-dollars.
    pub nano: u64,
    /// Units that they buy.
    pub per: u64,
}

/// A factor on prices, such as 1.1 for a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Numerator.
    pub num: u64,
    /// Denominator.
    pub den: u64,
}

impl Factor {
    /// Nothing changes.
    pub const ONE: Self = Self { num: 1, den: 1 };

    /// Reads a decimal such as `1.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut num, mut den) = (u64::try_from(parse(text, PRICE_PLACES)?).ok()?, NANO);
        while num > 0 && num % 10 == 0 && den % 10 == 0 {
            (num, den) = (num / 10, den / 10);
        }
        Some(Self { num, den })
    }

    /// Both, one after the other; beyond nine places it is rounded.
    pub fn times(self, other: Self) -> Self {
        let wide = |number: u64| i128::from(number);
        let num = wide(self.num) * wide(other.num) * wide(NANO);
        let nano = divide_half_even(num, wide(self.den.max(1)) * wide(other.den.max(1)));
        Self::parse(&print(nano, PRICE_PLACES)).unwrap_or(self)
    }
}

impl std::fmt::Display for Factor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nano = i128::from(self.num) * i128::from(NANO / self.den.max(1));
        f.write_str(&print(nano, PRICE_PLACES))
    }
}

impl Price {
    /// Reads a decimal number of dollars for `per` units; at most nine places.
    pub fn parse(dollars: &str, per: u64) -> Option<Self> {
        Some(Self { nano: u64::try_from(parse(dollars, PRICE_PLACES)?).ok()?, per })
    }

    /// What `quantity` units cost, in pico-dollars.
    pub fn amount(self, quantity: u64, factor: Factor) -> i128 {
        self.amount_per(self.per, quantity, factor)
    }

    /// The same where `per` parts of units make up what the price buys.
    pub fn amount_per(self, per: u64, quantity: u64, factor: Factor) -> i128 {
        let wide = |number: u64| i128::from(number);
        let product = wide(self.nano)
            .checked_mul(wide(quantity))
            .and_then(|product| product.checked_mul(1000))
            .and_then(|product| product.checked_mul(wide(factor.num)));
        let divisor = wide(per.max(1)) * wide(factor.den.max(1));
        product.map_or(i128::MAX, |product| divide_half_even(product, divisor))
    }

    /// The price in dollars, as printed.
    pub fn dollars(self) -> String {
        print(i128::from(self.nano), PRICE_PLACES)
    }
}

/// Both are non-negative.
fn divide_half_even(number: i128, divisor: i128) -> i128 {
    let (whole, rest) = (number / divisor, number % divisor);
    match (rest * 2).cmp(&divisor) {
        std::cmp::Ordering::Less => whole,
        std::cmp::Ordering::Greater => whole + 1,
        std::cmp::Ordering::Equal => whole + whole % 2,
    }
}

/// An amount in pico-dollars as a decimal number of dollars, without trailing zeros.
pub fn dollars(pico: i128) -> String {
    print(pico, AMOUNT_PLACES)
}

/// A decimal number of dollars in pico-dollars; what lies beyond twelve places is cut.
pub fn pico(dollars: &str) -> Option<i128> {
    let text = dollars.trim();
    let cut = match text.split_once('.') {
        Some((whole, fraction)) if fraction.len() > AMOUNT_PLACES => {
            format!("{whole}.{}", fraction.get(..AMOUNT_PLACES)?)
        }
        _ => text.to_owned(),
    };
    parse(&cut, AMOUNT_PLACES)
}

/// A JSON number or the text of one, exponents included, scaled by 10¹²; `None` for negative ones.
pub fn number(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !(-30..=12).contains(&exponent) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let text = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits:0<point$}"),
        Ok(point) => format!(
            "{}.{}",
            digits.get(..point).filter(|whole| !whole.is_empty()).unwrap_or("0"),
            digits.get(point..)?
        ),
        Err(_) => format!("0.{}{digits}", "0".repeat(usize::try_from(-point).ok()?)),
    };
    pico(&text)
}

/// Most digits of a number that is scaled: beyond them no price is meant.
const DIGITS_MAX: usize = 24;

/// The text of a JSON number of dollars, times `times`, in nano-dollars; rounded half to even. `None` for
/// negative numbers and for what is too large or too long.
pub fn scaled(text: &str, times: u64) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<i128>().ok()?.checked_mul(i128::from(times))?;
    let places = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(9)?;
    let power = |places: u32| 10_i128.checked_pow(places);
    let nano = match u32::try_from(places) {
        Ok(places) => number.checked_mul(power(places)?)?,
        // Less than a part of what the divisor can hold is nothing.
        Err(_) => {
            power(places.unsigned_abs()).map_or(0, |divisor| divide_half_even(number, divisor))
        }
    };
    u64::try_from(nano).ok()
}

/// A plain decimal number, scaled by 10^`places`; `None` for signs, exponents and more places.
fn parse(text: &str, places: usize) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > places || !digits(whole) || !digits(fraction) {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(places).ok()?);
    let fraction: i128 = format!("{fraction:0<places$}").parse().ok()?;
    whole.parse::<i128>().ok()?.checked_mul(scale)?.checked_add(fraction)
}

fn print(number: i128, places: usize) -> String {
    let scale = 10_u128.pow(u32::try_from(places).unwrap_or(0));
    let sign = if number < 0 { "-" } else { "" };
    let number = number.unsigned_abs();
    let text = format!("{sign}{}.{:0places$}", number / scale, number % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MTOK: u64 = 1_000_000;

    #[test]
    fn lines_are_exact() {
        let amount = |price: &str, per, quantity| {
            dollars(Price::parse(price, per).unwrap().amount(quantity, Factor::ONE))
        };
        assert_eq!(amount("0.15", MTOK, 180), "0.000027");
        assert_eq!(amount("0.025", MTOK, 1), "0.000000025");
        assert_eq!(amount("1.02", 3600, 7), "0.001983333333");
        assert_eq!(amount("0.000000001", MTOK, 1), "0");
        let tenth_more = Factor::parse("1.1").unwrap();
        assert_eq!(
            dollars(Price::parse("2.50", MTOK).unwrap().amount(1000, tenth_more)),
            "0.00275"
        );
        assert_eq!(
            (tenth_more, tenth_more.to_string().as_str()),
            (Factor { num: 11, den: 10 }, "1.1")
        );
        assert!(Price::parse("-1", MTOK).is_none() && Price::parse("1e3", MTOK).is_none());
    }

    #[test]
    fn numbers_in_every_spelling() {
        assert_eq!(number("0.000324"), Some(324_000_000));
        assert_eq!(number("3.24e-4"), Some(324_000_000));
        assert_eq!(number("1E2"), Some(100_000_000_000_000));
        assert_eq!(number("5e-324"), None);
        assert_eq!(number("-1"), None);
        assert_eq!(number("x"), None);
    }

    #[test]
    fn prices_of_other_books_are_scaled_exactly() {
        for (text, times, nano) in [
            ("2.5e-06", MTOK, Some(2_500_000_000)),
            ("0.15", 1, Some(150_000_000)),
            ("3.9999999999999996e-07", MTOK, Some(400_000_000)),
            ("1e-05", 3600, Some(36_000_000)),
            ("12", 1000, Some(12_000_000_000_000)),
            ("0", MTOK, Some(0)),
            ("5e-324", MTOK, Some(0)),
            ("1E2", 1, Some(100_000_000_000)),
            ("-1", 1, None),
            ("1e400", 1, None),
            ("1e2147483647", 1, None),
            ("NaN", 1, None),
            ("", 1, None),
        ] {
            assert_eq!(scaled(text, times), nano, "{text}");
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        assert_eq!((divide_half_even(5, 2), divide_half_even(7, 2)), (2, 4));
    }

    proptest! {
        #[test]
        fn amounts_survive_their_text(amount in 0_i128..1_000_000_000_000_000_000_000) {
            prop_assert_eq!(pico(&dollars(amount)), Some(amount));
        }

        #[test]
        fn cost_is_linear_up_to_a_rounding(nano in 0_u64..10_000_000_000, a in 0_u64..10_000_000, b in 0_u64..10_000_000) {
            let price = Price { nano, per: MTOK };
            let (one, two) = (price.amount(a, Factor::ONE), price.amount(b, Factor::ONE));
            prop_assert!((price.amount(a + b, Factor::ONE) - one - two).abs() <= 1);
        }

        #[test]
        fn nothing_overflows(nano: u64, per: u64, quantity: u64) {
            let price = Price { nano, per };
            prop_assert!(price.amount(quantity, Factor::ONE) >= 0);
        }
    }
}
