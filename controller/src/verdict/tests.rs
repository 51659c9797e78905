//! Verdicts by counts and time, and how rarely a good candidate is rolled back.

mod properties;
mod windows;

use super::evidence::{LOWEST_LIMIT, won};
use super::*;

pub(super) const LIMITS: Limits = Limits {
    success_rate: 99.0,
    success_rate_tolerance: 0.1,
    latency_p99: Duration::from_millis(500),
    latency_tolerance: 1.0,
    warm_up: Duration::from_secs(10),
    min_requests: 50,
    step_min_duration: Duration::from_secs(30),
    max_hold: Duration::from_secs(600),
    after_max_hold: AfterMaxHold::Pause,
};

/// `(failures, attempts)`.
fn failed((failures, attempts): (u64, u64)) -> Counts {
    Counts {
        attempts,
        failures,
        ..Counts::default()
    }
}

/// `(failures, attempts)` of candidate and stable since the step began.
fn sample(candidate: (u64, u64), stable: (u64, u64), secs: u64) -> Sample {
    let step = Pair {
        candidate: failed(candidate),
        stable: failed(stable),
    };
    // A few stragglers, after all the requests have gone to the candidate, are no share.
    let stable_is_due = stable.1 >= 20 || (stable.1 > 0 && 2 * stable.1 >= candidate.1);
    let dealt = Dealt {
        stable_is_due,
        by_client: None,
        candidate_is_down: false,
    };
    Sample {
        step,
        run: step,
        recent: step,
        gathered: Gathered::in_one_block(step, dealt, &LIMITS),
        dealt,
        elapsed: Duration::from_secs(secs),
        ..Sample::default()
    }
}

/// The same, of other counts and limits.
fn judged(limits: &Limits, sample: &Sample) -> Sample {
    let gathered = Gathered::in_one_block(sample.step, sample.dealt, limits);
    Sample {
        run: sample.step,
        gathered: Gathered {
            slower: sample.gathered.slower,
            ..gathered
        },
        ..*sample
    }
}

#[track_caller]
fn check_sample(limits: &Limits, sample: &Sample, want: &str) -> String {
    let verdict = judge(limits, &judged(limits, sample));
    let (got, why) = match verdict {
        Verdict::Advance => ("advance", String::new()),
        Verdict::Hold { why } => ("hold", why),
        Verdict::Pause { why } => ("pause", why),
        Verdict::RollBack { why } => ("roll back", why),
        Verdict::SetAside { why, .. } => ("set aside", why),
        Verdict::Inconclusive { why } => ("inconclusive", why),
    };
    assert_eq!(got, want, "{why:?} of {sample:?}");
    why
}

#[track_caller]
fn check(candidate: (u64, u64), stable: (u64, u64), secs: u64, want: &str) {
    check_sample(&LIMITS, &sample(candidate, stable, secs), want);
}

#[test]
fn no_data_is_neither_success_nor_failure() {
    check((0, 0), (0, 0), 0, "hold");
    check((0, 0), (0, 5000), 599, "hold");
    check((0, 49), (0, 500), 60, "hold");
}

#[test]
fn a_step_ends_well_with_enough_requests_and_time() {
    check((0, 50), (0, 500), 29, "hold");
    check((0, 50), (0, 500), 30, "advance");
    check((1, 1000), (1, 9000), 30, "advance");
    check((0, 5000), (0, 0), 30, "advance");
}

#[test]
fn what_is_held_for_too_long_is_paused_or_goes_on_where_only_requests_are_missing() {
    let proceed = Limits {
        after_max_hold: AfterMaxHold::Proceed,
        ..LIMITS
    };
    let quiet = sample((0, 12), (0, 100), 600);
    let why = check_sample(&LIMITS, &quiet, "pause");
    assert_eq!(why, "held for 10m: 12 of 50 requests so far");
    check_sample(&proceed, &quiet, "advance");
    let early = sample((0, 12), (0, 100), 585);
    let why = check_sample(&proceed, &early, "hold");
    assert_eq!(why, "12 of 50 requests so far; goes on without them in 20s");
    let why = check_sample(&LIMITS, &early, "hold");
    assert_eq!(why, "12 of 50 requests so far; pauses in 20s");
    // Health is missing, too.
    let mut down = quiet;
    down.dealt.candidate_is_down = true;
    check_sample(&proceed, &down, "pause");
    // One of 40 failed: that is no reason to go on with everything.
    let doubtful = sample((1, 40), (0, 9), 600);
    let why = check_sample(&proceed, &doubtful, "pause");
    assert!(why.contains("1 of 40 requests failed"), "{why}");
    check_sample(&proceed, &sample((500, 1000), (500, 1000), 600), "pause");
    // Nor is it one that stable fails as well, however few they are.
    check_sample(&proceed, &sample((12, 12), (40, 40), 600), "pause");
    check_sample(&proceed, &sample((1, 1), (40, 40), 600), "pause");
}

