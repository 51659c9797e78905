//! Rollouts from beginning to end, with a fake proxy and a fake runtime, in paused time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::*;
use crate::plan::Strategy;
use crate::runtime::label;
use crate::testing::TestProject;
use crate::verdict::AfterMaxHold;

mod faults;
mod hooks;
mod mirror;
mod second_chance;
mod strategies;

/// Far longer than any time limit of the rollout.
const LONG: Duration = Duration::from_secs(120);

fn running(versions: &[(&str, usize)]) -> BTreeMap<String, usize> {
    versions
        .iter()
        .map(|(version, count)| ((*version).to_owned(), *count))
        .collect()
}

fn split(weights: &[(&str, u32)]) -> Split {
    weights
        .iter()
        .map(|(version, weight)| ((*version).to_owned(), *weight))
        .collect()
}

async fn until(handle: &Handle, phase: Phase) {
    let mut live = handle.watch();
    live.wait_for(|live| live.record.phase == phase)
        .await
        .expect("the rollout gets there");
}

async fn until_paused(handle: &Handle) {
    let mut live = handle.watch();
    live.wait_for(|live| live.record.paused.is_some())
        .await
        .expect("the rollout gets there");
}

async fn until_step(handle: &Handle, step: usize) {
    let mut live = handle.watch();
    live.wait_for(|live| live.record.phase == Phase::Shifting && live.record.step == step)
        .await
        .expect("the rollout gets there");
}

fn kinds(test: &TestProject) -> Vec<String> {
    test.events().into_iter().map(|event| event.kind).collect()
}

/// What holds at the end of every rollout, however it came there.
#[track_caller]
fn check_promoted(test: &TestProject) {
    assert_eq!(test.running(), running(&[("2.0.0", 4)]));
    assert_eq!(test.proxy.split(), split(&[("2.0.0", 100)]));
    check_end(test, "2.0.0");
    let previous = test
        .project
        .service("web")
        .expect("there")
        .previous
        .expect("recorded");
    assert_eq!(previous.version, "1.0.0");
}

#[track_caller]
fn check_rolled_back(test: &TestProject, says: &str) {
    assert_eq!(test.running(), running(&[("1.0.0", 4)]));
    assert_eq!(test.proxy.split(), split(&[("1.0.0", 100)]));
    check_end(test, "1.0.0");
    let rollouts = test.project.journal.rollouts(None, 1).expect("read");
    assert_eq!(rollouts[0].phase, Phase::RolledBack);
    let why = rollouts[0].why.clone().expect("a reason");
    assert!(why.contains(says), "{why}");
}

#[track_caller]
fn check_end(test: &TestProject, stable: &str) {
    assert_eq!(
        test.project.service("web").expect("there").stable.version,
        stable
    );
    assert_eq!(test.proxy.endpoints(), 4, "no endpoint without a container");
    assert_eq!(test.project.journal.retired().expect("read"), []);
    assert_eq!(test.project.journal.unfinished().expect("read"), []);
    check_order(&test.calls.all());
}

