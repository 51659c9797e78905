//! Stories of a proxy that is replaced while clients ask, on whatever a site runs on.

use crate::{AdminPort, Load, On, Settings, TestSite, podman, processes_of, wait_until};

/// Another proxy takes over, twice: no request fails, and a WebSocket from before goes on. The
/// old one is taken away when that has ended.
pub async fn the_proxy_is_upgraded_under_load_and_nobody_notices(on: On) {
    let site = TestSite::up(on, &Settings::default()).await;
    let load = site.load();
    let url = format!("http://{}/ws", site.address);
    let socket = Load::at(&url, &["--websocket", "--rate", "50"]);
    let admin = AdminPort::of(&site);
    admin
        .until("the WebSocket is open", |web| {
            web["versions"]["1.0.0"]["upgraded"] == 1
        })
        .await;
    site.must(&["proxy", "upgrade"]).await;
    let said = site.must(&["proxy", "upgrade"]).await;
    assert!(said.contains("is the proxy"), "{said}");
    assert!(site.proxies() >= 2, "the first one still has a WebSocket");
    socket.stop().await.expect_no_failure();
    load.stop().await.expect_no_failure();
    wait_until("the proxies before are taken away", || async {
        site.proxies() == 1
    })
    .await;
    let history = site.events().await;
    let told = history.iter().filter(|one| one.contains("is the proxy"));
    assert_eq!(told.count(), 2, "{history:#?}");
    site.until_whole(&[("1.0.0", 2)]).await;
}

/// A controller that is killed in the middle of it is followed by one that finishes it.
pub async fn a_killed_controller_leaves_an_upgrade_of_the_proxy_that_the_next_one_finishes(on: On) {
    let site = TestSite::up(on, &Settings::default()).await;
    let load = site.load();
    let upgrade = site.start(&["proxy", "upgrade"]);
    wait_until("the upgrade is in the journal", || async {
        let journal = rusqlite::Connection::open(site.state().join("state.db"));
        let begun = journal.and_then(|journal| {
            let intent = "SELECT count(*) FROM proxy WHERE upgrade IS NOT NULL OR number > 0";
            journal.query_row(intent, [], |row| row.get::<_, u32>(0))
        });
        begun.is_ok_and(|begun| begun == 1)
    })
    .await;
    site.kill_controller();
    upgrade.finished().await;
    wait_until("the next controller has finished it", || async {
        let events = site.events().await;
        events.iter().any(|event| event.contains("is the proxy"))
    })
    .await;
    wait_until("the proxy before is taken away", || async {
        site.proxies() == 1
    })
    .await;
    load.stop().await.expect_no_failure();
}

/// What is no proxy does not take over, and the proxy stays as it was.
pub async fn an_upgrade_that_fails_leaves_the_proxy_as_it_was(on: On) {
    let site = TestSite::up(on, &Settings::default()).await;
    let load = site.load();
    let image = match on {
        On::Processes => "crossfade-sample-client",
        On::Podman => "localhost/crossfade-sample-client:latest",
    };
    let failed = site.run(&["proxy", "upgrade", "--image", image]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(site.proxies(), 1);
    site.must(&["proxy", "upgrade"]).await;
    load.stop().await.expect_no_failure();
}

impl TestSite {
    /// How many proxies there are, those that have ended and were not taken away included.
    pub fn proxies(&self) -> usize {
        match self.on {
            On::Processes => {
                let found = processes_of(self.folder());
                let proxies = found
                    .iter()
                    .filter(|one| one.command.contains("proxy.toml"));
                proxies.count()
            }
            On::Podman => {
                let project = format!("label=io.crossfade.project={}", self.project);
                let role = "label=io.crossfade.role=proxy";
                let ps = [
                    "ps", "--all", "--quiet", "--filter", &project, "--filter", role,
                ];
                podman(&ps).expect("podman works").lines().count()
            }
        }
    }
}
