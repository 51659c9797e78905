//! A controller that is there and does nothing.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::{On, Settings, TestProject, get};

#[tokio::test]
async fn a_controller_that_hangs_is_named_by_every_verb_within_10_seconds() {
    let project = TestProject::up(On::Processes, &Settings::default()).await;
    let controller = project.controller();
    let pid = Pid::from_raw(controller).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let began = Instant::now();
    let holds = format!("process {controller}, the controller, holds ");
    let ends = format!("`kill -9 {controller}` ends it");
    let says = [holds.as_str(), "has not responded", ends.as_str()];
    let deploy = project.deploy("2.0.0", &["--wait"]);
    let verbs: [&[&str]; 7] = [
        &["status"],
        &["history"],
        &["up"],
        &["logs", "web"],
        &["events", "--follow"],
        &deploy,
        &["down"],
    ];
    // All have begun before the first one is waited for.
    for refused in verbs.map(|verb| project.refused(verb, 69, &says)) {
        refused.await;
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(get(project.address, "/").await.status, 200);

    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(project.web().await["stable"], "1.0.0");
    assert_eq!(project.controller(), controller, "no other was started");
}

#[tokio::test]
async fn a_controller_that_hangs_in_the_middle_of_a_verb_is_named_too() {
    let settings = Settings {
        step: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(On::Processes, &settings).await;
    let waiting = project.start(&project.deploy("2.0.0", &["--wait"]));
    waiting.line_with("must be healthy").await;
    let pid = Pid::from_raw(project.controller()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let began = Instant::now();
    let finished = waiting.finished_within(Duration::from_secs(60)).await;
    assert_eq!(finished.code, Some(69), "{finished:#?}");
    assert!(finished.stderr.contains(" holds "), "{finished:#?}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
    kill_process(pid, Signal::CONT).unwrap();
}
