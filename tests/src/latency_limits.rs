//! How soon a bad release is out of the way, how soon `status` is there, and what a controller
//! costs that has nothing to do. Written once, for every runtime.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::{AdminPort, DEADLINE, Load, On, ProcessStats, Settings, TestProject, bin_dir};

/// From the first bad response of a release to its weight of 0, where a third of them are bad.
const FAILING: Duration = Duration::from_secs(3);
/// The same, where its container exits.
const CRASHING: Duration = Duration::from_secs(1);
/// For `status`, its own process included.
const STATUS: Duration = Duration::from_millis(50);
/// For the start of a program, on a machine that has a core for it.
const START: Duration = Duration::from_millis(10);
/// What a controller at rest may have of memory of its own, and of a core. With 50 containers it has
/// 11 MiB; without optimisation it needs three times the instructions.
const MEMORY: u64 = 20 << 20;
const CORE: f64 = 0.01;
const CORE_UNOPTIMISED: f64 = 0.03;

/// A release of which a third of the responses are bad, at 50 requests a second.
pub async fn a_bad_release_is_out_of_the_way_within_three_seconds(on: On) {
    let took = time_to_0(on, "ERROR_RATE=0.33").await;
    println!("from the first bad response to weight 0: {took:?}");
    assert!(took < FAILING, "{took:?}");
}

/// A release whose container exits after its tenth request.
pub async fn a_release_that_crashes_is_out_of_the_way_within_a_second(on: On) {
    let took = time_to_0(on, "CRASH_AFTER=10").await;
    println!("from the first failed attempt to weight 0: {took:?}");
    assert!(took < CRASHING, "{took:?}");
}

/// Gives half of the requests, 50 a second, to a release with this in its environment.
async fn time_to_0(on: On, env: &str) -> Duration {
    let settings = Settings {
        step: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = Load::start(project.address, &["--rate", "100", "--connections", "8"]);
    let flags = ["--strategy", "steps=50,100", "--env", env];
    project.must(&project.deploy("2.0.0", &flags)).await;
    let admin = AdminPort::of(&project);
    until(&admin, "a share of the requests", |_, weight| weight > 0).await;
    // On a busy machine it may be out of the way before anybody has looked at its figures.
    let bad = until(&admin, "a bad response", |bad, weight| {
        bad > 0 || weight == 0
    })
    .await;
    let gone = until(&admin, "weight 0", |_, weight| weight == 0).await;
    project.until_phase("rolled-back").await;
    load.stop().await;
    // At the most.
    gone.end - bad.start
}

/// When the failures and the weight of 2.0.0 became like that: between the last look at them that
/// they were not, and the first that they were.
async fn until(admin: &AdminPort, what: &str, holds: impl Fn(u64, u64) -> bool) -> Range<Instant> {
    let start = Instant::now();
    let mut last = start;
    loop {
        let look = Instant::now();
        let stats = admin.get("/v1/services/web/stats").await;
        let stats: admin_api::ServiceStats =
            serde_json::from_value(stats).expect("figures of a service");
        let bad = stats.versions.get("2.0.0").map_or(0, |one| one.failures());
        let web = admin.get("/v1/services/web").await;
        let weight = web["split"]["2.0.0"].as_u64().unwrap_or(0);
        if holds(bad, weight) {
            return last..Instant::now();
        }
        last = look;
        assert!(start.elapsed() < DEADLINE, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// `status` while a rollout goes on and clients ask.
pub async fn status_is_there_at_once_while_a_rollout_runs(on: On) {
    let settings = Settings {
        step: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = project.load();
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        starts.push(time_of(&project, "--version").await);
        times.push(time_of(&project, "status").await);
    }
    let (median, start) = (median(times), median(starts));
    // What a program that does nothing waits for a core is the machine's. `status` waits for one
    // three times: to start, for the controller to read it, and to read the response.
    let limit = STATUS + 3 * start.saturating_sub(START);
    println!("status: median {median:?} of {limit:?}; a start alone: {start:?}");
    assert!(median < limit, "{median:?} of {limit:?}");
    load.stop().await.expect_no_failure();
}

async fn time_of(project: &TestProject, verb: &str) -> Duration {
    let began = Instant::now();
    project.must(&[verb]).await;
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A controller with 50 containers, and nothing to do but to look after them.
pub async fn a_controller_at_rest_costs_next_to_nothing(on: On) {
    let settings = Settings {
        replicas: 50,
        ..Settings::default()
    };
    let project = TestProject::new(on, &settings);
    let manifest = project.manifest(&settings);
    project.write_manifest(&manifest.replace(r#"interval = "100ms""#, r#"interval = "1s""#));
    project.must(&["up"]).await;
    let controller = u32::try_from(project.controller()).expect("a process id");
    let (began, before) = (Instant::now(), ProcessStats::of(controller));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let now = ProcessStats::of(controller);
    let part = (now.cpu - before.cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let mib = now.private_memory >> 20;
    println!("{mib} MiB, {:.2}% of a core", part * 100.0);
    let limit = if bin_dir().ends_with("debug") {
        CORE_UNOPTIMISED
    } else {
        CORE
    };
    assert!(part < limit, "{:.2}% of a core", part * 100.0);
    assert!(now.private_memory < MEMORY, "{mib} MiB");
    assert_eq!(project.serving("1.0.0").len(), 50);
}
