//! `crossfade maintenance`: over deploys, an `up`, and the death of controller and proxy.

use std::path::PathBuf;

use tests::{On, Reply, Settings, TestProject, send, wait_until};

fn quick() -> Settings {
    Settings {
        step: "200ms",
        bake: "0s",
        ..Settings::default()
    }
}

/// A file in the project's folder.
fn beside(project: &TestProject, name: &str) -> PathBuf {
    project.file().with_file_name(name)
}

async fn request(project: &TestProject) -> Reply {
    send(project.address, "GET", "/", &[], "").await
}

#[tokio::test]
async fn a_service_stays_under_maintenance_until_it_is_taken_off() {
    let project = TestProject::up(On::Processes, &quick()).await;
    assert_eq!(request(&project).await.status, 200);
    let page = beside(&project, "soon.html");
    std::fs::write(&page, "<h1>Soon</h1>").unwrap();
    let page = page.to_str().unwrap();
    let on = [
        "maintenance",
        "web",
        "--on",
        "--retry-after",
        "90s",
        "--page",
        page,
    ];
    let said = project.must(&on).await;
    assert!(
        said.contains("web is under maintenance: its requests get a 503"),
        "{said}"
    );
    let closed = async || {
        let reply = request(&project).await;
        let seen = (
            reply.status.as_u16(),
            reply.header("retry-after").to_owned(),
            reply.body,
        );
        assert_eq!(seen, (503, "90".into(), "<h1>Soon</h1>".into()));
    };
    closed().await;
    let status = project.must(&["status"]).await;
    assert!(status.contains("it is under maintenance"), "{status}");

    project
        .must(&project.deploy("2.0.0", &["--strategy", "all-at-once", "--wait"]))
        .await;
    closed().await;
    project.kill_controller();
    project.must(&["up"]).await;
    closed().await;
    project.must(&["proxy", "upgrade"]).await;
    closed().await;

    // Those who work on it get in.
    let on = [
        "maintenance",
        "web",
        "--on",
        "--allow",
        "127.0.0.0/8",
        "--allow",
        "10.0.0.0/8",
    ];
    let said = project.must(&on).await;
    assert!(
        said.contains("except those of 127.0.0.0/8, 10.0.0.0/8"),
        "{said}"
    );
    assert_eq!(request(&project).await.status, 200);
    let on = ["maintenance", "web", "--on", "--allow", "10.0.0.0/8"];
    project.must(&on).await;
    assert_eq!(request(&project).await.status, 503);

    let said = project.must(&["maintenance", "web", "--off"]).await;
    assert!(said.contains("web is served again"), "{said}");
    wait_until("the service is served again", async || {
        request(&project).await.status == 200
    })
    .await;
    let said = project.must(&["maintenance", "web", "--off"]).await;
    assert!(said.contains("web is not under maintenance"), "{said}");
    let events = project.must(&["events", "--output", "json"]).await;
    assert_eq!(events.matches("\"maintenance\"").count(), 4, "{events}");
}

#[tokio::test]
async fn what_is_wrong_with_maintenance_is_named() {
    let project = TestProject::up(On::Processes, &quick()).await;
    for (args, says) in [
        (&["maintenance", "wbe", "--on"][..], "did you mean `web`?"),
        (
            &["maintenance", "web", "--on", "--allow", "office"],
            "`office` is not a network: write it as `10.0.0.0/8`",
        ),
    ] {
        project.refused(args, 64, &[says]).await;
    }
    for (args, says) in [
        (&["maintenance", "web"][..], "--on"),
        (
            &["maintenance", "web", "--on", "--off"],
            "cannot be used with",
        ),
        (
            &["maintenance", "web", "--off", "--allow", "10.0.0.0/8"],
            "cannot be used with",
        ),
        (
            &["maintenance", "web", "--on", "--retry-after", "0s"],
            "it has to be above 0",
        ),
    ] {
        let refused = project.run(args).await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        assert!(refused.stderr.contains(says), "{says}: {refused:?}");
    }
    assert_eq!(request(&project).await.status, 200);
}