#[test]
fn a_slightly_bad_candidate_is_held_not_rolled_back() {
    check((2, 100), (0, 100), 60, "hold");
}

#[test]
fn a_candidate_in_doubt_waits_for_more() {
    let doubtful = sample((3, 310), (0, 620), 60);
    let why = check_sample(&LIMITS, &doubtful, "hold");
    assert!(
        why.starts_with("in doubt: 3 of 310 requests failed"),
        "{why}"
    );
    check((3, 4000), (1, 8000), 60, "advance");
}

#[test]
fn a_candidate_as_good_as_a_bad_stable_advances() {
    check((15, 1000), (15, 1000), 60, "advance");
    check((16, 1000), (15, 1000), 60, "advance");
}

#[test]
fn a_bad_candidate_is_rolled_back_before_there_are_enough_requests_to_advance() {
    check((1, 9), (0, 90), 1, "hold");
    check((2, 9), (0, 90), 1, "roll back");
    check((4, 12), (0, 120), 1, "roll back");
    check((5, 5), (0, 5), 1, "hold");
    check((10, 10), (0, 10), 1, "roll back");
    check((333, 1000), (0, 9000), 1, "roll back");
    check((300_000, 1_000_000), (9_000, 1_000_000), 1, "roll back");
    check((300, 10_000), (1_800, 90_000), 1, "roll back");
    check((20_000, 1_000_000), (1_000, 1_000_000), 1, "roll back");
}

#[test]
fn a_candidate_within_its_limit_is_rolled_back_all_the_same_when_stable_is_better() {
    check((50, 10_000), (90, 90_000), 60, "roll back");
    // But not for a tenth of a percentage point.
    check((200, 100_000), (1_000, 1_000_000), 60, "advance");
    let strict = Limits {
        success_rate_tolerance: 0.0,
        ..LIMITS
    };
    check_sample(
        &strict,
        &sample((200, 100_000), (1_000, 1_000_000), 60),
        "roll back",
    );
}

#[test]
fn one_failure_rolls_nothing_back() {
    check((1, 1), (0, 5000), 0, "hold");
    check((1, 1), (0, 1_000_000_000), 0, "hold");
    check((1, 1), (0, 0), 0, "hold");
    let perfect = Limits {
        success_rate: 100.0,
        ..LIMITS
    };
    check_sample(&perfect, &sample((1, 1), (0, 0), 0), "hold");
    check_sample(&perfect, &sample((2, 2), (0, 0), 0), "roll back");
}

#[test]
fn stable_failing_as_much_is_inconclusive() {
    check((500, 1000), (500, 1000), 60, "inconclusive");
    check((100, 1000), (900, 9000), 60, "inconclusive");
    check((50, 50), (50, 50), 60, "inconclusive");
    check((500, 1000), (500, 1000), 600, "pause");
}

#[test]
fn where_stable_gets_nothing_the_limit_stands_alone() {
    check((100, 1000), (1, 1), 1, "roll back");
    check((100, 1000), (0, 3), 1, "roll back");
    check((5, 20), (0, 0), 1, "roll back");
    check((12, 1000), (0, 0), 60, "hold");
}

#[test]
fn no_limit_alone_rolls_back_while_stable_is_due_requests() {
    for (failures, requests) in [(2, 2), (5, 20), (300, 1000)] {
        let mut early = sample((failures, requests), (0, 0), 1);
        early.dealt.stable_is_due = true;
        early.recent = Pair::default();
        check_sample(&LIMITS, &early, "hold");
    }
}

