//! Properties of verdicts that hold for all counts.

use proptest::prelude::*;

use super::super::evidence::{Evidence, FAILURES, SLOWNESS, Share, against_limit, against_stable};
use super::super::{Counts, Pair, Sample, Verdict, judge};
use super::{LIMITS, sample};

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![0..50_u64, 0..100_000_u64, 0..1_000_000_u64]
        .prop_flat_map(|whole| (0..=whole, Just(whole)))
        .prop_map(|(part, whole)| Share { part, whole })
}

/// But for the last digits.
fn at_least(more: Evidence, less: Evidence) -> bool {
    more.value() >= less.value() * (1.0 - 1e-6)
}

fn counts() -> impl Strategy<Value = (u64, u64)> {
    share().prop_map(|share| (share.part, share.whole))
}

proptest! {
    #[test]
    fn a_failure_in_place_of_a_success_never_helps_the_candidate(
        candidate in share(), stable in share(), tolerance in 0.0..0.1, allowed in 0.0..1.0,
    ) {
        prop_assume!(candidate.part < candidate.whole);
        let worse = Share { part: candidate.part + 1, ..candidate };
        let evidence = |candidate| against_stable(&FAILURES, candidate, stable, tolerance);
        prop_assert!(at_least(evidence(worse), evidence(candidate)));
        prop_assert!(at_least(against_limit(&SLOWNESS, worse, allowed), against_limit(&SLOWNESS, candidate, allowed)));
    }

    #[test]
    fn a_failure_of_stable_never_harms_the_candidate(
        candidate in share(), stable in share(), tolerance in 0.0..0.1,
    ) {
        prop_assume!(stable.part < stable.whole);
        let worse = Share { part: stable.part + 1, ..stable };
        let evidence = |stable| against_stable(&FAILURES, candidate, stable, tolerance);
        prop_assert!(at_least(evidence(stable), evidence(worse)));
    }

    #[test]
    fn more_tolerance_or_a_wider_limit_never_harms_the_candidate(
        candidate in share(), stable in share(), some in 0.0..0.1, more in 0.0..0.1,
    ) {
        let evidence = |tolerance| against_stable(&FAILURES, candidate, stable, tolerance);
        prop_assert!(at_least(evidence(some), evidence(some + more)));
        let evidence = |allowed| against_limit(&SLOWNESS, candidate, allowed);
        prop_assert!(at_least(evidence(some), evidence(some + more)));
    }

    #[test]
    fn a_candidate_that_fails_no_more_than_stable_has_nothing_against_it(
        candidate in share(), stable in share(),
    ) {
        let rates = candidate.rate().zip(stable.rate());
        if rates.is_none_or(|(candidate, stable)| candidate <= stable) && stable.whole > 0 {
            prop_assert_eq!(against_stable(&FAILURES, candidate, stable, 0.0), Evidence::NONE);
        }
        prop_assert_eq!(against_stable(&FAILURES, Share { part: 0, ..candidate }, stable, 0.0), Evidence::NONE);
    }

    #[test]
    fn whatever_the_counters_say_a_verdict_has_words_and_no_surprises(
        candidate in counts(), stable in counts(), recent in counts(), secs in 0..1000_u64,
    ) {
        let mut sample: Sample = sample(candidate, stable, secs);
        sample.recent = Pair {
            candidate: Counts { failures: recent.0, attempts: recent.1, ..Counts::default() },
            stable: Counts::default(),
        };
        match judge(&LIMITS, &sample) {
            Verdict::Advance => prop_assert!(candidate.1 >= LIMITS.min_requests),
            Verdict::RollBack { why } | Verdict::SetAside { why, .. } => {
                prop_assert!(candidate.0 + recent.0 > 1, "{}", why);
                prop_assert!(why.contains("requests failed"), "{}", why);
            }
            Verdict::Hold { why } | Verdict::Pause { why } | Verdict::Inconclusive { why } => {
                prop_assert!(!why.is_empty() && !why.contains("NaN"), "{}", why);
            }
        }
    }
}
