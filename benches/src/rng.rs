//! Pseudo-random numbers from a seed.

use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea and Flood, 2014): eight bytes of state, and the same numbers on every
/// machine and in every release.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    /// Adjacent seeds give independent sequences.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self { state: seed };
        rng.state = rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((self.next() >> 32) * n) >> 32
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// The number of failures before the next success of this probability (geometric distribution),
    /// so that rare events need no draw for each trial.
    pub(crate) fn gap(&mut self, chance: f64) -> u64 {
        if chance >= 1.0 {
            return 0;
        }
        // The cast saturates.
        ((1.0 - self.uniform()).ln() / (-chance).ln_1p()) as u64
    }

    /// Standard normal.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_their_distributions() {
        let mut rng = Rng::new(1);
        let hits = (0..100_000).filter(|_| rng.chance(0.02)).count();
        assert!((1_850..2_150).contains(&hits), "{hits}");
        let gaps: u64 = (0..20_000).map(|_| rng.gap(0.02)).sum();
        let mean = gaps as f64 / 20_000.0;
        assert!((48.0..50.0).contains(&mean), "{mean}, not 49");
        assert_eq!(rng.gap(1.0), 0);
        let beyond = (0..100_000).filter(|_| rng.normal() > 2.326).count();
        assert!((900..1_100).contains(&beyond), "{beyond}");
    }
}
