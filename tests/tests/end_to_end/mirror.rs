//! Copies of requests: clients notice nothing of them, whatever becomes of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use admin_api::MirrorStats;
use serde_json::{Value, json};
use tests::{
    Heard, Load, ScriptedEndpoint, StreamClient, StreamEndpoint, TestEndpoint, TestProxy, raw,
    send, wait_until, within,
};

/// All requests to 1.0.0, and copies of them to 2.0.0 by these settings.
async fn put(proxy: &TestProxy, stable: &TestEndpoint, to: &str, settings: Value) {
    let mut mirror = json!({"version": "2.0.0"});
    let keys = mirror.as_object_mut().unwrap();
    keys.extend(settings.as_object().cloned().unwrap_or_default());
    let web = json!({
        "split": {"1.0.0": 1, "2.0.0": 0},
        "mirror": mirror,
        "endpoints": [
            {"address": stable.address.to_string(), "version": "1.0.0"},
            {"address": to, "version": "2.0.0"},
        ],
    });
    proxy.must("PUT", "/v1/services/web", web).await;
}

/// The same, where 2.0.0 speaks HTTP/2.
async fn put_h2(proxy: &TestProxy, stable: SocketAddr, new: &StreamEndpoint) {
    let web = json!({
        "split": {"1.0.0": 1, "2.0.0": 0},
        "mirror": {"version": "2.0.0"},
        "versions": {"2.0.0": {"protocol": "h2"}},
        "endpoints": [
            {"address": stable.to_string(), "version": "1.0.0"},
            {"address": new.address.to_string(), "version": "2.0.0"},
        ],
    });
    proxy.must("PUT", "/v1/services/web", web).await;
}

async fn mirrored(proxy: &TestProxy) -> MirrorStats {
    proxy.stats().await.mirror.unwrap()
}

async fn until_copies(proxy: &TestProxy, count: u64) -> MirrorStats {
    wait_until("the copies have ended", || async {
        let copies = mirrored(proxy).await.copies;
        copies.responses.total() + copies.failed_tries.total() >= count
    })
    .await;
    mirrored(proxy).await
}

