//! What each strategy does to containers and traffic.

use super::*;

fn rolling(surge: &str, unavailable: &str) -> Strategy {
    Strategy::Rolling {
        max_surge: surge.parse().expect("an amount"),
        max_unavailable: unavailable.parse().expect("an amount"),
    }
}

/// How many containers ran after each start and stop, the candidate's and all.
fn counts(test: &TestProject) -> Vec<usize> {
    let mut running = 4;
    let mut counts = Vec::new();
    for call in test.calls.all() {
        if call.starts_with("start ") {
            running += 1;
        } else if call.starts_with("stop ") {
            running -= 1;
        } else {
            continue;
        }
        counts.push(running);
    }
    counts
}

fn shares(test: &TestProject) -> Vec<u32> {
    let events = test.events();
    let shares = events.iter().filter_map(|event| {
        let (_, rest) = event.text.split_once(": ")?;
        let (share, _) = rest.split_once("% to")?;
        share.parse().ok()
    });
    shares.collect()
}

/// A rollout by this strategy, which bakes, and does so for long.
async fn baking(test: &TestProject, strategy: Strategy) -> Handle {
    let record = test.begin_with(|settings| {
        settings.strategy = strategy;
        settings.bake = Period::from_secs(600);
    });
    let handle = spawn(test.project.clone(), record);
    until(&handle, Phase::Baking).await;
    handle
}