/// A container that had endpoints is stopped only after a receipt for its version.
#[track_caller]
fn check_order(calls: &[String]) {
    for (at, call) in calls.iter().enumerate() {
        let Some(name) = call.strip_prefix("stop ") else {
            continue;
        };
        let version = name.split('-').nth(2).expect("a version in the name");
        let receipt = format!("receipt {version}");
        assert!(
            calls[..at].contains(&receipt),
            "{call} without {receipt}: {calls:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_candidate_takes_over_step_by_step() {
    let test = TestProject::new().await;
    test.canary().ended().await;
    check_promoted(&test);
    assert_eq!(
        kinds(&test),
        [
            "began",
            "checking",
            "shifting",
            "shifting",
            "shifting",
            "promoting",
            "baking",
            "draining",
            "done"
        ]
    );
    let calls = test.calls.all();
    let puts: Vec<&str> = calls
        .iter()
        .filter(|call| call.starts_with("put"))
        .map(String::as_str)
        .collect();
    let mut distinct = puts.clone();
    distinct.dedup();
    assert_eq!(
        distinct,
        [
            // The candidate is in the table at 0 until the proxy has seen it healthy.
            r#"put {"1.0.0": 100}"#,
            r#"put {"1.0.0": 90, "2.0.0": 10}"#,
            r#"put {"1.0.0": 50, "2.0.0": 50}"#,
            r#"put {"1.0.0": 0, "2.0.0": 100}"#,
            r#"put {"2.0.0": 100}"#,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn capacity_comes_before_share() {
    let test = TestProject::new().await;
    test.canary().ended().await;
    let calls = test.calls.all();
    for (share, containers) in [(10, 1), (50, 2), (100, 4)] {
        let put = format!(r#"put {{"1.0.0": {}, "2.0.0": {share}}}"#, 100 - share);
        let at = calls
            .iter()
            .position(|call| *call == put)
            .expect("the step");
        let started = calls[..at]
            .iter()
            .filter(|call| call.starts_with("start"))
            .count();
        assert_eq!(started, containers, "before {share}%");
    }
}

#[tokio::test(start_paused = true)]
async fn blue_green_swaps_all_at_once() {
    let test = TestProject::new().await;
    spawn(test.project.clone(), test.begin("blue-green"))
        .ended()
        .await;
    check_promoted(&test);
    let first = test
        .calls
        .all()
        .into_iter()
        .position(|call| call.contains("2.0.0\": 100"));
    let started = test.calls.all()[..first.expect("a swap")]
        .iter()
        .filter(|call| call.starts_with("start"))
        .count();
    assert_eq!(started, 4);
}

#[tokio::test(start_paused = true)]
async fn a_bad_candidate_is_rolled_back_with_its_counts() {
    let test = TestProject::new().await;
    test.proxy.fail("2.0.0", 33);
    test.canary().ended().await;
    check_rolled_back(&test, "requests failed");
    let events = test.events();
    let decision = events
        .iter()
        .find(|event| event.kind == "rolling-back")
        .expect("a decision");
    let stats = decision.stats.as_ref().expect("its figures");
    assert!(
        stats["candidate"]["failures"].as_u64() >= Some(2),
        "{stats}"
    );
    assert!(stats["stable"]["tries"].as_u64() > Some(0), "{stats}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_fails_as_stable_does_is_not_rolled_back() {
    let test = TestProject::new().await;
    test.proxy.fail("1.0.0", 30);
    test.proxy.fail("2.0.0", 30);
    let handle = test.canary();
    until_paused(&handle).await;
    let paused = handle.live().record.paused.expect("a reason");
    assert!(paused.contains("stable fails as often"), "{paused}");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_exits_at_once_is_reported_with_its_last_words() {
    let test = TestProject::new().await;
    let said = "no such table: users\n".to_owned();
    test.runtime
        .exits_at_once
        .lock()
        .expect("free")
        .insert("2.0.0".into(), said);
    test.canary().ended().await;
    check_reason(&test, "exited with code 3; it said: no such table: users");
    assert_eq!(test.running(), running(&[("1.0.0", 4)]));
}

#[track_caller]
fn check_reason(test: &TestProject, says: &str) {
    let rollouts = test.project.journal.rollouts(None, 1).expect("read");
    assert_eq!(rollouts[0].phase, Phase::RolledBack);
    let why = rollouts[0].why.clone().expect("a reason");
    assert!(why.contains(says), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_exits_while_it_has_requests_is_the_end_of_the_candidate() {
    for phase in [Phase::Checking, Phase::Shifting, Phase::Baking] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.runtime.exit("2.0.0", 137);
        handle.ended().await;
        check_rolled_back(&test, "exited with code 137");
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_of_the_candidate_die_while_it_bakes_the_warm_version_has_all_in_one_swap() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Baking).await;
    while test.proxy.split() != split(&[("2.0.0", 100)]) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let warm = test.proxy.addresses();
    for _ in 0..4 {
        test.runtime.exit("2.0.0", 137);
    }
    test.calls.clear();
    handle.ended().await;
    check_rolled_back(&test, "exited with code 137");
    let calls = test.calls.all();
    let first = calls.iter().find(|call| call.starts_with("put"));
    assert_eq!(first.map(String::as_str), Some(r#"put {"1.0.0": 100}"#));
    assert!(
        test.proxy.addresses().is_subset(&warm),
        "no endpoint is new"
    );
    assert!(!calls.iter().any(|call| call == "put {}"), "{calls:#?}");
}

#[tokio::test(start_paused = true)]
async fn when_none_of_the_candidate_is_healthy_no_request_waits_for_the_reason() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Baking).await;
    test.proxy.take_down("2.0.0", "timed out");
    let began = Instant::now();
    while test.proxy.split() != split(&[("1.0.0", 100), ("2.0.0", 0)]) {
        assert!(
            began.elapsed() < observe::EXIT_WITHIN,
            "{:?}",
            test.proxy.split()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    handle.ended().await;
    check_rolled_back(&test, "timed out");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_before_the_runtime_says_so_is_reported_with_its_exit() {
    for phase in [Phase::Shifting, Phase::Baking] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.proxy.take_down("2.0.0", "Connection refused");
        let mut live = handle.watch();
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            test.runtime.exit("2.0.0", 1);
        };
        let ended = live.wait_for(|live| live.record.phase.is_over());
        let (_, ended) = tokio::join!(later, ended);
        ended.expect("it ends");
        handle.ended().await;
        check_rolled_back(&test, "exited with code 1");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_a_container_that_is_gone_are_reported_with_its_exit() {
    for (phase, bad) in [(Phase::Shifting, "bad: "), (Phase::Baking, "bad")] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.proxy.fail("2.0.0", 100);
        let mut live = handle.watch();
        let mut judged = handle.watch();
        let is_bad = |live: &Live| live.verdict.as_ref().is_some_and(|said| said.contains(bad));
        let later = async {
            judged.wait_for(is_bad).await.expect("a verdict");
            test.proxy.take_down("2.0.0", "Connection refused");
            tokio::time::sleep(Duration::from_millis(1500)).await;
            test.runtime.exit("2.0.0", 137);
        };
        let ended = live.wait_for(|live| live.record.phase.is_over());
        let (_, ended) = tokio::join!(later, ended);
        ended.expect("it ends");
        handle.ended().await;
        check_rolled_back(&test, "exited with code 137");
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_never_gets_healthy_never_gets_a_request() {
    let test = TestProject::new().await;
    test.proxy.take_down("2.0.0", "responded with 503");
    test.canary().ended().await;
    check_rolled_back(&test, "0 of 1 containers of 2.0.0 were healthy within 10s");
    assert!(
        !test
            .calls
            .all()
            .iter()
            .any(|call| call.contains("\"2.0.0\": 10"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_turns_unhealthy_is_rolled_back() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    test.proxy.take_down("2.0.0", "responded with 503");
    handle.ended().await;
    check_rolled_back(&test, "responded with 503");
}

#[tokio::test(start_paused = true)]
async fn when_stable_is_down_too_it_is_not_the_candidates_fault() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    test.proxy.take_down("1.0.0", "timed out");
    test.proxy.take_down("2.0.0", "timed out");
    test.proxy.set_idle(true);
    tokio::time::sleep(LONG).await;
    assert_eq!(handle.live().record.phase, Phase::Shifting);
}

#[tokio::test(start_paused = true)]
async fn when_stable_never_gets_healthy_either_it_pauses_and_says_so() {
    let test = TestProject::new().await;
    test.proxy.take_down("1.0.0", "timed out");
    test.proxy.take_down("2.0.0", "timed out");
    let handle = test.canary();
    let paused = tokio::time::timeout(Duration::from_secs(60), until_paused(&handle)).await;
    paused.expect("in time");
    let record = handle.live().record;
    assert_eq!(record.phase, Phase::Checking);
    let paused = record.paused.expect("a reason");
    assert_eq!(paused, "1.0.0 is not healthy, either: waited for 10s");
    test.proxy.bring_up("1.0.0");
    test.proxy.bring_up("2.0.0");
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn one_container_of_stable_that_hangs_saves_no_candidate() {
    let test = TestProject::new().await;
    test.proxy.take_down("10.0.0.1:8080", "timed out");
    test.proxy.take_down("2.0.0", "responded with 503");
    let handle = test.canary();
    let ended = tokio::time::timeout(Duration::from_secs(60), handle.ended()).await;
    ended.expect("in time");
    check_rolled_back(&test, "0 of 1 containers of 2.0.0 were healthy within 10s");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stopped_while_it_has_requests() {
    let test = TestProject::new().await;
    test.proxy.set_in_flight("1.0.0", 3, 0);
    let handle = test.canary();
    until(&handle, Phase::Draining).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.live().record.phase, Phase::Draining);
    assert_eq!(test.running(), running(&[("1.0.0", 4), ("2.0.0", 4)]));
    test.proxy.set_in_flight("1.0.0", 0, 0);
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn upgraded_connections_hold_their_container_and_not_the_rollout() {
    let test = TestProject::new().await;
    test.proxy.set_in_flight("1.0.0", 0, 1);
    let handle = test.canary();
    handle.ended().await;
    assert_eq!(handle.live().record.phase, Phase::Done);
    assert_eq!(test.running(), running(&[("1.0.0", 4), ("2.0.0", 4)]));
    test.proxy.set_in_flight("1.0.0", 0, 0);
    test.project
        .sweep("web", Duration::from_secs(1))
        .await
        .expect("swept");
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn without_requests_each_step_goes_on_after_max_hold_and_says_what_was_not_judged() {
    let test = TestProject::new().await;
    test.proxy.set_idle(true);
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    let began = Instant::now();
    until(&handle, Phase::Baking).await;
    let took = began.elapsed();
    let steps = Duration::from_secs(3 * 20);
    assert!(
        took >= steps && took < steps + Duration::from_secs(5),
        "{took:?}"
    );
    handle.ended().await;
    check_promoted(&test);
    let events = test.events();
    let says = "(at 10% 0 of 0 requests failed; not judged: failures (0 of 20 requests), latency (";
    let second = events.iter().find(|one| one.text.contains(says));
    assert!(second.is_some(), "{events:#?}");
}

#[tokio::test(start_paused = true)]
async fn without_requests_a_candidate_that_is_not_healthy_does_not_go_on() {
    let test = TestProject::new().await;
    test.proxy.set_idle(true);
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    test.proxy.take_down("1.0.0", "timed out");
    test.proxy.take_down("2.0.0", "timed out");
    until_paused(&handle).await;
    let record = handle.live().record;
    assert_eq!((record.phase, record.step), (Phase::Shifting, 0));
}

/// A canary that pauses where requests are missing.
fn pausing(test: &TestProject) -> Handle {
    let record = test.begin_with(|settings| settings.after_max_hold = AfterMaxHold::Pause);
    spawn(test.project.clone(), record)
}

#[tokio::test(start_paused = true)]
async fn too_few_requests_pause_a_rollout_that_is_to_and_promote_ends_that() {
    let test = TestProject::new().await;
    test.proxy.set_idle(true);
    let handle = pausing(&test);
    until_paused(&handle).await;
    let paused = handle.live().record.paused.expect("a reason");
    assert_eq!(paused, "held for 20s: 0 of 20 requests so far");
    assert_eq!(test.proxy.split(), split(&[("1.0.0", 90), ("2.0.0", 10)]));
    handle.send(Command::Promote).await.expect("promoted");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_paused_rollout_is_still_watched() {
    let test = TestProject::new().await;
    test.proxy.set_idle(true);
    let handle = pausing(&test);
    until_paused(&handle).await;
    test.proxy.fail("2.0.0", 50);
    test.proxy.set_idle(false);
    handle.ended().await;
    check_rolled_back(&test, "requests failed");
}

#[tokio::test(start_paused = true)]
async fn pause_keeps_a_step_and_resume_goes_on() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    handle.send(Command::Pause).await.expect("paused");
    tokio::time::sleep(LONG).await;
    assert_eq!(
        (handle.live().record.phase, handle.live().record.step),
        (Phase::Shifting, 0)
    );
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn abort_goes_back_from_everywhere() {
    let phases = [
        Phase::Starting,
        Phase::Checking,
        Phase::Shifting,
        Phase::Promoting,
        Phase::Baking,
    ];
    for phase in phases {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        handle
            .send(Command::Abort {
                why: "not today".into(),
            })
            .await
            .expect("aborted");
        handle.ended().await;
        check_rolled_back(&test, "not today");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_being_stopped_cannot_be_aborted_to() {
    let test = TestProject::new().await;
    test.proxy.set_in_flight("1.0.0", 1, 0);
    let handle = test.canary();
    until(&handle, Phase::Draining).await;
    let error = handle
        .send(Command::Abort {
            why: "too late".into(),
        })
        .await
        .expect_err("too late");
    assert!(
        error.to_string().contains("crossfade rollback web"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_split_by_hand_brings_its_capacity_and_stays() {
    for phase in [Phase::Starting, Phase::Checking, Phase::Shifting] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        let by_hand = split(&[("1.0.0", 1), ("2.0.0", 3)]);
        let said = handle
            .send(Command::Split(by_hand.clone()))
            .await
            .expect("set");
        assert_eq!(said, "web now has 25% 1.0.0, 75% 2.0.0");
        assert_eq!(test.proxy.split(), by_hand);
        assert_eq!(test.running(), running(&[("1.0.0", 4), ("2.0.0", 3)]));
        tokio::time::sleep(LONG).await;
        assert_eq!(
            handle.live().record.paused.as_deref(),
            Some("split set by hand")
        );

        handle.stop();
        let handle = test.take_up().expect("unfinished");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(
            test.proxy.split(),
            by_hand,
            "kept by a controller that starts again"
        );
        handle.send(Command::Resume).await.expect("resumed");
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_by_hand_while_it_bakes_is_kept_until_promote() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Baking).await;
    let by_hand = split(&[("1.0.0", 50), ("2.0.0", 50)]);
    handle
        .send(Command::Split(by_hand.clone()))
        .await
        .expect("set");
    tokio::time::sleep(LONG).await;
    assert_eq!(test.proxy.split(), by_hand);
    handle.send(Command::Promote).await.expect("promoted");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_away_delays_a_rollout_and_judges_no_version() {
    for phase in [Phase::Checking, Phase::Shifting, Phase::Baking] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.proxy.set_away(true);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let live = handle.live();
        assert!(!live.record.phase.is_over());
        assert_ne!(live.record.phase, Phase::RollingBack);
        let last_error = live.last_error.expect("it says so");
        assert!(last_error.contains("cannot be reached"), "{last_error}");
        test.proxy.set_away(false);
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_tell_what_runs_delays_a_rollout_and_judges_no_version() {
    let phases = [
        Phase::Starting,
        Phase::Checking,
        Phase::Shifting,
        Phase::Promoting,
        Phase::Baking,
    ];
    for phase in phases {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.runtime.blind.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let live = handle.live();
        assert!(!live.record.phase.is_over());
        assert_ne!(live.record.phase, Phase::RollingBack);
        let last_error = live.last_error.expect("it says so");
        assert!(
            last_error.contains("failed to list containers"),
            "{last_error}"
        );
        test.runtime.blind.store(false, Ordering::Relaxed);
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_came_back_empty_is_told_everything_again() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    test.proxy.forget();
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_container_taken_away_by_hand_is_replaced() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    test.runtime
        .containers()
        .retain(|container| container.labels[label::VERSION] != "2.0.0");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_seen_to_end_while_it_is_taken_away_is_replaced() {
    for phase in [Phase::Checking, Phase::Shifting, Phase::Baking] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.runtime.vanish.store(true, Ordering::Relaxed);
        test.runtime.exit("2.0.0", 137);
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_killed_in_any_phase_goes_on_where_it_was() {
    let phases = [
        Phase::Starting,
        Phase::Checking,
        Phase::Shifting,
        Phase::Promoting,
        Phase::Baking,
        Phase::Draining,
    ];
    for phase in phases {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        handle.stop();
        let handle = test.take_up().expect("unfinished");
        assert_eq!(handle.live().record.phase, phase);
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_again_keeps_the_counts_of_its_step() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    handle.send(Command::Pause).await.expect("paused");
    let mut live = handle.watch();
    live.wait_for(|live| live.candidate.attempts >= 200)
        .await
        .expect("watched");
    let known = handle.live().candidate.attempts;
    handle.stop();
    let handle = test.take_up().expect("unfinished");
    let mut live = handle.watch();
    let first = live
        .wait_for(|live| live.candidate.attempts > 0)
        .await
        .expect("watched")
        .candidate
        .attempts;
    assert!(first >= known, "{first} of {known} attempts are known");

    // Going on is a new step: it is compared anew.
    handle.send(Command::Resume).await.expect("goes on");
    let mut live = handle.watch();
    let anew = live
        .wait_for(|live| live.candidate.attempts > 0)
        .await
        .expect("watched")
        .candidate
        .attempts;
    assert!(anew < known, "{anew} of {known} attempts");
}

#[tokio::test(start_paused = true)]
async fn a_controller_killed_after_any_call_ends_the_rollout_as_it_would_have() {
    for bad in [false, true] {
        let mut after = 1;
        loop {
            let test = TestProject::new().await;
            if bad {
                test.proxy.fail("2.0.0", 33);
            }
            let handle = test.canary();
            if !test.calls.wait_for_count(after, &handle).await {
                break;
            }
            handle.stop();
            if let Some(handle) = test.take_up() {
                handle.ended().await;
            }
            if bad {
                check_rolled_back(&test, "requests failed");
            } else {
                check_promoted(&test);
            }
            after += 1;
        }
        assert!(after > 10, "killed only {after} times");
    }
}
