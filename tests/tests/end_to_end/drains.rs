//! A container may be stopped when the receipt says so, and not before.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Heard, Load, ScriptedEndpoint, TestEndpoint, TestProxy, get, send, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

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
    let slow = tokio::spawn(async move { get(address, "/slow?for=1s").await });
    proxy.wait_in_flight(1).await;
    proxy.split(json!({"2.0.0": 1})).await;

    let early = proxy.drain("1.0.0", "0s").await;
    assert!(!early.drained);
    assert_eq!(early.endpoints[0].in_flight, 1);
    let late = proxy.drain("1.0.0", "20s").await;
    assert!(late.drained && !late.forced, "{late:?}");
    assert!(late.endpoints[0].oldest.is_empty(), "{late:?}");
    assert!(slow.await.unwrap().body.contains("1.0.0"));
}

#[tokio::test]
async fn a_receipt_says_how_old_the_oldest_is_of_what_is_in_flight() {
    let (proxy, _old, _new) = moved_on("", &[]).await;
    let address = proxy.address;
    let send_slow_request =
        move || tokio::spawn(async move { get(address, "/slow?for=60s").await });
    let mut sent = Vec::new();
    let before = Instant::now();
    sent.push(send_slow_request());
    proxy.wait_in_flight(1).await;
    let first_is_there = Instant::now();
    sent.push(send_slow_request());
    proxy.wait_in_flight(2).await;
    proxy.split(json!({"2.0.0": 1})).await;
    let at_least = first_is_there.elapsed();
    let receipt = proxy.drain("1.0.0", "300ms").await;
    let at_most = before.elapsed();
    let endpoint = &receipt.endpoints[0];
    assert_eq!((receipt.drained, endpoint.in_flight), (false, 2));
    let oldest = endpoint.oldest.requests_ms.map(Duration::from_millis);
    let oldest = oldest.expect("the age of the first request");
    let at_least = at_least + Duration::from_millis(299);
    assert!(at_least <= oldest && oldest <= at_most, "{receipt:?}");
    assert_eq!(endpoint.oldest.upgraded_ms, None, "{receipt:?}");
    sent.iter().for_each(tokio::task::JoinHandle::abort);
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
    let slow = tokio::spawn(async move {
        // Not one that may be sent twice.
        send(address, "POST", "/slow?for=60s", &[], "order").await
    });
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
async fn what_is_cut_and_may_be_sent_twice_goes_to_the_version_that_is_left() {
    let (proxy, _old, _new) = moved_on("[timeouts]\ndrain = \"300ms\"", &[]).await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { get(address, "/slow?for=2s").await });
    proxy.wait_in_flight(1).await;
    proxy.split(json!({"2.0.0": 1})).await;
    let receipt = proxy.drain("1.0.0", "20s").await;
    assert!(receipt.drained && !receipt.forced, "{receipt:?}");
    assert_eq!(receipt.endpoints[0].cut.requests, 0);
    let reply = slow.await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("2.0.0"), "{reply:?}");
    let stats = proxy.stats().await;
    assert_eq!(stats.versions["1.0.0"].failures(), 0, "{stats:?}");
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
    let oldest = receipt.endpoints[0].oldest;
    assert_eq!(oldest.requests_ms, None, "{receipt:?}");
    assert!(
        oldest.upgraded_ms.is_some_and(|ms| ms >= 499),
        "{receipt:?}"
    );
    assert_eq!(socket.stop().await.failed(), 0);
    assert!(proxy.drain("1.0.0", "20s").await.drained);
}

/// A service whose version 1.0.0 begins a response without a length, and ends it once it may; the
/// split is on version 2.0.0 when the response has begun.
async fn streaming(
    config: &str,
) -> (
    TestProxy,
    TestEndpoint,
    ScriptedEndpoint,
    watch::Sender<bool>,
    TcpStream,
) {
    let (may_end, ends) = watch::channel(false);
    let stream = ScriptedEndpoint::start(move |_, mut heard: Heard| {
        let mut ends = ends.clone();
        async move {
            heard.head().await;
            heard
                .say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")
                .await;
            if ends.wait_for(|ends| *ends).await.is_ok() {
                heard.say("0\r\n\r\n").await;
            }
        }
    })
    .await;
    let proxy = TestProxy::with_config(config).await;
    let good = TestEndpoint::start("2.0.0").await;
    let endpoints = json!([
        {"address": stream.address.to_string(), "version": "1.0.0"},
        {"address": good.address.to_string(), "version": "2.0.0"},
    ]);
    let service = json!({"endpoints": endpoints, "split": {"1.0.0": 1}});
    proxy.must("PUT", "/v1/services/web", service).await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    wait_until("the stream is there", || async {
        proxy.stats().await.versions["1.0.0"].streams == 1
    })
    .await;
    proxy.split(json!({"2.0.0": 1})).await;
    (proxy, good, stream, may_end, client)
}

