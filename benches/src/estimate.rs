//! Figures of many rounds made into one, and how sure one can be of it.
//!
//! The ratio of two proxies is the Hodges–Lehmann estimate over the rounds' ratios: the median of
//! the means of every two of them. One round in which the machine was elsewhere does not move it,
//! as it would move a mean. And where a proxy is fast after half of its starts and slow after the
//! others, it says what lies between; a median would say the one or the other, by chance.
//!
//! Its interval comes from drawing *starts*, not rounds, again and again: the rounds of one start
//! are alike, so that they are less evidence than their number makes believe.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many times starts are drawn.
const DRAWS: usize = 1_000;
/// What is cut off at either end of the draws.
const TAIL: f64 = 0.025;

/// What one round has measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairedRound {
    /// Which start of the processes it belongs to.
    pub(crate) start: usize,
    /// The contender's own figure.
    pub(crate) own: f64,
    /// The base's in the same round.
    pub(crate) base: f64,
}

/// A figure over all rounds, and its ratio to the base's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Estimate {
    /// The median over the rounds.
    pub(crate) value: f64,
    /// How many times the base's figure it is.
    pub(crate) ratio: f64,
    /// The lower end of the ratio's 95% interval.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
}

impl Estimate {
    /// From all rounds. `None` where there are none.
    pub(crate) fn of(rounds: &[PairedRound]) -> Option<Self> {
        let own: Vec<f64> = rounds.iter().map(|round| round.own).collect();
        let mut by_start: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for round in rounds {
            let ratio = round.own / round.base;
            // A factor of two is as far up as a half is down.
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

    /// The interval does not tell on which side of 1 the ratio is.
    pub(crate) fn is_a_draw(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
    }
}

/// The Hodges–Lehmann estimate: the median of the means of every two values, each with itself too.
fn centre(values: &[f64]) -> Option<f64> {
    let mut means = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (place, one) in values.iter().enumerate() {
        for other in values.iter().skip(place) {
            means.push((one + other) / 2.0);
        }
    }
    median(&means)
}

/// The 95% interval of the centre, by the bootstrap over starts.
fn interval(starts: &[Vec<f64>]) -> Option<(f64, f64)> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
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

/// The same numbers every time, so that the same rounds give the same interval (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The low bits are the weaker ones; a handful of starts makes the bias nothing.
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

/// The middle of the values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value below which this part of the values lies, between two of them where it has to be.
fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = part * last as f64;
    let below = *sorted.get(place.floor() as usize)?;
    let above = *sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
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
    fn a_median_is_the_middle_and_nothing_has_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was half as fast in the second round, for both.
        let mut rounds = rounds(&[9.0, 18.0, 9.0]);
        rounds[1].base = 20.0;
        let figure = Estimate::of(&rounds).unwrap();
        assert_eq!(figure.value, 9.0);
        assert!((figure.ratio - 0.9).abs() < 1e-9);
        assert!((figure.high - figure.low).abs() < 1e-9);
        assert!(!figure.is_a_draw());
    }

    #[test]
    fn one_round_gone_wrong_moves_the_ratio_little() {
        let calm = ratio(&[11.0, 11.1, 10.9, 11.0, 11.05, 10.95, 11.0, 11.0]);
        let disturbed = ratio(&[11.0, 11.1, 10.9, 99.0, 11.05, 10.95, 11.0, 11.0]);
        assert!((disturbed / calm - 1.0).abs() < 0.01, "{disturbed}");
    }

    #[test]
    fn starts_that_are_lucky_or_not_give_what_lies_between() {
        let middle = 1.4_f64.sqrt();
        // Two starts of five are lucky, then three of six, then three of five. A median would jump
        // from 1.4 to 1.0 on the way.
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
    fn the_interval_holds_the_ratio_and_widens_with_what_starts_differ_by() {
        let width = |own: &[f64]| {
            let figure = Estimate::of(&rounds(own)).unwrap();
            assert!(figure.low <= figure.ratio && figure.ratio <= figure.high);
            figure.high / figure.low
        };
        // The same eight rounds: alike within each start, or within none.
        let by_start = width(&[10.0, 10.0, 14.0, 14.0, 10.0, 10.0, 14.0, 14.0]);
        let by_round = width(&[10.0, 14.0, 10.0, 14.0, 10.0, 14.0, 10.0, 14.0]);
        assert!(by_start > 1.3 && by_round < 1.01, "{by_start} {by_round}");
    }

    #[test]
    fn the_same_rounds_give_the_same_interval() {
        let own = [9.0, 11.0, 10.0, 12.0, 9.5, 10.5];
        let figure = Estimate::of(&rounds(&own)).unwrap();
        assert_eq!(Estimate::of(&rounds(&own)), Some(figure));
        assert!(figure.is_a_draw());
    }

    #[test]
    fn a_base_of_zero_gives_no_ratio() {
        let nothing = PairedRound {
            start: 0,
            own: 1.0,
            base: 0.0,
        };
        let figure = Estimate::of(&[nothing]).unwrap();
        assert!(figure.ratio.is_nan() && !figure.is_a_draw());
        assert_eq!(Estimate::of(&[]), None);
    }
}
