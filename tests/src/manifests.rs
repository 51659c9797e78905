//! What a manifest brings, on every runtime: secrets, certificates, and an `up` that does just what
//! has changed.

use std::time::Duration;

use serde_json::Value;

use crate::{AdminPort, On, Settings, TestCa, TestProject, podman, wait_until};

/// A secret that is like no other text.
const SECRET: &str = "hunter2-8c1f-first";
const NEW_SECRET: &str = "hunter2-8c1f-second";

fn quick() -> Settings {
    Settings {
        step: "200ms",
        bake: "0s",
        ..Settings::default()
    }
}

/// The manifest with more keys of the service.
pub(crate) fn with(project: &TestProject, settings: &Settings, keys: &str) -> String {
    let manifest = project.manifest(settings);
    manifest.replace(
        "[services.rollout]",
        &format!("{keys}\n\n[services.rollout]"),
    )
}

/// Every change of the manifest changes just what differs, and a second `up` changes nothing.
pub async fn an_up_does_just_what_has_changed(on: On) {
    let project = TestProject::up(on, &quick()).await;
    let load = project.load();
    let three = Settings {
        replicas: 3,
        ..quick()
    };
    scales(&project, &three).await;
    let manifest = with(&project, &three, "hosts = [\"web.test\", \"127.0.0.1\"]");
    routes(&project, &manifest).await;
    let manifest = sticks(&project, &manifest).await;
    rolls_out(&project, &manifest).await;
    let history = project.history().await;
    let config = history["events"].as_array().into_iter().flatten();
    let config: Vec<&Value> = config.filter(|event| event["kind"] == "config").collect();
    assert_eq!(config.len(), 4, "one for each change: {config:#?}");
    assert!(
        config.iter().all(|event| event["who"].is_string()),
        "{config:#?}"
    );
    load.stop().await.expect_no_failure();
    keeps_what_was_deployed_by_hand(&project).await;
}

async fn a_second_up_does_nothing(project: &TestProject) {
    let said = project.must(&["up"]).await;
    assert!(said.ends_with("is already up: nothing to do"), "{said}");
}

/// Another number of containers: those that run stay.
async fn scales(project: &TestProject, three: &Settings) {
    let first = project.serving("1.0.0");
    project.write_manifest(&project.manifest(three));
    let said = project.must(&["up"]).await;
    assert_eq!(said, "web has 3 containers; it had 2");
    let serving = project.serving("1.0.0");
    assert!(first.iter().all(|one| serving.contains(one)), "{serving:?}");
    a_second_up_does_nothing(project).await;
}

/// Other routes: one change of the table, and no container.
async fn routes(project: &TestProject, manifest: &str) {
    let serving = project.serving("1.0.0");
    let admin = AdminPort::of(project);
    let before = admin.get("/v1/services/web").await["generation"].as_u64();
    project.write_manifest(manifest);
    project.must(&["up"]).await;
    let web = admin.get("/v1/services/web").await;
    assert_eq!(web["hosts"][0], "web.test", "{web:#}");
    assert_eq!(web["generation"].as_u64(), before.map(|before| before + 1));
    assert_eq!(project.serving("1.0.0"), serving);
    a_second_up_does_nothing(project).await;

    // What only the proxy can check names its line, too.
    project.write_manifest(&manifest.replace("web.test", "web_test:80"));
    project
        .refused(&["up"], 64, &["crossfade.toml:", "services[0].hosts[0]"])
        .await;
}

/// Sticky clients: one change of the table, and no container. Returns the manifest.
async fn sticks(project: &TestProject, manifest: &str) -> String {
    let serving = project.serving("1.0.0");
    let sticky = |name: &str| {
        manifest.replace(
            "hosts =",
            &format!("sticky = {{ cookie = \"{name}\" }}\nhosts ="),
        )
    };
    project.write_manifest(&sticky("no spaces"));
    project
        .refused(
            &["up"],
            64,
            &["crossfade.toml:", "services[0].sticky.cookie"],
        )
        .await;
    let manifest = sticky("kept");
    project.write_manifest(&manifest);
    project.must(&["up"]).await;
    let web = AdminPort::of(project).get("/v1/services/web").await;
    assert_eq!(web["sticky"]["cookie"], "kept", "{web:#}");
    assert_eq!(project.serving("1.0.0"), serving);
    a_second_up_does_nothing(project).await;
    manifest
}

