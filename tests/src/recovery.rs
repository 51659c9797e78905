//! What a project survives: containers that die or are taken away, a proxy that dies, a machine
//! that starts again. Written once, for every runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::manifests::with;
use crate::{Load, On, Seen, Settings, TestProject, wait_until};

/// Nothing goes on by itself while the test looks.
const STILL: Settings = Settings {
    replicas: 2,
    step: "60s",
    bake: "0s",
    start_timeout: "30s",
    env: "{}",
};

/// Containers of stable that die, or are taken away by hand, while a rollout runs.
pub async fn what_dies_while_a_rollout_runs_is_replaced(on: On) {
    let project = TestProject::up(on, &STILL).await;
    let load = project.load();
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    let before = project.serving("1.0.0");
    project.kill_one("1.0.0");
    project.until_whole(&[("1.0.0", 2), ("2.0.0", 1)]).await;
    let between = project.serving("1.0.0");
    assert_ne!(between, before);
    project.remove_one("1.0.0");
    project.until_whole(&[("1.0.0", 2), ("2.0.0", 1)]).await;
    assert_ne!(project.serving("1.0.0"), between);
    let web = project.web().await;
    assert_eq!(web["rollout"]["phase"], "shifting", "{web:#}");

    project.must(&["promote"]).await;
    project.until_phase("done").await;
    project.until_whole(&[("2.0.0", 2)]).await;
    load.stop().await.expect_no_failure();
    let events = project.events().await;
    let healed = |event: &&String| event.starts_with("healed: ");
    assert_eq!(events.iter().filter(healed).count(), 2, "{events:#?}");
}

/// A machine that goes down in the middle of a rollout and comes up again: everything that ran is
/// dead, and no version is to blame for it.
pub async fn a_machine_that_starts_again_goes_on_where_it_was(on: On) {
    let project = TestProject::up(on, &STILL).await;
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    project.kill_controller();
    project.kill_everything();
    project.forget_the_boot();

    project.must(&["status"]).await;
    project.until_whole(&[("1.0.0", 2), ("2.0.0", 1)]).await;
    let web = project.until_share("2.0.0", 10.0).await;
    assert_eq!(web["rollout"]["phase"], "shifting", "{web:#}");
    let load = project.load();
    project.must(&["promote"]).await;
    project.until_phase("done").await;
    project.until_whole(&[("2.0.0", 2)]).await;
    load.stop().await.expect_no_failure();
}

/// The proxy dies in the middle of a rollout, and comes back with what it had.
pub async fn a_proxy_that_dies_comes_back_and_the_rollout_goes_on(on: On) {
    let project = TestProject::up(on, &STILL).await;
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    project.kill_proxy();
    project.until_serving(Duration::from_secs(15)).await;
    // It has the table again that it had.
    let load = project.load();
    project.until_whole(&[("1.0.0", 2), ("2.0.0", 1)]).await;
    project.until_share("2.0.0", 10.0).await;
    project.must(&["promote"]).await;
    project.until_phase("done").await;
    load.stop().await.expect_no_failure();
    let events = project.events().await;
    let died = |event: &String| {
        event.starts_with("proxy: ")
            && event.contains("exited")
            && (event.contains("started again: ") || event.contains("serves in its place"))
    };
    assert_eq!(
        events.iter().filter(|event| died(event)).count(),
        1,
        "{events:#?}"
    );
}

/// Requests that fail at most where all containers of a version die at one moment.
pub(crate) const MOST_LOST: u64 = 5;

/// Every container of the new version dies at one moment while it bakes: the warm version takes over
/// in one swap, and the rollout is rolled back.
pub async fn when_all_of_a_release_die_while_it_bakes_clients_notice_next_to_nothing(on: On) {
    let seen = all_die_while_they_bake(on).await;
    assert!(seen.failed() <= MOST_LOST, "{seen:#?}");
}

/// What a client saw of that.
pub(crate) async fn all_die_while_they_bake(on: On) -> Seen {
    let settings = Settings {
        step: "200ms",
        bake: "60s",
        ..Settings::default()
    };
    let project = TestProject::up(on, &settings).await;
    let load = Load::start(project.address, &["--rate", "150", "--connections", "16"]);
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_phase("baking").await;
    project.kill_all("2.0.0");
    let web = project.until_phase("rolled-back").await;
    let why = web["rollout"]["why"].as_str().unwrap_or("no reason");
    assert!(why.contains("exited with code 137"), "{why}");
    project.until_whole(&[("1.0.0", 2)]).await;
    load.stop().await
}

/// The only container of a service crashes again and again: its requests wait for the next one, and
/// none fails but those that it had when it crashed.
pub async fn a_container_that_crashes_again_and_again_costs_no_more_than_it_had_in_flight(on: On) {
    const CONNECTIONS: u64 = 4;
    let settings = Settings {
        replicas: 1,
        env: "{ CRASH_AFTER = \"300\" }",
        ..Settings::default()
    };
    let project = TestProject::new(on, &settings);
    // What takes longer than it has to is seen as a failure.
    let keys = "timeouts = { wait_for_endpoint = \"2500ms\" }";
    project.write_manifest(&with(&project, &settings, keys));
    project.must(&["up"]).await;
    let connections = CONNECTIONS.to_string();
    let load = Load::start(
        project.address,
        &["--rate", "250", "--connections", &connections],
    );
    let crashes = project.until_said("replaced missing containers", 4).await;
    let seen = load.stop().await;
    let failed = seen.failed();
    assert!(failed <= crashes * CONNECTIONS, "{crashes}: {seen:#?}");
    assert_eq!(seen.with_status(503), 0, "none waits in vain: {seen:#?}");
    let events = project.events().await;
    let died =
        |event: &&String| event.starts_with("died: ") && event.contains(" exited with code ");
    let died = events.iter().filter(died).count() as u64;
    assert!(died >= crashes, "{crashes} crashes: {events:#?}");
}

