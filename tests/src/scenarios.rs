//! What has to happen on every runtime, written once: rollouts as people see them, with a client
//! that asks all the time and sees every failure.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::manifests::with;
use crate::project::share;
use crate::{AdminPort, Load, On, Seen, Settings, TestProject, send, wait_until};

/// How long a whole rollout may take.
const ROLLOUT: Duration = Duration::from_secs(90);

/// The story of `crossfade demo`: four servers, a canary, half, all; then a bad release that is
/// rolled back by itself; and nothing is left in the end.
pub async fn a_good_release_goes_all_the_way_and_a_bad_one_comes_back_by_itself(on: On) {
    let settings = Settings {
        replicas: 4,
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    assert_eq!(project.serving("1.0.0").len(), 4);

    let load = project.load();
    let deploy = project.start(&project.deploy("2.0.0", &["--wait"]));
    for percent in [10.0, 50.0, 100.0] {
        let web = project.until_share("2.0.0", percent).await;
        assert_eq!(share(&web, "1.0.0"), Some(100.0 - percent), "{web:#}");
    }
    let deployed = deploy.finished_within(ROLLOUT).await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    for step in [
        "step 1 of 3: 10% to 2.0.0 on 1 container",
        "step 2 of 3: 50% to 2.0.0 on 2 containers",
        "step 3 of 3: 100% to 2.0.0 on 4 containers",
    ] {
        assert!(deployed.stdout.contains(step), "{step}: {deployed:#?}");
    }
    let web = project.until_phase("done").await;
    assert_eq!(versions(&web), ["2.0.0"]);
    assert_eq!(project.serving("1.0.0"), [""; 0]);
    let good = project.serving("2.0.0");
    assert_eq!(good.len(), 4);
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert!(seen.ok("1.0.0") > 0 && seen.ok("2.0.0") > 0, "{seen:#?}");

    let load = project.load();
    project
        .refused(
            &project.deploy("3.0.0", &["--wait"]),
            2,
            &["3.0.0 was rolled back: ", "requests failed"],
        )
        .await;
    let web = project.until_phase("rolled-back").await;
    assert_eq!(versions(&web), ["2.0.0"]);
    assert_eq!(project.serving("3.0.0"), [""; 0]);
    assert_eq!(
        project.serving("2.0.0"),
        good,
        "the good ones were left alone"
    );
    let seen = load.stop().await;
    expect_only_the_bad_releases_own_errors(&seen);
    let why = web["rollout"]["why"].as_str().unwrap_or("no reason");
    let events = project.events().await;
    let said = events.iter().any(|event| {
        event.starts_with("rolling-back: ") && event.contains("2.0.0") && event.contains(why)
    });
    assert!(said, "{why}: {events:#?}");

    let said = project.must(&["down"]).await;
    // Four servers and the proxy, which on podman has an infra container.
    let count = if on == On::Podman { 6 } else { 5 };
    let want = format!("{} is down: {count} containers removed", project.name);
    assert_eq!(said.trim(), want);
    project.until_nothing_is_left().await;
    assert!(closed(project.address));
}

/// A tester may choose the version that its failing requests hit; no version is judged by them.
pub async fn requests_that_are_aimed_at_a_good_release_do_not_roll_it_back(on: On) {
    let settings = Settings {
        step: "3s",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::new(on, &settings);
    let keys = "timeouts = { first_byte = \"300ms\" }\n\
                force = { header = \"x-version\", from = [\"127.0.0.0/8\"] }";
    project.write_manifest(&with(&project, &settings, keys));
    project.must(&["up"]).await;

    let load = project.load();
    let deploy = project.start(&project.deploy("2.0.0", &["--wait"]));
    project.until_share("2.0.0", 10.0).await;
    let mut failing = JoinSet::new();
    for _ in 0..30 {
        let address = project.address;
        failing.spawn(async move {
            let aimed = [("x-version", "2.0.0")];
            send(address, "GET", "/slow?for=2s", &aimed, "").await
        });
    }
    for reply in failing.join_all().await {
        assert_eq!(reply.status, 504, "{reply:?}");
    }
    let deployed = deploy.finished_within(ROLLOUT).await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    assert_eq!(versions(&project.until_phase("done").await), ["2.0.0"]);
    load.stop().await.expect_no_failure();
    let stats = AdminPort::of(&project).get("/v1/services/web/stats").await;
    let forced = &stats["versions"]["2.0.0"]["forced"];
    assert_eq!(
        forced["failed_tries"]["timeout"], 30,
        "users see them: {stats:#}"
    );
}

/// A client that keeps the new release has all its requests fail: that alone is no proof against the
/// release. That requests of many clients fail is.
pub async fn failing_requests_of_one_client_do_not_roll_a_release_back_and_those_of_many_do(
    on: On,
) {
    let settings = Settings {
        step: "3s",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::new(on, &settings);
    let keys = "timeouts = { first_byte = \"300ms\" }\nsticky = { cookie = \"seat\" }";
    project.write_manifest(&with(&project, &settings, keys));
    project.must(&["up"]).await;
    let load = project.load();

    let deploy = project.start(&project.deploy("2.0.0", &["--wait"]));
    project.until_share("2.0.0", 10.0).await;
    let clients = clients_of(&project, "2.0.0", 1).await;
    time_out(&project, &clients, 30).await;
    let deployed = deploy.finished_within(ROLLOUT).await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    assert_eq!(versions(&project.until_phase("done").await), ["2.0.0"]);
    let stats = AdminPort::of(&project).get("/v1/services/web/stats").await;
    let apart = &stats["versions"]["2.0.0"]["forced"]["failed_tries"]["timeout"];
    assert!(apart.as_u64() >= Some(25), "users see them: {stats:#}");

    // A third of all its responses are errors.
    let deploy = project.start(&project.deploy("3.0.0", &["--wait"]));
    assert_ne!(deploy.finished_within(ROLLOUT).await.code, Some(0));
    assert_eq!(
        versions(&project.until_phase("rolled-back").await),
        ["2.0.0"]
    );
    load.stop().await;
}

/// The cookies of so many clients that keep this version.
async fn clients_of(project: &TestProject, version: &str, count: usize) -> Vec<String> {
    let mut cookies = Vec::new();
    while cookies.len() < count {
        let reply = send(project.address, "GET", "/", &[], "").await;
        if reply.json()["version"] == version {
            let cookie = reply.header("set-cookie").split(';').next();
            cookies.extend(cookie.map(str::to_owned));
        }
    }
    cookies
}

/// Each of these clients has so many requests that time out, all at once.
async fn time_out(project: &TestProject, cookies: &[String], each: usize) {
    let mut failing = JoinSet::new();
    for cookie in cookies
        .iter()
        .flat_map(|cookie| std::iter::repeat_n(cookie, each))
    {
        let (address, cookie) = (project.address, cookie.clone());
        failing.spawn(async move {
            send(address, "GET", "/slow?for=2s", &[("cookie", &cookie)], "").await
        });
    }
    for reply in failing.join_all().await {
        assert_eq!(reply.status, 504, "{reply:?}");
    }
}

/// `kill -9` of the controller in the middle of a rollout.
pub async fn a_killed_controller_changes_nothing_and_the_next_one_finishes_its_rollout(on: On) {
    let settings = Settings {
        step: "2s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = project.load();
    // Not with --wait, which would start a controller again.
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 50.0).await;
    let killed = project.controller();
    project.kill_controller();

    let admin = AdminPort::of(&project);
    let table = admin.get("/v1/services/web").await;
    let before = admin.requests().await;
    wait_until(
        "200 more requests get a response without a controller",
        || async { admin.requests().await >= before + 200 },
    )
    .await;
    let now = admin.get("/v1/services/web").await;
    assert_eq!(now["split"], table["split"]);
    assert_eq!(now["generation"], table["generation"]);
    assert!(!std::path::Path::new(&format!("/proc/{killed}/fd/1")).exists());

    // Whatever is asked next starts a controller.
    project.must(&["status"]).await;
    assert_ne!(project.controller(), killed);
    let web = project.until_phase("done").await;
    assert_eq!(versions(&web), ["2.0.0"]);
    assert_eq!(web["rollout"]["id"], 1, "it is still the same rollout");
    let events = project.events().await;
    let said = "controller: the controller runs again, after it had died or was killed";
    assert!(
        events.iter().any(|one| one.starts_with(said)),
        "{events:#?}"
    );
    load.stop().await.expect_no_failure();
    assert_eq!(project.serving("1.0.0"), [""; 0]);
    assert_eq!(project.serving("2.0.0").len(), 2);
}

/// `split`, `promote` and `abort` by hand.
pub async fn a_split_by_hand_pauses_the_rollout_and_promote_and_abort_end_it(on: On) {
    let settings = Settings {
        // Nothing goes on by itself while the test looks.
        step: "60s",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = project.load();
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    let said = project
        .must(&["split", "web", "1.0.0=70", "2.0.0=30"])
        .await;
    assert_eq!(said.trim(), "web now has 70% 1.0.0, 30% 2.0.0");
    let web = project.web().await;
    assert_eq!(web["rollout"]["paused"], "split set by hand", "{web:#}");
    assert_eq!(share(&web, "2.0.0"), Some(30.0));
    let history = project.history().await;
    let events = history["events"].as_array().expect("events");
    let by_hand = events.iter().rfind(|event| event["who"].is_string());
    let text = by_hand.and_then(|event| event["text"].as_str());
    assert!(
        text.is_some_and(|text| text.contains("30% 2.0.0")),
        "{by_hand:?}"
    );
    let says = ["2.0.0 falls back from 30% to 10%, step 1 of 3", "--yes"];
    project.refused(&["resume"], 1, &says).await;
    assert_eq!(share(&project.web().await, "2.0.0"), Some(30.0));
    project.must(&["resume", "--yes"]).await;
    project.until_share("2.0.0", 10.0).await;
    project
        .must(&["split", "web", "1.0.0=70", "2.0.0=30"])
        .await;
    load.stop().await.expect_no_failure();

    let seen = Load::start(
        project.address,
        &["--rate", "500", "--connections", "8", "--count", "1000"],
    );
    let seen = seen.finished().await;
    seen.expect_no_failure();
    assert!(seen.ok("2.0.0").abs_diff(300) <= 10, "{seen:#?}");

    let load = project.load();
    let said = project.must(&["promote"]).await;
    assert!(said.contains("is being promoted"), "{said}");
    let web = project.until_phase("done").await;
    assert_eq!(versions(&web), ["2.0.0"]);

    project.must(&project.deploy("2.1.0", &[])).await;
    project.until_share("2.1.0", 10.0).await;
    project.must(&["abort", "web"]).await;
    let web = project.until_phase("rolled-back").await;
    assert_eq!(versions(&web), ["2.0.0"]);
    assert_eq!(web["rollout"]["why"], "aborted by hand");
    load.stop().await.expect_no_failure();
    assert_eq!(project.serving("2.1.0"), [""; 0]);
}

/// A rolling rollout has one container more at most, and no request fails on the way.
pub async fn a_rolling_rollout_replaces_containers_one_by_one(on: On) {
    let settings = Settings {
        replicas: 3,
        step: "200ms",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = project.load();
    let rolling = ["--strategy", "rolling", "--max-surge", "1", "--wait"];
    let deploy = project.start(&project.deploy("2.0.0", &rolling));
    let most = Cell::new(0);
    project
        .until("2.0.0 has everything", |web| {
            // In this order: the new ones grow, and the old ones shrink, between the two looks.
            let (new, old) = (
                project.serving("2.0.0").len(),
                project.serving("1.0.0").len(),
            );
            most.set(most.get().max(new + old));
            versions(web) == ["2.0.0"]
        })
        .await;
    assert!(most.get() <= 4, "{}", most.get());
    let deployed = deploy.finished_within(ROLLOUT).await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    for share in ["33%", "66%", "100%"] {
        let says = format!("{share} to 2.0.0 on ");
        assert!(deployed.stdout.contains(&says), "{says}: {deployed:#?}");
    }
    let web = project.until_phase("done").await;
    assert_eq!(versions(&web), ["2.0.0"]);
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert!(seen.ok("1.0.0") > 0 && seen.ok("2.0.0") > 0, "{seen:#?}");
}

/// A rollout waits at a gate until it is approved.
pub async fn a_gate_holds_a_rollout_until_it_is_approved(on: On) {
    let settings = Settings {
        step: "200ms",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = project.load();
    let gated = ["--strategy", "steps=50:gate,100"];
    project.must(&project.deploy("2.0.0", &gated)).await;
    let at_gate = |web: &Value| {
        let paused = web["rollout"]["paused"].as_str();
        paused.is_some_and(|why| why.contains("at a gate"))
    };
    let web = project.until("it is at its gate", at_gate).await;
    assert_eq!(share(&web, "2.0.0"), Some(50.0), "{web:#}");
    project.must(&["resume"]).await;
    let web = project.until_phase("done").await;
    assert_eq!(versions(&web), ["2.0.0"]);
    load.stop().await.expect_no_failure();
}

/// `rollback` to a version that is still warm, and to one that has to be started again.
pub async fn a_rollback_is_one_swap_while_the_old_version_is_warm(on: On) {
    let settings = Settings {
        bake: "5m",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let old = project.serving("1.0.0");
    let load = project.load();
    let fast = ["--strategy", "blue-green", "--wait"];
    project.must(&project.deploy("2.0.0", &fast)).await;
    let web = project.web().await;
    assert_eq!(web["rollout"]["phase"], "baking", "{web:#}");
    assert_eq!(share(&web, "1.0.0"), Some(0.0), "kept warm: {web:#}");

    let admin = AdminPort::of(&project);
    let before = admin.get("/v1/services/web").await["generation"].as_u64();
    project.must(&["rollback", "web", "--wait"]).await;
    let web = project.web().await;
    assert_eq!(web["rollout"]["phase"], "rolled-back", "{web:#}");
    admin
        .until("1.0.0 has everything", |web| {
            web["split"]["1.0.0"] == 100 && web["split"]["2.0.0"].as_u64().unwrap_or(0) == 0
        })
        .await;
    assert_eq!(versions(&web), ["1.0.0"]);
    assert_eq!(web["stable"], "1.0.0");
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert!(seen.ok("2.0.0") > 0, "{seen:#?}");
    assert_eq!(project.serving("1.0.0"), old, "the warm ones, not others");
    assert_eq!(project.serving("2.0.0"), [""; 0]);
    // To the old version, out of the old table, and nothing else.
    let after = admin.get("/v1/services/web").await["generation"].as_u64();
    let swaps = after.zip(before).map(|(after, before)| after - before);
    assert!(swaps.is_some_and(|swaps| swaps <= 4), "{swaps:?}");
}

/// A verb that waits needs no other to start the controller again.
pub async fn a_wait_starts_a_controller_that_has_died_and_goes_on(on: On) {
    let settings = Settings {
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = project.load();
    let deploy = project.start(&project.deploy("2.0.0", &["--wait"]));
    project.until_share("2.0.0", 10.0).await;
    project.kill_controller();
    let deployed = deploy.finished_within(ROLLOUT).await;
    assert_eq!(deployed.code, Some(0), "{deployed:#?}");
    assert!(
        deployed.stdout.contains("starting it again"),
        "{deployed:#?}"
    );
    load.stop().await.expect_no_failure();
}

/// `rollback` after the old version is gone.
pub async fn a_rollback_starts_the_version_before_again(on: On) {
    let settings = Settings {
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    project
        .refused(
            &["rollback", "web"],
            1,
            &["web has no version before 1.0.0"],
        )
        .await;
    let load = project.load();
    let fast = ["--strategy", "blue-green", "--wait"];
    project.must(&project.deploy("2.0.0", &fast)).await;
    project.until_phase("done").await;
    assert_eq!(project.serving("1.0.0"), [""; 0]);
    project.must(&["rollback", "web", "--wait"]).await;
    let web = project
        .until("1.0.0 is alone", |web| versions(web) == ["1.0.0"])
        .await;
    assert_eq!(web["stable"], "1.0.0");
    load.stop().await.expect_no_failure();
    assert_eq!(project.serving("1.0.0").len(), 2);
}

/// `scale` up and down under load.
pub async fn a_service_is_scaled_under_load_without_a_failed_request(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let first = project.serving("1.0.0");
    let load = project.load();
    project.must(&["scale", "web", "5"]).await;
    let more = project.serving("1.0.0");
    assert_eq!(more.len(), 5);
    assert!(first.iter().all(|id| more.contains(id)));
    let web = project.web().await;
    assert_eq!(web["versions"][0]["healthy"], 5, "{web:#}");
    let said = project.must(&["scale", "web", "1"]).await;
    assert_eq!(said.trim(), "web has 1 containers; it had 5");
    assert_eq!(project.serving("1.0.0").len(), 1);
    load.stop().await.expect_no_failure();
    let says = ["a number from 0 to 1000"];
    project.refused(&["scale", "web", "1001"], 64, &says).await;
    assert_eq!(project.serving("1.0.0").len(), 1);
}

/// `up` again, and what `status`, `history` and `logs` say.
pub async fn up_again_changes_nothing_and_what_runs_can_be_looked_at(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    project.until_standby().await;
    let (serving, traces) = (project.serving("1.0.0"), project.traces());
    let said = project.must(&["up"]).await;
    assert_eq!(
        said.trim(),
        format!("{} is already up: nothing to do", project.name)
    );
    assert_eq!(project.serving("1.0.0"), serving);
    assert_eq!(project.traces(), traces);

    let sent = Load::start(project.address, &["--rate", "0", "--count", "10"]);
    sent.finished().await.expect_no_failure();
    let status = project.must(&["status"]).await;
    let lines: Vec<Vec<&str>> = status
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let runtime = if on == On::Podman {
        "podman"
    } else {
        "process"
    };
    let url = format!("http://{}", project.address);
    let headline = format!("{} on {runtime}, {url}", project.name);
    assert_eq!(status.lines().next(), Some(headline.as_str()));
    let row = ["web", "1.0.0", "stable", "100%", "2/2"];
    let row = lines.iter().find(|line| line.starts_with(&row));
    let row = row.unwrap_or_else(|| panic!("{status}"));
    // Its age has a unit.
    assert_eq!(row[7], "0", "no restarts: {status}");
    let web = project.web().await;
    assert_eq!(web["versions"][0]["requests"], 10);
    assert!(web["versions"][0]["since"].as_i64() > Some(0), "{web:#}");

    let history = project.must(&["history"]).await;
    assert!(history.contains("web: up with 1.0.0 × 2"), "{history}");
    check_logs(&project).await;
}

/// What `logs` shows of a project with two containers of web 1.0.0.
async fn check_logs(project: &TestProject) {
    let logs = project.must(&["logs", "web"]).await;
    let began = |line: &&str| line.contains(" | listening on ") && line.contains("version 1.0.0");
    assert_eq!(logs.lines().filter(began).count(), 2, "{logs}");
    assert!(
        logs.lines().all(|line| line.starts_with(&project.name)),
        "{logs}"
    );
    let logs = project.must(&["logs", "--proxy"]).await;
    let of_proxy = format!("{}-proxy", project.name);
    assert!(!logs.is_empty(), "the proxy says where it listens");
    assert!(
        logs.lines().all(|line| line.starts_with(&of_proxy)),
        "{logs}"
    );
    match project.on {
        On::Processes => {
            let line = ["logs", "web", "--since", "10m"];
            project
                .refused(&line, 64, &["no times; use --tail LINES"])
                .await;
        }
        On::Podman => {
            let before = project.must(&["logs", "web", "--since", "1h"]).await;
            assert_eq!(before.lines().filter(began).count(), 2, "{before}");
            let ahead = project.must(&["logs", "web", "--since", "2099-01-01T00:00:00Z"]);
            assert_eq!(ahead.await, "");
        }
    }
    let logs = project.must(&["logs", "web", "--output", "json"]).await;
    for line in logs.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let container = line["container"].as_str();
        assert!(
            container.is_some_and(|name| name.starts_with(&project.name)),
            "{line}"
        );
    }
    project
        .refused(
            &["logs", "web", "--version", "1.0.1"],
            64,
            &["no running version `1.0.1`, only 1.0.0"],
        )
        .await;
}

/// `logs --follow` shows what comes, until Ctrl-C.
pub async fn logs_are_followed_until_ctrl_c(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let logs = project.start(&["logs", "web", "--follow"]);
    logs.line_with("listening on ").await;
    // Those that come later are followed, too.
    project.kill_one("1.0.0");
    logs.line_within("-1.0.0-1-3 | listening on ", ROLLOUT)
        .await;
    logs.signal(Signal::INT);
    let finished = logs.finished().await;
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    // The controller is still there for others.
    project.must(&["status"]).await;
}

/// Candidates that cannot run: each is gone again, says why, and the split is untouched.
pub async fn a_candidate_that_cannot_run_is_taken_away_and_says_why(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let load = project.load();
    let before = project.serving("1.0.0");

    project
        .refused(
            &["deploy", "web", "--image", "localhost/no-such-image:2.0.0"],
            69,
            &[
                "there is no image `",
                "localhost/no-such-image:2.0.0` on this host",
            ],
        )
        .await;
    assert_eq!(project.history().await["rollouts"], serde_json::json!([]));

    // What it cannot understand it refuses, with this code, before it listens.
    let at_once = ["--env", "ERROR_RATE=2", "--wait"];
    project
        .refused(
            &project.deploy("2.0.0", &at_once),
            2,
            &[
                "2.0.0 was rolled back: ",
                "exited with code 64",
                "a share is a number",
            ],
        )
        .await;
    untouched(&project, &before).await;

    let never = ["--env", "READY_AFTER=1h", "--start-timeout", "1s", "--wait"];
    project
        .refused(
            &project.deploy("2.1.0", &never),
            2,
            &[
                "2.1.0 was rolled back: ",
                "0 of 1 containers of 2.1.0 were healthy within 1s",
                "503",
            ],
        )
        .await;
    untouched(&project, &before).await;
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert_eq!(seen.ok("1.0.0"), seen.requests, "no other version had one");
}

/// A container of the candidate that dies in the middle of its rollout.
pub async fn a_candidate_that_crashes_under_load_is_rolled_back_at_once(on: On) {
    let settings = Settings {
        step: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let before = project.serving("1.0.0");
    let load = project.load();
    project
        .refused(
            &project.deploy("2.0.0", &["--env", "CRASH_AFTER=10", "--wait"]),
            2,
            &["2.0.0 was rolled back: ", "exited with code 1"],
        )
        .await;
    untouched(&project, &before).await;
    // What was in flight on the crashed one was tried again elsewhere.
    load.stop().await.expect_no_failure();
}

/// `up` that fails takes away again what it has started.
pub async fn an_up_that_fails_leaves_nothing(on: On) {
    let project = TestProject::new(on, &Settings::default());
    let taken = std::net::TcpListener::bind(project.address).expect("the port is free");
    let address = project.address.to_string();
    project
        .refused(&["up"], 1, &[&address, "is taken by "])
        .await;
    project.until_nothing_is_left().await;
    drop(taken);

    let manifest = project.manifest(&Settings::default());
    project.write_manifest(&project.with_admin_port(&manifest));
    let taken = std::net::TcpListener::bind(project.admin).expect("the port is free");
    let address = project.admin.to_string();
    project
        .refused(&["up"], 1, &[&address, "is taken by "])
        .await;
    project.until_nothing_is_left().await;
    assert!(closed(project.address));
    drop(taken);

    for (env, says) in [
        (r#"{ ERROR_RATE = "2" }"#, "exited with code 64"),
        (
            r#"{ READY_AFTER = "1h" }"#,
            "0 of 2 containers of web 1.0.0 were healthy within 1 s",
        ),
    ] {
        let settings = Settings {
            env,
            start_timeout: "1s",
            ..Settings::default()
        };
        project.write_manifest(&project.manifest(&settings));
        project.refused(&["up"], 1, &[says]).await;
        let events = project.events().await;
        let failed = |one: &String| one.starts_with("failed: up failed: ") && one.contains(says);
        assert!(events.iter().any(failed), "{events:#?}");
        project.until_nothing_is_left().await;
        assert!(closed(project.address));
    }

    // None of that is in the way of one that can work.
    project.write_manifest(&project.manifest(&Settings::default()));
    project.must(&["up"]).await;
    assert_eq!(project.serving("1.0.0").len(), 2);
}

/// Who calls the admin API without the token, or with another one, gets nothing, be it on its socket
/// or on a port.
pub async fn the_admin_api_wants_the_token(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    expect_the_token_to_be_wanted(&project).await;
    project.must(&["down"]).await;
    let manifest = project.manifest(&Settings::default());
    project.write_manifest(&project.with_admin_port(&manifest));
    project.must(&["up"]).await;
    assert!(!closed(project.admin));
    expect_the_token_to_be_wanted(&project).await;
}

async fn expect_the_token_to_be_wanted(project: &TestProject) {
    let admin = AdminPort::of(project);
    for token in [None, Some("Bearer "), Some("Bearer 0123456789abcdef")] {
        let headers: Vec<(&str, &str)> = token.map(|t| ("authorization", t)).into_iter().collect();
        for (method, path) in [("GET", "/v1/services"), ("PUT", "/v1/services/web/split")] {
            let body = r#"{"split":{"1.0.0":1}}"#;
            let reply = admin.send(method, path, &headers, body).await;
            assert_eq!(reply.status, 401, "{token:?} {method}: {reply:?}");
            assert!(!reply.body.contains("1.0.0"), "{reply:?}");
        }
    }
    admin.get("/v1/services/web").await;
}

/// Version 1.0.0 has every request, on the containers that it had, and no other runs.
async fn untouched(project: &TestProject, before: &[String]) {
    let web = project.until_phase("rolled-back").await;
    assert_eq!(versions(&web), ["1.0.0"]);
    assert_eq!(share(&web, "1.0.0"), Some(100.0));
    assert_eq!(project.serving("1.0.0"), before);
    for version in ["2.0.0", "2.1.0"] {
        assert_eq!(project.serving(version), [""; 0]);
    }
}

/// The versions that `status` says run.
fn versions(web: &Value) -> Vec<&str> {
    let versions = web["versions"].as_array().into_iter().flatten();
    versions.filter_map(|one| one["version"].as_str()).collect()
}

#[track_caller]
fn expect_only_the_bad_releases_own_errors(seen: &Seen) {
    let bad = seen.responses.get(&("3.0.0".to_owned(), 500)).copied();
    assert!(bad.is_some(), "it was never seen to fail: {seen:#?}");
    assert_eq!(Some(seen.failed()), bad, "{seen:#?}");
    assert_eq!(seen.failures.get("http_5xx").copied(), bad, "{seen:#?}");
}

fn closed(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_err()
}
