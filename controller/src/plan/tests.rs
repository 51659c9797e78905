//! The steps of each strategy, and the containers that each step needs.

use super::strategy::rolling;
use super::*;

#[track_caller]
fn check(strategy: &str, stable: u32, want: &[(u8, u32)]) {
    let steps = strategy
        .parse::<Strategy>()
        .expect("a strategy")
        .steps(stable);
    let got: Vec<(u8, u32)> = steps
        .iter()
        .map(|step| (step.share, step.replicas))
        .collect();
    assert_eq!(got, want, "{strategy} over {stable}");
    let kept = steps.iter().all(|step| step.stable.is_none());
    assert!(kept || strategy == "rolling", "stable keeps all of its own");
}

#[test]
fn every_share_has_the_containers_it_needs() {
    check("canary", 4, &[(10, 1), (50, 2), (100, 4)]);
    check("canary", 1, &[(10, 1), (50, 1), (100, 1)]);
    check("canary", 30, &[(10, 1), (50, 15), (100, 30)]);
    check("blue-green", 4, &[(100, 4)]);
    check("all-at-once", 4, &[(100, 4)]);
    check("linear=25", 4, &[(25, 1), (50, 2), (75, 3), (100, 4)]);
    check("linear=40%", 4, &[(40, 2), (80, 4), (100, 4)]);
    check("linear=100", 4, &[(100, 4)]);
    check(
        "steps=1,10,50,100",
        4,
        &[(1, 1), (10, 1), (50, 2), (100, 4)],
    );
    check(
        "steps=1,10,50,100",
        30,
        &[(1, 1), (10, 3), (50, 15), (100, 30)],
    );
    check("steps=100", 3, &[(100, 3)]);
    check("steps=33,67,100", 3, &[(33, 1), (67, 3), (100, 3)]);
}

/// Steps as (copies, share, candidate's containers).
#[track_caller]
fn check_mirror(strategy: &Strategy, want: &[(Option<u8>, u8, u32)]) {
    let steps = strategy.steps(30);
    let got: Vec<(Option<u8>, u8, u32)> = steps
        .iter()
        .map(|step| (step.mirror, step.share, step.replicas))
        .collect();
    assert_eq!(got, want, "{strategy}");
}

#[test]
fn copies_come_before_the_first_share_and_need_containers_like_requests() {
    let specs = |list: &str| -> Vec<StepSpec> {
        let specs = list.split(',').map(str::parse);
        specs.collect::<Result<_, _>>().expect("stages")
    };
    let canary = |list| Strategy::Canary(specs(list));
    let steps = |list| Strategy::Steps(specs(list));
    let all = (None, 100, 30);
    check_mirror(
        &canary("mirror,10,100"),
        &[(Some(10), 0, 1), (None, 10, 1), all],
    );
    check_mirror(
        &steps("mirror,10,100"),
        &[(Some(10), 0, 3), (None, 10, 3), all],
    );
    let every = [(Some(100), 0, 30), (None, 10, 1), all];
    check_mirror(&canary("mirror=100:2m,10,100"), &every);
    check_mirror(&canary("mirror,100"), &[(Some(100), 0, 30), all]);
    check_mirror(&steps("mirror=50,100"), &[(Some(50), 0, 15), all]);
}

#[test]
fn a_service_without_containers_still_gets_one_candidate() {
    check("canary", 0, &[(10, 1), (50, 1), (100, 1)]);
    check("rolling", 0, &[(100, 1)]);
}

/// Steps as (share, candidate's containers, stable's containers).
#[track_caller]
fn check_rolling(replicas: u32, surge: &str, unavailable: &str, want: &[(u8, u32, u32)]) {
    let strategy = Strategy::Rolling {
        max_surge: surge.parse().expect("an amount"),
        max_unavailable: unavailable.parse().expect("an amount"),
    };
    let steps = strategy.steps(replicas);
    let got: Vec<(u8, u32, u32)> = steps
        .iter()
        .map(|step| (step.share, step.replicas, step.stable.expect("a number")))
        .collect();
    assert_eq!(got, want, "{strategy} over {replicas}");
}

#[test]
fn a_rolling_rollout_goes_on_as_far_as_there_is_room() {
    check_rolling(
        4,
        "1",
        "0",
        &[(25, 1, 4), (50, 2, 3), (75, 3, 2), (100, 4, 1)],
    );
    check_rolling(
        4,
        "0",
        "1",
        &[(25, 1, 3), (50, 2, 2), (75, 3, 1), (100, 4, 0)],
    );
    check_rolling(4, "2", "1", &[(75, 3, 3), (100, 4, 0)]);
    check_rolling(4, "50%", "0", &[(50, 2, 4), (100, 4, 2)]);
    check_rolling(3, "1", "0", &[(33, 1, 3), (66, 2, 2), (100, 3, 1)]);
    check_rolling(4, "100%", "0", &[(100, 4, 4)]);
    check_rolling(4, "4", "4", &[(100, 4, 1)]);
    check_rolling(1, "0", "1", &[(100, 1, 1)]);
    check_rolling(1, "25%", "0", &[(100, 1, 1)]);
}