/// How many of these calls start a container.
fn starts(calls: &[String]) -> usize {
    calls
        .iter()
        .filter(|call| call.starts_with("start "))
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_rolling_rollout_never_has_more_or_fewer_containers_than_it_may() {
    for (surge, unavailable, most, fewest) in [("1", "0", 5, 4), ("0", "1", 4, 3), ("2", "1", 6, 3)]
    {
        let test = TestProject::new().await;
        let record = test.begin_with(|settings| {
            settings.strategy = rolling(surge, unavailable);
            settings.bake = Period::from_secs(0);
        });
        spawn(test.project.clone(), record).ended().await;
        check_promoted(&test);
        let counts = counts(&test);
        let what = format!("+{surge} -{unavailable}: {counts:?}");
        assert_eq!(counts.iter().max(), Some(&most), "{what}");
        assert_eq!(counts.iter().min(), Some(&fewest), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_rollout_takes_those_away_first_that_are_not_healthy() {
    let test = TestProject::new().await;
    let hung = "10.0.0.1:8080";
    test.proxy.take_down(hung, "timed out");
    let record = test.begin_with(|settings| settings.strategy = rolling("0", "1"));
    let handle = spawn(test.project.clone(), record);
    until_step(&handle, 0).await;
    assert_eq!(test.running().get("1.0.0"), Some(&3));
    assert!(!test.runtime.addresses().contains(hung));
}

#[tokio::test(start_paused = true)]
async fn a_bad_candidate_in_a_rolling_rollout_gives_everything_back() {
    for (surge, unavailable) in [("1", "0"), ("0", "4")] {
        let test = TestProject::new().await;
        let record = test.begin_with(|settings| settings.strategy = rolling(surge, unavailable));
        let handle = spawn(test.project.clone(), record);
        until_step(&handle, 1).await;
        test.proxy.fail("2.0.0", 50);
        handle.ended().await;
        check_rolled_back(&test, "requests failed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stable_version_without_containers_is_started_before_it_gets_the_requests_back() {
    let test = TestProject::new().await;
    let handle = baking(&test, rolling("0", "1")).await;
    assert_eq!(test.running(), running(&[("2.0.0", 4)]));
    let before = test.calls.all().len();
    let why = "not today".to_owned();
    handle.send(Command::Abort { why }).await.expect("aborted");
    handle.ended().await;
    check_rolled_back(&test, "not today");
    let calls = test.calls.all().split_off(before);
    let swap = calls
        .iter()
        .position(|call| call == r#"put {"1.0.0": 100}"#);
    assert_eq!(starts(&calls[..swap.expect("a swap")]), 4, "{calls:#?}");
    assert!(
        !calls.iter().any(|call| call == "put {}"),
        "no version had the requests: {calls:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_rolling_rollout_has_left_of_stable_gets_back_what_it_can_carry() {
    let test = TestProject::new().await;
    let handle = baking(&test, rolling("1", "0")).await;
    assert_eq!(test.running(), running(&[("1.0.0", 1), ("2.0.0", 4)]));
    let before = test.calls.all().len();
    let why = "not today".to_owned();
    handle.send(Command::Abort { why }).await.expect("aborted");
    handle.ended().await;
    check_rolled_back(&test, "not today");
    let calls = test.calls.all().split_off(before);
    let at = |put: &str| calls.iter().position(|call| call == put);
    let a_part = at(r#"put {"1.0.0": 1, "2.0.0": 3}"#).expect("at once");
    let all = at(r#"put {"1.0.0": 100}"#).expect("in the end");
    assert_eq!(starts(&calls[..a_part]), 0, "{calls:#?}");
    assert_eq!(starts(&calls[..all]), 3, "{calls:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_split_by_hand_in_a_rolling_rollout_brings_stable_back() {
    let test = TestProject::new().await;
    let record = test.begin_with(|settings| settings.strategy = rolling("1", "0"));
    let handle = spawn(test.project.clone(), record);
    until_step(&handle, 3).await;
    let by_hand = split(&[("1.0.0", 75), ("2.0.0", 25)]);
    handle.send(Command::Split(by_hand)).await.expect("set");
    assert_eq!(test.running().get("1.0.0"), Some(&3));
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_split_by_hand_while_a_rolling_rollout_bakes_waits_for_the_containers_it_brings_back() {
    let test = TestProject::new().await;
    let handle = baking(&test, rolling("0", "1")).await;
    assert_eq!(test.running(), running(&[("2.0.0", 4)]));
    // The last one to come gets healthy late.
    let last = "10.0.0.12:8080";
    test.proxy.take_down(last, "not yet");
    let by_hand = split(&[("1.0.0", 100), ("2.0.0", 0)]);
    let sending = handle.send(Command::Split(by_hand.clone()));
    let gets_healthy = async {
        let mut live = handle.watch();
        let waits = live.wait_for(|live| {
            let last_error = live.last_error.as_deref();
            last_error == Some("3 of 4 containers of 1.0.0 serve")
        });
        let waits = tokio::time::timeout(Duration::from_secs(5), waits).await;
        waits.expect("in time").expect("it waits");
        assert_eq!(test.proxy.split(), split(&[("2.0.0", 100)]));
        test.proxy.bring_up(last);
    };
    let (said, ()) = tokio::join!(sending, gets_healthy);
    said.expect("set");
    assert_eq!(test.proxy.split(), by_hand);
    assert_eq!(test.running(), running(&[("1.0.0", 4), ("2.0.0", 4)]));
    assert!(!test.calls.all().contains(&"put {}".to_owned()));
    handle.send(Command::Promote).await.expect("promoted");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_rollout_that_was_killed_goes_on_where_it_was() {
    for step in 0..4 {
        let test = TestProject::new().await;
        let record = test.begin_with(|settings| settings.strategy = rolling("1", "0"));
        let handle = spawn(test.project.clone(), record);
        until_step(&handle, step).await;
        handle.stop();
        test.take_up().expect("unfinished").ended().await;
        check_promoted(&test);
        assert!(counts(&test).iter().all(|count| *count <= 5));
    }
}

#[tokio::test(start_paused = true)]
async fn linear_steps_go_up_by_the_same_share() {
    let test = TestProject::new().await;
    spawn(test.project.clone(), test.begin("linear=40"))
        .ended()
        .await;
    check_promoted(&test);
    assert_eq!(shares(&test), [40, 80, 100]);
}

#[tokio::test(start_paused = true)]
async fn all_at_once_waits_for_health_and_for_no_request() {
    let test = TestProject::new().await;
    test.proxy.set_idle(true);
    let handle = spawn(test.project.clone(), test.begin("all-at-once"));
    until(&handle, Phase::Baking).await;
    assert_eq!(test.running(), running(&[("1.0.0", 4), ("2.0.0", 4)]));
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_step_lasts_as_long_as_it_says() {
    let test = TestProject::new().await;
    let handle = spawn(test.project.clone(), test.begin("steps=10:1m,100"));
    until_step(&handle, 0).await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(handle.live().record.step, 0);
    assert_eq!(handle.live().record.paused, None, "longer than max_hold");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_gate_waits_until_the_user_agrees() {
    let test = TestProject::new().await;
    let handle = spawn(
        test.project.clone(),
        test.begin("steps=10:gate,50,100:gate"),
    );
    until_paused(&handle).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let record = handle.live().record;
    let paused = record.paused.expect("a reason");
    assert!(paused.contains("gate: `crossfade resume`"), "{paused}");
    assert_eq!((record.phase, record.step), (Phase::Shifting, 0));

    // A controller that was killed at the gate still waits there.
    handle.stop();
    let handle = test.take_up().expect("unfinished");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.live().record.step, 0);

    handle.send(Command::Resume).await.expect("resumed");
    until_step(&handle, 2).await;
    until_paused(&handle).await;
    assert_eq!(test.proxy.split(), split(&[("1.0.0", 0), ("2.0.0", 100)]));
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_turns_bad_at_a_gate_is_rolled_back() {
    let test = TestProject::new().await;
    let handle = spawn(test.project.clone(), test.begin("steps=10:gate,100"));
    until_paused(&handle).await;
    test.proxy.fail("2.0.0", 50);
    handle.ended().await;
    check_rolled_back(&test, "requests failed");
}

#[tokio::test(start_paused = true)]
async fn who_pauses_before_the_gate_has_not_agreed_to_it() {
    let test = TestProject::new().await;
    let handle = spawn(test.project.clone(), test.begin("steps=10:gate,100"));
    until(&handle, Phase::Shifting).await;
    handle.send(Command::Pause).await.expect("paused");
    handle.send(Command::Resume).await.expect("resumed");
    until_paused(&handle).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.live().record.step, 0);
    handle.send(Command::Promote).await.expect("promoted");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_scaled_has_both_versions_in_proportion() {
    let test = TestProject::new().await;
    let handle = spawn(test.project.clone(), test.begin("steps=50:10m,100"));
    until_step(&handle, 0).await;
    let began = test.project.clock.now();
    let scaled = |want: &'static [(&'static str, usize)]| {
        let test = &test;
        async move {
            let done = async {
                while test.running() != running(want) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let done = tokio::time::timeout(LONG, done).await;
            assert!(done.is_ok(), "{:?}", test.running());
        }
    };
    let said = handle.send(Command::Scale(8)).await.expect("scaled");
    assert_eq!(
        said,
        "web is scaled from 4 to 8 containers, 1.0.0 and 2.0.0 in proportion"
    );
    scaled(&[("1.0.0", 8), ("2.0.0", 4)]).await;
    handle.send(Command::Scale(2)).await.expect("scaled");
    scaled(&[("1.0.0", 2), ("2.0.0", 1)]).await;
    check_order(&test.calls.all());
    let record = handle.live().record;
    assert_eq!((record.phase, record.step), (Phase::Shifting, 0));
    assert!(record.phase_since <= began, "the step has not begun anew");
    assert_eq!(test.proxy.split(), split(&[("1.0.0", 50), ("2.0.0", 50)]));

    handle.send(Command::Promote).await.expect("promoted");
    until(&handle, Phase::Baking).await;
    let since = handle.live().record.phase_since;
    handle.send(Command::Scale(3)).await.expect("scaled");
    scaled(&[("1.0.0", 3), ("2.0.0", 3)]).await;
    assert_eq!(handle.live().record.phase_since, since, "the bake goes on");
    handle.ended().await;
    assert_eq!(test.running(), running(&[("2.0.0", 3)]));
    assert_eq!(test.project.service("web").expect("there").replicas, 3);
}