/// Another environment: a revision of the same image, by a rollout.
async fn rolls_out(project: &TestProject, manifest: &str) {
    let env = manifest.replace("env = {}", "env = { LATENCY = \"1ms\" }");
    project.write_manifest(&env);
    let said = project.must(&["up", "--wait"]).await;
    assert!(
        said.contains("(web 1.0.0 → 1.0.0+2) begins: canary"),
        "{said}"
    );
    let web = project.until_phase("done").await;
    assert_eq!(web["stable"], "1.0.0+2", "{web:#}");
    a_second_up_does_nothing(project).await;
}

/// A version that was deployed by hand stays, and so does its number of containers.
async fn keeps_what_was_deployed_by_hand(project: &TestProject) {
    project
        .must(&project.deploy("2.0.0", &["--strategy", "all-at-once", "--wait"]))
        .await;
    project.until_phase("done").await;
    project.must(&["scale", "web", "1"]).await;
    a_second_up_does_nothing(project).await;
    assert_eq!(project.web().await["replicas"], 1);
}

/// An edit of the environment that comes after a rollout which was aborted is no less an edit.
pub async fn an_edit_after_an_aborted_rollout_is_seen_and_what_was_set_by_hand_stays(on: On) {
    let settings = Settings {
        step: "60s",
        ..quick()
    };
    let project = TestProject::up(on, &settings).await;
    let env = |value: &str| {
        let to = format!("env = {{ LATENCY = \"{value}\" }}");
        project.manifest(&settings).replace("env = {}", &to)
    };
    project.write_manifest(&env("1ms"));
    project.must(&["up"]).await;
    project.until_share("1.0.0+2", 10.0).await;
    let said = project.must(&["up"]).await;
    assert!(
        said.ends_with("brings what the manifest has, and is under way"),
        "{said}"
    );
    project.must(&["abort"]).await;
    project.until_phase("rolled-back").await;
    let web = project.web().await;
    assert_eq!(
        web["differences"][0], "env.LATENCY is another one",
        "{web:#}"
    );

    project.write_manifest(&env("2ms"));
    let said = project.must(&["up"]).await;
    assert!(said.contains("(web 1.0.0 → 1.0.0+3) begins"), "{said}");
    project.must(&["promote"]).await;
    project.until_phase("done").await;
    a_second_up_does_nothing(&project).await;

    let by_hand = [
        "--env",
        "CRASH_AFTER=1000000",
        "--strategy",
        "all-at-once",
        "--wait",
    ];
    project.must(&project.deploy("2.0.0", &by_hand)).await;
    project.until_phase("done").await;
    a_second_up_does_nothing(&project).await;
    let web = project.web().await;
    let differences = web["differences"].as_array().into_iter().flatten();
    let differences: Vec<&str> = differences.filter_map(Value::as_str).collect();
    let says = [
        "2.0.0 runs, and the manifest has 1.0.0",
        "env.CRASH_AFTER was set by `deploy --env`",
    ];
    assert_eq!(differences, says);
}

/// A service that the manifest has no more runs on, until it is said to be taken away.
pub async fn a_service_is_added_and_taken_away_by_the_manifest(on: On) {
    let project = TestProject::up(on, &quick()).await;
    let load = project.load();
    let alone = project.manifest(&quick());
    let image = match on {
        On::Processes => "crossfade-sample-server",
        On::Podman => "localhost/crossfade-sample-server:1.0.0",
    };
    let other = |name: &str| {
        format!(
            "{alone}\n[[services]]\nname = \"{name}\"\nimage = \"{image}\"\nversion = \"1.1.0\"\n\
             path_prefix = \"/other\"\nhealth = {{ path = \"/healthz\", interval = \"100ms\" }}\n"
        )
    };
    project.write_manifest(&other("api"));
    let said = project.must(&["up"]).await;
    assert_eq!(said, "api 1.1.0 × 1 is up");
    assert_eq!(project.serving("1.1.0").len(), 1);

    project.write_manifest(&alone);
    let said = project.must(&["up"]).await;
    assert!(
        said.contains("api is no longer in the manifest and keeps running"),
        "{said}"
    );
    assert!(said.contains("`crossfade up --prune` removes it"), "{said}");
    assert_eq!(project.serving("1.1.0").len(), 1);
    // It is looked after as before, also by the next controller.
    project.kill_controller();
    project
        .until("both are there", |_| project.serving("1.1.0").len() == 1)
        .await;
    project.must(&["scale", "api", "2"]).await;

    project.write_manifest(&other("apo"));
    project
        .refused(&["up"], 1, &["the path of api", "`crossfade up --prune`"])
        .await;
    project.write_manifest(&alone);
    let said = project.must(&["up", "--prune"]).await;
    assert_eq!(said, "api is removed: it is no longer in the manifest");
    assert_eq!(project.serving("1.1.0"), [""; 0]);
    load.stop().await.expect_no_failure();
}