#[test]
fn what_may_be_a_single_incident_gets_a_second_chance() {
    let limits = &LIMITS;
    let mut accused = sample((6, 12), (0, 110), 1);
    accused.gathered.fails.spread = Evidence::NONE;
    let Verdict::SetAside { family, why } = judge(limits, &accused) else {
        panic!("{accused:?}");
    };
    assert_eq!(family, Family::Fails);
    assert!(why.starts_with("6 of 12 requests failed"), "{why}");
    // Again, and by as little as two failures.
    let mut again = sample((2, 5), (0, 45), 3);
    again.gathered.fails.spread = Evidence::NONE;
    again.kind = RunKind::Second(Family::Fails);
    assert!(matches!(judge(limits, &again), Verdict::RollBack { .. }));
    // Of something else it was not accused before.
    again.kind = RunKind::Second(Family::Slow);
    assert!(matches!(judge(limits, &again), Verdict::Hold { .. }));
    // While it gets nothing there is nothing to judge.
    accused.kind = RunKind::Aside;
    assert!(matches!(judge(limits, &accused), Verdict::Hold { .. }));
}

#[test]
fn what_stable_failed_before_is_allowed_where_it_gets_nothing_now() {
    let mut alone = sample((30, 1000), (0, 0), 60);
    check_sample(&LIMITS, &alone, "roll back");
    alone.record = failed((3000, 100_000));
    check_sample(&LIMITS, &alone, "advance");
    // Four requests are no record.
    alone.record = failed((4, 4));
    check_sample(&LIMITS, &alone, "roll back");
}

#[test]
fn a_burst_after_a_long_good_time_is_found_at_once() {
    let mut burst = sample((540, 1_000_000), (4_500, 9_000_000), 3600);
    check_sample(&LIMITS, &burst, "advance");
    burst.recent = sample((30, 40), (0, 400), 0).step;
    // It may be over as soon, so it gets a second chance.
    let why = check_sample(&LIMITS, &burst, "set aside");
    assert!(
        why.starts_with("in the last few seconds, 30 of 40 requests failed"),
        "{why}"
    );
    // Both of them: not the candidate's fault.
    burst.recent = sample((30, 40), (300, 400), 0).step;
    check_sample(&LIMITS, &burst, "advance");
    // While it bakes nothing goes to stable.
    let mut baking = sample((500, 1_000_000), (0, 0), 200);
    baking.recent = sample((10, 20), (0, 0), 0).step;
    check_sample(&LIMITS, &baking, "roll back");
}

/// Of 7,000 responses `slow` are, and of stable's 63,000 `stable_slow`.
fn late(slow: u64, stable_slow: u64) -> Sample {
    let mut sample = sample((0, 7_000), (0, 63_000), 60);
    sample.slow = Some(0.4);
    let latency = |responses, slow| Latency {
        responses,
        slow,
        over_limit: 0,
        p99_us: Some(390_000),
    };
    sample.step.candidate.latency = latency(7_000, slow);
    sample.step.stable.latency = latency(63_000, stable_slow);
    sample
}

#[test]
fn slower_than_stable_is_what_has_more_slow_responses_than_the_tolerance() {
    let late = |slow, stable_slow| {
        let mut sample = late(slow, stable_slow);
        sample.gathered.slower = Weighed::at_large(against_limit(
            &SLOWNESS,
            Share {
                part: 100,
                whole: 100,
            },
            BEYOND_P99,
        ));
        sample
    };
    check_sample(&LIMITS, &late(70, 630), "advance");
    check_sample(&LIMITS, &late(139, 630), "advance");
    let why = check_sample(&LIMITS, &late(350, 630), "roll back");
    assert!(
        why.starts_with("p99 is 390 ms (390 ms with stable): 350 of 7000 responses took longer"),
        "{why}"
    );
    // When everything is slow, at noon, it says nothing about the candidate.
    check_sample(&LIMITS, &late(700, 6300), "advance");
    let off = Limits {
        latency_tolerance: 100.0,
        ..LIMITS
    };
    check_sample(&off, &late(350, 630), "advance");
}

