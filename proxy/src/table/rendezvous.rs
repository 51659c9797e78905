//! Weighted rendezvous hashing: who of several candidates a key belongs to.
//!
//! Each candidate draws a number for the key, exponentially distributed with its weight as the
//! rate, and the smallest number wins, so a candidate wins with the probability of its share.
//! The numbers of one candidate do not depend on the others. When a weight rises in relation to all
//! others, its candidate's numbers shrink in relation to theirs: it wins keys, and loses none.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// A keyed hash of some pieces, of which none can be mistaken for a part of another.
pub(crate) fn hash(key: (u64, u64), pieces: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key.0, key.1);
    for piece in pieces {
        hasher.write_usize(piece.len());
        hasher.write(piece);
    }
    hasher.finish()
}

/// The candidate that a key belongs to. Each is given with its seed and its weight; one whose
/// weight is 0 never wins.
pub(crate) fn winner<T>(
    key: u64,
    candidates: impl IntoIterator<Item = (T, u64, f64)>,
) -> Option<T> {
    let mut best = None;
    let mut least = f64::INFINITY;
    for (candidate, seed, weight) in candidates {
        // Above 0 and below 1, whatever the hash.
        let uniform = ((mix(key ^ seed) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let drawn = -uniform.ln() / weight;
        if drawn < least {
            (best, least) = (Some(candidate), drawn);
        }
    }
    best
}

/// Spreads the bits of a number over all of it (the finaliser of SplitMix64).
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_wins_without_a_weight() {
        assert_eq!(winner(1, [("a", 2, 0.0)]), None);
        assert_eq!(winner(1, [("a", 2, 0.0), ("b", 3, 0.1)]), Some("b"));
    }

    #[test]
    fn pieces_are_not_mixed_up() {
        assert_ne!(hash((1, 2), &[b"ab", b"c"]), hash((1, 2), &[b"a", b"bc"]));
        assert_ne!(hash((1, 2), &[b"ab"]), hash((1, 3), &[b"ab"]));
    }
}