/// A service with another name and the same routes: the new one is healthy before the routes change
/// hands, in one table.
pub async fn a_service_that_is_renamed_keeps_its_clients(on: On) {
    let project = TestProject::up(on, &quick()).await;
    let load = project.load();
    let renamed = project.manifest(&quick()).replace("\"web\"", "\"shop\"");
    project.write_manifest(&renamed);
    project
        .refused(&["up"], 1, &["the path of web", "`crossfade up --prune`"])
        .await;
    let said = project.must(&["up", "--prune"]).await;
    assert!(said.contains("web is removed"), "{said}");
    assert!(said.contains("shop 1.0.0 × 2 is up"), "{said}");
    a_second_up_does_nothing(&project).await;
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert_eq!(seen.with_status(404), 0, "{seen:#?}");
    let status = project.status().await;
    let names = status["services"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["shop"], "{status:#}");
    let left = AdminPort::of(&project).get("/v1/services").await;
    assert_eq!(
        left["services"].as_array().map(Vec::len),
        Some(1),
        "{left:#}"
    );
    assert_eq!(project.serving("1.0.0").len(), 2);
}

/// A secret is a file to the containers of its service, and nowhere else. Another content
/// is another version.
pub async fn a_secret_is_given_by_file_and_shown_nowhere(on: On) {
    let project = TestProject::new(on, &quick());
    let folder = project.file().parent().expect("a folder").to_owned();
    let file = folder.join("password");
    std::fs::write(&file, SECRET).expect("the folder is ours");
    project.write_manifest(&with(
        &project,
        &quick(),
        "secrets = { db-password = \"password\" }",
    ));
    project.must(&["up"]).await;
    for id in project.serving("1.0.0") {
        assert_eq!(secret_of(on, &id), SECRET);
    }
    is_kept_secret(&project, "1.0.0").await;

    std::fs::write(&file, NEW_SECRET).expect("the folder is ours");
    let load = project.load();
    project.must(&["up", "--wait"]).await;
    project.until_phase("done").await;
    for id in project.serving("1.0.0+2") {
        assert_eq!(secret_of(on, &id), NEW_SECRET);
    }
    is_kept_secret(&project, "1.0.0+2").await;
    // What was kept for the version before is still there for it.
    project.must(&["rollback", "web", "--wait"]).await;
    project.until_phase("done").await;
    for id in project.serving("1.0.0") {
        assert_eq!(secret_of(on, &id), SECRET);
    }
    load.stop().await.expect_no_failure();
    // A version that no rollback can go back to is forgotten.
    for version in ["2.0.0", "2.1.0"] {
        project
            .must(&project.deploy(version, &["--strategy", "all-at-once", "--wait"]))
            .await;
        project.until_phase("done").await;
    }
    project.must(&["up"]).await;
    let says = "its secret `db-password` is no longer kept";
    project
        .refused(
            &["rollback", "web", "--to", "1.0.0"],
            1,
            &[says, "crossfade deploy web"],
        )
        .await;
    project.must(&["down"]).await;
    let kept = std::fs::read_dir(project.state().join("secrets")).expect("the folder is ours");
    let kept: Vec<_> = kept.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(kept, ["key"], "nothing is kept without need");

    std::fs::remove_file(&file).expect("the folder is ours");
    project
        .refused(
            &["up"],
            64,
            &[
                "crossfade.toml:",
                "services[0].secrets.db-password",
                "cannot be read",
            ],
        )
        .await;
}

