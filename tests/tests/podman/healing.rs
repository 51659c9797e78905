//! What only podman has: an infra container that can die, strays with our labels, names that others take.

use std::time::Duration;

use libtest_mimic::Completion;
use rustix::process::{Pid, Signal, kill_process};
use tests::{AdminPort, On, Settings, TestProject, podman, wait_until};

const IMAGE: &str = "localhost/crossfade-sample-server:2.0.0";

pub(crate) async fn a_holder_that_dies_or_is_taken_away_is_made_again_and_the_proxy_with_it() {
    let project = TestProject::up(On::Podman, &Settings::default()).await;
    let infra = format!("{}-holder", project.name);
    let doctor = project.run(&["doctor"]).await;
    for finding in [
        format!("ok    infra: {infra} runs"),
        "ok    sockets: the proxy has the host's sockets".to_owned(),
    ] {
        assert!(doctor.stdout.contains(&finding), "{doctor:#?}");
    }
    for fault_injection in [
        &["kill", "--signal", "KILL", &infra][..],
        &["rm", "--force", "--depend", "--time", "0", &infra],
    ] {
        let before = running(&infra).unwrap();
        // The controller may make a new proxy in the infra container while podman takes the one before away.
        wait_until("podman does it", || async {
            podman(fault_injection).is_ok()
        })
        .await;
        // Clients are served meanwhile, by the proxy that has the host's sockets.
        wait_until("it is made again", || async {
            running(&infra).is_some_and(|now| now != before)
        })
        .await;
        project.until_serving(Duration::from_secs(30)).await;
        project.until_whole(&[("1.0.0", 2)]).await;
        let admin = AdminPort::of(&project);
        let before = admin.requests().await;
        let load = project.load();
        wait_until("clients are served", || async {
            admin.requests().await > before
        })
        .await;
        load.stop().await.expect_no_failure();
    }
    let mut events = project.events().await;
    let again = format!("started again: {infra}");
    events.retain(|event| event.starts_with("proxy: ") && event.contains(&again));
    assert!(events.len() >= 2, "the history lacks one: {events:#?}");
    let (died, gone) = (&events[0], &events[1]);
    let exited = format!("proxy: {infra} exited with code 137");
    assert!(died.starts_with(&exited), "{died}");
    assert!(gone.contains("-proxy is gone"), "{gone}");
}

/// The id of a container, if it runs.
fn running(name: &str) -> Option<String> {
    let format = "{{.Id}} {{.State.Running}}";
    let found = podman(&["container", "inspect", "--format", format, name]).ok()?;
    let id = found.strip_suffix(" true")?;
    Some(id.to_owned())
}

pub(crate) async fn a_stray_with_our_labels_is_taken_away_and_a_stranger_whose_name_we_want_stays()
{
    let settings = Settings {
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::up(On::Podman, &settings).await;
    let label = |key: &str, value: &str| format!("--label=io.crossfade.{key}={value}");
    let stray = format!("{}-stray", project.name);
    let network = format!("--network={}", project.name);
    let labels = [
        label("project", &project.name),
        label("role", "endpoint"),
        label("service", "web"),
        label("version", "1.0.0"),
        label("port", "8080"),
    ];
    let mut run = vec!["run", "--detach", "--name", &stray, &network];
    run.extend(labels.iter().map(String::as_str));
    run.push(IMAGE);
    let load = project.load();
    podman(&run).unwrap();
    project.until_gone(&stray).await;
    project.until_whole(&[("1.0.0", 2)]).await;
    let events = project.events().await;
    let said = events
        .iter()
        .any(|event| event.contains("no longer needed") && event.contains(&stray));
    assert!(said, "{events:#?}");

    // As the candidate's first container would be called.
    let stranger = format!("{}-web-2.0.0-2-1", project.name);
    podman(&[
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        &stranger,
        IMAGE,
    ])
    .unwrap();
    let deployed = project.run(&project.deploy("2.0.0", &["--wait"])).await;
    let state = podman(&["inspect", "--format", "{{.State.Status}}", &stranger]);
    podman(&["rm", "--force", "--time", "0", &stranger]).unwrap();
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    assert_eq!(state.as_deref(), Ok("running"));
    project.until_whole(&[("2.0.0", 2)]).await;
    load.stop().await.expect_no_failure();
}

pub(crate) async fn an_api_that_is_killed_in_the_middle_of_a_rollout_is_started_again_and_no_version_is_judged()
-> Completion {
    let settings = Settings {
        step: "2s",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::up(On::Podman, &settings).await;
    if services_of(&project).is_empty() {
        return Completion::ignored_with("podman's API runs here already: it is not ours to kill");
    }
    let load = project.load();
    let deploy = project.start(&project.deploy("2.0.0", &["--wait"]));
    for share in [10.0, 50.0] {
        project.until_share("2.0.0", share).await;
        for pid in services_of(&project) {
            kill_process(pid, Signal::KILL).unwrap();
        }
    }
    let deployed = deploy.finished_within(Duration::from_secs(90)).await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    project.until_whole(&[("2.0.0", 2)]).await;
    load.stop().await.expect_no_failure();
    Completion::Completed
}

/// The processes of the API that this project's controller has started.
fn services_of(project: &TestProject) -> Vec<Pid> {
    let socket = project.state().join("podman.sock").display().to_string();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&socket) {
            let pid = process.file_name().to_string_lossy().parse().ok();
            found.extend(pid.and_then(Pid::from_raw));
        }
    }
    found
}
