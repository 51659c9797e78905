//! Stories of a proxy that is replaced while clients ask, on whatever a project runs on.

use crate::{AdminPort, Load, On, Settings, TestProject, podman, processes_of, wait_until};

/// Another proxy takes over, twice: no request fails, and a WebSocket from before goes on. The
/// old one is taken away when that has ended.
pub async fn the_proxy_is_upgraded_under_load_and_no_client_notices(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let load = project.load();
    let url = format!("http://{}/ws", project.address);
    let socket = Load::at(&url, &["--websocket", "--rate", "50"]);
    let admin = AdminPort::of(&project);
    admin
        .until("the WebSocket is open", |web| {
            web["versions"]["1.0.0"]["upgraded"] == 1
        })
        .await;
    project.must(&["proxy", "upgrade"]).await;
    let said = project.must(&["proxy", "upgrade"]).await;
    assert!(said.contains("is the proxy"), "{said}");
    assert!(
        project.proxies() >= 2,
        "the first one still has a WebSocket"
    );
    socket.stop().await.expect_no_failure();
    load.stop().await.expect_no_failure();
    wait_until("the proxies before are taken away", || async {
        project.proxies() == 1
    })
    .await;
    let history = project.events().await;
    let told = history.iter().filter(|one| one.contains("is the proxy"));
    assert_eq!(told.count(), 2, "{history:#?}");
    project.until_whole(&[("1.0.0", 2)]).await;
}

/// What the manifest says of the proxy is taken over by a successor, under load; what one cannot
/// take over is refused with its key; and what could not take over is tried again.
pub async fn a_changed_proxy_takes_over_from_the_one_before(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let serving = project.serving("1.0.0");
    let admin = AdminPort::of(&project);
    let load = project.load();
    let first = project.manifest(&Settings::default());
    let nothing = async || {
        let said = project.must(&["up"]).await;
        assert!(said.ends_with("is already up: nothing to do"), "{said}");
    };

    let before = admin.get("/v1/status").await["process"].clone();
    let other = first.replace("drain_timeout = \"10s\"", "drain_timeout = \"11s\"");
    project.write_manifest(&other);
    let said = project.must(&["up"]).await;
    assert!(said.starts_with("proxy.drain_timeout changed: "), "{said}");
    assert_ne!(admin.get("/v1/status").await["process"], before);
    nothing().await;

    project.write_manifest(&project.with_admin_port(&other));
    project
        .refused(
            &["up"],
            1,
            &[
                "crossfade.toml:6: proxy.admin_port: ",
                "run `crossfade down`",
            ],
        )
        .await;

    let more = crate::free_address();
    let added = other.replace("listen = [", &format!("listen = [\"{more}\", "));
    project.write_manifest(&added);
    let said = project.must(&["up"]).await;
    assert!(said.starts_with("proxy.listeners changed: "), "{said}");
    assert_eq!(crate::get(more, "/").await.status, 200);
    project.write_manifest(&other);
    project.must(&["up"]).await;
    wait_until("the address is given up", || async {
        tokio::net::TcpStream::connect(more).await.is_err()
    })
    .await;

    let (key, image) = match on {
        On::Processes => ("program", crate::program("crossfade-sample-client")),
        On::Podman => ("image", "localhost/crossfade-sample-client:latest".into()),
    };
    project.write_manifest(&other.replace("[proxy]", &format!("[proxy]\n{key} = {image:?}")));
    let says = "but it is unchanged; `crossfade up` tries again";
    let said = project.must(&["up"]).await;
    assert!(said.starts_with(&format!("proxy.{key} changed")), "{said}");
    assert!(said.contains(says), "{said}");
    let said = project.must(&["up"]).await;
    assert!(said.contains(says), "{said}");
    project.write_manifest(&other);
    project.must(&["up"]).await;
    nothing().await;

    load.stop().await.expect_no_failure();
    assert_eq!(project.serving("1.0.0"), serving);
    wait_until("the proxies before are taken away", || async {
        project.proxies() == 1
    })
    .await;
}

/// A controller that is killed in the middle of it is followed by one that finishes it.
pub async fn a_killed_controller_leaves_an_upgrade_of_the_proxy_that_the_next_one_finishes(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let load = project.load();
    let upgrade = project.start(&["proxy", "upgrade"]);
    wait_until("the upgrade is in the journal", || async {
        let journal = rusqlite::Connection::open(project.state().join("state.db"));
        let begun = journal.and_then(|journal| {
            let intent = "SELECT count(*) FROM proxy WHERE upgrade IS NOT NULL OR number > 0";
            journal.query_row(intent, [], |row| row.get::<_, u32>(0))
        });
        begun.is_ok_and(|begun| begun == 1)
    })
    .await;
    project.kill_controller();
    upgrade.finished().await;
    wait_until("the next controller has finished it", || async {
        let events = project.events().await;
        events.iter().any(|event| event.contains("is the proxy"))
    })
    .await;
    wait_until("the proxy before is taken away", || async {
        project.proxies() == 1
    })
    .await;
    load.stop().await.expect_no_failure();
}

/// What is no proxy does not take over, and the proxy stays as it was.
pub async fn an_upgrade_that_fails_leaves_the_proxy_as_it_was(on: On) {
    let project = TestProject::up(on, &Settings::default()).await;
    let load = project.load();
    let image = match on {
        On::Processes => "crossfade-sample-client",
        On::Podman => "localhost/crossfade-sample-client:latest",
    };
    let failed = project.run(&["proxy", "upgrade", "--image", image]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(project.proxies(), 1);
    project.must(&["proxy", "upgrade"]).await;
    load.stop().await.expect_no_failure();
}

impl TestProject {
    /// How many proxies there are, those that have ended and were not taken away included, and those
    /// that were started as a standby not.
    pub fn proxies(&self) -> usize {
        match self.on {
            On::Processes => {
                let found = processes_of(self.folder());
                let proxies = found
                    .iter()
                    .filter(|one| one.command.contains("proxy.toml"))
                    .filter(|one| !one.command.contains("--standby"));
                proxies.count()
            }
            On::Podman => {
                let project = format!("label=io.crossfade.project={}", self.name);
                let role = "label=io.crossfade.role=proxy";
                let ps = [
                    "ps",
                    "--all",
                    "--format",
                    "{{.Labels}}",
                    "--filter",
                    &project,
                    "--filter",
                    role,
                ];
                let all = podman(&ps).expect("podman works");
                let is_standby = |labels: &&str| labels.contains("io.crossfade.standby");
                all.lines().filter(|labels| !is_standby(labels)).count()
            }
        }
    }
}
