//! Figures of many rounds made into one: medians, and how far the rounds were apart.

use serde::Serialize;

/// A figure over all rounds, and its ratio to the base's figure of the same round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// The median over the rounds.
    pub(crate) value: f64,
    /// The median of the ratios, round by round.
    pub(crate) ratio: f64,
    /// A quarter of the ratios are lower.
    pub(crate) low: f64,
    /// A quarter of the ratios are higher.
    pub(crate) high: f64,
}

impl Figure {
    /// From the figures of each round and the base's of the same rounds. `None` where there are
    /// none.
    pub(crate) fn of(own: &[f64], base: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = own
            .iter()
            .zip(base)
            .filter(|(_, base)| **base > 0.0)
            .map(|(own, base)| own / base)
            .collect();
        Some(Self {
            value: median(own)?,
            ratio: median(&ratios).unwrap_or(f64::NAN),
            low: quantile(&ratios, 0.25).unwrap_or(f64::NAN),
            high: quantile(&ratios, 0.75).unwrap_or(f64::NAN),
        })
    }

    /// The rounds do not agree on which side of 1 the ratio is.
    pub(crate) fn is_a_draw(&self) -> bool {
        self.low <= 1.0 && self.high >= 1.0
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
        let figure = Figure::of(&[9.0, 18.0, 9.0], &[10.0, 20.0, 10.0]).unwrap();
        assert_eq!(figure.value, 9.0);
        assert!((figure.ratio - 0.9).abs() < 1e-9);
        assert!((figure.high - figure.low).abs() < 1e-9);
        assert!(!figure.is_a_draw());
    }

    #[test]
    fn rounds_that_disagree_are_a_draw() {
        let figure = Figure::of(&[9.0, 11.0, 10.0], &[10.0; 3]).unwrap();
        assert!(figure.is_a_draw());
    }

    #[test]
    fn a_base_of_zero_gives_no_ratio() {
        let figure = Figure::of(&[1.0], &[0.0]).unwrap();
        assert!(figure.ratio.is_nan() && !figure.is_a_draw());
    }
}
