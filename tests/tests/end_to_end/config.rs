//! The config file: checked before anything is bound, followed while the proxy runs.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Load, Running, TestEndpoint, TestProxy, get, wait_until};

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
