//! The config file: checked before anything is bound, followed while the proxy runs.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Load, Running, TestEndpoint, TestProxy, get, try_send, wait_until};

fn service(endpoint: &TestEndpoint) -> String {
    format!(
        "[[services]]\nname = \"web\"\n[[services.endpoints]]\naddress = \"{}\"\nversion = \"{}\"\n",
        endpoint.address, endpoint.version
    )
}

/// Rewrites the services in the proxy's config file, in the way that editors do.
fn rewrite(file: &Path, services: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let head = text.split("[[services]]").next().unwrap();
    let beside = file.with_extension("swp");
    std::fs::write(&beside, format!("{head}{services}")).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

async fn wait_until_served_by(proxy: &TestProxy, version: &str) {
    wait_until(&format!("{version} serves"), || async {
        get(proxy.address, "/").await.body.contains(version)
    })
    .await;
}

#[tokio::test]
async fn a_wrong_config_is_named_with_file_line_and_field_and_exits_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let path = file.to_str().unwrap();
    for (text, says) in [
        (
            "[[listeners]]\naddres = \"x\"\n",
            ":2: listeners[0].addres: unknown field `addres`",
        ),
        ("[[listeners]]\naddres = \"x\"\n", "did you mean `address`?"),
        (
            "[[listeners]]\naddress = \"1.2.3.4\"\n",
            ":2: listeners[0].address: `1.2.3.4` is not an address",
        ),
        ("[[listeners]\n", ":1: "),
        (
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[timeouts]\ndrain = \"9000years\"\n",
            ":4: timeouts.drain: `9000years` is too long: at most a year",
        ),
        ("", " listeners: is missing"),
    ] {
        std::fs::write(&file, text).unwrap();
        for args in [&["--config", path, "--check"][..], &["--config", path]] {
            let finished = Running::run("crossfade-proxy", args).await;
            assert_eq!(finished.code, Some(64), "{text}: {finished:?}");
            assert!(
                finished.stderr.starts_with(&format!("error: {path}:")),
                "{finished:?}"
            );
            assert!(finished.stderr.contains(says), "{says}: {finished:?}");
        }
    }
    let missing = Running::run("crossfade-proxy", &["--config", "/no/such/file", "--check"]).await;
    assert_eq!(missing.code, Some(64), "{missing:?}");
    std::fs::write(&file, "[[listeners]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    let good = Running::run("crossfade-proxy", &["--config", path, "--check"]).await;
    assert_eq!(
        (good.code, good.stdout),
        (Some(0), format!("{path} is valid"))
    );
}

#[tokio::test]
async fn a_change_of_the_file_is_taken_up_without_a_failure() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let proxy = TestProxy::with_config(&service(&one)).await;
    let load = Load::start(proxy.address, &["--rate", "0", "--connections", "4"]);
    wait_until_served_by(&proxy, "1.0.0").await;
    rewrite(&proxy.config_file(), &service(&two));
    wait_until_served_by(&proxy, "2.0.0").await;
    rewrite(&proxy.config_file(), &service(&one));
    wait_until_served_by(&proxy, "1.0.0").await;
    load.stop().await.expect_no_failure();
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_waited_for() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let proxy = TestProxy::with_config(&service(&one)).await;
    let file = proxy.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    // Cut where it is a good config that has no service, by an editor that writes slowly.
    let head = text.split("[[services]]").next().unwrap();
    let mut open = std::fs::File::create(&file).unwrap();
    open.write_all(head.as_bytes()).unwrap();
    for _ in 0..60 {
        assert_eq!(get(proxy.address, "/").await.status, 200);
        open.write_all(b"# not yet\n").unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    open.write_all(service(&two).as_bytes()).unwrap();
    drop(open);
    wait_until_served_by(&proxy, "2.0.0").await;
}

#[tokio::test]
async fn a_file_that_is_wrong_or_gone_leaves_the_running_table() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let proxy = TestProxy::with_config(&service(&one)).await;
    let file = proxy.config_file();
    let whole = std::fs::read_to_string(&file).unwrap();
    let valid = |want: &'static str| {
        let proxy = &proxy;
        wait_until(want, move || async move {
            proxy
                .call("GET", "/metrics", Value::Null)
                .await
                .body
                .contains(want)
        })
    };
    rewrite(&file, "[[services]]\nnam = \"web\"\n");
    proxy
        .logged("did you mean `name`?; the running table stays as it is")
        .await;
    valid("crossfade_config_valid 0").await;
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));

    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(&file).unwrap();
    proxy.logged("No such file").await;
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));

    std::fs::write(&file, whole).unwrap();
    valid("crossfade_config_valid 1").await;
    rewrite(&file, &service(&two));
    wait_until_served_by(&proxy, "2.0.0").await;
}

