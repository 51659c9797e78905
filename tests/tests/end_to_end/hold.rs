//! Services that are held, and what becomes of their requests.

use std::time::Instant;

use serde_json::{Value, json};
use tests::{Load, Reply, TestEndpoint, TestProxy, get, wait_until};
use tokio::task::JoinHandle;

const HOLD: &str = "/v1/services/web/hold";
const RELEASE: &str = "/v1/services/web/release";

async fn proxy_before(endpoint: &TestEndpoint) -> TestProxy {
    let proxy = TestProxy::start().await;
    let service = json!({
        "health": {"path": "/healthz", "interval": "20ms"},
        "endpoints": [{"address": endpoint.address.to_string(), "version": endpoint.version}],
    });
    proxy.must("PUT", "/v1/services/web", service).await;
    wait_until("the endpoint responds", || async {
        get(proxy.address, "/").await.status == 200
    })
    .await;
    proxy
}

/// So many requests, under way.
fn requests(proxy: &TestProxy, count: usize) -> Vec<JoinHandle<Reply>> {
    let address = proxy.address;
    (0..count)
        .map(|_| tokio::spawn(async move { get(address, "/").await }))
        .collect()
}

async fn wait_waiting(proxy: &TestProxy, count: u64) {
    wait_until(&format!("{count} requests wait"), || async {
        proxy
            .web()
            .await
            .held
            .is_some_and(|held| held.waiting == count)
    })
    .await;
}

#[tokio::test]
async fn held_requests_wait_through_swaps_and_drains_and_none_is_lost_at_the_release() {
    let old = TestEndpoint::start("1.0.0").await;
    let new = TestEndpoint::start("2.0.0").await;
    let proxy = proxy_before(&old).await;
    proxy.must("POST", HOLD, Value::Null).await;
    let waiting = requests(&proxy, 50);
    wait_waiting(&proxy, 50).await;
    let well = get(proxy.address, "/healthz").await;
    assert_eq!(well.status, 200);
    assert!(well.body.contains("on hold"), "{well:?}");
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let line = "crossfade_held_requests{service=\"web\"} 50";
    assert!(metrics.lines().any(|one| one == line), "{metrics}");

    proxy.put_web(&[&old, &new], json!({"2.0.0": 1})).await;
    assert!(proxy.drain("1.0.0", "5s").await.drained);
    wait_waiting(&proxy, 50).await;
    proxy.must("POST", RELEASE, Value::Null).await;
    for reply in waiting {
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.body.contains("2.0.0"), "{reply:?}");
    }
    assert_eq!(proxy.web().await.held, None);
    let generation = proxy.must("POST", RELEASE, Value::Null).await;
    assert_eq!(generation, proxy.must("POST", RELEASE, Value::Null).await);
}

#[tokio::test]
async fn a_request_that_waits_too_long_or_finds_no_room_is_told_when_to_try_again() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_before(&endpoint).await;
    let hold = json!({"max_hold": "300ms", "max_waiting": 2});
    proxy.must("POST", HOLD, hold).await;
    let began = Instant::now();
    let waiting = requests(&proxy, 2);
    wait_waiting(&proxy, 2).await;
    let beyond = get(proxy.address, "/").await;
    assert_eq!(beyond.status, 503);
    for reply in waiting {
        let reply = reply.await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.header("retry-after")),
            (503, "1")
        );
    }
    assert!(began.elapsed().as_millis() >= 300);
    let held = proxy.web().await.held.unwrap();
    assert_eq!((held.waiting, held.refused), (0, 3));
}

#[tokio::test]
async fn a_hold_survives_a_restart_and_ends_with_its_service() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_before(&endpoint).await;
    proxy.must("POST", HOLD, json!({"max_hold": "20s"})).await;
    let proxy = proxy.restart_after_kill("").await;
    let waiting = requests(&proxy, 3);
    wait_waiting(&proxy, 3).await;
    proxy.must("DELETE", "/v1/services/web", Value::Null).await;
    for reply in waiting {
        assert_eq!(reply.await.unwrap().status, 404);
    }
    let unknown = proxy.call("POST", HOLD, Value::Null).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn holding_and_releasing_under_load_loses_nothing() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_before(&endpoint).await;
    let load = Load::start(proxy.address, &["--rate", "300", "--connections", "16"]);
    for _ in 0..20 {
        proxy.must("POST", HOLD, Value::Null).await;
        wait_until("a request waits", || async {
            proxy.web().await.held.is_some_and(|held| held.waiting > 0)
        })
        .await;
        proxy.must("POST", RELEASE, Value::Null).await;
    }
    load.stop().await.expect_no_failure();
}
