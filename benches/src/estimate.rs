//! Estimates over many rounds, with confidence intervals.
//!
//! The ratio of two proxies is the Hodges–Lehmann estimate over the rounds' ratios: the median of
//! the means of every two of them. Unlike a mean, it is not moved by one disturbed round. If a proxy
//! is fast after half of its starts and slow after the others, the estimate lies between the two; a
//! median would be one of them, by chance.
//!
//! The interval is a bootstrap over *starts*, not over rounds: the rounds of one start are
//! correlated.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// The number of bootstrap samples.
const DRAWS: usize = 1_000;
/// The quantile of the bootstrap samples at either end of the interval.
const TAIL: f64 = 0.025;

/// One measured value, with the value of the base in the same round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairedRound {
    /// The start of the processes that the round belongs to.
    pub(crate) start: usize,
    /// The contender's value.
    pub(crate) own: f64,
    /// The base's value in the same round.
    pub(crate) base: f64,
}

/// The estimate of a value over all rounds, and of its ratio to the base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// The median over the rounds.
    #[serde(deserialize_with = "number")]
    pub(crate) value: f64,
    /// The ratio to the base's value.
    #[serde(deserialize_with = "number")]
    pub(crate) ratio: f64,
    /// The lower end of the ratio's 95% interval.
    #[serde(deserialize_with = "number")]
    pub(crate) low: f64,
    /// The upper end.
    #[serde(deserialize_with = "number")]
    pub(crate) high: f64,
}

/// A number. JSON has no NaN: it is written as null.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Estimate {
    /// Estimates from all rounds. `None` without rounds.
    pub(crate) fn of(rounds: &[PairedRound]) -> Option<Self> {
        let own: Vec<f64> = rounds.iter().map(|round| round.own).collect();
        let mut by_start: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for round in rounds {
            let ratio = round.own / round.base;
            // Logarithms: a ratio of 2 is as far from 1 as a ratio of 0.5.
            if ratio.is_finite() && ratio > 0.0 {
                by_start.entry(round.start).or_default().push(ratio.ln());
            }
        }
        let starts: Vec<Vec<f64>> = by_start.into_values().collect();
        let ratio = centre(&starts.concat()).map_or(f64::NAN, f64::exp);
        let (low, high) = interval(&starts).unwrap_or((f64::NAN, f64::NAN));
        Some(Self {
            value: median(&own)?,
            ratio,
            low,
            high,
        })
    }

    /// Whether 1 lies in the interval.
    pub(crate) fn is_a_draw(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

/// The Hodges–Lehmann estimate: the median of the means of all pairs of values, including each
/// value with itself.
fn centre(values: &[f64]) -> Option<f64> {
    let mut means = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (index, one) in values.iter().enumerate() {
        for other in values.iter().skip(index) {
            means.push((one + other) / 2.0);
        }
    }
    median(&means)
}

/// The 95% interval of the centre, by a bootstrap over starts.
fn interval(starts: &[Vec<f64>]) -> Option<(f64, f64)> {
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let centres: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let drawn = (0..starts.len()).filter_map(|_| starts.get(random.below(starts.len())));
            let values: Vec<f64> = drawn.flatten().copied().collect();
            centre(&values)
        })
        .collect();
    let low = quantile(&centres, TAIL)?;
    let high = quantile(&centres, 1.0 - TAIL)?;
    Some((low.exp(), high.exp()))
}

/// A pseudo-random generator (xorshift64) with a constant seed, so that the same rounds give the
/// same interval.
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The low bits are weak. The modulo bias is negligible for a few starts.
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

/// The median of the values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The quantile of the values, with linear interpolation.
fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let position = part * last as f64;
    let below = *sorted.get(position.floor() as usize)?;
    let above = *sorted.get(position.ceil() as usize)?;
    Some(below + (above - below) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds against a base of 10, two for each start.
    fn rounds(own: &[f64]) -> Vec<PairedRound> {
        let pair = |(number, own): (usize, &f64)| PairedRound {
            start: number / 2,
            own: *own,
            base: 10.0,
        };
        own.iter().enumerate().map(pair).collect()
    }

    fn ratio(own: &[f64]) -> f64 {
        Estimate::of(&rounds(own)).unwrap().ratio
    }

    #[test]
    fn a_median_is_the_middle_value_and_an_empty_list_has_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // In the second round the machine was half as fast for both.
        let mut rounds = rounds(&[9.0, 18.0, 9.0]);
        rounds[1].base = 20.0;
        let estimate = Estimate::of(&rounds).unwrap();
        assert_eq!(estimate.value, 9.0);
        assert!((estimate.ratio - 0.9).abs() < 1e-9);
        assert!((estimate.high - estimate.low).abs() < 1e-9);
        assert!(!estimate.is_a_draw());
    }

    #[test]
    fn one_disturbed_round_moves_the_ratio_little() {
        let calm = ratio(&[11.0, 11.1, 10.9, 11.0, 11.05, 10.95, 11.0, 11.0]);
        let disturbed = ratio(&[11.0, 11.1, 10.9, 99.0, 11.05, 10.95, 11.0, 11.0]);
        assert!((disturbed / calm - 1.0).abs() < 0.01, "{disturbed}");
    }

    #[test]
    fn fast_and_slow_starts_give_a_ratio_between_the_two() {
        let middle = 1.4_f64.sqrt();
        // Two of five starts are fast, then three of six, then three of five. A median would jump
        // from 1.4 to 1.0.
        for own in [
            &[10.0, 10.0, 10.0, 10.0, 14.0, 14.0, 14.0, 14.0, 14.0, 14.0][..],
            &[
                10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 14.0, 14.0, 14.0, 14.0, 14.0, 14.0,
            ],
            &[10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 14.0, 14.0, 14.0, 14.0],
        ] {
            let ratio = ratio(own);
            assert!((ratio - middle).abs() < 1e-9, "{ratio}");
        }
    }

    #[test]
    fn the_interval_contains_the_ratio_and_widens_with_the_difference_between_starts() {
        let width = |own: &[f64]| {
            let estimate = Estimate::of(&rounds(own)).unwrap();
            assert!(estimate.low <= estimate.ratio && estimate.ratio <= estimate.high);
            estimate.high / estimate.low
        };
        // The same eight rounds: equal within each start, or different within each start.
        let by_start = width(&[10.0, 10.0, 14.0, 14.0, 10.0, 10.0, 14.0, 14.0]);
        let by_round = width(&[10.0, 14.0, 10.0, 14.0, 10.0, 14.0, 10.0, 14.0]);
        assert!(by_start > 1.3 && by_round < 1.01, "{by_start} {by_round}");
    }

    #[test]
    fn the_same_rounds_give_the_same_interval() {
        let own = [9.0, 11.0, 10.0, 12.0, 9.5, 10.5];
        let estimate = Estimate::of(&rounds(&own)).unwrap();
        assert_eq!(Estimate::of(&rounds(&own)), Some(estimate));
        assert!(estimate.is_a_draw());
    }

    #[test]
    fn a_base_of_zero_gives_no_ratio() {
        let nothing = PairedRound {
            start: 0,
            own: 1.0,
            base: 0.0,
        };
        let estimate = Estimate::of(&[nothing]).unwrap();
        assert!(estimate.ratio.is_nan() && !estimate.is_a_draw());
        assert_eq!(Estimate::of(&[]), None);
    }
}
