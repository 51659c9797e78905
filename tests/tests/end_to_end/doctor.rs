//! `crossfade doctor`: each finding says how to mend it, and the exit code whether there is one.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::{Finished, On, Settings, TestProject};

async fn doctor(project: &TestProject, env: &[(&str, &str)]) -> (Finished, Vec<Value>) {
    let finished = project
        .start_with(&["doctor", "--output", "json"], env)
        .finished()
        .await;
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["ok"] == true, finished.code == Some(0), "{report:#}");
    let findings = report["findings"].as_array().unwrap().clone();
    for one in &findings {
        let mended = one["fix"].as_str().is_some_and(|fix| !fix.is_empty());
        assert_eq!(mended, one["state"] != "ok", "{one:#}");
    }
    (finished, findings)
}

/// The one finding that says so.
#[track_caller]
fn finding<'a>(findings: &'a [Value], about: &str, says: &str) -> &'a Value {
    let fits = |one: &&Value| {
        one["about"] == about && one["text"].as_str().is_some_and(|text| text.contains(says))
    };
    let found = findings.iter().find(fits);
    assert!(
        found.is_some(),
        "nothing about {about} says `{says}`: {findings:#?}"
    );
    found.unwrap()
}

#[tokio::test]
async fn a_host_that_has_everything_is_said_to_and_nothing_is_changed() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let (finished, findings) = doctor(&project, &[]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let free = format!("{} is free", project.address);
    assert_eq!(finding(&findings, "port", &free)["state"], "ok");
    finding(&findings, "program", "crossfade-sample-server");
    assert!(!project.state().exists(), "it made a state folder");
    assert_eq!(project.traces(), [""; 0]);

    project.must(&["up"]).await;
    let (finished, findings) = doctor(&project, &[]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    finding(
        &findings,
        "port",
        &format!("{} is the proxy's", project.address),
    );
    finding(&findings, "proxy", "it responds");
    finding(&findings, "journal", "it is intact");
    let words = project.must(&["doctor"]).await;
    assert!(words.contains("ok    controller: release "), "{words}");

    // It is no stranger because its controller is gone.
    project.kill_controller();
    let (finished, findings) = doctor(&project, &[]).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let port = finding(
        &findings,
        "port",
        "this project's proxy, and no controller runs",
    );
    assert_eq!(port["state"], "warning");
}

#[tokio::test]
async fn what_is_in_the_way_is_named_with_what_mends_it() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let taken = TcpListener::bind(project.address).unwrap();
    let good = project.manifest(&Settings::default());
    project.write_manifest(&good.replace("crossfade-sample-server", "./no-such-program"));
    std::fs::create_dir(project.state()).unwrap();
    std::fs::set_permissions(project.state(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(project.state().join("state.db"), "no journal").unwrap();
    let (finished, findings) = doctor(&project, &[]).await;
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(finished.stderr.contains("checks failed"), "{finished:#?}");
    let who = format!("{} is held by ", project.address);
    let port = finding(&findings, "port", &who);
    assert_eq!(port["state"], "failed");
    assert!(
        port["text"].as_str().unwrap().contains("(process "),
        "{port}"
    );
    let open = finding(&findings, "state", "other users can read it (mode 755)");
    let chmod = format!("`chmod 700 {}`", project.state().display());
    assert_eq!(open["fix"], chmod);
    finding(&findings, "program", "no-such-program");
    finding(&findings, "journal", "not a database");
    drop(taken);

    std::fs::remove_file(project.state().join("state.db")).unwrap();
    project.write_manifest(&good.replace("replicas", "replicsa"));
    let (finished, findings) = doctor(&project, &[]).await;
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    finding(&findings, "manifest", "services[0].replicsa");
    // What follows needs one that can be read.
    project.write_manifest(&good);
}

#[tokio::test]
async fn a_missing_podman_is_a_failure_only_where_it_is_required() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let good = project.manifest(&Settings::default());
    let nowhere = [("PATH", "/nonexistent")];
    for (runtime, code, state) in [("podman", 1, "failed"), ("auto", 0, "warning")] {
        project.write_manifest(&good.replace("\"process\"", &format!("\"{runtime}\"")));
        let (finished, findings) = doctor(&project, &nowhere).await;
        assert_eq!(finished.code, Some(code), "{finished:#?}");
        let podman = finding(&findings, "podman", "podman cannot be run");
        assert_eq!(podman["state"], state);
        let fix = podman["fix"].as_str().unwrap();
        assert!(fix.contains("apt-get install podman"), "{fix}");
    }
    project.write_manifest(&good);
}

#[tokio::test]
async fn a_program_that_loses_uploads_without_a_length_is_named() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let (_, findings) = doctor(&project, &[]).await;
    assert!(
        findings.iter().all(|one| one["about"] != "uploads"),
        "{findings:#?}"
    );
    let good = project.manifest(&Settings::default());
    project.write_manifest(&good.replace("crossfade-sample-server", "uwsgi"));
    let (_, findings) = doctor(&project, &[]).await;
    assert_eq!(
        finding(&findings, "uploads", "looks like uwsgi")["state"],
        "warning"
    );
    let buffered = good.replace("health = {", "buffer = { request = \"1MiB\" }\nhealth = {");
    project.write_manifest(&buffered.replace("crossfade-sample-server", "uwsgi"));
    let (_, findings) = doctor(&project, &[]).await;
    assert!(
        findings.iter().all(|one| one["about"] != "uploads"),
        "{findings:#?}"
    );
}
