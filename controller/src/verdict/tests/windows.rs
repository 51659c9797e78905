//! The counts since a step began, however often they are sampled.

use std::time::Duration;

use admin_api::{Bucket, VersionStats};
use proptest::prelude::*;

use super::super::evidence::{FAILURES, against_stable};
use super::super::{Dealt, Limits, Pair, Reading, RunKind, Sample, Verdict, Window, judge};
use super::LIMITS;

const BOTH: Dealt = Dealt {
    stable_is_due: true,
    by_client: None,
    candidate_is_down: false,
};

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
        .sample(
            &both(stats(105, 11, [50, 65, 1, 0])),
            secs(1),
            BOTH,
            &LIMITS,
        )
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
    assert!(window.sample(&cold, secs(10), BOTH, &LIMITS).is_some());
    assert!(window.is_warm());
    let sample = window
        .sample(
            &both(stats(0, 0, [1090, 9, 42, 23])),
            secs(11),
            BOTH,
            &LIMITS,
        )
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
        .sample(&both(stats(0, 0, [999, 0, 0, 7])), secs(0), BOTH, &limits)
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
    assert_eq!(
        window.sample(&both(now.clone()), secs(20), BOTH, &LIMITS),
        None
    );
    let sample = window
        .sample(&both(now), secs(21), BOTH, &LIMITS)
        .expect("anew");
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
        let sample = window
            .sample(&now, secs(at), BOTH, &LIMITS)
            .expect("forwards");
        sample.recent.candidate.attempts
    };
    assert_eq!(attempts(&mut window, 100, 1), 100);
    assert_eq!(attempts(&mut window, 150, 5), 50);
    assert_eq!(attempts(&mut window, 200, 11), 100);
    assert_eq!(attempts(&mut window, 210, 12), 10);
}

/// Responses in a bucket around this many milliseconds.
fn taking(millis: f64, count: u64, stats: &mut VersionStats) {
    // The bucket's upper bound: eight to an octave, from 1 µs on.
    let micros = millis * 1e3;
    let octave = micros.log2().floor();
    let part = ((micros / octave.exp2() - 1.0) * 8.0).floor() + 1.0;
    let le = octave.exp2() * (1.0 + part / 8.0) / 1e6;
    match stats
        .latency
        .iter_mut()
        .find(|bucket| bucket.le >= le * 0.999)
    {
        Some(bucket) if bucket.le <= le * 1.001 => bucket.count += count,
        Some(_) | None => {
            stats.latency.push(Bucket { le, count });
            stats.latency.sort_by(|a, b| a.le.total_cmp(&b.le));
        }
    }
    stats.responses.success += count;
}

/// One second after the other, of a version pair whose counters grow by this.
struct Play {
    now: Reading,
    window: Window,
    limits: Limits,
    millis: u64,
}

impl Play {
    fn new(now: Reading) -> Self {
        Self {
            window: Window::open(now.clone()),
            now,
            limits: Limits {
                warm_up: Duration::ZERO,
                ..LIMITS
            },
            millis: 0,
        }
    }

    /// So many milliseconds later, with so many requests and failures of candidate and stable more.
    fn look(
        &mut self,
        millis: u64,
        candidate: (u64, u64),
        stable: (u64, u64),
    ) -> (Sample, Verdict) {
        for (stats, (failures, requests)) in [
            (&mut self.now.candidate, candidate),
            (&mut self.now.stable, stable),
        ] {
            stats.responses.server_error += failures;
            stats.responses.success += requests - failures;
        }
        self.millis += millis;
        let elapsed = Duration::from_millis(self.millis);
        let sample = self.window.sample(&self.now, elapsed, BOTH, &self.limits);
        let sample = sample.expect("forwards");
        let verdict = judge(&self.limits, &sample);
        if let Verdict::SetAside { family, why } = &verdict {
            self.window.set_aside(*family, why.clone(), &sample);
        }
        (sample, verdict)
    }
}

