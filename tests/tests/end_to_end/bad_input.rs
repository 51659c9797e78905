//! What people get wrong, and what is missing: one clear message, the exit code that `--help`
//! has, and nothing half-done.

use std::net::TcpListener;

use rustix::process::Signal;
use tests::{Finished, Load, On, Settings, TestProject, wait_until};

/// A project with a rollout of 2.0.0 that stays at 10%.
async fn in_a_rollout() -> TestProject {
    let settings = Settings {
        step: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(On::Processes, &settings).await;
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    project
}

/// The same split, and the same processes behind it.
async fn state_of(project: &TestProject) -> (serde_json::Value, Vec<String>) {
    project.until_standby().await;
    let mut web = project.web().await;
    let versions = web["versions"].as_array_mut().unwrap();
    for version in versions {
        for figure in [
            "requests",
            "failures",
            "success_rate",
            "in_flight",
            "last_minute",
        ] {
            version.as_object_mut().unwrap().remove(figure);
        }
    }
    (web["versions"].take(), project.traces())
}

#[tokio::test]
async fn a_wrong_name_or_weight_changes_nothing_and_says_what_would_be_right() {
    let project = in_a_rollout().await;
    let load = project.load();
    let before = state_of(&project).await;
    let refused = async |args: &[&str], says: &[&str]| {
        project.refused(args, 64, says).await;
        assert_eq!(state_of(&project).await, before, "{args:?}");
    };
    let service = ["no service `wbe`, only web", "did you mean `web`?"];
    refused(&["split", "wbe", "1.0.0=1"], &service).await;
    refused(
        &["deploy", "wbe", "--image", "x", "--version", "3.0.0"],
        &service,
    )
    .await;
    for verb in ["promote", "abort", "pause", "resume", "rollback", "logs"] {
        refused(&[verb, "wbe"], &service).await;
    }
    refused(&["scale", "wbe", "3"], &service).await;
    refused(&["history", "wbe"], &service).await;

    refused(
        &["split", "web", "1.0.0=50", "2.0.1=50"],
        &["no running version `2.0.1`, only 1.0.0, 2.0.0"],
    )
    .await;
    refused(
        &["rollback", "web", "--to", "1.0.1"],
        &["no version of web `1.0.1`, only "],
    )
    .await;
    for wrong in [
        "2.0.0=-1",
        "2.0.0=ten",
        "2.0.0=1.5",
        "2.0.0=",
        "2.0.0=1000001",
    ] {
        let says = format!("{wrong}: a weight is a whole number from 0 to 1000000");
        refused(&["split", "web", "1.0.0=50", wrong], &[&says]).await;
    }
    refused(
        &["split", "web", "1.0.0=0", "2.0.0=0"],
        &["every weight is 0", "give at least one of them 1 or more"],
    )
    .await;
    refused(&["split", "web", "2.0.0"], &["VERSION=WEIGHT"]).await;
    refused(
        &["split", "web", "2.0.0=1", "2.0.0=2"],
        &["2.0.0 is given twice"],
    )
    .await;
    load.stop().await.expect_no_failure();
}

#[tokio::test]
async fn wrong_flags_of_deploy_are_named_and_begin_nothing() {
    let project = TestProject::up(On::Processes, &Settings::default()).await;
    project.until_standby().await;
    let traces = project.traces();
    for (flags, says) in [
        (["--strategy", "canarry"], "--strategy"),
        (["--strategy", "steps=50,10"], "--strategy"),
        (["--success-rate", "101"], "--success-rate"),
        (
            ["--env", "novalue"],
            "--env novalue: write it as NAME=value",
        ),
    ] {
        project
            .refused(&project.deploy("2.0.0", &flags), 64, &[says])
            .await;
    }
    project
        .refused(
            &["deploy", "web", "--image", "crossfade-sample-server"],
            64,
            &["`crossfade-sample-server` has no tag", "add --version"],
        )
        .await;
    project
        .refused(&project.deploy("no spaces", &[]), 64, &["--version"])
        .await;
    // The command line's own reader has more to say than one line.
    for args in [&["deploy"][..], &["deploi"], &["scale", "web", "-1"]] {
        let finished = project.run(args).await;
        assert_eq!(finished.code, Some(64), "{finished:#?}");
    }
    assert_eq!(project.history().await["rollouts"], serde_json::json!([]));
    assert_eq!(project.traces(), traces);
}

#[tokio::test]
async fn a_second_deploy_waits_for_its_turn_and_one_of_what_runs_is_done_already() {
    let project = in_a_rollout().await;
    let before = state_of(&project).await;
    for version in ["2.0.0", "2.1.0"] {
        project
            .refused(
                &project.deploy(version, &[]),
                1,
                &[
                    "rollout 1 (web 1.0.0 → 2.0.0) is running",
                    "`crossfade promote` or `crossfade abort` ends it",
                ],
            )
            .await;
    }
    // Nothing would be left to compare the candidate with.
    project
        .refused(
            &["scale", "web", "0"],
            1,
            &["rollout 1 (web 1.0.0 → 2.0.0) is running"],
        )
        .await;
    assert_eq!(state_of(&project).await, before);
    project.must(&["abort"]).await;
    project.until_phase("rolled-back").await;
    for verb in ["abort", "promote", "pause", "resume"] {
        project
            .refused(&[verb], 1, &["no rollout is running"])
            .await;
        project
            .refused(&[verb, "web"], 1, &["no rollout of web is running"])
            .await;
    }

    let said = project.must(&project.deploy("1.0.0", &["--wait"])).await;
    assert_eq!(said.trim(), "web already runs 1.0.0: nothing to do");
    project
        .refused(
            &project.deploy("1.0.0", &["--env", "LATENCY=1ms"]),
            64,
            &["web already runs 1.0.0 with another image or other settings"],
        )
        .await;
    let rollouts = project.history().await["rollouts"].clone();
    assert_eq!(rollouts.as_array().unwrap().len(), 1, "{rollouts:#}");
}

#[tokio::test]
async fn a_manifest_that_is_wrong_is_named_with_line_field_and_the_key_that_was_meant() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let good = project.manifest(&Settings::default());
    let line = good.lines().position(|line| line.starts_with("replicas"));
    let place = format!("crossfade.toml:{}: services[0].replicsa", line.unwrap() + 1);
    for (from, to, says) in [
        ("replicas", "replicsa", [place.as_str(), "`replicas`"]),
        (
            "replicas = 2",
            "replicas = \"two\"",
            ["replicas", "crossfade.toml:"],
        ),
        ("bake = \"1s\"", "bake = \"soon\"", ["bake", "soon"]),
        (
            "path = \"/healthz\"",
            "path = \"healthz\"",
            ["health.path", "crossfade.toml"],
        ),
        (
            "runtime = \"process\"",
            "runtime = \"docker\"",
            ["runtime", "process"],
        ),
        ("[[services]]", "[[services", ["crossfade.toml:", "error"]),
    ] {
        assert!(good.contains(from), "{from}");
        project.write_manifest(&good.replacen(from, to, 1));
        let finished = project.refused(&["up"], 64, &says).await;
        assert!(finished.stdout.is_empty(), "{finished:#?}");
        assert!(!project.state().exists(), "no controller was started");
    }
    std::fs::remove_file(project.file()).unwrap();
    let file = project.file().display().to_string();
    project.refused(&["up"], 64, &[&file]).await;
    assert!(!project.state().exists(), "no controller was started");

    // One that is up stays as it is.
    project.write_manifest(&good);
    project.must(&["up"]).await;
    let before = state_of(&project).await;
    project.write_manifest(&good.replace("replicas", "replicsa"));
    project.refused(&["up"], 64, &[&place]).await;
    project.write_manifest(&project.with_admin_port(&good));
    project
        .refused(&["up"], 1, &["proxy.admin_port: ", "run `crossfade down`"])
        .await;
    assert_eq!(state_of(&project).await, before);
}