#[test]
fn what_was_not_judged_is_named() {
    let mut few = late(0, 630);
    few.is_warm = true;
    few.step.candidate.latency.responses = 12;
    few.record.latency.responses = 1000;
    let says = |sample: &Sample| NotJudged::of(&LIMITS, sample).text();
    let text = "not judged: latency (12 of about 30 responses needed)";
    assert_eq!(says(&few).as_deref(), Some(text));
    few.record.latency.responses = 999;
    let text = "not judged: latency (stable had 999 of 1000 responses before the step)";
    assert_eq!(says(&few).as_deref(), Some(text));
    few.is_warm = false;
    let text = "not judged: latency (the first 10s do not count)";
    assert_eq!(says(&few).as_deref(), Some(text));
    assert_eq!(NotJudged::yet(&LIMITS, &few).text().as_deref(), Some(text));
    few.step.candidate.attempts = 49;
    let text = "not judged: failures (49 of 50 requests), latency (the first 10s do not count)";
    assert_eq!(says(&few).as_deref(), Some(text));
    let mut many = late(0, 630);
    many.is_warm = true;
    many.record.latency.responses = 1000;
    assert_eq!(says(&many), None);
}

#[test]
fn a_candidate_that_is_past_the_limit_from_its_first_responses_on_is_rolled_back() {
    let mut sample = late(0, 0);
    sample.step.candidate.latency.responses = 76;
    sample.step.candidate.latency.over_limit = 76;
    let why = check_sample(&LIMITS, &sample, "roll back");
    assert!(why.contains("76 of 76 responses took longer"), "{why}");
}

#[test]
fn the_limit_of_latency_holds_while_stable_keeps_it() {
    let mut sample = late(0, 0);
    sample.step.candidate.latency.over_limit = 80;
    sample.step.stable.latency.over_limit = 500;
    let why = check_sample(&LIMITS, &sample, "hold");
    assert!(why.contains("limit 500 ms: 80 of 7000 responses"), "{why}");
    sample.step.stable.latency.over_limit = 6_000;
    check_sample(&LIMITS, &sample, "advance");
    sample.step.candidate.latency.over_limit = 210;
    sample.step.stable.latency.over_limit = 500;
    check_sample(&LIMITS, &sample, "roll back");
    // Alone, it is held against what stable did before.
    sample.step.stable = Counts::default();
    sample.dealt.stable_is_due = false;
    check_sample(&LIMITS, &sample, "roll back");
    sample.record = failed((0, 100_000));
    sample.record.latency = Latency {
        responses: 100_000,
        over_limit: 4_000,
        ..Latency::default()
    };
    check_sample(&LIMITS, &sample, "advance");
}

#[test]
fn one_slow_response_breaks_no_p99() {
    let mut sample = sample((0, 60), (0, 600), 60);
    sample.step.candidate.latency = Latency {
        responses: 60,
        over_limit: 1,
        ..Latency::default()
    };
    check_sample(&LIMITS, &sample, "advance");
    sample.step.candidate.latency.over_limit = 2;
    check_sample(&LIMITS, &sample, "hold");
}

/// P(k of n) for every k.
fn binomial(n: u64, p: f64) -> Vec<f64> {
    let mut chances = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; chances.len() + 1];
        for (k, chance) in chances.iter().enumerate() {
            next[k] += chance * (1.0 - p);
            next[k + 1] += chance * p;
        }
        chances = next;
    }
    chances
}

#[test]
fn a_bet_is_never_expected_to_win_against_a_candidate_without_fault() {
    for (candidates, stables) in [(1_u32, 9_u32), (20, 60), (30, 30), (40, 4)] {
        let due = f64::from(candidates + 1) / f64::from(candidates + 1 + stables);
        for (rate, tolerance) in [
            (0.001, 0.0),
            (0.02, 0.0),
            (0.3, 0.0),
            (0.9, 0.0),
            (0.05, 0.02),
        ] {
            let allowance = tolerance * f64::from(candidates) * (1.0 - due);
            let ours = binomial(candidates.into(), rate + tolerance);
            let theirs = binomial(stables.into(), rate);
            let mut expected = 0.0;
            for (part, chance) in (0..).zip(&ours) {
                for (stable, also) in (0..).zip(&theirs) {
                    let whole = part + stable;
                    let bet = won(&FAILURES, Share { part, whole }, due, allowance);
                    expected += chance * also * bet.value();
                }
            }
            let case = format!("{candidates} and {stables} at {rate} + {tolerance}");
            assert!(expected <= 1.0 + 1e-9, "{case}: {expected}");
        }
    }
    for (n, limit) in [(1, 0.01), (200, 0.01), (50, 0.3), (100, LOWEST_LIMIT)] {
        let mut expected = 0.0;
        for (part, chance) in (0..).zip(binomial(n, limit)).filter(|(_, c)| *c > 0.0) {
            let bets = if n > 50 { &SLOWNESS } else { &FAILURES };
            expected += chance * won(bets, Share { part, whole: n }, limit, 0.0).value();
        }
        assert!(expected <= 1.0 + 1e-9, "{n} at {limit}: {expected}");
    }
}

