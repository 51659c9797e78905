//! What the figures say against a candidate, in a currency that may be counted at any time.
//!
//! **The bet.** Let the split give the candidate the share x of the requests. If it fails no
//! more often than stable, then a failure is the candidate's with a chance of at most x, however
//! often anything fails, and however that changes. So bet one unit that it is worse, by a ratio
//! r > 1: with m = 1 + x(r − 1), multiply what you have by r/m at each failure of the candidate
//! and by 1/m at each of stable's, and keep it at each success. With the chances of failing now,
//! c and s, the expected factor of the next request is
//!
//! ```text
//! 1 + x·c·(r/m − 1) + (1 − x)·s·(1/m − 1)  =  1 + (c − s)·x(1 − x)(r − 1)/m  ≤  1  if c ≤ s.
//! ```
//!
//! A bet that cannot be expected to win is a supermartingale, and by Ville's inequality the chance
//! that it *ever* reaches 1/α, at whichever look, is at most α. That is what makes it valid after
//! every request, where a p-value that is looked at often enough rejects every candidate. The
//! average of bets on several r is such a bet too, so how bad is bad need not be known.
//!
//! **Tolerance.** Where the candidate may fail by δ more, c − s ≤ δ, each factor is expected to be
//! at most 1 + δ·x(1 − x)(r − 1)/m ≤ exp(δ·x(1 − x)(r − 1)/m). Dividing by that, once for each
//! request, gives a valid bet again.
//!
//! **A function of the counts, not a fold over the looks.** What is won depends on four counts
//! alone: r^(candidate's failures) / m^(all failures). So it is the same whether one looked after
//! every request or once an hour, a controller that was killed has it back with the figures, and
//! it can be worked out again from the history. The price is that x has to stay what it is
//! while one bet runs: so each step, whose split is its own, begins a new one. x is measured,
//! with one request more on the candidate's side, so that the first failures, when the share is
//! hardly known, count for less. A proxy that deals by a low-discrepancy sequence keeps closer to
//! x than the coin of the proof; the simulation in `benches` tries both.
//!
//! **Against a limit** p the same bet is on "a request is a failure" in place of "a failure is the
//! candidate's": the expected factor is (1 + c(r − 1)) / (1 + p(r − 1)) ≤ 1 if c ≤ p.
//!
//! Sources: Turner, Ly and Grünwald, *Generic E-variables for exact sequential k-sample tests
//! that allow for optional stopping* (arXiv:2106.02693), whose e-variable this is where failures
//! are rare; ter Schure, Pérez-Ortiz, Ly and Grünwald, *The safe logrank test*
//! (arXiv:2011.06931), which asks "whose event is it?"; Waudby-Smith and Ramdas, *Estimating
//! means of bounded random variables by betting* (arXiv:2010.09686); Ville, *Étude critique de la
//! notion de collectif* (1939).

use serde::{Serialize, Serializer};

/// The ratios that are bet on, and how much of the one unit is on each.
pub type Bets = [(f64, f64); 5];

/// On failures most is on the large ratios: a release that is badly wrong is to be found after a
/// handful of them.
pub const FAILURES: Bets = [
    (1.5, 0.1),
    (4.0, 0.1),
    (10.0, 0.2),
    (30.0, 0.3),
    (100.0, 0.3),
];

/// A release that is twice as slow has 3 to 20 times as many slow responses, or half as many more
/// at an hour at which everything is slow, but never 100 times as many.
pub const SLOWNESS: Bets = [(1.5, 0.2), (2.5, 0.2), (5.0, 0.2), (10.0, 0.2), (20.0, 0.2)];

/// A limit below this is taken as this, so that a single failure proves nothing even where none
/// is allowed.
pub(super) const LOWEST_LIMIT: f64 = 1e-4;

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Those that count against the version.
    pub part: u64,
    /// All of them.
    pub whole: u64,
}

impl Share {
    /// `None` of nothing.
    pub fn rate(self) -> Option<f64> {
        (self.whole > 0).then(|| ratio(self.part, self.whole))
    }

    /// Whether it is more than `other`, as far as that is known at all.
    fn exceeds(self, other: Self) -> bool {
        u128::from(self.part) * u128::from(other.whole)
            > u128::from(other.part) * u128::from(self.whole)
    }
}

/// What a bet of one unit against the candidate has come to. Written as that number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Evidence {
    /// The logarithm, since it may be astronomic.
    ln: f64,
}

impl Evidence {
    /// Nothing is said either way.
    pub const NONE: Self = Self { ln: 0.0 };

    /// Whether a candidate that does nothing wrong gets there with at most this chance, at any
    /// look.
    pub fn reaches(self, chance: f64) -> bool {
        self.ln >= -chance.ln()
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.ln.exp()
    }

    /// Less than the unit that was bet says nothing for the candidate.
    fn or_none(self) -> Self {
        Self {
            ln: self.ln.max(Self::NONE.ln),
        }
    }

    /// Whichever says less.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            ln: self.ln.min(other.ln),
        }
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // JSON has no infinity.
        serializer.serialize_f64(self.value().min(f64::MAX))
    }
}

/// Evidence that a share of the candidate's exceeds stable's by more than `tolerance` (0 to 1).
pub fn against_stable(bets: &Bets, candidate: Share, stable: Share, tolerance: f64) -> Evidence {
    // With no larger a share than stable no bet has won anything: ln(1 + y) ≤ y.
    if !candidate.exceeds(stable) {
        return Evidence::NONE;
    }
    let due = ratio(candidate.whole + 1, candidate.whole + 1 + stable.whole);
    let allowance = tolerance * ratio(candidate.whole, 1) * (1.0 - due);
    let failures = Share {
        part: candidate.part,
        whole: candidate.part + stable.part,
    };
    won(bets, failures, due, allowance).or_none()
}

/// Evidence that a share of the candidate's exceeds `allowed` (0 to 1).
pub fn against_limit(bets: &Bets, candidate: Share, allowed: f64) -> Evidence {
    let allowed = allowed.clamp(LOWEST_LIMIT, 1.0);
    if candidate.rate().is_none_or(|rate| rate <= allowed) {
        return Evidence::NONE;
    }
    won(bets, candidate, allowed, 0.0).or_none()
}

/// What all the bets have come to, where at most the share `due` was to be expected.
/// `allowance` is Σδ(1 − x): what is taken off, for each (r − 1)/m.
pub(super) fn won(bets: &Bets, of: Share, due: f64, allowance: f64) -> Evidence {
    let (part, whole) = (ratio(of.part, 1), ratio(of.whole, 1));
    let bets = bets.map(|(r, stake)| {
        let m = 1.0 + due * (r - 1.0);
        stake.ln() + part * r.ln() - whole * m.ln() - allowance * (r - 1.0) / m
    });
    let best = bets.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = bets.into_iter().map(|bet| (bet - best).exp()).sum();
    Evidence {
        ln: best + sum.ln(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
