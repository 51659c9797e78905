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
//! **Block by block.** x is measured, and may change. So the counts are cut into blocks of about a
//! second, each with the share that the candidate had in it, and what the blocks came to is multiplied
//! ([`Wealth`]): a product of bets that cannot be expected to win is one. Inside a block what is won
//! depends on four counts alone, so it is the same whether one looked after every request or once.
//! The proxy deals in permuted blocks: given how many requests each version had in a block and how many
//! failed, the candidate's failures are hypergeometric where the versions are alike, and that is tamer
//! than the coin of the proof (Hoeffding). So nothing is assumed of when or in which clusters requests
//! fail, as long as both versions would have failed at that moment.
//!
//! **Single incidents** are outside of the proof: a pause, a cold start, an outage that one version sees
//! a second before the other. They are in one block. So beside the product there is the product without
//! the block that says most; where that says little, the candidate gets a second chance
//! ([`super::Run`]).
//!
//! **Two keys.** What stable did before the step is many requests, so a few failures of the candidate tell
//! against it; but both may fail more than before. So it is the first of two keys, worth 200, and the
//! second is the bet above, for which 10 is enough then ([`Weighed::and`]). Where stable fails as before,
//! both turn by chance in 1 of 200 steps; where it does not, the second alone holds.
//!
//! **Against a limit** p the same bet is on "a request is a failure" in place of "a failure is the
//! candidate's": the expected factor is (1 + c(r − 1)) / (1 + p(r − 1)) ≤ 1 if c ≤ p.
//!
//! Sources: Turner, Ly and Grünwald, *Generic E-variables for exact sequential k-sample tests
//! that allow for optional stopping* (arXiv:2106.02693), whose e-variable this is where failures
//! are rare; ter Schure, Pérez-Ortiz, Ly and Grünwald, *The safe logrank test*
//! (arXiv:2011.06931), which asks "whose event is it?"; Waudby-Smith and Ramdas, *Estimating
//! means of bounded random variables by betting* (arXiv:2010.09686); Hoeffding, *Probability
//! inequalities for sums of bounded random variables* (1963); Ville, *Étude critique de la notion de
//! collectif* (1939).

use serde::{Deserialize, Serialize, Serializer};

/// The ratios that are bet on, and how much of the one unit is on each.
pub type Bets = [(f64, f64); 5];

/// On failures much is on large ratios, since a release that is badly wrong is to be found after a handful
/// of them, and most on 10: ten times as many failures as before are what a bad release often has.
pub const FAILURES: Bets = [
    (1.5, 0.03),
    (4.0, 0.12),
    (10.0, 0.45),
    (30.0, 0.2),
    (100.0, 0.2),
];

/// How much [`FAILURES`] win at some look with a chance of 1 in 100, where each failure is the
/// candidate's by its share of the requests. Ville's 100 holds for any bets and shares; these are exact
/// (a test works them out again), and so found sooner.
const ENOUGH: [(f64, f64); 2] = [(0.1, 42.5), (0.5, 77.5)];

/// The evidence of failures that is enough, where the candidate has this share of the requests.
pub(super) fn enough(share: f64) -> Evidence {
    let apart = |known: f64| (share / known).ln().abs();
    let nearest = ENOUGH
        .iter()
        .min_by(|a, b| apart(a.0).total_cmp(&apart(b.0)));
    let known = nearest.filter(|(known, _)| apart(*known) < NEAR);
    Evidence {
        ln: known.map_or(VILLE, |(_, enough)| *enough).ln(),
    }
}

/// A release that is twice as slow has 3 to 20 times as many slow responses, or half as many more
/// at an hour at which everything is slow, but never 100 times as many.
pub const SLOWNESS: Bets = [(1.5, 0.2), (2.5, 0.2), (5.0, 0.2), (10.0, 0.2), (20.0, 0.2)];

/// A limit below this is taken as this, so that a single failure proves nothing even where none
/// is allowed.
pub(super) const LOWEST_LIMIT: f64 = 1e-4;

/// What a second is taken to say at most in which there was an incident: as much as one failure at a
/// share of 50%.
const OF_AN_INCIDENT: f64 = 2.0;

/// Shares that differ by less, in their logarithms, are taken as the same.
const NEAR: f64 = 0.3;
/// What is enough of each of two keys: against stable now, and against what stable did before.
const KEYS: (f64, f64) = (10.0, 200.0);
/// What wins at some look with a chance of 1 in 100 at most, whatever the bets.
const VILLE: f64 = 100.0;

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

    /// How much this is of both; all of it, where there is nothing.
    pub(super) fn among(self, other: Self) -> f64 {
        match self.whole + other.whole {
            0 => 1.0,
            both => ratio(self.whole, both),
        }
    }

    /// The same share of at most so many.
    pub(super) fn of_at_most(self, most: u64) -> Self {
        if self.whole <= most {
            return self;
        }
        let part = u128::from(self.part) * u128::from(most) / u128::from(self.whole);
        Self {
            part: u64::try_from(part).unwrap_or(most),
            whole: most,
        }
    }

    /// Of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            part: self.part + other.part,
            whole: self.whole + other.whole,
        }
    }

    /// Whether it is more than `other`, as far as that is known at all.
    fn exceeds(self, other: Self) -> bool {
        u128::from(self.part) * u128::from(other.whole)
            > u128::from(other.part) * u128::from(self.whole)
    }
}

