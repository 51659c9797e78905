//! Which containers are started, retired or kept, by the state of the service's rollout.

use std::collections::BTreeMap;

use super::*;
use crate::manifest::ContainerTemplate;
use crate::plan::{Step, Strategy};
use crate::project::containers::label_of_version;

fn version(id: i64) -> VersionRecord {
    VersionRecord {
        id,
        service: "web".into(),
        version: format!("{id}.0.0"),
        image: "web".into(),
        resolved: "web".into(),
        pull_name: None,
        template: ContainerTemplate::default(),
        by_hand: None,
    }
}

fn service(stable: i64, replicas: u32) -> ServiceRecord {
    ServiceRecord {
        name: "web".into(),
        stable: version(stable),
        previous: None,
        replicas,
        split: BTreeMap::new(),
        requested: None,
        maintenance: None,
    }
}

/// From 1.0.0 to 2.0.0.
fn rollout(phase: Phase) -> RolloutRecord {
    RolloutRecord {
        phase,
        ..crate::testing::rollout(version(1), version(2))
    }
}

/// `2-1` runs and is the first container of version 2; `2-1!` has died.
fn container(text: &str) -> Container {
    let name = text.trim_end_matches('!');
    let (version, _) = name.split_once('-').expect("version and number");
    Container {
        id: name.into(),
        name: format!("web-{name}"),
        image: "web".into(),
        labels: BTreeMap::from([label_of_version(version.parse().expect("a number"))]),
        state: match text.ends_with('!') {
            true => ContainerState::Exited(Some(1)),
            false => ContainerState::Running,
        },
        address: None,
    }
}

#[track_caller]
fn check(
    stable: i64,
    phase: Option<Phase>,
    containers: &[&str],
    short: &[(i64, u32)],
    extra: &[&str],
) {
    let containers: Vec<Container> = containers.iter().map(|text| container(text)).collect();
    let rollout = phase.map(rollout);
    let wanted = wanted(&service(stable, 2), rollout.as_ref());
    let actions = compare(&wanted, &containers, &Unfit::default());
    let got: Vec<(i64, u32)> = actions
        .short
        .iter()
        .map(|(of, count)| (of.id, *count))
        .collect();
    assert_eq!(got, short, "short");
    let got: Vec<&str> = actions.extra.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(got, extra, "extra");
}

#[test]
fn without_a_rollout_stable_has_its_number_and_no_other_version_a_place() {
    check(1, None, &["1-1", "1-2"], &[], &[]);
    check(1, None, &[], &[(1, 2)], &[]);
    check(1, None, &["1-1", "1-2!"], &[(1, 2)], &[]);
    // Enough of them run, and one is to be cleared away.
    check(1, None, &["1-1", "1-2", "1-3!"], &[(1, 2)], &[]);
    check(
        1,
        None,
        &["1-1", "1-10", "1-2", "1-3"],
        &[],
        &["1-3", "1-10"],
    );
    check(
        1,
        None,
        &["1-1", "1-2", "2-1", "3-1!"],
        &[],
        &["2-1", "3-1"],
    );
}

#[test]
fn beside_one_that_is_given_up_another_is_started_and_the_unhealthy_go_first() {
    let containers: Vec<Container> = ["1-1", "1-2", "1-3"].map(container).into();
    let wanted = wanted(&service(1, 2), None);
    let names = |actions: &Actions<'_>| -> Vec<String> {
        actions.extra.iter().map(|one| one.id.clone()).collect()
    };
    let unhealthy = [("web-1-1".to_owned(), 1), ("web-1-2".to_owned(), 2)];
    let mut unfit = Unfit {
        unhealthy: unhealthy.into(),
        ..Unfit::default()
    };
    assert_eq!(names(&compare(&wanted, &containers, &unfit)), ["1-2"]);

    unfit.given_up.insert("web-1-1".into());
    let there = compare(&wanted, &containers, &unfit);
    assert_eq!(there, Actions::default(), "the third took the place");
    let before = compare(&wanted, &containers[..2], &unfit);
    let short: Vec<u32> = before.short.iter().map(|(_, count)| *count).collect();
    assert_eq!(short, [3], "one more than wanted");
    assert_eq!(before.extra, Vec::<&Container>::new());
}

#[test]
fn stable_is_healed_while_a_candidate_is_judged_by_its_dead() {
    for phase in [
        Phase::Starting,
        Phase::Checking,
        Phase::Shifting,
        Phase::Promoting,
        Phase::RollingBack,
    ] {
        check(1, Some(phase), &["1-1", "1-2!", "2-1!"], &[(1, 2)], &[]);
        check(1, Some(phase), &["1-1", "1-2", "2-1", "3-1"], &[], &["3-1"]);
    }
}

#[test]
fn the_warm_version_is_healed_until_it_is_drained() {
    check(
        2,
        Some(Phase::Baking),
        &["1-1!", "1-2", "2-1", "2-2"],
        &[(1, 2)],
        &[],
    );
    check(
        2,
        Some(Phase::Draining),
        &["1-1!", "2-1", "2-2!"],
        &[(2, 2)],
        &[],
    );
}

#[test]
fn what_a_step_has_taken_away_is_not_brought_back() {
    let mut rollout = rollout(Phase::Shifting);
    rollout.steps = [Some(1), Some(0)]
        .map(|stable| Step {
            stable,
            ..Strategy::BlueGreen.steps(2)[0]
        })
        .to_vec();
    let number = |rollout: &RolloutRecord| wanted(&service(1, 2), Some(rollout))[0].number;
    assert_eq!(number(&rollout), Number::AtLeast(1));
    (rollout.phase, rollout.step) = (Phase::Baking, 2);
    assert_eq!(number(&rollout), Number::AtLeast(0));
    rollout.phase = Phase::RollingBack;
    assert_eq!(number(&rollout), Number::AtLeast(2));
}

#[test]
fn what_a_split_by_hand_has_brought_back_is_kept() {
    let mut rollout = rollout(Phase::Baking);
    rollout.steps = Strategy::BlueGreen.steps(2);
    rollout.steps[0].stable = Some(0);
    for (weight, kept) in [(0, 0), (10, 1), (50, 1), (51, 2), (100, 2)] {
        let split = [("1.0.0", weight), ("2.0.0", 100 - weight)];
        rollout.hand_split = Some(split.map(|(of, weight)| (of.to_owned(), weight)).into());
        let wanted = wanted(&service(1, 2), Some(&rollout));
        assert_eq!(wanted[0].number, Number::AtLeast(kept), "{weight}%");
    }
}

#[test]
fn a_rollout_that_is_over_protects_nothing() {
    check(2, Some(Phase::Done), &["1-1", "2-1", "2-2"], &[], &["1-1"]);
    check(
        1,
        Some(Phase::RolledBack),
        &["1-1", "1-2", "2-1"],
        &[],
        &["2-1"],
    );
}
