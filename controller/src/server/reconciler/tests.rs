//! The reconciler replaces what has died and removes strays, with a fake proxy and a fake runtime.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::*;
use crate::journal::Phase;
use crate::rollout::Command;
use crate::runtime::{ContainerState, label};
use crate::server::verbs::tests::{Tended, proxy};
use crate::testing::TestProject;

#[tokio::test(start_paused = true)]
async fn a_container_that_died_is_replaced_and_its_endpoint_swapped() {
    let tended = Tended::new().await;
    let before = tended.test.proxy.addresses();
    tended.test.runtime.exit("1.0.0", 137);
    let died = Instant::now();
    tended.until_whole(&["1.0.0"]).await;
    assert!(
        died.elapsed() < Duration::from_secs(1),
        "told by the engine"
    );
    assert_ne!(tended.test.proxy.addresses(), before);
    assert_eq!(tended.healed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_hangs_is_replaced_by_one_that_is_healthy_before_it_goes() {
    let tended = Tended::new().await;
    let hung = tended.test.proxy.addresses().into_iter().next();
    let hung = hung.expect("an endpoint");
    tended.test.proxy.take_down(&hung, "timed out");
    let fell = Instant::now();
    tended
        .until("replaced", |test| !test.runtime.addresses().contains(&hung))
        .await;
    assert!(
        fell.elapsed() > Duration::from_secs(30),
        "{:?}",
        fell.elapsed()
    );
    tended.until_whole(&["1.0.0"]).await;
    let calls = tended.test.calls.all();
    let at = |verb: &str| calls.iter().position(|call| call.starts_with(verb));
    let (start, receipt, stop) = (at("start "), at("receipt "), at("stop "));
    assert!(
        start.is_some() && start < receipt && receipt < stop,
        "{calls:#?}"
    );
    let texts: Vec<String> = tended
        .test
        .events()
        .into_iter()
        .map(|one| one.text)
        .collect();
    let said = |text: &str| texts.iter().any(|one| one.contains(text));
    assert!(
        said("s: timed out; another one is started in its place"),
        "{texts:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn containers_that_are_unhealthy_alike_stay() {
    let tended = Tended::new().await;
    tended.test.proxy.take_down("1.0.0", "responded with 503");
    sleep(Duration::from_secs(600)).await;
    tended.until_whole(&["1.0.0"]).await;
    let calls = tended.test.calls.all();
    let starts = |call: &&String| call.starts_with("start ") || call.starts_with("stop ");
    assert_eq!(calls.iter().filter(starts).count(), 0, "{calls:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_container_that_cannot_be_taken_away_is_replaced_and_told() {
    let tended = Tended::new().await;
    let runtime = &tended.test.runtime;
    runtime.keeps_dead.store(true, Ordering::Relaxed);
    runtime.exit("1.0.0", 137);
    tended
        .until("replaced", |test| {
            test.running()["1.0.0"] == 4 && test.proxy.addresses() == test.runtime.addresses()
        })
        .await;
    let names: BTreeSet<String> = runtime
        .containers()
        .iter()
        .map(|one| one.name.clone())
        .collect();
    assert_eq!(names.len(), 5, "the dead one keeps its name: {names:?}");
    tended
        .until("told", |_| {
            let last_error = lock(&tended.up.last_error);
            let says = |one: &Unsolved| one.why.contains("cannot be removed");
            last_error.iter().any(says)
        })
        .await;

    runtime.keeps_dead.store(false, Ordering::Relaxed);
    tended
        .until("taken away", |test| test.runtime.containers().len() == 4)
        .await;
    tended
        .until("nothing is left to tell", |_| {
            lock(&tended.up.last_error).is_empty()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_died_with_the_machine_and_cannot_be_taken_away_holds_nothing_up() {
    let tended = Tended::new().await;
    let runtime = &tended.test.runtime;
    runtime.keeps_dead.store(true, Ordering::Relaxed);
    runtime.exit("1.0.0", 137);
    let controller = Controller::new(
        tended.test.dir().to_owned(),
        tended.test.project.journal.clone(),
    );
    let cleared = controller.clear_after_boot(&tended.up, "an earlier start");
    cleared.await.expect("it goes on without");
    let four = |test: &TestProject| test.running().get("1.0.0") == Some(&4);
    tended.until("replaced", four).await;
    assert_eq!(runtime.containers().len(), 5, "the dead one is still there");
    runtime.keeps_dead.store(false, Ordering::Relaxed);
    tended.until_whole(&["1.0.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn what_dies_of_stable_during_a_rollout_is_replaced_too() {
    for phase in [Phase::Checking, Phase::Shifting, Phase::Baking] {
        let tended = Tended::new().await;
        tended.test.proxy.set_idle(true);
        let handle = tended.rollout_in(Phase::Checking).await;
        if phase != Phase::Checking {
            tended.test.proxy.set_idle(false);
            let mut live = handle.watch();
            let there = live.wait_for(|live| live.record.phase == phase).await;
            there.expect("it gets there");
        }
        tended.test.runtime.exit("1.0.0", 1);
        tended
            .until("1.0.0 × 4 again", |test| {
                test.running()["1.0.0"] == 4 && test.proxy.addresses() == test.runtime.addresses()
            })
            .await;
        tended.test.proxy.set_idle(false);
        handle.ended().await;
        assert_eq!(
            handle.live().record.phase,
            Phase::Done,
            "2.0.0 was not blamed"
        );
        tended.until_whole(&["2.0.0"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_taken_away_by_hand_and_one_with_a_new_address_are_seen_to() {
    let tended = Tended::new().await;
    tended.test.runtime.containers().remove(0);
    tended.until_whole(&["1.0.0"]).await;
    let new = "10.1.1.1:8080".parse().expect("an address");
    tended.test.runtime.containers()[0].address = Some(new);
    tended.until_whole(&["1.0.0"]).await;
    assert!(tended.test.proxy.addresses().contains("10.1.1.1:8080"));
}

#[tokio::test(start_paused = true)]
async fn a_stray_container_is_drained_and_removed() {
    let tended = Tended::new().await;
    let mut stray = tended.test.runtime.containers()[0].clone();
    stray.id = "id-stray".into();
    stray.name = "crossfade-web-0.9.0-9-1".into();
    stray.labels.insert(label::VERSION.into(), "0.9.0".into());
    stray
        .labels
        .extend([crate::project::containers::label_of_version(9)]);
    stray.address = "10.1.1.9:8080".parse().ok();
    tended.test.runtime.containers().push(stray);
    tended.until_whole(&["1.0.0"]).await;
    let calls = tended.test.calls.all();
    let at = |call: &str| calls.iter().position(|one| one == call);
    let (receipt, stop) = (at("receipt 0.9.0"), at("stop stray"));
    assert!(receipt.is_some() && receipt < stop, "{calls:#?}");
    assert!(tended.healed() > 0, "the history says so");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_stepped_around() {
    let tended = Tended::new().await;
    let names = [1, 2, 5].map(|n| format!("crossfade-web-2.0.0-2-{n}"));
    tended.test.runtime.foreign(&names[..2]);
    tended.test.runtime.forgotten(&names[2..]);
    tended.rollout_in(Phase::Done).await;
    tended.until_whole(&["2.0.0"]).await;
    let containers = tended.test.runtime.containers().clone();
    assert!(containers.iter().all(|one| !names.contains(&one.name)));
}

#[tokio::test(start_paused = true)]
async fn a_scale_that_was_cut_short_is_finished() {
    let tended = Tended::new().await;
    let journal = &tended.test.project.journal;
    journal.set_replicas("web", 2).expect("recorded");
    tended
        .until("1.0.0 × 2", |test| test.running()["1.0.0"] == 2)
        .await;
    journal.set_replicas("web", 4).expect("recorded");
    tended.until_whole(&["1.0.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_away_holds_up_no_healing_and_is_told_when_it_is_back() {
    let tended = Tended::new().await;
    let runtime = &tended.test.runtime;
    runtime.containers().push(proxy());
    tended.test.proxy.set_away(true);
    runtime.exit("1.0.0", 1);
    let dead = |test: &TestProject| {
        let containers = test.runtime.containers();
        containers
            .iter()
            .any(|one| one.state != ContainerState::Running)
    };
    tended
        .until("replaced without a proxy", |test| {
            test.running()["1.0.0"] == 4 && !dead(test)
        })
        .await;
    tended.test.proxy.set_away(false);
    tended.test.proxy.forget();
    tended.until_whole(&["1.0.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_proxy_that_no_journal_has_is_taken_out() {
    let tended = Tended::new().await;
    tended.test.runtime.containers().push(proxy());
    tended.test.proxy.add("old");
    tended
        .until("taken out", |test| test.proxy.others().is_empty())
        .await;
    assert_eq!(
        tended.test.proxy.split(),
        [("1.0.0".to_owned(), 100)].into()
    );
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_away_blocks_promotion_and_not_the_record_of_a_rollback() {
    let tended = Tended::new().await;
    let handle = tended.rollout_in(Phase::Shifting).await;
    tended.test.runtime.containers().push(proxy());
    tended.test.proxy.set_away(true);
    let sending = handle.clone();
    let promoted = tokio::spawn(async move { sending.send(Command::Promote).await });
    sleep(Duration::from_secs(120)).await;
    promoted.await.expect("responded").expect("written down");
    let stable = |of: &Tended| {
        of.test
            .project
            .service("web")
            .expect("there")
            .stable
            .version
    };
    assert_eq!(handle.live().record.phase, Phase::Promoting);
    assert_eq!(stable(&tended), "1.0.0", "2.0.0 has not got its requests");

    let why = "not while the proxy is away".to_owned();
    handle
        .send(Command::Abort { why })
        .await
        .expect("written down");
    assert_eq!(handle.live().record.phase, Phase::RollingBack);
    assert_eq!(stable(&tended), "1.0.0");
    tended.test.proxy.set_away(false);
    handle.ended().await;
    tended.until_whole(&["1.0.0"]).await;
    assert_eq!(
        tended.test.proxy.split(),
        [("1.0.0".to_owned(), 100)].into()
    );
}

/// What the history has of this kind.
fn texts(tended: &Tended, kind: &str) -> Vec<String> {
    let events = tended.test.events().into_iter();
    let of_kind = events.filter(|event| event.kind == kind);
    of_kind.map(|event| event.text).collect()
}

#[tokio::test(start_paused = true)]
async fn the_history_has_how_a_container_ended_once_and_how_many_took_places() {
    let tended = Tended::new().await;
    let runtime = &tended.test.runtime;
    runtime.keeps_dead.store(true, Ordering::Relaxed);
    runtime.exit("1.0.0", 137);
    tended
        .until("replaced", |test| test.running()["1.0.0"] == 4)
        .await;
    sleep(Duration::from_secs(300)).await;
    let died = texts(&tended, "died");
    assert_eq!(died.len(), 1, "{died:#?}");
    assert!(died[0].contains(" exited with code 137"), "{died:#?}");
    let events = tended.test.events();
    let healed = events.iter().find(|event| event.kind == "healed");
    let stats = healed.and_then(|event| event.stats.clone());
    let stats = stats.expect("how many of which version");
    assert_eq!(stats, serde_json::json!({ "restarts": { "1.0.0": 1 } }));
}

#[tokio::test(start_paused = true)]
async fn the_history_has_what_was_unhealthy_and_for_how_long_and_no_generation_comes_of_it() {
    let tended = Tended::new().await;
    let generation = || {
        let journal = &tended.test.project.journal;
        journal.generation("web").expect("read")
    };
    let before = generation();
    let one = "10.0.0.2:8080";
    sleep(Duration::from_secs(4)).await;
    tended.test.proxy.take_down(one, "timed out");
    sleep(Duration::from_secs(12)).await;
    tended.test.proxy.bring_up(one);
    sleep(Duration::from_secs(4)).await;
    let (fell, recovered) = (texts(&tended, "unhealthy"), texts(&tended, "healed"));
    let ([fell], [recovered]) = (fell.as_slice(), recovered.as_slice()) else {
        panic!("{fell:#?} {recovered:#?}");
    };
    assert!(fell.ends_with(" is unhealthy: timed out"), "{fell}");
    let seconds = recovered.split("it was unhealthy for ").nth(1);
    let seconds = seconds.and_then(|text| text.strip_suffix(" s"));
    let seconds: u64 = seconds.expect("how long").parse().expect("a number");
    assert!((10..=14).contains(&seconds), "{recovered}");
    assert_eq!(generation(), before, "no user has changed anything");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_another_program_has_restarted_is_in_the_history() {
    let tended = Tended::new().await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(texts(&tended, "proxy"), [""; 0]);
    tended.test.proxy.restart();
    sleep(Duration::from_secs(10)).await;
    let said = texts(&tended, "proxy");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("another process than before"), "{said:#?}");
}
