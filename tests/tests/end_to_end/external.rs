//! Services of the manifest that have no containers: addresses of others, redirects and fixed responses.

use serde_json::Value;
use tests::{On, Settings, TestEndpoint, TestProject, send, wait_until};

/// What a request for this host gets: status, body and `Location`.
async fn request(project: &TestProject, host: &str) -> (u16, String, String) {
    let reply = send(project.address, "GET", "/x", &[("host", host)], "").await;
    let location = reply.header("location").to_owned();
    (reply.status.as_u16(), reply.body, location)
}

fn manifest(project: &TestProject, more: &str) -> String {
    format!("{}\n{more}", project.manifest(&Settings::default()))
}

#[tokio::test]
async fn the_whole_host_stands_behind_one_manifest() {
    let legacy = TestEndpoint::start("9").await;
    let project = TestProject::new(On::Processes, &Settings::default());
    let external = format!(
        "[[services]]\nname = \"legacy\"\nhosts = [\"legacy.test\"]\nendpoints = [\"{}\"]\n\
         [[services]]\nname = \"old\"\nhosts = [\"old.test\"]\nredirect.to = \"https://new.test$request_uri\"\n\
         [[services]]\nname = \"gone\"\nhosts = [\"gone.test\"]\nrespond = {{ status = 410, body = \"gone\" }}\n",
        legacy.address
    );
    project.write_manifest(&manifest(&project, &external));
    let said = project.must(&["up"]).await;
    assert!(said.contains("legacy, old, gone"), "{said}");
    assert_eq!(request(&project, "web.test").await.0, 200);
    assert_eq!(request(&project, "legacy.test").await.0, 200);
    assert_eq!(request(&project, "old.test").await.2, "https://new.test/x");
    assert_eq!(request(&project, "gone.test").await.1, "gone");

    // Nothing of it is lost when controller and proxy start again.
    project.kill_controller();
    project.must(&["proxy", "upgrade"]).await;
    assert_eq!(request(&project, "gone.test").await.1, "gone");
    assert_eq!(request(&project, "legacy.test").await.0, 200);

    // Its routes go to another at once, and what is no longer there is gone.
    let changed =
        "[[services]]\nname = \"moved\"\nhosts = [\"gone.test\"]\nrespond = { body = \"back\" }\n";
    project.write_manifest(&manifest(&project, changed));
    project.must(&["up"]).await;
    assert_eq!(request(&project, "gone.test").await.1, "back");
    wait_until("the others are gone", async || {
        request(&project, "old.test").await.2.is_empty()
    })
    .await;
    let status: Value = project.status().await;
    assert_eq!(status["last_error"], Value::Null, "{status}");
}

#[tokio::test]
async fn a_project_may_have_no_container_at_all() {
    let project = TestProject::new(On::Processes, &Settings::default());
    let manifest = project.manifest(&Settings::default());
    let proxy = manifest.split("[[services]]").next().unwrap();
    project.write_manifest(&format!(
        "{proxy}[[services]]\nname = \"hello\"\nrespond = {{ body = \"hello\" }}\n"
    ));
    project.must(&["up"]).await;
    assert_eq!(request(&project, "a.test").await.1, "hello");
    project.must(&["down"]).await;
    project.until_nothing_is_left().await;
}
