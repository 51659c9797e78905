//! Chance, from a seed.

use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea and Flood, 2014): eight bytes of state, and the same numbers on every
/// machine and in every release.
#[derive(Debug, Clone)]
pub(super) struct Rng {
    state: u64,
}

impl Rng {
    /// Neighbouring seeds have nothing in common.
    pub(super) fn new(seed: u64) -> Self {
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

    /// From 0 to just below 1.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something comes about that has this chance.
    pub(super) fn chance(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// How many fail before the next success of this chance: so that rare events need not be
    /// waited for one by one.
    pub(super) fn gap(&mut self, chance: f64) -> u64 {
        if chance >= 1.0 {
            return 0;
        }
        // What is too large for a u64 is its maximum: later than anything that is asked for.
        ((1.0 - self.uniform()).ln() / (-chance).ln_1p()) as u64
    }

    /// From the bell curve.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_come_out_as_they_should() {
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
