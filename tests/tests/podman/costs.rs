//! What the controller and podman's service beside it cost where nothing happens, and how long an `up`
//! takes.

use std::time::{Duration, Instant};

use libtest_mimic::Completion;
use tests::{On, ProcessStats, Settings, TestProject, podman};

const IMAGE: &str = "localhost/crossfade-sample-server:1.0.0";
/// How long it is looked at.
const WATCHED: Duration = Duration::from_secs(30);
const SERVICES: usize = 10;

/// The processes that serve podman's API: the controller's own, or the system's.
fn api_services() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let serves = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains("podman") && line.contains("system service")
    };
    pids.filter(serves).collect()
}

/// A project of so many services with so many containers each.
fn project_of(services: usize, replicas: u32) -> TestProject {
    let settings = Settings {
        replicas,
        ..Settings::default()
    };
    let project = TestProject::new(On::Podman, &settings);
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

pub(crate) async fn at_rest_the_controller_and_podman_take_next_to_nothing_of_a_core() {
    for (services, replicas, limit) in [(1, 4, 0.003), (SERVICES, 5, 0.01)] {
        let project = project_of(services, replicas);
        project.must(&["up"]).await;
        // The first look after an `up`, and what comes of it, is no rest.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let mut processes = api_services();
        assert!(!processes.is_empty(), "nothing serves podman's API");
        processes.push(u32::try_from(project.controller()).unwrap());
        let cost = || -> Duration { processes.iter().map(|pid| ProcessStats::of(*pid).cpu).sum() };
        let before = cost();
        tokio::time::sleep(WATCHED).await;
        let part = (cost() - before).as_secs_f64() / WATCHED.as_secs_f64();
        let count = services as u32 * replicas;
        eprintln!("{:.2}% of a core with {count} containers", 100.0 * part);
        assert!(part <= limit, "{:.2}% of a core with {count}", 100.0 * part);
    }
}

pub(crate) async fn an_up_of_ten_services_takes_hardly_longer_than_podman_itself() -> Completion {
    // The same containers on a network of their own, by podman, two at a time.
    let network = format!("crossfade-test-cost-{}", std::process::id());
    podman(&["network", "create", &network]).unwrap();
    let names: Vec<String> = (0..SERVICES + 2)
        .map(|n| format!("{network}-{n}"))
        .collect();
    let began = Instant::now();
    for pair in names.chunks(2) {
        let mut starting = Vec::new();
        for name in pair {
            let line = [
                "run",
                "--detach",
                "--network",
                &network,
                "--name",
                name,
                IMAGE,
            ];
            let line = line.map(str::to_owned);
            starting.push(std::thread::spawn(move || {
                podman(&line.each_ref().map(String::as_str))
            }));
        }
        for started in starting {
            started.join().unwrap().unwrap();
        }
    }
    let podmans = began.elapsed();
    for name in &names {
        podman(&["rm", "--force", "--time", "0", name]).unwrap();
    }
    podman(&["network", "rm", &network]).unwrap();

    let project = project_of(SERVICES, 1);
    let began = Instant::now();
    project.must(&["up"]).await;
    let took = began.elapsed();
    eprintln!("podman: {podmans:?}, up: {took:?}");
    assert!(
        took <= podmans.mul_f64(1.3),
        "podman: {podmans:?}, up: {took:?}"
    );
    Completion::Completed
}