#[tokio::test]
async fn a_symlink_that_is_swapped_is_a_change() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let proxy = TestProxy::with_config(&service(&one)).await;
    let file = proxy.config_file();
    let folder = file.parent().unwrap();
    // As container volumes do it: proxy.toml → ..data/proxy.toml, ..data → a folder.
    for (name, endpoint) in [("v1", &one), ("v2", &two)] {
        std::fs::create_dir(folder.join(name)).unwrap();
        let head = std::fs::read_to_string(&file).unwrap();
        let head = head.split("[[services]]").next().unwrap().to_owned();
        std::fs::write(
            folder.join(name).join("proxy.toml"),
            head + &service(endpoint),
        )
        .unwrap();
    }
    let link = |to: &str, from: &str| {
        std::os::unix::fs::symlink(to, folder.join("tmp")).unwrap();
        std::fs::rename(folder.join("tmp"), folder.join(from)).unwrap();
    };
    link("v1", "..data");
    link("..data/proxy.toml", "proxy.toml");
    link("v2", "..data");
    wait_until_served_by(&proxy, "2.0.0").await;
}

#[tokio::test]
async fn only_services_whose_text_changed_are_replaced() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let proxy = TestProxy::with_config(&service(&one)).await;
    proxy.put_web(&[&two], Value::Null).await;
    let other = "[[services]]\nname = \"other\"\nhosts = [\"other\"]\n";
    rewrite(&proxy.config_file(), &format!("{}{other}", service(&one)));
    wait_until("the other service is there", || async {
        proxy
            .call("GET", "/v1/services/other", Value::Null)
            .await
            .status
            == 200
    })
    .await;
    assert!(
        get(proxy.address, "/").await.body.contains("2.0.0"),
        "the admin API wrote last"
    );
}

#[tokio::test]
async fn what_the_admin_api_has_set_is_there_again_after_a_kill() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let mut proxy = TestProxy::with_config(&service(&one)).await;
    proxy.put_web(&[&one, &two], json!({"1.0.0": 1})).await;
    for want in ["2.0.0", "1.0.0", "2.0.0"] {
        proxy.split(json!({ want: 1 })).await;
        proxy = proxy.restart_after_kill(&service(&one)).await;
        let response = get(proxy.address, "/").await;
        assert!(response.body.contains(want), "{want}: {response:?}");
    }
    // Its text in the file has changed since: the file wins.
    proxy = proxy
        .restart_after_kill(&format!("{}weight = 2\n", service(&one)))
        .await;
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));
    assert_eq!(proxy.web().await.versions.len(), 1);
}

/// Sets splits of a service with higher and higher numbers until the proxy is gone. Gives the last one
/// that was confirmed.
async fn change_until_gone(admin: SocketAddr, name: String, confirmed: Arc<AtomicU32>) -> u32 {
    for number in 1.. {
        let path = format!("/v1/services/{name}/split");
        let split = json!({"split": {"1.0.0": number}}).to_string();
        match try_send(admin, "PUT", &path, &[], &split).await {
            Ok(reply) => assert_eq!(reply.status, 200, "{reply:?}"),
            Err(_) => return number - 1,
        }
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("numbers do not end")
}

#[tokio::test]
async fn what_any_of_several_callers_was_told_is_there_after_a_kill() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let mut proxy = TestProxy::start().await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1.0.0"}]);
    let names: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    for _ in 0..3 {
        for name in &names {
            let service = json!({"path_prefix": format!("/{name}"), "endpoints": endpoints});
            let path = format!("/v1/services/{name}");
            proxy.must("PUT", &path, service).await;
        }
        let confirmed = Arc::new(AtomicU32::new(0));
        let callers: Vec<_> = names
            .iter()
            .map(|name| change_until_gone(proxy.admin, name.clone(), confirmed.clone()))
            .map(tokio::spawn)
            .collect();
        wait_until("some changes are confirmed", || async {
            confirmed.load(Ordering::Relaxed) > 200
        })
        .await;
        proxy = proxy.restart_after_kill("").await;
        for (name, caller) in names.iter().zip(callers) {
            let last = caller.await.unwrap();
            let path = format!("/v1/services/{name}");
            let service = proxy.must("GET", &path, Value::Null).await;
            let kept = service["split"]["1.0.0"].as_u64().unwrap();
            // The one that was on its way may be there, too.
            let last = u64::from(last);
            assert!(
                (last..=last + 1).contains(&kept),
                "{name}: {kept}, not {last}"
            );
        }
    }
}

#[tokio::test]
async fn a_generation_comes_once_also_after_a_kill() {
    let one = TestEndpoint::start("1.0.0").await;
    let mut proxy = TestProxy::with_config(&service(&one)).await;
    let mut last = 0;
    for _ in 0..3 {
        let generation = proxy.web().await.generation;
        assert!(generation > last, "{generation}, after {last}");
        proxy.put_web(&[&one], Value::Null).await;
        last = proxy.web().await.generation;
        proxy = proxy.restart_after_kill(&service(&one)).await;
    }
}