#[tokio::test]
async fn a_stream_has_a_time_of_its_own_and_the_receipt_tells_it_apart() {
    let config = "[timeouts]\ndrain = \"100ms\"\nstream = \"1h\"";
    let (proxy, _good, _stream, may_end, mut client) = streaming(config).await;
    let receipt = proxy.drain("1.0.0", "500ms").await;
    let endpoint = &receipt.endpoints[0];
    assert!(!receipt.drained, "{receipt:?}");
    assert_eq!((endpoint.in_flight, endpoint.streams), (1, 1));
    let oldest = endpoint.oldest;
    assert!(oldest.streams_ms.is_some_and(|ms| ms >= 499), "{receipt:?}");
    assert_eq!(oldest.requests_ms, None, "{receipt:?}");
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let line = "crossfade_streams{service=\"web\",version=\"1.0.0\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    may_end.send_replace(true);
    let receipt = proxy.drain("1.0.0", "20s").await;
    assert!(receipt.drained && !receipt.forced, "{receipt:?}");
    let mut response = vec![0; 4096];
    let length = client.read(&mut response).await.unwrap();
    let response = String::from_utf8_lossy(&response[..length]);
    assert!(response.ends_with("0\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn a_stream_is_cut_when_its_own_time_is_up() {
    let config = "[timeouts]\ndrain = \"100ms\"\nstream = \"600ms\"";
    let (proxy, _good, _stream, _may_end, _client) = streaming(config).await;
    let began = Instant::now();
    let receipt = proxy.drain("1.0.0", "20s").await;
    assert!(receipt.drained && receipt.forced, "{receipt:?}");
    assert!(began.elapsed() >= Duration::from_millis(600));
    let cut = receipt.endpoints[0].cut;
    assert_eq!((cut.requests, cut.streams, cut.upgraded), (0, 1, 0));
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
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_that_comes_back_after_its_drain_is_a_new_one() {
    let (proxy, old, new) = moved_on("", &[]).await;
    proxy.split(json!({"2.0.0": 1})).await;
    assert!(proxy.drain("1.0.0", "20s").await.drained);
    // A change of the split does not ask to have it back.
    let refused = proxy.web().await.versions["1.0.0"].endpoints[0].health;
    assert_eq!(refused, admin_api::HealthState::Draining);
    proxy.split(json!({"1.0.0": 50, "2.0.0": 50})).await;
    assert!(get(proxy.address, "/").await.body.contains("2.0.0"));
    proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));
}

/// Responds with a gibibyte, for as long as the client reads it.
async fn endless() -> ScriptedEndpoint {
    ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        heard
            .say("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
            .await;
        while heard.stream.write_all(&[b'x'; 65536]).await.is_ok() {}
    })
    .await
}

async fn put_endless(config: &str) -> (TestProxy, ScriptedEndpoint, TestEndpoint) {
    let proxy = TestProxy::with_config(config).await;
    let (endless, good) = (endless().await, TestEndpoint::start("2.0.0").await);
    let endpoints = json!([
        {"address": endless.address.to_string(), "version": "1.0.0"},
        {"address": good.address.to_string(), "version": "2.0.0"},
    ]);
    let service = json!({"endpoints": endpoints, "split": {"1.0.0": 1}});
    proxy.must("PUT", "/v1/services/web", service).await;
    (proxy, endless, good)
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_a_drain() {
    let (proxy, _endless, _good) = put_endless("[timeouts]\ndrain = \"300ms\"").await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    proxy.wait_in_flight(1).await;
    proxy.split(json!({"2.0.0": 1})).await;
    let receipt = proxy.drain("1.0.0", "20s").await;
    assert!(receipt.drained && receipt.forced, "{receipt:?}");
    assert_eq!(
        proxy.stats().await.versions["1.0.0"].client_gone,
        0,
        "it was cut, not gone"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_for_long_is_cut_off() {
    let (proxy, _endless, _good) = put_endless("[timeouts]\nbody_idle = \"300ms\"").await;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    proxy.wait_in_flight(1).await;
    proxy.wait_in_flight(0).await;
    let stats = &proxy.stats().await.versions["1.0.0"];
    assert_eq!((stats.client_gone, stats.failures()), (1, 0), "{stats:?}");
}

#[tokio::test]
async fn a_drain_can_name_an_endpoint_of_a_version() {
    let proxy = TestProxy::start().await;
    let (one, two) = (
        TestEndpoint::start("1").await,
        TestEndpoint::start("1").await,
    );
    proxy.put_web(&[&one, &two], Value::Null).await;
    let address = one.address.to_string();
    let drain = "/v1/services/web/drain?wait=10s";
    let of_another = json!({"version": "2", "endpoint": address});
    assert_eq!(proxy.call("POST", drain, of_another).await.status, 404);
    let receipt = proxy
        .must("POST", drain, json!({"version": "1", "endpoint": address}))
        .await;
    assert_eq!(receipt["drained"], true);
    assert_eq!(receipt["endpoints"].as_array().unwrap().len(), 1);
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/").await.status, 200);
    }
    let last = json!({"endpoint": two.address.to_string()});
    assert_eq!(
        proxy.call("POST", drain, last).await.status,
        409,
        "nothing would be left"
    );
}