#[tokio::test]
async fn copies_are_counted_apart_from_what_clients_get() {
    let proxy = TestProxy::start().await;
    let stable = TestEndpoint::start("1.0.0").await;
    let bad = TestEndpoint::with("2.0.0", &["--error-rate", "1"]).await;
    put(&proxy, &stable, &bad.address.to_string(), json!({})).await;
    let flags = ["--rate", "200", "--connections", "4", "--count", "200"];
    let seen = Load::start(proxy.address, &flags).finished().await;
    seen.expect_no_failure();
    assert_eq!(seen.ok("1.0.0"), 200, "{seen:?}");
    let MirrorStats {
        copies,
        originals,
        dropped,
        ..
    } = until_copies(&proxy, 200).await;
    assert_eq!(copies.responses.server_error, 200, "{copies:?}");
    assert_eq!(originals.responses.success, 200, "{originals:?}");
    let responses = |stats: &admin_api::CopyStats| -> u64 {
        stats.latency.iter().map(|bucket| bucket.count).sum()
    };
    assert_eq!(
        (responses(&copies), responses(&originals), dropped),
        (200, 200, 0)
    );
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let labels = r#"service="web",version="2.0.0""#;
    for line in [
        format!(r#"crossfade_mirror_responses_total{{class="5xx",of="copy",{labels}}} 200"#),
        format!(r#"crossfade_mirror_responses_total{{class="2xx",of="original",{labels}}} 200"#),
        format!(r#"crossfade_mirror_failed_tries_total{{cause="reset",of="copy",{labels}}} 0"#),
        format!("crossfade_mirror_dropped_total{{{labels}}} 0"),
    ] {
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} is not in {metrics}"
        );
    }
    let versions = proxy.stats().await.versions;
    assert_eq!(versions["1.0.0"].responses.success, 200);
    assert_eq!(
        (versions["2.0.0"].attempts(), versions["2.0.0"].in_flight),
        (0, 0)
    );
}

#[tokio::test]
async fn so_many_of_a_hundred_are_copied_and_of_safe_requests_alone() {
    let proxy = TestProxy::start().await;
    let stable = TestEndpoint::start("1.0.0").await;
    let new = TestEndpoint::start("2.0.0").await;
    put(
        &proxy,
        &stable,
        &new.address.to_string(),
        json!({"percent": 25}),
    )
    .await;
    // As many copies as one worker makes: each counts for itself.
    let flags = ["--rate", "0", "--connections", "1", "--count", "400"];
    Load::start(proxy.address, &flags)
        .finished()
        .await
        .expect_no_failure();
    let copies = until_copies(&proxy, 99).await.copies.responses.total();
    assert!(copies.abs_diff(100) <= 2, "{copies}");

    put(&proxy, &stable, &new.address.to_string(), json!({})).await;
    for (method, body) in [("POST", "a"), ("PUT", "a"), ("DELETE", ""), ("GET", "a")] {
        let reply = send(proxy.address, method, "/", &[], body).await;
        assert_eq!(reply.status, 200, "{method}: {reply:?}");
    }
    send(proxy.address, "HEAD", "/", &[], "").await;
    let all = until_copies(&proxy, copies + 1).await;
    assert_eq!(all.copies.responses.total(), copies + 1, "{all:?}");
}

#[tokio::test]
async fn a_version_that_responds_to_no_copy_delays_no_client_and_gets_no_more_than_it_may() {
    let proxy = TestProxy::with_config("[timeouts]\ndrain = \"1s\"\n").await;
    let stable = TestEndpoint::start("1.0.0").await;
    let silent = ScriptedEndpoint::start(|_, mut connection| async move {
        while connection.head().await.is_some() {}
    })
    .await;
    let few = json!({"max_in_flight": 2});
    put(&proxy, &stable, &silent.address.to_string(), few).await;
    let began = Instant::now();
    let flags = ["--rate", "100", "--connections", "2", "--count", "100"];
    Load::start(proxy.address, &flags)
        .finished()
        .await
        .expect_no_failure();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let stats = mirrored(&proxy).await;
    let heard = silent.heard().len() as u64;
    // Two at a time are one at least for each of the workers, who do not know of each other.
    assert!((1..=4).contains(&heard), "{heard}");
    assert_eq!(stats.dropped, 100 - heard, "{stats:?}");
    assert_eq!(stats.originals.responses.success, heard, "{stats:?}");

    // What is under way there is cut by the drain, like anything else.
    let receipt = proxy.drain("2.0.0", "30s").await;
    assert!(receipt.drained, "{receipt:?}");
}

#[tokio::test]
async fn a_mirror_that_cannot_be_is_refused_with_its_field() {
    let proxy = TestProxy::start().await;
    let stable = TestEndpoint::start("1.0.0").await;
    for (mirror, field) in [
        (json!({"version": "3.0.0"}), "mirror.version"),
        (json!({"version": "1.0.0", "percent": 0}), "mirror.percent"),
        (
            json!({"version": "1.0.0", "percent": 101}),
            "mirror.percent",
        ),
        (
            json!({"version": "1.0.0", "max_in_flight": 0}),
            "mirror.max_in_flight",
        ),
    ] {
        let endpoints = json!([{"address": stable.address.to_string(), "version": "1.0.0"}]);
        let web = json!({"mirror": mirror, "endpoints": endpoints});
        let reply = proxy.call("PUT", "/v1/services/web", web).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.body.contains(field), "{reply:?}");
    }
}

#[tokio::test]
async fn copies_go_over_http2_where_the_version_speaks_it() {
    let proxy = TestProxy::start().await;
    let stable = TestEndpoint::start("1.0.0").await;
    let new = StreamEndpoint::start("2.0.0").await;
    put_h2(&proxy, stable.address, &new).await;
    let client = StreamClient::connect(proxy.address).await;
    for _ in 0..3 {
        let (response, _send) = client.begin("GET", "/fields", &[], true).await.unwrap();
        let (head, _body) = within("the head", response).await.unwrap().into_parts();
        assert_eq!(head.status.as_u16(), 200);
    }
    let MirrorStats {
        copies, originals, ..
    } = until_copies(&proxy, 3).await;
    assert_eq!(copies.responses.success, 3, "{copies:?}");
    assert_eq!(originals.responses.success, 3, "{originals:?}");
    assert_eq!(new.heard(), ["/fields"; 3]);
}

#[tokio::test]
async fn a_copy_that_cannot_be_sent_over_http2_is_given_up() {
    let proxy = TestProxy::start().await;
    let stable = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        while heard.head().await.is_some() {
            heard
                .say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let new = StreamEndpoint::start("2.0.0").await;
    put_h2(&proxy, stable.address, &new).await;
    // Often enough that every worker has a connection to the endpoint already.
    for _ in 0..20 {
        let request = b"GET /?q=\"x\" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let response = raw(proxy.address, request).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    assert_eq!(new.heard(), [""; 0]);
}