#[tokio::test]
async fn a_proxy_that_is_stopped_leaves_a_state_file_that_older_releases_read() {
    let one = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&one], Value::Null).await;
    proxy.split(json!({"1.0.0": 7})).await;
    let state = proxy.config_file().with_file_name("state.json");
    let text = || std::fs::read_to_string(&state).unwrap();
    assert_eq!(text().lines().count(), 4, "{}", text());
    proxy.signal(rustix::process::Signal::TERM);
    wait_until("the file is one piece of JSON", || async {
        serde_json::from_str::<Value>(&text()).is_ok()
    })
    .await;
    let saved: Value = serde_json::from_str(&text()).unwrap();
    assert_eq!(saved["format"], 1);
    assert_eq!(saved["services"]["web"]["spec"]["split"]["1.0.0"], 7);
}

#[tokio::test]
async fn a_damaged_change_costs_its_service_alone_and_is_said() {
    let one = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::start().await;
    let endpoints = json!([{"address": one.address.to_string(), "version": "1.0.0"}]);
    for name in ["a", "b", "c"] {
        let service = json!({"path_prefix": format!("/{name}"), "endpoints": endpoints});
        let path = format!("/v1/services/{name}");
        proxy.must("PUT", &path, service).await;
    }
    let state = proxy.config_file().with_file_name("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let at = text.find("\"/b\"").unwrap();
    std::fs::write(&state, text.replace("\"/b\"", "\"/x\"")).unwrap();
    let begins = text[..at].rfind('\n').unwrap() + 1;
    let proxy = proxy.restart_after_kill("").await;
    proxy.logged(&format!("at byte {begins} is left out")).await;
    for (name, status) in [("a", 200), ("b", 404), ("c", 200)] {
        let path = format!("/v1/services/{name}");
        let reply = proxy.call("GET", &path, Value::Null).await;
        assert_eq!(reply.status, status, "{name}");
    }
    let aside = std::fs::read_to_string(state.with_extension("json.damaged")).unwrap();
    assert!(aside.contains("\"/x\""), "it is kept for a look into it");
}

#[tokio::test]
async fn a_state_file_that_is_not_whole_does_not_stop_the_proxy() {
    let one = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::with_config(&service(&one)).await;
    let state = proxy.config_file().with_file_name("state.json");
    std::fs::write(&state, "{\"format\":1,\"servi").unwrap();
    let proxy = proxy.restart_after_kill(&service(&one)).await;
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));
    assert!(
        state.with_extension("json.unreadable").exists(),
        "it is kept for a look into it"
    );
}

#[tokio::test]
async fn an_admin_socket_takes_no_other_files_place() {
    let folder = tempfile::tempdir().unwrap();
    let (file, precious) = (
        folder.path().join("proxy.toml"),
        folder.path().join("precious"),
    );
    std::fs::write(&precious, "precious").unwrap();
    let config = format!(
        "[admin]\nlisten = \"unix:{}\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n",
        precious.display()
    );
    std::fs::write(&file, config).unwrap();
    let refused = Running::run("crossfade-proxy", &["--config", file.to_str().unwrap()]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
}

#[tokio::test]
async fn a_pipe_in_the_files_place_does_not_stop_the_proxy() {
    let one = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::with_config(&service(&one)).await;
    let file = proxy.config_file();
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &file,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .unwrap();
    proxy
        .logged("is not a file; the running table stays as it is")
        .await;
    assert_eq!(get(proxy.admin, "/healthz").await.status, 200);
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.finished().await.code, Some(0));
}

#[tokio::test]
async fn a_saved_service_that_contradicts_the_file_is_left_out_alone() {
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    let proxy = TestProxy::start().await;
    for (name, hosts) in [("a", json!(["a.test"])), ("b", json!(["b.test"]))] {
        let endpoints = json!([{"address": one.address.to_string(), "version": "1.0.0"}]);
        let service = json!({"hosts": hosts, "endpoints": endpoints});
        proxy
            .must("PUT", &format!("/v1/services/{name}"), service)
            .await;
    }
    let conflicting =
        service(&two).replace("name = \"web\"", "name = \"web\"\nhosts = [\"a.test\"]");
    let proxy = proxy.restart_after_kill(&conflicting).await;
    for (host, want) in [("a.test", "2.0.0"), ("b.test", "1.0.0")] {
        let reply = tests::send(proxy.address, "GET", "/", &[("host", host)], "").await;
        assert!(reply.body.contains(want), "{host}: {reply:?}");
    }
}
