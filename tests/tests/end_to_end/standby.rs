//! A process waits to take the place of the one that serves, and does so when that dies.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{
    FIRST_RESPONSE, Load, ProcessStats, Running, TestEndpoint, TestProxy, get, try_send, wait_until,
};

async fn serving() -> (TestProxy, TestEndpoint) {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1.0.0").await;
    let health = json!({"path": "/healthz", "interval": "100ms"});
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1.0.0"}]);
    let web = json!({"health": health, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", web).await;
    proxy.wait_up("1.0.0").await;
    (proxy, endpoint)
}

/// A standby serves with what the admin API has set, and so does its own standby after it.
#[tokio::test]
async fn when_the_process_that_serves_is_killed_its_standby_serves_at_once() {
    let (mut proxy, _endpoint) = serving().await;
    for weight in 1..=3 {
        proxy.split(json!({"1.0.0": weight})).await;
        let standby = proxy.standby().await;
        let killed = Instant::now();
        proxy.kill(standby).await;
        assert_eq!(get(proxy.address, "/").await.status, 200);
        let took = killed.elapsed();
        assert!(took <= FIRST_RESPONSE, "{took:?}");
        assert_eq!(proxy.web().await.split["1.0.0"], weight);
    }
}

#[tokio::test]
async fn a_standby_serves_nothing_and_costs_next_to_nothing_while_it_waits() {
    let (proxy, _endpoint) = serving().await;
    let standby = proxy.standby().await;
    let before = ProcessStats::of(standby.id());
    let load = Load::start(proxy.address, &["--rate", "200", "--connections", "4"]);
    for weight in 1..=50 {
        proxy.split(json!({"1.0.0": weight})).await;
    }
    load.stop().await.expect_no_failure();
    let after = ProcessStats::of(standby.id());
    assert_eq!(after.cpu, before.cpu, "it sleeps");
    assert!(
        !standby.stderr().contains("listening"),
        "{}",
        standby.stderr()
    );
}

/// The standby of a process that has handed over is that of its successor.
#[tokio::test]
async fn a_standby_waits_through_upgrades_and_serves_when_the_newest_process_dies() {
    let (mut proxy, _endpoint) = serving().await;
    let standby = proxy.standby().await;
    for _ in 0..2 {
        let old = proxy.upgrade().await;
        assert_eq!(old.finished().await.code, Some(0));
        wait_until("the successor has the standby", || async {
            proxy.must("GET", "/v1/status", Value::Null).await["standby"] == true
        })
        .await;
    }
    assert!(
        !standby.stderr().contains("in its place"),
        "{}",
        standby.stderr()
    );
    proxy.kill(standby).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    // It hands over as every process does.
    let old = proxy.upgrade().await;
    assert_eq!(old.finished().await.code, Some(0));
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

/// A new process and the standby of one that was killed: one of them serves in the end, and clients
/// are refused by none.
#[tokio::test]
async fn a_process_that_is_started_beside_a_standby_takes_over_from_it() {
    let (mut proxy, _endpoint) = serving().await;
    let standby = proxy.standby().await;
    let load = Load::start(
        proxy.address,
        &[
            "--rate",
            "100",
            "--connections",
            "4",
            "--header",
            "Connection: close",
        ],
    );
    let next = proxy.begin_successor(2);
    proxy.kill(next).await;
    wait_until("one process serves", || async {
        // It may be the one that is killed, or be about to hand over.
        let status = try_send(proxy.admin, "GET", "/v1/status", &[], "").await;
        status.is_ok_and(|status| status.json()["draining_processes"] == 0)
    })
    .await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let seen = load.stop().await;
    assert_eq!(seen.failures["connect"], 0, "{seen:?}");
    drop(standby);
}

#[tokio::test]
async fn a_standby_serves_by_the_config_of_the_moment_and_by_its_own_if_that_is_wrong() {
    let (mut proxy, endpoint) = serving().await;
    let config = std::fs::read_to_string(proxy.config_file()).unwrap();
    let standby = proxy.standby().await;
    let service = format!(
        "\n[[services]]\nname = \"new\"\nhosts = [\"new.test\"]\n\
         endpoints = [{{ address = \"{}\", version = \"7\" }}]\n",
        endpoint.address
    );
    std::fs::write(proxy.config_file(), config.clone() + &service).unwrap();
    proxy.kill(standby).await;
    wait_until("the new service is there", || async {
        let reply = proxy.call("GET", "/v1/services/new", Value::Null).await;
        reply.status == 200
    })
    .await;
    let standby = proxy.standby().await;
    std::fs::write(proxy.config_file(), "listeners = 7").unwrap();
    proxy.kill(standby).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    proxy
        .logged("serving by the config of this process's start")
        .await;
}

#[tokio::test]
async fn a_standby_ends_when_it_is_told_to_and_a_proxy_that_is_stopped_has_one_in_its_place() {
    let (proxy, _endpoint) = serving().await;
    let told = proxy.standby().await;
    told.signal(Signal::TERM);
    let finished = told.finished().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    wait_until("it has none", || async {
        proxy.must("GET", "/v1/status", Value::Null).await["standby"] == false
    })
    .await;
    let standby = proxy.standby().await;
    proxy.signal(Signal::TERM);
    standby.line_with("serves in its place").await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn without_a_process_a_standby_serves_and_without_a_socket_it_says_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let config = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&file, config).unwrap();
    let flags = ["--config", file.to_str().unwrap(), "--standby"];
    let refused = Running::start("crossfade-proxy", &flags, &[])
        .finished()
        .await;
    assert_eq!(refused.code, Some(64), "{refused:?}");
    assert!(
        refused.stderr.contains("set handover.socket"),
        "{refused:?}"
    );
    let socket = folder.path().join("handover.sock");
    std::fs::write(&file, format!("[handover]\nsocket = {socket:?}\n{config}")).unwrap();
    let alone = Running::start("crossfade-proxy", &flags, &[]);
    alone.line_with(" listening address=").await;
    alone.signal(Signal::TERM);
    assert_eq!(alone.finished().await.code, Some(0));
}
