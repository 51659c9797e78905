//! What a project survives: containers that die or are taken away, a proxy that dies, a machine
//! that starts again. Written once, for every runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{On, Settings, TestProject, wait_until};

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
}

impl TestProject {
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
