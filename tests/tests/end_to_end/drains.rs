//! A container may be stopped when the receipt says so, and not before.

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Load, TestEndpoint, TestProxy, ask, wait_until};

/// Two versions, with the split on the second one.
async fn moved_on(config: &str, flags: &[&str]) -> (TestProxy, TestEndpoint, TestEndpoint) {
    let proxy = TestProxy::with_config(config).await;
    let (old, new) = (
        TestEndpoint::with("1.0.0", flags).await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
    (proxy, old, new)
}

#[tokio::test]
async fn a_receipt_waits_for_the_request_in_flight() {
    let (proxy, _old, _new) = moved_on("", &[]).await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { ask(address, "/slow?for=1s").await });
    proxy.wait_in_flight(1).await;
    proxy.split(json!({"2.0.0": 1})).await;

    let early = proxy.drain("1.0.0", "0s").await;
    assert!(!early.drained);
    assert_eq!(early.endpoints[0].in_flight, 1);
    let late = proxy.drain("1.0.0", "20s").await;
    assert!(late.drained && !late.forced, "{late:?}");
    assert!(slow.await.unwrap().body.contains("1.0.0"));
}

#[tokio::test]
async fn endpoints_that_are_drained_before_they_are_stopped_cost_no_request() {
    let proxy = TestProxy::start().await;
    let stays = TestEndpoint::start("1.0.0").await;
    proxy.put_web(&[&stays], json!({"1.0.0": 1})).await;
    let load = Load::start(proxy.address, &["--rate", "0", "--connections", "8"]);
    for _ in 0..10 {
        let passing = TestEndpoint::start("2.0.0").await;
        proxy
            .put_web(&[&stays, &passing], json!({"1.0.0": 1, "2.0.0": 1}))
            .await;
        wait_until("the endpoint gets requests", || async {
            proxy.stats().await.versions["2.0.0"].responses.success > 10
        })
        .await;
        proxy.put_web(&[&stays], json!({"1.0.0": 1})).await;
        let receipt = proxy.drain("2.0.0", "20s").await;
        assert!(receipt.drained && !receipt.forced, "{receipt:?}");
        passing.signal(Signal::KILL);
        passing.finished().await;
    }
    load.stop().await.expect_no_failure();
}

#[tokio::test]
async fn at_the_time_out_what_is_left_is_cut_and_the_receipt_says_so() {
    let (proxy, _old, _new) = moved_on("[timeouts]\ndrain = \"300ms\"", &[]).await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { ask(address, "/slow?for=60s").await });
    proxy.wait_in_flight(1).await;
    proxy.split(json!({"2.0.0": 1})).await;
    let receipt = proxy.drain("1.0.0", "20s").await;
    assert!(receipt.drained && receipt.forced, "{receipt:?}");
    assert_eq!(receipt.endpoints[0].cut.requests, 1);
    let reply = slow.await.unwrap();
    assert_eq!(reply.status, 504);
    assert!(
        reply.header("proxy-status").contains("drained"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_endpoint_draining_beyond_the_time_of_requests() {
    let config = "[timeouts]\ndrain = \"100ms\"\nupgraded = \"1h\"";
    let (proxy, _old, _new) = moved_on(config, &[]).await;
    let url = format!("http://{}/ws", proxy.address);
    let socket = Load::at(&url, &["--websocket", "--rate", "50"]);
    wait_until("the WebSocket is open", || async {
        proxy.stats().await.versions["1.0.0"].upgraded == 1
    })
    .await;
    proxy.split(json!({"2.0.0": 1})).await;
    let receipt = proxy.drain("1.0.0", "500ms").await;
    assert!(!receipt.drained);
    assert_eq!(
        (
            receipt.endpoints[0].in_flight,
            receipt.endpoints[0].upgraded
        ),
        (0, 1)
    );
    assert_eq!(socket.stop().await.failed(), 0);
    assert!(proxy.drain("1.0.0", "20s").await.drained);
}

#[tokio::test]
async fn a_receipt_outlives_the_endpoint_and_the_service() {
    let (proxy, _old, new) = moved_on("", &[]).await;
    proxy.put_web(&[&new], json!({"2.0.0": 1})).await;
    assert!(proxy.drain("1.0.0", "20s").await.drained);
    proxy.must("DELETE", "/v1/services/web", Value::Null).await;
    assert!(proxy.drain("1.0.0", "20s").await.drained);
    assert!(proxy.drain("2.0.0", "20s").await.drained);
    let nothing = proxy
        .call("POST", "/v1/services/web/drain", json!({"version": "3"}))
        .await;
    assert_eq!(nothing.status, 404, "{nothing:?}");
}

#[tokio::test]
async fn a_drain_that_would_leave_nothing_is_refused_and_changes_nothing() {
    let (proxy, _old, _new) = moved_on("", &[]).await;
    let refused = proxy
        .call(
            "POST",
            "/v1/services/web/drain",
            json!({"version": "1.0.0"}),
        )
        .await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], "conflict");
    assert_eq!(ask(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_comes_back_after_its_drain_is_a_new_one() {
    let (proxy, old, new) = moved_on("", &[]).await;
    proxy.split(json!({"2.0.0": 1})).await;
    assert!(proxy.drain("1.0.0", "20s").await.drained);
    // A change of the split is not a wish to have it back.
    let refused = proxy.web().await.versions["1.0.0"].endpoints[0].health;
    assert_eq!(refused, admin_api::HealthState::Draining);
    proxy.split(json!({"1.0.0": 50, "2.0.0": 50})).await;
    assert!(ask(proxy.address, "/").await.body.contains("2.0.0"));
    proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
    assert!(ask(proxy.address, "/").await.body.contains("1.0.0"));
}
