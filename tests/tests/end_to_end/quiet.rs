//! A service that gets no request while it is deployed.

use serde_json::Value;
use tests::{On, Settings, TestProject};

/// What `status` says that service `web` waits for.
fn waits(web: &Value) -> Vec<&str> {
    let waits = web["waits"].as_array().into_iter().flatten();
    waits.filter_map(|wait| wait["what"].as_str()).collect()
}

#[tokio::test]
async fn a_deploy_without_traffic_says_how_long_it_takes_counts_down_and_ends() {
    let settings = Settings::default();
    let project = TestProject::new(On::Processes, &settings);
    let manifest = project.manifest(&settings);
    project.write_manifest(&format!("{manifest}max_hold = \"3s\"\n"));
    project.must(&["up"]).await;

    let deploy = project.start(&project.deploy("2.0.0", &["--wait"]));
    let forecast = "10s: steps 1 to 3 do not get 20 requests within 3s, and go on without them. \
                    Quicker: `--min-requests 0`";
    deploy.line_with(forecast).await;
    let lacks = "20 of the 20 requests of step 1 of 3 (it goes on without them)";
    let web = project
        .until("it counts down", |web| waits(web).contains(&lacks))
        .await;
    assert!(web["waits"][0]["until"].is_i64(), "{web:#}");
    let verdict = web["rollout"]["verdict"].as_str().unwrap_or_default();
    assert!(
        verdict.starts_with("0 of 20 requests so far; goes on without them in 10s"),
        "{verdict}"
    );
    let deployed = deploy
        .finished_within(std::time::Duration::from_secs(60))
        .await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    let says = "(at 10% 0 of 0 requests failed; not judged: failures (0 of 20 requests), latency (";
    assert!(deployed.stdout.contains(says), "{deployed:#?}");
    project.until_phase("done").await;
    let explained = project.must(&["explain"]).await;
    let first = explained.lines().next().unwrap_or_default();
    let says = "done; not judged: step 1: failures (0 of 20 requests), latency (";
    assert!(first.contains(says), "{explained}");
}

#[tokio::test]
async fn where_a_person_is_to_decide_it_pauses() {
    let settings = Settings::default();
    let project = TestProject::up(On::Processes, &settings).await;
    let flags = [
        "--after-max-hold",
        "pause",
        "--max-hold",
        "1s",
        "--strategy",
        "blue-green",
        "--wait",
    ];
    let says = "is paused: held for 1s: 0 of 20 requests so far";
    project
        .refused(&project.deploy("2.0.0", &flags), 3, &[says])
        .await;
    let dry = project
        .must(&project.deploy("2.1.0", &["--dry-run", "--replace"]))
        .await;
    assert!(dry.contains(" this takes a"), "{dry}");
    project.must(&["promote"]).await;
    project.until_phase("done").await;
}
