//! What the controller costs where nothing happens, and how long an `up` takes.

use std::time::{Duration, Instant};

use tests::{On, ProcessStats, Settings, TestProject, wait_until};

/// How long it is looked at.
const WATCHED: Duration = Duration::from_secs(20);
const SERVICES: usize = 10;

/// A project of so many services with so many containers each.
fn project_of(services: usize, replicas: u32) -> TestProject {
    let settings = Settings {
        replicas,
        ..Settings::default()
    };
    let project = TestProject::new(On::Processes, &settings);
    let mut manifest = project.manifest(&settings);
    let table = manifest.find("[[services]]").unwrap();
    let service = manifest.split_off(table);
    for n in 0..services {
        let named = service.replace("\"web\"", &format!("\"web{n}\""));
        let routed = named.replace("health =", &format!("path_prefix = \"/{n}\"\nhealth ="));
        manifest.push_str(&format!("{routed}\n"));
    }
    project.write_manifest(&manifest);
    project
}

/// The part of a core that the controller takes while nothing happens.
async fn at_rest(project: &TestProject) -> f64 {
    // The first look after an `up`, and what comes of it, is no rest.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pid = u32::try_from(project.controller()).unwrap();
    let before = ProcessStats::of(pid).cpu;
    tokio::time::sleep(WATCHED).await;
    let took = ProcessStats::of(pid).cpu - before;
    took.as_secs_f64() / WATCHED.as_secs_f64()
}

#[tokio::test]
async fn at_rest_the_controller_takes_next_to_nothing_of_a_core() {
    let few = project_of(1, 4);
    few.must(&["up"]).await;
    let part = at_rest(&few).await;
    assert!(part <= 0.003, "{:.2}% of a core with 4", 100.0 * part);
    drop(few);
    let many = project_of(SERVICES, 5);
    many.must(&["up"]).await;
    let part = at_rest(&many).await;
    assert!(part <= 0.01, "{:.2}% of a core with 50", 100.0 * part);
    // It rests, and sees at once what happens.
    let serving = many.serving("1.0.0");
    let began = Instant::now();
    many.kill_one("1.0.0");
    wait_until("another one runs", || async {
        let now = many.serving("1.0.0");
        now.len() == serving.len() && now != serving
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(5), "{began:?}");
}

#[tokio::test]
async fn ten_services_are_up_within_three_seconds() {
    let project = project_of(SERVICES, 1);
    let began = Instant::now();
    project.must(&["up"]).await;
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(3), "{took:?}");
}
