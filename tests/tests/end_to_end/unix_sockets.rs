//! Endpoints behind unix sockets.

use std::path::Path;

use admin_api::HealthState;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Load, Running, TestProxy, get, send, wait_until};

/// Of the load: at most so many requests are in flight.
const CONNECTIONS: u64 = 4;

async fn start(socket: &Path, version: &str) -> Running {
    let socket = socket.to_str().unwrap();
    let args = ["--socket", socket, "--version-label", version];
    let running = Running::start("crossfade-sample-server", &args, &[]);
    running.line_with("listening on unix:").await;
    running
}

/// A proxy with an endpoint behind each of these sockets, of versions 1, 2, …, which are up.
async fn proxy_to(sockets: &[&Path]) -> TestProxy {
    let proxy = TestProxy::start().await;
    let health = json!({"path": "/healthz", "interval": "50ms", "rise": 1, "fall": 1});
    let endpoints: Vec<Value> = (1..)
        .zip(sockets)
        .map(|(version, socket)| {
            let address = format!("unix:{}", socket.display());
            json!({"address": address, "version": version.to_string()})
        })
        .collect();
    let service = json!({"health": health, "endpoints": endpoints, "split": {"1": 100}});
    proxy.must("PUT", "/v1/services/web", service).await;
    for version in 1..=sockets.len() {
        proxy.wait_up(&version.to_string()).await;
    }
    proxy
}

#[tokio::test]
async fn a_program_behind_a_unix_socket_serves_and_is_named_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, next) = (folder.path().join("1.sock"), folder.path().join("2.sock"));
    let _servers = (start(&socket, "1").await, start(&next, "2").await);
    let proxy = proxy_to(&[&socket, &next]).await;
    let body = "x".repeat(1 << 20);
    for _ in 0..3 {
        let reply = send(proxy.address, "POST", "/echo", &[], &body).await;
        assert_eq!(reply.status.as_u16(), 200);
        assert_eq!(reply.body, body);
    }
    let web = proxy.web().await;
    let endpoint = &web.versions["1"].endpoints[0];
    assert_eq!(endpoint.address, format!("unix:{}", socket.display()));
    proxy.split(json!({"2": 100})).await;
    let receipt = proxy.drain("1", "5s").await;
    assert!(receipt.drained && !receipt.forced, "{receipt:?}");
}

#[tokio::test]
async fn a_program_that_is_killed_and_started_again_at_its_socket_costs_no_more_than_what_was_in_flight()
 {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let server = start(&socket, "1").await;
    let proxy = proxy_to(&[&socket]).await;
    let flags = ["--rate", "100", "--connections", &CONNECTIONS.to_string()];
    let load = Load::start(proxy.address, &flags);
    wait_until("the load runs", || async {
        proxy.stats().await.versions["1"].responses.success > 50
    })
    .await;
    server.signal(Signal::KILL);
    server.finished().await;
    // Its socket is still in the folder, and nothing listens there.
    assert!(socket.exists());
    let _successor = start(&socket, "1").await;
    let before = proxy.stats().await.versions["1"].responses.success;
    wait_until("the successor serves", || async {
        proxy.stats().await.versions["1"].responses.success > before + 50
    })
    .await;
    // What is tried again may meet the socket of the program that is being killed.
    let seen = load.stop().await;
    assert!(seen.failed() <= CONNECTIONS, "{seen:#?}");
}

#[tokio::test]
async fn a_drain_waits_for_what_is_in_flight_behind_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, next) = (folder.path().join("1.sock"), folder.path().join("2.sock"));
    let _servers = (start(&socket, "1").await, start(&next, "2").await);
    let proxy = proxy_to(&[&socket, &next]).await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { get(address, "/slow?for=2s").await });
    proxy.wait_in_flight(1).await;
    proxy.split(json!({"2": 100})).await;
    let early = proxy.drain("1", "100ms").await;
    assert!(!early.drained, "{early:?}");
    assert_eq!(early.endpoints[0].in_flight, 1);
    let late = proxy.drain("1", "20s").await;
    assert!(late.drained && !late.forced, "{late:?}");
    assert!(slow.is_finished(), "nothing was in flight any more");
    assert_eq!(slow.await.unwrap().status.as_u16(), 200);
}

/// A program whose health check fails, and one that is killed: each is down with the reason, gets
/// nothing meanwhile, and is up when it is well again.
#[tokio::test]
async fn a_program_behind_a_unix_socket_that_is_unhealthy_or_killed_is_down_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, next) = (folder.path().join("1.sock"), folder.path().join("2.sock"));
    let (server, _other) = (start(&socket, "1").await, start(&next, "2").await);
    let proxy = proxy_to(&[&socket, &next]).await;
    proxy.split(json!({"1": 99, "2": 1})).await;
    let is_down = async |says: &str| {
        wait_until("it is down", || async {
            let endpoint = proxy.web().await.versions["1"].endpoints[0].clone();
            let reason = endpoint.reason.unwrap_or_default();
            endpoint.health == HealthState::Down && reason.contains(says)
        })
        .await;
        let reply = get(proxy.address, "/").await;
        assert!(reply.body.contains(r#""version":"2""#), "{reply:?}");
    };
    server.signal(Signal::KILL);
    server.finished().await;
    is_down("refused").await;
    let server = start(&socket, "1").await;
    proxy.wait_up("1").await;
    server.signal(Signal::STOP);
    is_down("").await;
    server.signal(Signal::CONT);
    proxy.wait_up("1").await;
    // Its socket is removed: there is nothing to connect to.
    std::fs::remove_file(&socket).unwrap();
    is_down("").await;
}