#[tokio::test]
async fn where_nothing_is_up_every_verb_says_so_and_starts_nothing() {
    let project = TestProject::new(On::Processes, &Settings::default());
    for args in [
        &["status"][..],
        &["history"],
        &["split", "web", "1.0.0=1"],
        &["promote"],
        &["abort"],
        &["rollback", "web"],
        &["scale", "web", "2"],
        &["logs", "web"],
        &["deploy", "web", "--image", "x", "--version", "2"],
    ] {
        project
            .refused(
                args,
                69,
                &["no controller runs", "`crossfade up` starts one"],
            )
            .await;
        assert!(!project.state().exists(), "{args:?} made a state folder");
    }
    assert_eq!(project.traces(), [""; 0]);
    project.must(&["up"]).await;
    project.must(&["down"]).await;
    project.until_nothing_is_left().await;
    project
        .refused(
            &["status"],
            1,
            &["no project is up here", "run `crossfade up`"],
        )
        .await;
    let history = project.must(&["history"]).await;
    assert!(history.contains("web: up with 1.0.0 × 2"), "{history}");
    // The controllers that were started to respond have ended again.
    project.until_nothing_is_left().await;
}

/// Runs `up` with this in the environment, on the runtime that the manifest is made to ask for.
async fn up_with(project: &TestProject, runtime: &str, env: (&str, &str)) -> Finished {
    let manifest = project.manifest(&Settings::default());
    project.write_manifest(&manifest.replace("\"process\"", &format!("\"{runtime}\"")));
    project.start_with(&["up"], &[env]).finished().await
}