/// What a process or a container finds where it is told to look.
fn secret_of(on: On, id: &str) -> String {
    let (root, pid) = match on {
        On::Processes => (String::new(), id.to_owned()),
        On::Podman => {
            let pid = podman(&["inspect", "--format", "{{.State.Pid}}", id]).expect("it runs");
            (format!("/proc/{}/root", pid.trim()), pid.trim().to_owned())
        }
    };
    let environment = std::fs::read(format!("/proc/{pid}/environ")).expect("it runs");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(!environment.contains("hunter2"), "{environment}");
    let path = environment
        .split('\0')
        .find_map(|pair| pair.strip_prefix("DB_PASSWORD_FILE="))
        .expect("it is told where");
    std::fs::read_to_string(format!("{root}{path}")).expect("it is there")
}

async fn is_kept_secret(project: &TestProject, version: &str) {
    let mut said = String::new();
    for args in [
        &["history", "--output", "json"][..],
        &["events", "--output", "json"],
        &["status", "--output", "json"],
        &["logs", "web"],
    ] {
        said.push_str(&project.must(args).await);
    }
    for file in ["controller.log", "state.db", "state.db-wal"] {
        let bytes = std::fs::read(project.state().join(file)).unwrap_or_default();
        said.push_str(&String::from_utf8_lossy(&bytes));
    }
    for id in project.serving(version) {
        match project.on {
            On::Podman => said.push_str(&podman(&["inspect", &id]).expect("it is there")),
            On::Processes => {
                let line = std::fs::read(format!("/proc/{id}/cmdline")).expect("it runs");
                said.push_str(&String::from_utf8_lossy(&line));
            }
        }
    }
    assert!(said.contains(version));
    assert!(!said.contains("hunter2"), "a secret was told");
}

/// The proxy serves HTTPS with the manifest's certificates, and renewed ones at once.
pub async fn clients_are_served_over_tls_with_the_manifests_certificates(on: On) {
    let project = TestProject::new(on, &quick());
    let ca = TestCa::new();
    let pair = ca.issue("web", "web.test", 2100);
    // Named as people name them: by a link, as what renews certificates makes them.
    let folder = project.file().parent().expect("a folder").to_owned();
    let (cert, _) = ca.files("web");
    let link = folder.join("live.pem");
    std::os::unix::fs::symlink(&cert, &link).expect("the folder is ours");
    let pair = pair.replace(&format!("{cert:?}"), "\"live.pem\"");
    let secure = crate::free_address();
    let listener =
        format!("[[proxy.listeners]]\naddress = \"{secure}\"\ntls = [{pair}]\n\n[[services]]");
    let manifest = project
        .manifest(&quick())
        .replacen("[[services]]", &listener, 1);

    project.write_manifest(&manifest.replace("live.pem", "gone.pem"));
    project
        .refused(
            &["up"],
            64,
            &["proxy.listeners[0].tls[0].cert", "gone.pem cannot be read"],
        )
        .await;
    project.write_manifest(&manifest);
    let said = project.must(&["up"]).await;
    assert!(said.contains(&format!("https://{secure}")), "{said}");
    let client = ca.client(&[]);
    let mut connection = client.open(secure, "web.test").await.expect("a handshake");
    let reply = connection.send("GET", "/", "").await.expect("a response");
    assert_eq!(reply.status, 200, "{reply:?}");
    let plain = crate::get(project.address, "/").await;
    assert_eq!(plain.status, 200, "the plain one is there, too");

    let shown = connection.certificate;
    ca.issue("web", "web.test", 2101);
    wait_until("the renewed certificate is served", || async {
        let renewed = client.open(secure, "web.test").await;
        renewed.is_ok_and(|renewed| renewed.certificate != shown)
    })
    .await;
    tokio::time::timeout(Duration::from_secs(5), project.must(&["status"]))
        .await
        .expect("it responds");
}