#[test]
fn a_rolling_rollout_keeps_its_bounds_whatever_they_are() {
    for replicas in 1..12 {
        for (surge, unavailable) in (0..6).flat_map(|s| (0..6).map(move |u| (s, u))) {
            let steps = rolling(replicas, surge, unavailable);
            let mut candidate = 0;
            for step in &steps {
                let stable = step.stable.expect("a number");
                let what = format!("{replicas} +{surge} -{unavailable}: {steps:?}");
                let serving = stable + candidate;
                assert!(serving >= 1, "{what}");
                assert!(serving >= replicas.saturating_sub(unavailable), "{what}");
                assert!(stable + step.replicas <= replicas + surge.max(1), "{what}");
                assert!(step.replicas > candidate, "{what}");
                candidate = step.replicas;
            }
            let last = steps.last().map(|step| (step.share, step.replicas));
            assert_eq!(last, Some((100, replicas)));
        }
    }
}

#[test]
fn holds_and_gates_belong_to_their_step() {
    let steps = "steps=10:5m:gate,50:gate,100".parse::<Strategy>();
    let steps = steps.expect("a strategy").steps(4);
    let got: Vec<(Option<Period>, bool)> =
        steps.iter().map(|step| (step.hold, step.gate)).collect();
    let five = Some(Period::from_secs(300));
    assert_eq!(got, [(five, true), (None, true), (None, false)]);
}

#[test]
fn steps_of_an_older_journal_are_still_read() {
    let step: Step = serde_json::from_str(r#"{"share":10,"replicas":1}"#).expect("a step");
    assert_eq!(step, Strategy::canary().steps(4)[0]);
    let old = r#"{"canary":[10,50,100]}"#;
    let strategy: Strategy = serde_json::from_str(old).expect("a strategy");
    assert_eq!(strategy, Strategy::canary());
}

#[track_caller]
fn check_refused(strategy: &str, says: &str) {
    let error = strategy.parse::<Strategy>().expect_err("not a strategy");
    assert!(error.contains(says), "{error}");
}

#[test]
fn what_is_not_a_strategy_is_refused_with_what_would_be() {
    check_refused("blue-gren", "did you mean `blue-green`?");
    check_refused("recreate", "canary, blue-green, linear=20, steps=");
    check_refused("steps=", "is not a step");
    check_refused("steps=10,x", "`x` is not a step");
    check_refused("steps=-1,100", "is not a step");
    check_refused("steps=10:soon,100", "10:5m or 10:5m:gate");
    check_refused("steps=0,100", "from 1 to 100");
    check_refused("steps=10,101", "from 1 to 100");
    check_refused("steps=50,10,100", "larger than the one before");
    check_refused("steps=10,50", "has to be 100");
    check_refused("steps=10,mirror,100", "only be the first");
    check_refused("steps=mirror,mirror,100", "only be the first");
    check_refused("steps=mirror", "has to be 100");
    check_refused("steps=mirror=101,100", "from 1 to 100");
    check_refused("linear=0", "from 1 to 100");
    check_refused("linear=", "from 1 to 100");
}

#[test]
fn a_strategy_reads_back_what_it_shows() {
    for text in [
        "blue-green",
        "steps=1,10:5m,50:gate,100:1m30s:gate",
        "steps=mirror:2m,10,100",
        "steps=mirror=50,100",
        "linear=20",
        "all-at-once",
    ] {
        assert_eq!(
            text.parse::<Strategy>().expect("a strategy").to_string(),
            text
        );
    }
}

#[test]
fn the_steps_of_a_rollout_that_is_scaled_keep_their_shares() {
    let counts = |strategy: &str, before, now| {
        let strategy: Strategy = strategy.parse().expect("a strategy");
        let steps = rescaled(&strategy, &strategy.steps(before), before, now);
        let of = |step: &Step| (step.share, step.replicas, step.stable);
        steps.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        counts("canary", 4, 8),
        [(10, 1, None), (50, 4, None), (100, 8, None)]
    );
    assert_eq!(counts("blue-green", 4, 2), [(100, 2, None)]);
    // From 2 containers to 6: the two steps that there are, with three times as many.
    assert_eq!(
        counts("rolling", 2, 6),
        [(50, 3, Some(6)), (100, 6, Some(3))]
    );
}