/// A container that hangs is replaced by another, which is healthy before the one that hangs goes.
pub async fn a_container_that_hangs_is_replaced_beside_itself(on: On) {
    one_hangs(on).await.expect_no_failure();
}

/// What a client saw of that.
pub(crate) async fn one_hangs(on: On) -> Seen {
    let settings = Settings::default();
    let project = TestProject::new(on, &settings);
    let manifest = with(&project, &settings, "replace_after = \"1s\"");
    let quick = manifest.replace("timeout = \"2s\"", "timeout = \"300ms\"");
    project.write_manifest(&quick);
    project.must(&["up"]).await;
    let load = project.load();
    let before = project.serving("1.0.0");
    let hung = project.freeze_one("1.0.0");
    project.until_said("replaced; drained and removed", 1).await;
    // From here on it can end, as any other does.
    hung.thaw();
    project.until_whole(&[("1.0.0", 2)]).await;
    let after = project.serving("1.0.0");
    assert_eq!(after.iter().filter(|one| before.contains(one)).count(), 1);
    assert!(!after.contains(&hung.id), "{after:?}");
    let events = project.events().await;
    let said = |text: &str| events.iter().any(|event| event.contains(text));
    assert!(said("another one is started in its place"), "{events:#?}");
    assert!(said(" is unhealthy: "), "{events:#?}");
    load.stop().await
}

/// The journal is lost: what runs is taken up as it is, on request, and no request fails.
pub async fn what_runs_is_adopted_after_the_journal_was_lost(on: On) {
    let settings = Settings::default();
    let project = TestProject::up(on, &settings).await;
    project.replace_all("2.0.0", 2).await;
    let serving = project.serving("2.0.0");
    let load = project.load();
    project.kill_controller();
    for file in ["state.db", "state.db-wal", "state.db-shm", "state.db.good"] {
        // Not all of them are there at any moment.
        let _ = std::fs::remove_file(project.state().join(file));
    }
    let says = ["that this state does not know", "crossfade up --adopt"];
    project.refused(&["up"], 1, &says).await;
    let said = project.must(&["up", "--adopt"]).await;
    assert!(
        said.contains("taken up as it runs: web 2.0.0 × 2"),
        "{said}"
    );
    project.until_whole(&[("2.0.0", 2)]).await;
    assert_eq!(project.serving("2.0.0"), serving, "nothing was restarted");
    // It goes on as any other.
    project.replace_all("4.0.0", 2).await;
    load.stop().await.expect_no_failure();
    project.must(&["down"]).await;
    project.until_nothing_is_left().await;
}

/// The journal is damaged, and its copy is older than what runs: that stays as it is.
pub async fn a_damaged_journal_is_restored_and_what_runs_stays(on: On) {
    let settings = Settings::default();
    let project = TestProject::up(on, &settings).await;
    let state = project.state();
    let copy = state.join("state.db.good");
    wait_until("the journal is copied", || async { copy.exists() }).await;
    project.replace_all("2.0.0", 2).await;
    let serving = project.serving("2.0.0");
    let load = project.load();
    project.kill_controller();
    // What is in it is in its write-ahead log, too.
    let _ = std::fs::remove_file(state.join("state.db-wal"));
    std::fs::write(state.join("state.db"), "damaged").expect("written");
    let web = project.web().await;
    assert_eq!(web["stable"], "2.0.0", "the copy has 1.0.0: {web:#}");
    project.until_whole(&[("2.0.0", 2)]).await;
    assert_eq!(project.serving("2.0.0"), serving, "nothing was restarted");
    load.stop().await.expect_no_failure();
    assert!(state.join("state.db.damaged").exists());
    let events = project.events().await;
    let said = |event: &String| event.starts_with("journal: the journal was damaged");
    assert!(events.iter().any(said), "{events:#?}");
}

impl TestProject {
    /// Deploys a version all at once, and waits until so many containers of it are all that runs.
    async fn replace_all(&self, version: &str, replicas: usize) {
        let options = ["--strategy", "all-at-once"];
        self.must(&self.deploy(version, &options)).await;
        self.until_phase("done").await;
        self.until_whole(&[(version, replicas)]).await;
    }

    /// Waits until clients get responses again, which must not take longer than this.
    pub async fn until_serving(&self, limit: Duration) {
        let began = Instant::now();
        wait_until("clients get responses", || async {
            is_serving(self.address).unwrap_or(false)
        })
        .await;
        assert!(began.elapsed() < limit, "after {:?}", began.elapsed());
    }
}

/// Whether a good response comes. Whatever else there is in place of a proxy is none.
fn is_serving(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response.starts_with("HTTP/1.1 200 "))
}
