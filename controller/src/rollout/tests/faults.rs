//! What goes wrong around a rollout and says nothing about its candidate: it waits, loses nothing,
//! and ends as it would have.

use super::*;
use crate::plan::RolloutSettings;

const PHASES: [Phase; 6] = [
    Phase::Starting,
    Phase::Checking,
    Phase::Shifting,
    Phase::Promoting,
    Phase::Baking,
    Phase::Draining,
];

/// It is where it was, judges no version, and reports the error.
#[track_caller]
fn check_waiting(handle: &Handle, says: &str) {
    let live = handle.live();
    assert!(!live.record.phase.is_over(), "{:?}", live.record.phase);
    assert_ne!(live.record.phase, Phase::RollingBack);
    let last_error = live.last_error.expect("it says so");
    assert!(last_error.contains(says), "{last_error}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_whose_socket_is_gone_in_any_phase_is_waited_for() {
    for phase in PHASES {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.runtime.away.store(true, Ordering::Relaxed);
        tokio::time::sleep(LONG).await;
        check_waiting(&handle, "its socket is gone");
        test.runtime.away.store(false, Ordering::Relaxed);
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_has_another_token_is_waited_for_and_not_held_against_the_candidate() {
    for phase in PHASES {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.proxy.set_locked(true);
        tokio::time::sleep(LONG).await;
        check_waiting(&handle, "the token is wrong");
        test.proxy.set_locked(false);
        handle.ended().await;
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_full_pauses_a_rollout_in_any_phase_and_nothing_is_lost() {
    for phase in PHASES {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, phase).await;
        test.project.journal.fill_disk();
        tokio::time::sleep(LONG).await;
        check_waiting(&handle, "the journal cannot be used");
        test.project.journal.make_room();
        handle.ended().await;
        check_promoted(&test);
        let phases = kinds(&test);
        assert_eq!(phases.last().map(String::as_str), Some("done"));
        let once: BTreeMap<&String, usize> =
            phases.iter().fold(BTreeMap::new(), |mut counts, kind| {
                *counts.entry(kind).or_default() += 1;
                counts
            });
        let missing = PHASES
            .iter()
            .filter(|phase| **phase != Phase::Starting && !once.contains_key(&phase.to_string()));
        assert_eq!(missing.count(), 0, "{phases:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_candidate_is_gone_back_from_when_there_is_room_again() {
    let test = TestProject::new().await;
    let handle = test.canary();
    until(&handle, Phase::Shifting).await;
    test.project.journal.fill_disk();
    test.proxy.fail("2.0.0", 50);
    tokio::time::sleep(LONG).await;
    assert!(!handle.live().record.phase.is_over());
    test.project.journal.make_room();
    handle.ended().await;
    check_rolled_back(&test, "requests failed");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumped_while_no_controller_ran_keeps_no_version_warm_for_ever() {
    for jump in [-86_400_000, 86_400_000] {
        let test = TestProject::new().await;
        let handle = test.canary();
        until(&handle, Phase::Baking).await;
        handle.stop();
        test.project.journal.jump(jump);
        let handle = test.take_up().expect("unfinished");
        let ended = tokio::time::timeout(Duration::from_secs(30), handle.ended()).await;
        assert!(ended.is_ok(), "it bakes for 5s: {:?}", handle.live().record);
        check_promoted(&test);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumped_shortens_no_step() {
    let test = TestProject::new().await;
    let long = |settings: &mut RolloutSettings| settings.step_min_duration = Period::from_secs(60);
    let handle = spawn(test.project.clone(), test.begin_with(long));
    until(&handle, Phase::Shifting).await;
    handle.stop();
    test.project.journal.jump(-86_400_000);
    let handle = test.take_up().expect("unfinished");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        (handle.live().record.phase, handle.live().record.step),
        (Phase::Shifting, 0)
    );
}
