//! What an operator meets: names of projects, scaling, services without requests, manifests that are
//! written and printed, and messages that say what would be right.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::{Finished, On, Running, Settings, TestProject, get, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// `crossfade` with this manifest and the project's state.
async fn run_with(project: &TestProject, file: &Path, args: &[&str]) -> Finished {
    let (file, state) = (file.to_str().unwrap(), project.state());
    let line = [&["--file", file, "--state", state.to_str().unwrap()], args].concat();
    Running::start("crossfade", &line, &[])
        .finished_within(LIMIT)
        .await
}

#[tokio::test]
async fn a_project_has_its_folders_name_and_is_not_changed_from_another_folder_unasked() {
    let settings = Settings::default();
    let project = TestProject::new(On::Processes, &settings);
    let named = format!("project = \"{}\"\n", project.name);
    let manifest = project.manifest(&settings).replace(&named, "");
    project.write_manifest(&manifest);
    project.must(&["up"]).await;
    let file = project.file();
    let folder = file.parent().unwrap().file_name().unwrap();
    let folder = folder.to_str().unwrap().to_lowercase();
    assert_eq!(project.status().await["project"], folder.as_str());

    let elsewhere = TempDir::new().unwrap();
    let other = elsewhere.path().join("crossfade.toml");
    fs::copy(&file, &other).unwrap();
    for verb in [&["scale", "web", "3"][..], &["up"], &["down"]] {
        let refused = run_with(&project, &other, verb).await;
        assert_eq!(refused.code, Some(1), "{refused:#?}");
        let says = format!("this project was made from {}", file.display());
        assert!(refused.stderr.contains(&says), "{refused:#?}");
        assert!(refused.stderr.contains("--yes"), "{refused:#?}");
    }
    assert_eq!(project.serving("1.0.0").len(), 2);
    let looked = run_with(&project, &other, &["status"]).await;
    assert_eq!(looked.code, Some(0), "{looked:#?}");
    let done = run_with(&project, &other, &["scale", "web", "3", "--yes"]).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert_eq!(project.serving("1.0.0").len(), 3);
    // A folder that was moved: its next `up` says so.
    let done = run_with(&project, &other, &["up", "--yes"]).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert_eq!(project.status().await["project"], folder.as_str());
    let refused = run_with(&project, &file, &["down"]).await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    let done = run_with(&project, &other, &["down"]).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
}