/// The exact chance that a candidate as good as stable is ever rolled back for its failures,
/// looked at after every request, when every `every`th goes to it.
fn chance_of_ever(every: u64, requests: u64, rate: f64) -> f64 {
    let states = usize::try_from(requests).expect("few") + 1;
    let mut alive = vec![vec![0.0; states]; states];
    alive[0][0] = 1.0;
    let mut rolled_back = 0.0;
    for request in 1..=requests {
        let is_candidates = request.is_multiple_of(every);
        let candidates = request / every;
        let mut next = vec![vec![0.0; states]; states];
        for (ours, row) in alive.iter().enumerate() {
            for (theirs, chance) in row
                .iter()
                .enumerate()
                .filter(|(_, chance)| **chance > 1e-12)
            {
                let (failed_ours, failed_theirs) = if is_candidates {
                    (ours + 1, theirs)
                } else {
                    (ours, theirs + 1)
                };
                for (ours, theirs, chance) in [
                    (ours, theirs, chance * (1.0 - rate)),
                    (failed_ours, failed_theirs, chance * rate),
                ] {
                    let limits = Limits {
                        success_rate_tolerance: 0.0,
                        ..LIMITS
                    };
                    let (ours_failed, theirs_failed) = (ours as u64, theirs as u64);
                    let step = Pair {
                        candidate: failed((ours_failed, candidates)),
                        stable: failed((theirs_failed, request - candidates)),
                    };
                    let gathered = Gathered::in_one_block(step, Dealt::default(), &limits);
                    if gathered.fails.all.reaches(CHANCE_OF_FAILURES) {
                        rolled_back += chance;
                    } else {
                        next[ours][theirs] += chance;
                    }
                }
            }
        }
        alive = next;
    }
    rolled_back
}

#[test]
fn looked_at_after_every_request_a_good_candidate_is_rolled_back_as_rarely_as_promised() {
    for (every, requests, rate) in [
        (2, 120, 0.02),
        (2, 120, 0.3),
        (10, 200, 0.1),
        (10, 200, 0.02),
    ] {
        let chance = chance_of_ever(every, requests, rate);
        assert!(
            chance > 0.0 && chance <= CHANCE_OF_FAILURES,
            "{chance} with each {every}th of {requests} and {rate}"
        );
    }
}

/// The exact chance that bets on a candidate as good as stable ever win so much, in so many failures of
/// both: each is the candidate's by its share.
fn chance_to_win(enough: f64, share: f64, failures: u64) -> f64 {
    let wins = |part: u64, whole: u64| won(&FAILURES, Share { part, whole }, share, 0.0).value();
    let mut alive = vec![1.0];
    let mut chance = 0.0;
    for whole in 1..=failures {
        let mut next = vec![0.0; alive.len() + 1];
        for (part, alive) in alive.iter().enumerate() {
            next[part] += alive * (1.0 - share);
            next[part + 1] += alive * share;
        }
        while let Some(last) = next.len().checked_sub(1) {
            if next[last] > 0.0 && wins(last as u64, whole) < enough {
                break;
            }
            chance += next[last];
            next.pop();
        }
        alive = next;
    }
    chance
}

#[test]
fn enough_evidence_of_failures_is_gathered_by_chance_in_1_of_100_steps() {
    for share in [0.1, 0.5] {
        let chance = chance_to_win(enough(share).value(), share, 1500);
        assert!((0.005..0.0101).contains(&chance), "{chance} at {share}");
    }
}
