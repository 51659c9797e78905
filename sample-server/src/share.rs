//! A share of all requests, spread evenly over them.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

const WHOLE: u64 = 1_000_000_000;

/// A share, from 0 to 1.
// In billionths: integers, so that 1,000,000 turns of 0.29 are exactly 290,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// 0.
    pub const NONE: Self = Self(0);
}

/// The text is not a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a share is a number from 0 to 1, such as 0.05")]
pub struct InvalidShare;

impl FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, InvalidShare> {
        let value: f64 = text.trim().parse().map_err(|_| InvalidShare)?;
        // NaN is in no range.
        if !(0.0..=1.0).contains(&value) {
            return Err(InvalidShare);
        }
        Ok(Self((value * WHOLE as f64).round() as u64))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0 as f64 / WHOLE as f64).fmt(f)
    }
}

/// Picks a share of turns deterministically: after n turns it has picked n × share, to within one.
#[derive(Debug)]
pub(crate) struct Spread {
    share: Share,
    phase: u64,
    turns: AtomicU64,
}

impl Spread {
    /// The first pick is the turn at which the sum of shares reaches 1.
    pub(crate) fn new(share: Share) -> Self {
        Self {
            share,
            phase: 0,
            turns: AtomicU64::new(0),
        }
    }

    /// Starts at one half, so that its picks fall between those of [`Spread::new`].
    pub(crate) fn with_half_phase(share: Share) -> Self {
        Self {
            phase: WHOLE / 2,
            ..Self::new(share)
        }
    }

    /// Takes a turn. Returns whether it is picked.
    pub(crate) fn picks(&self) -> bool {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.wholes(turn.wrapping_add(1)) > self.wholes(turn)
    }

    fn wholes(&self, turns: u64) -> u128 {
        (u128::from(turns) * u128::from(self.share.0) + u128::from(self.phase)) / u128::from(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(share: &str, turns: usize, want: &[usize]) {
        let spread = Spread::new(share.parse().unwrap());
        let picked: Vec<usize> = (1..=turns).filter(|_| spread.picks()).collect();
        assert_eq!(picked, want);
    }

    #[test]
    fn picks_are_spread_evenly() {
        check("0", 5, &[]);
        check("1", 3, &[1, 2, 3]);
        check("0.5", 6, &[2, 4, 6]);
        check("0.25", 8, &[4, 8]);
        check("0.4", 10, &[3, 5, 8, 10]);
    }

    #[test]
    fn a_long_run_is_exact() {
        for (share, want) in [("0.29", 290_000), ("0.7", 700_000), ("0.000001", 1)] {
            let spread = Spread::new(share.parse().unwrap());
            let picked = (0..1_000_000).filter(|_| spread.picks()).count();
            assert_eq!(picked, want, "of {share}");
        }
    }

    #[test]
    fn two_spreads_of_one_half_never_pick_the_same_turn() {
        let half: Share = "0.5".parse().unwrap();
        let (first, second) = (Spread::new(half), Spread::with_half_phase(half));
        assert!((0..100).all(|_| first.picks() != second.picks()));
    }

    #[test]
    fn only_numbers_from_0_to_1_are_shares() {
        for text in ["-0.1", "1.1", "NaN", "inf", "", "5%", "half"] {
            assert_eq!(text.parse::<Share>(), Err(InvalidShare), "{text}");
        }
        assert_eq!(" 0.05 ".parse::<Share>().unwrap().to_string(), "0.05");
    }
}
