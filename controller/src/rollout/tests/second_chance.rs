//! A candidate that is accused by what may be a single incident.

use super::*;

async fn until_set_aside(handle: &Handle) {
    let mut live = handle.watch();
    live.wait_for(|live| {
        let verdict = live.verdict.as_deref().unwrap_or_default();
        verdict.contains("has a second chance")
    })
    .await
    .expect("it is set aside");
}

/// The shares that the candidate had, one after the other.
fn weights(calls: &[String]) -> Vec<u32> {
    let puts = calls.iter().filter_map(|call| call.strip_prefix("put "));
    let splits = puts.filter_map(|json| serde_json::from_str::<Split>(json).ok());
    let mut weights: Vec<u32> = splits
        .map(|split| split.get("2.0.0").copied().unwrap_or(0))
        .collect();
    weights.dedup();
    weights
}

#[tokio::test(start_paused = true)]
async fn a_bad_candidate_gets_nothing_for_a_moment_and_is_tried_by_fewer_requests() {
    let test = TestProject::new().await;
    test.proxy.fail("2.0.0", 50);
    test.canary().ended().await;
    check_rolled_back(&test, "requests failed");
    let kinds = kinds(&test);
    let count = |kind| kinds.iter().filter(|known| **known == kind).count();
    assert_eq!((count("set-aside"), count("passed")), (1, 0), "{kinds:?}");
    let reason = test
        .events()
        .into_iter()
        .find(|event| event.kind == "rolling-back");
    let text = reason.expect("rolled back").text;
    assert!(
        text.contains("again: ") && text.contains("before that: "),
        "{text}"
    );
    assert_eq!(weights(&test.calls.all()), [0, 10, 0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_happened_once_rolls_nothing_back() {
    let test = TestProject::new().await;
    test.proxy.fail("2.0.0", 50);
    let handle = test.canary();
    until_set_aside(&handle).await;
    test.proxy.fail("2.0.0", 0);
    handle.ended().await;
    check_promoted(&test);
    let kinds = kinds(&test);
    let chance: Vec<&String> = kinds
        .iter()
        .filter(|kind| ["set-aside", "passed"].contains(&kind.as_str()))
        .collect();
    assert_eq!(chance, ["set-aside", "passed"]);
    assert_eq!(weights(&test.calls.all()), [0, 10, 0, 2, 10, 50, 100]);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_again_leaves_a_candidate_aside() {
    let test = TestProject::new().await;
    test.proxy.fail("2.0.0", 50);
    let handle = test.canary();
    until_set_aside(&handle).await;
    handle.stop();
    let before = test.calls.all().len();
    let handle = test.take_up().expect("unfinished");
    handle.ended().await;
    check_rolled_back(&test, "requests failed");
    let weights = weights(&test.calls.all()[before..]);
    assert!(!weights.contains(&10), "{weights:?}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_has_all_requests_gets_no_second_chance() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Baking).await;
    test.proxy.fail("2.0.0", 50);
    handle.ended().await;
    check_rolled_back(&test, "requests failed");
    assert!(!kinds(&test).iter().any(|kind| kind == "set-aside"));
}