/// What a version speaks is its own: another protocol, and TLS, come by a rollout, and the version
/// before is spoken to as it was. The containers here do not speak them, so it is rolled back.
pub async fn each_version_is_spoken_to_as_the_manifest_had_it(on: On) {
    let settings = Settings {
        start_timeout: "3s",
        ..quick()
    };
    let project = TestProject::new(on, &settings);
    project.write_manifest(&with(
        &project,
        &settings,
        "tls = { server_name = \"not a name\", verify = false }",
    ));
    let says = ["crossfade.toml:16: services[0].tls.server_name: "];
    project.refused(&["up"], 64, &says).await;

    project.write_manifest(&project.manifest(&settings));
    project.must(&["up"]).await;
    let load = project.load();
    let ca = TestCa::new();
    let folder = project.file().parent().expect("a folder").to_owned();
    std::fs::copy(ca.path("ca.pem"), folder.join("ca.pem")).expect("the folder is ours");
    let keys = "protocol = \"h2\"\ntls = { ca = \"ca.pem\", server_name = \"web.test\" }";
    project.write_manifest(&with(&project, &settings, keys));
    let said = project.must(&["up"]).await;
    assert!(said.contains("(web 1.0.0 → 1.0.0+2) begins"), "{said}");
    let admin = AdminPort::of(&project);
    admin
        .until("the new version is there", |web| {
            web["versions"]["1.0.0+2"].is_object()
        })
        .await;
    let web = admin.get("/v1/services/web").await;
    let (new, old) = (&web["versions"]["1.0.0+2"], &web["versions"]["1.0.0"]);
    assert_eq!(new["protocol"], "h2", "{web:#}");
    assert_eq!(new["tls"]["server_name"], "web.test", "{web:#}");
    let kept = new["tls"]["ca"].as_str().expect("a path");
    assert!(kept.contains("/authorities/"), "{kept}");
    assert!(old["protocol"].is_null() && old["tls"].is_null(), "{web:#}");
    project.until_phase("rolled-back").await;
    load.stop().await.expect_no_failure();
    assert_eq!(project.serving("1.0.0").len(), 2);
}

/// Containers that serve by unix socket: they are found healthy, drained in a rollout, and replaced
/// when they are killed; and nothing of their folders is left.
pub async fn containers_serve_by_unix_socket(on: On) {
    let project = TestProject::new(on, &quick());
    let manifest = with(&project, &quick(), "socket = \"/run/app/app.sock\"");
    project.write_manifest(&manifest);
    project.must(&["up"]).await;
    let admin = AdminPort::of(&project);
    let sockets = || async {
        let web = admin.get("/v1/services/web").await;
        let versions = web["versions"].as_object().cloned().unwrap_or_default();
        let endpoints = versions.values().flat_map(|version| {
            let endpoints = version["endpoints"].as_array().cloned();
            endpoints.unwrap_or_default()
        });
        let addresses = endpoints.filter_map(|one| Some(one["address"].as_str()?.to_owned()));
        addresses.collect::<Vec<_>>()
    };
    let first = sockets().await;
    assert_eq!(first.len(), 2, "{first:?}");
    let is_socket = |one: &String| one.starts_with("unix:/") && one.ends_with("/app.sock");
    assert!(first.iter().all(is_socket), "{first:?}");

    let load = project.load();
    let deployed = project.must(&project.deploy("2.0.0", &["--wait"])).await;
    project.until_phase("done").await;
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert!(seen.ok("2.0.0") > 0, "{deployed}");
    let (second, serving) = (sockets().await, project.serving("2.0.0"));
    assert!(second.iter().all(is_socket), "{second:?}");

    project.kill_one("2.0.0");
    wait_until(
        "another container serves at a socket of its own",
        || async {
            let (now, running) = (sockets().await, project.serving("2.0.0"));
            let is_new = now != second && running != serving;
            is_new && now.len() == 2 && running.len() == 2 && now.iter().all(is_socket)
        },
    )
    .await;
    project
        .until("both are healthy", |web| {
            let version = &web["versions"][0];
            version["healthy"] == 2 && version["endpoints"] == 2
        })
        .await;
    let load = project.load();
    wait_until("its folders are those of containers that run", || async {
        folders(&project) == 2
    })
    .await;
    load.stop().await.expect_no_failure();
    project.must(&["down"]).await;
    assert_eq!(folders(&project), 0);
}

/// How many folders with sockets of containers there are.
fn folders(project: &TestProject) -> usize {
    let folder = project.state().join("proxy/sockets");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