#[tokio::test]
async fn a_rollout_is_scaled_in_proportion_while_it_runs_and_bakes() {
    let settings = Settings {
        step: "60s",
        bake: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(On::Processes, &settings).await;
    let load = project.load();
    let steps = ["--strategy", "steps=50,100"];
    project.must(&project.deploy("2.0.0", &steps)).await;
    project.until_share("2.0.0", 50.0).await;
    let have = |old, new| {
        let project = &project;
        wait_until("both versions are scaled", move || async move {
            project.serving("1.0.0").len() == old && project.serving("2.0.0").len() == new
        })
    };
    let said = project.must(&["scale", "web", "6"]).await;
    let want = "web is scaled from 2 to 6 containers, 1.0.0 and 2.0.0 in proportion";
    assert_eq!(said.trim(), want);
    have(6, 3).await;
    project.must(&["scale", "web", "2"]).await;
    have(2, 1).await;
    let web = project.web().await;
    assert_eq!(web["rollout"]["phase"], "shifting", "{web:#}");
    assert_eq!(web["replicas"], 2, "{web:#}");

    project.must(&["promote"]).await;
    project.until_phase("baking").await;
    project.must(&["scale", "web", "4"]).await;
    have(4, 4).await;
    load.stop().await.expect_no_failure();
}

#[tokio::test]
async fn a_service_may_have_no_container_and_another_version_meanwhile() {
    let settings = Settings::default();
    let project = TestProject::new(On::Processes, &settings);
    let manifest = project.manifest(&settings);
    let quick = "timeouts = { wait_for_endpoint = \"100ms\" }\nhealth = ";
    project.write_manifest(&manifest.replace("health = ", quick));
    project.must(&["up"]).await;
    let said = project.must(&["scale", "web", "0"]).await;
    assert_eq!(said.trim(), "web has 0 containers; it had 2");
    assert_eq!(project.serving("1.0.0"), [""; 0]);
    assert_eq!(get(project.address, "/").await.status, 503);
    project.must(&project.deploy("2.0.0", &["--wait"])).await;
    let web = project.until_phase("done").await;
    assert_eq!(web["stable"], "2.0.0", "{web:#}");
    project.must(&["scale", "web", "1"]).await;
    assert_eq!(get(project.address, "/").await.json()["version"], "2.0.0");
    // Nor does the first `up` need one.
    project.must(&["down"]).await;
    let none = manifest.replace("replicas = 2", "replicas = 0");
    project.write_manifest(&none);
    project.must(&["up"]).await;
    assert_eq!(project.serving("1.0.0"), [""; 0]);
}

/// Service `jobs` in `status`.
async fn jobs(project: &TestProject) -> Value {
    let status = project.status().await;
    let services = status["services"].as_array().into_iter().flatten();
    let mut jobs = services.filter(|one| one["name"] == "jobs");
    jobs.next().cloned().unwrap_or_default()
}

#[tokio::test]
async fn workers_start_stop_and_are_replaced_with_their_version() {
    let settings = Settings::default();
    let project = TestProject::new(On::Processes, &settings);
    let manifest = project.manifest(&settings);
    let worker = "[[services]]\nname = \"jobs\"\nimage = \"sleep\"\nversion = \"1.0.0\"\n\
                  port = 0\nreplicas = 2\ncommand = [\"1000\"]\n";
    project.write_manifest(&format!("{manifest}\n{worker}"));
    project.must(&["up"]).await;
    let runs = |jobs: &Value, version: &str| {
        let one = &jobs["versions"][0];
        jobs["versions"].as_array().map(Vec::len) == Some(1)
            && one["version"] == version
            && (&one["healthy"], &one["endpoints"]) == (&2.into(), &2.into())
    };
    let status = jobs(&project).await;
    assert!(runs(&status, "1.0.0"), "{status:#}");
    let deploy = |image: &'static str, version: &'static str| {
        let flags = ["--step-min-duration", "1s", "--wait"];
        [
            &["deploy", "jobs", "--image", image, "--version", version],
            &flags[..],
        ]
        .concat()
    };
    project.must(&deploy("sleep", "2.0.0")).await;
    let project = &project;
    wait_until("2.0.0 works alone", || async {
        runs(&jobs(project).await, "2.0.0")
    })
    .await;
    // One that ends is no worker.
    project
        .refused(&deploy("false", "3.0.0"), 2, &["3.0.0 was rolled back"])
        .await;
    wait_until("2.0.0 works alone", || async {
        runs(&jobs(project).await, "2.0.0")
    })
    .await;
    project.must(&["scale", "jobs", "0"]).await;
    project.must(&["scale", "jobs", "2"]).await;
    let status = jobs(project).await;
    assert!(runs(&status, "2.0.0"), "{status:#}");
    assert_eq!(get(project.address, "/").await.status, 200);
}

#[tokio::test]
async fn a_missing_image_is_named_with_its_service_and_line() {
    let settings = Settings::default();
    let project = TestProject::new(On::Processes, &settings);
    let manifest = project.manifest(&settings);
    let image = "image = \"crossfade-sample-server\"";
    project.write_manifest(&manifest.replace(image, "image = \"no-such-program\""));
    let says = [
        "crossfade.toml:10: services[0].image: service `web`: there is no image `no-such-program`",
    ];
    project.refused(&["up"], 69, &says).await;
    project.write_manifest(&manifest.replace(image, ""));
    let says = [
        "crossfade.toml:",
        "services[0].image: is missing: a service has an `image`",
    ];
    project.refused(&["up"], 64, &says).await;
    project.write_manifest(&manifest);
    project.must(&["up"]).await;
    let missing = ["deploy", "web", "--image", "no-such-program:2"];
    let says = ["there is no image `no-such-program:2`"];
    project.refused(&missing, 69, &says).await;
}

/// A `podman` that knows one image.
fn podman_with(folder: &Path, image: &str) {
    let podman = folder.join("podman");
    let script = format!("#!/bin/sh\ncat <<'END'\n[{image}]\nEND\n");
    fs::write(&podman, script).unwrap();
    fs::set_permissions(&podman, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn init_writes_a_manifest_and_config_prints_it_with_every_default() {
    let folder = TempDir::new().unwrap();
    podman_with(
        folder.path(),
        r#"{"Config": {"ExposedPorts": {"3000/tcp": {}}},
            "HealthCheck": {"Test": ["CMD-SHELL", "curl -f http://localhost:3000/ok"]}}"#,
    );
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let file = folder.path().join("crossfade.toml");
    let file = file.to_str().unwrap();
    let run = |args: &'static [&'static str]| {
        let line = [&["--file", file], args].concat();
        Running::start("crossfade", &line, &[("PATH", path.as_str())]).finished_within(LIMIT)
    };
    let init: &[&str] = &["init", "--image", "localhost/shop:1.2.3"];
    let done = run(init).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    let text = fs::read_to_string(file).unwrap();
    for says in [
        "name = \"shop\"",
        "port = 3000",
        "health = { path = \"/ok\" }",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let refused = run(init).await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("exists"), "{refused:#?}");
    let unattended = run(&["init", "--yes"]).await;
    assert_eq!(unattended.code, Some(64), "{unattended:#?}");
    assert!(
        unattended.stderr.contains("--image IMAGE"),
        "{unattended:#?}"
    );

    let printed = run(&["config"]).await;
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    for says in [
        "version = \"1.2.3\"",
        "max_hold = \"3m\"",
        "keep_alive = \"1m 15s\"",
    ] {
        assert!(printed.stdout.contains(says), "{says}: {printed:#?}");
    }
    fs::write(file, &printed.stdout).unwrap();
    let again = run(&["config"]).await;
    assert_eq!(again.stdout, printed.stdout);
}