/// What a bet of one unit against the candidate has come to. Written as that number.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
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
        self >= Self::of_chance(chance)
    }

    /// What a candidate that does nothing wrong gets to with at most this chance, at any look.
    pub(super) fn of_chance(chance: f64) -> Self {
        Self { ln: -chance.ln() }
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.ln.exp()
    }

    /// Less than the unit that was bet says nothing for the candidate.
    pub(super) fn or_none(self) -> Self {
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

    /// What each of two runs has to come to for both to come to this.
    #[must_use]
    pub(super) fn root(self) -> Self {
        Self { ln: self.ln / 2.0 }
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // JSON has no infinity.
        serializer.serialize_f64(self.value().min(f64::MAX))
    }
}

/// Evidence, and what of it is left without the second that says most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Weighed {
    /// All of it.
    pub all: Evidence,
    /// Without the block that says most: a single incident is in there.
    pub spread: Evidence,
}

impl Weighed {
    /// What no single incident can explain away.
    pub(super) const fn at_large(evidence: Evidence) -> Self {
        Self {
            all: evidence,
            spread: evidence,
        }
    }

    /// Whether most of it, two thirds of its logarithm, is in the second that says most.
    pub(super) fn is_of_one_moment(self) -> bool {
        3.0 * self.spread.ln < self.all.ln
    }

    /// Two keys: this is one of 10 units, and `record`, which may be wrong for both versions alike, one of
    /// 200. Where both are enough, they come to [`VILLE`]'s units; else it is as far from that as the key
    /// that is further away.
    pub(super) fn and(self, record: Evidence) -> Self {
        let key = |evidence: Evidence, needed: f64| Evidence {
            ln: evidence.ln / needed.ln() * VILLE.ln(),
        };
        let record = key(record, KEYS.1);
        Self {
            all: key(self.all, KEYS.0).min(record),
            spread: key(self.spread, KEYS.0).min(record),
        }
    }

    /// What a single incident may explain.
    pub(super) const fn at_once(evidence: Evidence) -> Self {
        Self {
            all: evidence,
            spread: Evidence::NONE,
        }
    }

    /// Whichever says less.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            all: self.all.min(other.all),
            spread: self.spread.min(other.spread),
        }
    }
}

/// What some bets have come to over many blocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Wealth {
    /// The logarithm of what each bet has won in all blocks that are over; empty before the first.
    closed: Vec<f64>,
    /// The same of the block that says most.
    best: Vec<f64>,
}

impl Wealth {
    /// What is gathered with the block that is open, in which the bets have won this.
    pub(super) fn with(&self, stakes: &[f64], open: &[f64]) -> Weighed {
        let at = |bets: &[f64], bet: usize| bets.get(bet).copied().unwrap_or_default();
        let sum = |of: &dyn Fn(usize) -> f64| sum_of(stakes, of);
        let all = sum(&|bet| at(&self.closed, bet) + at(open, bet));
        let without_open = sum(&|bet| at(&self.closed, bet));
        let without_best = sum(&|bet| at(&self.closed, bet) - at(&self.best, bet) + at(open, bet));
        Weighed {
            all: all.or_none(),
            spread: without_open.min(without_best).min(all).or_none(),
        }
    }

    /// The block that says most may have been an incident, and `since` has been gathered after it: it
    /// says no more than [`OF_AN_INCIDENT`].
    pub(super) fn forgive(&mut self, stakes: &[f64], since: Self) {
        let at = |bets: &[f64], bet: usize| bets.get(bet).copied().unwrap_or_default();
        let said = sum_of(stakes, &|bet| at(&self.best, bet)).ln;
        let less = (said - OF_AN_INCIDENT.ln()).max(0.0);
        let bets = self.closed.len().max(since.closed.len());
        let closed = (0..bets).map(|bet| at(&self.closed, bet) - less + at(&since.closed, bet));
        *self = Self {
            closed: closed.collect(),
            best: since.best,
        };
    }

    /// The block is over.
    pub(super) fn close(&mut self, stakes: &[f64], block: &[f64]) {
        let says = |block: &[f64]| sum_of(stakes, &|bet| block.get(bet).copied().unwrap_or(0.0));
        if says(block) > says(&self.best) {
            self.best = block.to_vec();
        }
        self.closed.resize(block.len(), 0.0);
        for (sum, won) in self.closed.iter_mut().zip(block) {
            *sum += won;
        }
    }
}

/// What all bets have come to, each with this stake of the one unit.
fn sum_of(stakes: &[f64], won: &dyn Fn(usize) -> f64) -> Evidence {
    let bets = || {
        stakes
            .iter()
            .enumerate()
            .map(|(bet, stake)| stake.ln() + won(bet))
    };
    let best = bets().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = bets().map(|bet| (bet - best).exp()).sum();
    Evidence {
        ln: best + sum.ln(),
    }
}

/// What of the one unit is on each of these bets.
pub(super) fn stakes(bets: &Bets) -> [f64; 5] {
    bets.map(|(_, stake)| stake)
}

/// What each bet has won in one block, that a share of the candidate's exceeds stable's by more than
/// `tolerance`. The candidate was due the share `due` of all.
pub(super) fn won_in_block(
    bets: &Bets,
    candidate: Share,
    stable: Share,
    due: f64,
    tolerance: f64,
) -> [f64; 5] {
    let (part, whole) = (
        ratio(candidate.part, 1),
        ratio(candidate.part + stable.part, 1),
    );
    let allowance = tolerance * ratio(candidate.whole, 1) * (1.0 - due);
    bets.map(|(r, _)| {
        let m = 1.0 + due * (r - 1.0);
        part * r.ln() - whole * m.ln() - allowance * (r - 1.0) / m
    })
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
    let won = bets.map(|(r, _)| {
        let m = 1.0 + due * (r - 1.0);
        part * r.ln() - whole * m.ln() - allowance * (r - 1.0) / m
    });
    sum_of(&stakes(bets), &|bet| won[bet])
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