/// No podman to be found.
const NO_PODMAN: (&str, &str) = ("PATH", "/nonexistent");
/// One that does not respond.
const DEAD_PODMAN: (&str, &str) = ("CONTAINER_HOST", "unix:///nonexistent/podman.sock");

#[tokio::test]
async fn podman_that_is_missing_or_silent_is_exit_code_69_and_says_what_was_tried() {
    for (env, says) in [
        (NO_PODMAN, "podman"),
        (DEAD_PODMAN, "no response at the socket in CONTAINER_HOST"),
        (
            ("CONTAINER_HOST", "ssh://elsewhere"),
            "only unix:///path/to/socket is supported",
        ),
    ] {
        let project = TestProject::new(On::Processes, &Settings::default());
        let finished = up_with(&project, "podman", env).await;
        assert_eq!(finished.code, Some(69), "{finished:#?}");
        let start = "error: podman cannot be used: ";
        let one_line = finished.stderr.lines().count() == 1;
        assert!(
            one_line && finished.stderr.starts_with(start),
            "{finished:#?}"
        );
        assert!(finished.stderr.contains(says), "{finished:#?}");
        project.until_nothing_is_left().await;
        assert!(TcpListener::bind(project.address).is_ok());
        // What is cleared away afterwards needs no podman.
        project.write_manifest(&project.manifest(&Settings::default()));
    }
}

#[tokio::test]
async fn auto_takes_processes_where_podman_does_not_work_and_says_why() {
    for env in [NO_PODMAN, DEAD_PODMAN] {
        let project = TestProject::new(On::Processes, &Settings::default());
        let finished = up_with(&project, "auto", env).await;
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let says = "runs on processes of this host: podman cannot be used: ";
        assert!(finished.stdout.contains(says), "{finished:#?}");
        assert_eq!(project.status().await["runtime"], "process");
        let sent = Load::start(project.address, &["--rate", "0", "--count", "10"]);
        sent.finished().await.expect_no_failure();
    }
}

#[tokio::test]
async fn a_controller_that_is_started_twice_says_which_process_has_the_folder() {
    let project = TestProject::up(On::Processes, &Settings::default()).await;
    let before = state_of(&project).await;
    let finished = project.run(&["serve"]).await;
    assert_eq!(finished.code, Some(69), "{finished:#?}");
    let who = format!("process {}", project.controller());
    assert!(finished.stderr.contains(&who), "{finished:#?}");
    assert_eq!(state_of(&project).await, before);
}

#[tokio::test]
async fn a_controller_logs_as_crossfade_log_says_and_still_reads_its_old_name() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let warning = "RUST_LOG is the old name";
    for (env, warns) in [
        (&[("RUST_LOG", "warn")][..], true),
        (&[("RUST_LOG", "error")], false),
        (&[("RUST_LOG", "warn"), ("CROSSFADE_LOG", "info")], false),
    ] {
        let controller = project.start_with(&["serve"], env);
        let socket = project.state().join("controller.sock");
        let listens = || async { std::os::unix::net::UnixStream::connect(&socket).is_ok() };
        wait_until("the controller listens", listens).await;
        controller.signal(Signal::TERM);
        let finished = controller.finished().await;
        assert_eq!(
            finished.stderr.contains(warning),
            warns,
            "{env:?}: {finished:#?}"
        );
    }
}
