//! Durations and rates as counts in logarithmic buckets: small, good to ±2.2 %, and mergeable, so that
//! percentiles over any range never touch the calls themselves.

use crate::model::leb128::{put, take};
use std::collections::BTreeMap;

/// Buckets an octave: each is 4.4 % wide.
const PER_OCTAVE: f64 = 16.0;
/// The last bucket: 2⁶² thousandths.
const BUCKET_MAX: f64 = 62.0 * PER_OCTAVE;

/// How often values of each size came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram(BTreeMap<u16, u64>);

impl Histogram {
    /// Counts a value (milliseconds, or a rate); anything that is not positive counts as a thousandth.
    pub(super) fn add(&mut self, value: f64) {
        *self.0.entry(bucket(value)).or_default() += 1;
    }

    /// Adds what another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Takes out what another one counted.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            if let Some(sum) = self.0.get_mut(bucket) {
                *sum = sum.saturating_sub(*count);
            }
        }
        self.0.retain(|_, count| *count > 0);
    }

    /// The value that `percent` % of all do not exceed (nearest rank), as the middle of its bucket.
    pub(super) fn percentile(&self, percent: u64) -> Option<f64> {
        let total: u64 = self.0.values().fold(0, |sum, count| sum.saturating_add(*count));
        let rank = total.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen = 0_u64;
        self.0.iter().find_map(|(bucket, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank).then(|| middle(*bucket))
        })
    }

    /// Pairs of LEB128 numbers: bucket less the one before, count.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (mut out, mut last) = (Vec::with_capacity(self.0.len() * 2), 0);
        for (bucket, count) in &self.0 {
            put(&mut out, u64::from(bucket - last));
            put(&mut out, *count);
            last = *bucket;
        }
        out
    }

    /// Adds an encoded one; what does not decode ends it.
    pub(super) fn merge_encoded(&mut self, mut encoded: &[u8]) {
        let mut bucket = 0_u16;
        while let (Some(step), Some(count)) = (take(&mut encoded), take(&mut encoded)) {
            let Some(next) = u16::try_from(step).ok().and_then(|step| bucket.checked_add(step))
            else {
                return;
            };
            bucket = next;
            let sum = self.0.entry(bucket).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=992 first; not a number becomes 0"
)]
fn bucket(value: f64) -> u16 {
    let thousandths = (value * 1000.0).max(1.0);
    (thousandths.log2() * PER_OCTAVE).ceil().clamp(0.0, BUCKET_MAX) as u16
}

/// The geometric middle of a bucket, to the thousandth.
fn middle(bucket: u16) -> f64 {
    let thousandths = ((f64::from(bucket) - 0.5).max(0.0) / PER_OCTAVE).exp2();
    thousandths.round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_values_have_a_bucket() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-9] {
            let mut histogram = Histogram::default();
            histogram.add(value);
            assert!(histogram.percentile(50).is_some_and(f64::is_finite), "{value}");
        }
        assert_eq!(Histogram::default().percentile(50), None);
        Histogram::default().merge_encoded(&[0xff; 40]);
    }

    proptest! {
        #[test]
        fn percentiles_are_near_and_merging_is_adding(
            values in prop::collection::vec(0.01_f64..1e7, 1..200), cut in any::<prop::sample::Index>(),
            percent in 1_u64..=100,
        ) {
            let of = |values: &[f64]| {
                let mut histogram = Histogram::default();
                for value in values {
                    histogram.add(*value);
                }
                histogram
            };
            let (left, right) = values.split_at(cut.index(values.len()));
            let mut merged = of(left);
            merged.merge_encoded(&of(right).encode());
            prop_assert_eq!(&merged, &of(&values));
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = (sorted.len() * usize::try_from(percent).unwrap()).div_ceil(100);
            let (exact, near) = (sorted[rank - 1], merged.percentile(percent).unwrap());
            prop_assert!((near - exact).abs() <= exact * 0.023 + 0.001, "{} for {}", near, exact);
        }
    }
}