#[test]
fn where_rate_and_share_rise_together_a_good_candidate_stays() {
    let mut play = Play::new(Reading::default());
    for _ in 0..100 {
        play.look(1000, (0, 50), (1, 450));
    }
    for second in 0..100 {
        let (_, verdict) = play.look(1000, (5, 100), (20, 400));
        let fine = !matches!(verdict, Verdict::RollBack { .. } | Verdict::SetAside { .. });
        assert!(fine, "{second}: {verdict:?}");
    }
    // With one share for all of it there would be proof enough.
    let (sample, _) = play.look(0, (0, 0), (0, 0));
    let all = sample.step.map(|counts| counts.failed());
    let one_window = against_stable(&FAILURES, all.candidate, all.stable, 0.001);
    assert!(one_window.value() > 100.0, "{one_window:?}");
}

#[test]
fn what_goes_wrong_once_is_forgiven_and_what_goes_wrong_again_is_not() {
    for happens_again in [false, true] {
        let mut play = Play::new(Reading::default());
        let (_, verdict) = play.look(250, (3, 12), (0, 110));
        assert!(matches!(verdict, Verdict::SetAside { .. }), "{verdict:?}");
        assert_eq!(
            (play.window.run().kind(), play.window.run().weight(10)),
            (RunKind::Aside, 0)
        );
        for _ in 0..4 {
            let (_, verdict) = play.look(250, (0, 0), (0, 125));
            assert!(matches!(verdict, Verdict::Hold { .. }), "{verdict:?}");
        }
        assert!(matches!(play.window.run().kind(), RunKind::Second(_)));
        // It failed three requests from one look to the next, so a third of its share will tell.
        assert_eq!(play.window.run().weight(10), 4);
        let failures = if happens_again { 2 } else { 0 };
        let (_, verdict) = play.look(250, (failures, 5), (0, 120));
        assert_eq!(
            matches!(verdict, Verdict::RollBack { .. }),
            happens_again,
            "{verdict:?}"
        );
        if happens_again {
            continue;
        }
        for _ in 0..12 {
            play.look(250, (0, 5), (0, 120));
        }
        assert_eq!(
            (play.window.run().kind(), play.window.run().weight(10)),
            (RunKind::First, 10)
        );
    }
}

#[test]
fn a_controller_that_was_killed_knows_that_a_candidate_was_set_aside() {
    let mut play = Play::new(Reading::default());
    play.look(250, (6, 12), (0, 110));
    let journal = serde_json::to_string(&play.window).expect("JSON");
    let again: Window = serde_json::from_str(&journal).expect("JSON");
    assert_eq!(again.run().kind(), RunKind::Aside);
    assert_eq!(again.run().accused_of(), play.window.run().accused_of());
}

#[test]
fn a_candidate_of_250_ms_is_found_by_a_few_responses_where_stable_takes_2() {
    let mut before = Reading::default();
    for (millis, count) in [
        (1.2, 100),
        (1.6, 300),
        (2.0, 600),
        (2.6, 400),
        (3.5, 90),
        (9.0, 10),
    ] {
        taking(millis, count, &mut before.stable);
    }
    let mut play = Play::new(before);
    let mut verdicts = Vec::new();
    for _ in 0..12 {
        // 60 requests a second, of which the candidate gets 6.
        taking(250.0, 2, &mut play.now.candidate);
        taking(2.0, 18, &mut play.now.stable);
        let (sample, verdict) = play.look(333, (0, 0), (0, 0));
        let responses = sample.step.candidate.latency.responses;
        verdicts.push((responses, verdict));
    }
    let accused = |(_, verdict): &&(u64, Verdict)| {
        matches!(verdict, Verdict::SetAside { .. } | Verdict::RollBack { .. })
    };
    let first = verdicts.iter().find(accused).expect("accused");
    assert!(first.0 <= 8, "{first:?}");
    let gone = |(_, verdict): &(u64, Verdict)| matches!(verdict, Verdict::RollBack { .. });
    assert!(verdicts.iter().any(gone), "{verdicts:?}");
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
            seen = often.sample(now, secs(at), BOTH, &limits);
            prop_assert!(seen.is_some());
        }
        let at_once = once.sample(&last, seen.expect("looked").elapsed, BOTH, &limits);
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
            let expected = lived.sample(now, secs(at), BOTH, &limits).expect("forwards");
            let got = again.sample(now, secs(at), BOTH, &limits).expect("forwards");
            prop_assert_eq!(expected.step, got.step);
            prop_assert_eq!((expected.record, expected.slow), (got.record, got.slow));
            if again.is_warm() != was_warm {
                journal = serde_json::to_string(&again).expect("JSON");
            }
        }
    }
}
