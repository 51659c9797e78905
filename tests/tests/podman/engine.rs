//! Which runtime a project gets.

use serde_json::Value;
use tests::{On, Settings, TestProject};

pub(crate) async fn auto_takes_podman_where_it_works_and_says_so() {
    let project = TestProject::new(On::Podman, &Settings::default());
    let manifest = project.manifest(&Settings::default());
    project.write_manifest(&manifest.replace("\"podman\"", "\"auto\""));
    let said = project.must(&["up"]).await;
    assert!(said.contains("runs on podman, which works here"), "{said}");
    assert_eq!(project.status().await["runtime"], "podman");
    assert_eq!(project.serving("1.0.0").len(), 2);
}

pub(crate) async fn doctor_starts_a_container_to_see_that_one_starts() {
    let project = TestProject::new(On::Podman, &Settings::default());
    let doctor = async || {
        let finished = project.run(&["doctor", "--output", "json"]).await;
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        (
            finished.code,
            report["findings"].as_array().unwrap().clone(),
        )
    };
    let (code, findings) = doctor().await;
    assert_eq!(code, Some(0), "{findings:#?}");
    for about in ["podman", "podman API", "container"] {
        let fine = findings
            .iter()
            .any(|one| one["about"] == about && one["state"] == "ok");
        assert!(fine, "{about}: {findings:#?}");
    }
    assert_eq!(project.traces(), [""; 0], "nothing is left of it");

    let good = project.manifest(&Settings::default());
    project.write_manifest(&good.replace("sample-server:1.0.0", "no-such:1.0.0"));
    let (code, findings) = doctor().await;
    assert_eq!(code, Some(1), "{findings:#?}");
    let image = findings
        .iter()
        .find(|one| one["state"] == "failed")
        .unwrap();
    assert_eq!(image["about"], "image", "{image:#}");
    let fix = image["fix"].as_str().unwrap();
    assert!(fix.starts_with("`podman build --tag "), "{fix}");
    project.write_manifest(&good);
}
