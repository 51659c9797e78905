//! The counts since a step began, however often they are sampled.

use std::time::Duration;

use admin_api::{Bucket, VersionStats};
use proptest::prelude::*;

use super::super::{Limits, Pair, Reading, Sample, Window};
use super::LIMITS;

/// So many good and bad attempts, and so many responses in each of four buckets.
fn stats(success: u64, server_error: u64, buckets: [u64; 4]) -> VersionStats {
    let bounds = [0.001, 0.0125, 0.35, 0.7];
    let mut stats = VersionStats::default();
    stats.responses.success = success;
    stats.responses.server_error = server_error;
    stats.latency = bounds
        .into_iter()
        .zip(buckets)
        .filter(|(_, count)| *count > 0)
        .map(|(le, count)| Bucket { le, count })
        .collect();
    stats
}

fn both(stats: VersionStats) -> Reading {
    Pair {
        candidate: stats.clone(),
        stable: stats,
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn counts_are_what_came_since_the_step_began() {
    let mut window = Window::open(both(stats(100, 10, [50, 60, 0, 0])));
    let sample = window
        .sample(&both(stats(105, 11, [50, 65, 1, 0])), secs(1), &LIMITS)
        .expect("forwards");
    let candidate = sample.step.candidate;
    assert_eq!((candidate.attempts, candidate.failures), (6, 1));
    assert_eq!((sample.record.attempts, sample.record.failures), (110, 10));
    assert_eq!(candidate.latency.responses, 0, "not warm yet");
}

#[test]
fn latency_counts_once_it_has_warmed_up() {
    let mut window = Window::open(both(stats(0, 0, [990, 0, 10, 0])));
    let cold = both(stats(0, 0, [990, 0, 40, 20]));
    assert!(window.sample(&cold, secs(10), &LIMITS).is_some());
    assert!(window.is_warm());
    let sample = window
        .sample(&both(stats(0, 0, [1090, 9, 42, 23])), secs(11), &LIMITS)
        .expect("forwards");
    let latency = sample.step.candidate.latency;
    assert_eq!(
        sample.slow,
        Some(0.001),
        "99 of 100 took at most a millisecond"
    );
    assert_eq!(
        (latency.responses, latency.slow, latency.over_limit),
        (114, 14, 3)
    );
    assert_eq!(latency.p99_us, Some(700_000));
}

#[test]
fn without_a_record_nothing_is_slow_for_stable() {
    let mut window = Window::open(both(stats(0, 0, [999, 0, 0, 0])));
    let limits = Limits {
        warm_up: Duration::ZERO,
        ..LIMITS
    };
    let sample = window
        .sample(&both(stats(0, 0, [999, 0, 0, 7])), secs(0), &limits)
        .expect("forwards");
    let latency = sample.step.candidate.latency;
    assert_eq!(
        (sample.slow, latency.slow, latency.over_limit),
        (None, 0, 7)
    );
}

#[track_caller]
fn check_begins_anew(before: VersionStats, now: VersionStats) {
    let mut window = Window::open(both(before));
    assert_eq!(window.sample(&both(now.clone()), secs(20), &LIMITS), None);
    let sample = window.sample(&both(now), secs(21), &LIMITS).expect("anew");
    assert_eq!(sample.step.candidate.attempts, 0);
}

#[test]
fn a_counter_that_went_backwards_is_a_new_proxy() {
    check_begins_anew(stats(10, 0, [0; 4]), stats(9, 0, [0; 4]));
    check_begins_anew(stats(10, 5, [0; 4]), stats(12, 4, [0; 4]));
    // The sums would not show it.
    check_begins_anew(stats(10, 0, [5, 5, 0, 0]), stats(20, 0, [15, 4, 0, 1]));
    check_begins_anew(stats(10, 0, [5, 0, 5, 0]), stats(20, 0, [20, 0, 0, 0]));
    check_begins_anew(stats(10, 0, [0, 0, 0, 5]), stats(20, 0, [20, 0, 0, 0]));
    check_begins_anew(stats(10, 0, [5, 0, 0, 0]), VersionStats::default());
}

#[test]
fn a_burst_is_looked_for_in_the_last_seconds_only() {
    let mut window = Window::open(both(stats(0, 0, [0; 4])));
    let attempts = |window: &mut Window, success, at| {
        let now = both(stats(success, 0, [0; 4]));
        let sample = window.sample(&now, secs(at), &LIMITS).expect("forwards");
        sample.recent.candidate.attempts
    };
    assert_eq!(attempts(&mut window, 100, 1), 100);
    assert_eq!(attempts(&mut window, 150, 5), 50);
    assert_eq!(attempts(&mut window, 200, 11), 100);
    assert_eq!(attempts(&mut window, 210, 12), 10);
}

fn reading() -> impl Strategy<Value = [u64; 12]> {
    proptest::array::uniform12(0..2000_u64)
}

/// The counters after each reading: only ever more.
fn growing(steps: &[[u64; 12]]) -> Vec<Reading> {
    let mut sum = [0; 12];
    steps
        .iter()
        .map(|step| {
            for (sum, more) in sum.iter_mut().zip(step) {
                *sum += more;
            }
            let [a, b, c, d, e, f, g, h, i, j, k, l] = sum;
            Pair {
                candidate: stats(a, b, [c, d, e, f]),
                stable: stats(g, h, [i, j, k, l]),
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn looking_often_or_once_comes_to_the_same(
        steps in proptest::collection::vec(reading(), 3..12),
    ) {
        let readings = growing(&steps);
        let limits = Limits { warm_up: Duration::ZERO, ..LIMITS };
        let last = readings.last().expect("some").clone();
        let (mut often, mut once) = (Window::open(readings[0].clone()), Window::open(readings[0].clone()));
        let mut seen: Option<Sample> = None;
        for (at, now) in (1..).zip(&readings[1..]) {
            seen = often.sample(now, secs(at), &limits);
            prop_assert!(seen.is_some());
        }
        let at_once = once.sample(&last, seen.expect("looked").elapsed, &limits);
        prop_assert_eq!(seen.expect("looked").step, at_once.expect("looked").step);
    }

    #[test]
    fn a_controller_that_was_killed_sees_what_it_would_have_seen(
        steps in proptest::collection::vec(reading(), 3..12), killed in 0..10_usize,
    ) {
        let readings = growing(&steps);
        let limits = Limits { warm_up: secs(2), ..LIMITS };
        let mut lived = Window::open(readings[0].clone());
        let mut journal = serde_json::to_string(&lived).expect("JSON");
        let mut again = lived.clone();
        for (at, now) in (1..).zip(&readings[1..]) {
            if at == killed as u64 {
                again = serde_json::from_str(&journal).expect("JSON");
            }
            let was_warm = again.is_warm();
            let expected = lived.sample(now, secs(at), &limits).expect("forwards");
            let got = again.sample(now, secs(at), &limits).expect("forwards");
            prop_assert_eq!(expected.step, got.step);
            prop_assert_eq!((expected.record, expected.slow), (got.record, got.slow));
            if again.is_warm() != was_warm {
                journal = serde_json::to_string(&again).expect("JSON");
            }
        }
    }
}
