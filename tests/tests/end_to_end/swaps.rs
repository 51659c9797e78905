//! The table changes under load, and no client can tell.

use serde_json::json;
use tests::{Load, TestEndpoint, TestProxy};

#[tokio::test]
async fn no_request_fails_over_1_000_swaps_under_load() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
    let load = Load::start(proxy.address, &["--rate", "0", "--connections", "16"]);
    let begin = proxy.web().await.generation;
    for n in 1..=1_000 {
        match n % 4 {
            // The whole upstream set, with an endpoint less and with it again.
            0 => proxy.put_web(&[&old], json!({"1.0.0": 1})).await,
            1 => {
                proxy
                    .put_web(&[&old, &new], json!({"1.0.0": 50, "2.0.0": 50}))
                    .await;
            }
            _ => {
                proxy
                    .split(json!({"1.0.0": n % 100 + 1, "2.0.0": 50}))
                    .await;
            }
        }
    }
    assert_eq!(proxy.web().await.generation, begin + 1_000);
    let seen = load.stop().await;
    seen.expect_no_failure();
    assert!(seen.requests > 1_000, "{seen:?}");
    assert_eq!(
        seen.closed_idle, 0,
        "no client connection is closed by a swap"
    );
    assert_eq!(seen.connections_opened, 16);
}

#[tokio::test]
async fn a_websocket_outlives_1_000_swaps_and_the_drain_of_another_version() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
    let url = format!("http://{}/ws", proxy.address);
    let sockets = Load::at(
        &url,
        &["--websocket", "--connections", "4", "--rate", "100"],
    );
    tests::wait_until("four WebSockets are open", || async {
        proxy.stats().await.versions["1.0.0"].upgraded == 4
    })
    .await;
    for n in 1..=1_000 {
        proxy.split(json!({"1.0.0": n, "2.0.0": 1_000 - n})).await;
    }
    proxy.split(json!({"1.0.0": 1})).await;
    assert!(proxy.drain("2.0.0", "10s").await.drained);
    assert_eq!(proxy.stats().await.versions["1.0.0"].upgraded, 4);
    let seen = sockets.stop().await;
    assert_eq!(seen.failed(), 0, "{seen:?}");
}

#[tokio::test]
async fn a_share_of_1_percent_is_not_starved_by_frequent_swaps() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy
        .put_web(&[&old, &new], json!({"1.0.0": 99, "2.0.0": 1}))
        .await;
    let load = Load::start(proxy.address, &["--rate", "0", "--connections", "4"]);
    for _ in 0..500 {
        proxy.split(json!({"1.0.0": 99, "2.0.0": 1})).await;
    }
    let seen = load.stop().await;
    seen.expect_no_failure();
    let want = seen.requests / 100;
    assert!(
        seen.ok("2.0.0").abs_diff(want) <= 10,
        "{} of {}",
        seen.ok("2.0.0"),
        seen.requests
    );
}
