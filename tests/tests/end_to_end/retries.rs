//! When a request may be sent again, and when it must not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Heard, ScriptedEndpoint, TestEndpoint, TestProxy, get, send, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn put(proxy: &TestProxy, addresses: &[std::net::SocketAddr]) {
    put_with(proxy, addresses, json!({})).await;
}

/// With further settings.
async fn put_with(proxy: &TestProxy, addresses: &[std::net::SocketAddr], mut service: Value) {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({"address": address.to_string(), "version": "1"}))
        .collect();
    service["endpoints"] = endpoints.into();
    proxy.must("PUT", "/v1/services/web", service).await;
}

/// Reads a request and closes the connection without a response.
async fn broken() -> ScriptedEndpoint {
    ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
    })
    .await
}

#[tokio::test]
async fn a_refused_connection_is_retried_elsewhere_and_counted_against_the_version() {
    let proxy = TestProxy::start().await;
    let good = TestEndpoint::start("1").await;
    // Bound and not listened on: connections are refused for as long as it is held.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = closed.local_addr().unwrap();
    drop(closed);
    put(&proxy, &[good.address, refused]).await;
    for method in ["GET", "POST"] {
        for _ in 0..10 {
            let reply = send(proxy.address, method, "/echo", &[], "").await;
            assert_ne!(reply.status.as_u16() / 100, 5, "{method}: {reply:?}");
        }
    }
    let stats = &proxy.stats().await.versions["1"];
    assert!(stats.failed_tries.connect >= 8, "{stats:?}");
    assert_eq!(stats.failures(), stats.failed_tries.connect);
}

#[tokio::test]
async fn a_get_that_broke_before_its_response_is_retried_elsewhere() {
    let proxy = TestProxy::start().await;
    let (good, bad) = (TestEndpoint::start("1").await, broken().await);
    put(&proxy, &[good.address, bad.address]).await;
    for _ in 0..10 {
        assert_eq!(get(proxy.address, "/").await.status, 200);
    }
    assert!(!bad.heard().is_empty());
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(stats.failed_tries.reset, bad.heard().len() as u64);
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_sent_again() {
    let proxy = TestProxy::start().await;
    let (first, second) = (broken().await, broken().await);
    put(&proxy, &[first.address, second.address]).await;
    for _ in 0..10 {
        let reply = send(proxy.address, "POST", "/", &[], "order").await;
        assert_eq!(reply.status, 502);
        assert_eq!(
            reply.header("proxy-status"),
            "crossfade; error=connection_terminated"
        );
    }
    assert_eq!(first.heard().len() + second.heard().len(), 10);
}

#[tokio::test]
async fn a_response_timeout_is_one_504_after_its_time_from_one_endpoint() {
    let proxy = TestProxy::with_config("[timeouts]\nfirst_byte = \"500ms\"").await;
    let silent = || {
        ScriptedEndpoint::start(|_, mut heard: Heard| async move {
            heard.head().await;
            // Until the proxy ends the connection.
            heard.head().await;
        })
    };
    let endpoints = [
        silent().await,
        silent().await,
        silent().await,
        silent().await,
    ];
    put(&proxy, &endpoints.each_ref().map(|one| one.address)).await;
    let begun = Instant::now();
    let reply = get(proxy.address, "/").await;
    let took = begun.elapsed();
    assert_eq!(reply.status, 504, "{reply:?}");
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_millis(950), "{took:?}");
    let heard = endpoints.iter().map(|one| one.heard().len()).sum::<usize>();
    assert_eq!(heard, 1);
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.failed_tries.timeout, stats.failures()), (1, 1));
}

/// Each endpoint has a kept connection when the request comes that brings it down.
#[tokio::test]
async fn a_request_that_kills_brings_down_two_endpoints_of_four_at_most() {
    let proxy = TestProxy::start().await;
    let mortal = || {
        ScriptedEndpoint::start(|_, mut heard: Heard| async move {
            while let Some(head) = heard.head().await {
                if head.contains("/kill") {
                    return;
                }
                heard.say(OK).await;
            }
        })
    };
    let endpoints = [
        mortal().await,
        mortal().await,
        mortal().await,
        mortal().await,
    ];
    put(&proxy, &endpoints.each_ref().map(|one| one.address)).await;
    for _ in 0..16 {
        assert_eq!(get(proxy.address, "/").await.status, 200);
    }
    for round in 1..=4 {
        let reply = get(proxy.address, "/kill").await;
        assert_eq!(reply.status, 502, "{reply:?}");
        let killed = |one: &ScriptedEndpoint| {
            let heard = one.heard();
            heard.iter().filter(|head| head.contains("/kill")).count()
        };
        let killed = endpoints.each_ref().map(killed);
        assert_eq!(killed.iter().sum::<usize>(), 2 * round, "{killed:?}");
    }
}

#[tokio::test]
async fn a_response_that_has_begun_is_never_replaced() {
    let proxy = TestProxy::start().await;
    let cut = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        heard
            .say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await;
    })
    .await;
    put(&proxy, &[cut.address]).await;
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", proxy.address);
    let response = tests::raw(proxy.address, request.as_bytes()).await;
    assert!(
        response.ends_with("half"),
        "cut where the endpoint cut it: {response}"
    );
    assert_eq!(cut.heard().len(), 1);
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.failed_tries.body, stats.responses.total()), (1, 0));
}

#[tokio::test]
async fn a_kept_connection_that_the_endpoint_closed_costs_no_request() {
    let proxy = TestProxy::start().await;
    // Responds to one request a connection, and closes it without having said so.
    let fickle = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        if heard.head().await.is_some() {
            heard.say(OK).await;
        }
    })
    .await;
    put(&proxy, &[fickle.address]).await;
    for method in ["GET", "POST"] {
        for _ in 0..50 {
            let reply = send(proxy.address, method, "/", &[], "").await;
            assert_eq!(reply.status, 200, "{method}: {reply:?}");
        }
    }
    assert_eq!(fickle.heard().len(), 100);
}

#[tokio::test]
async fn an_endpoint_that_does_not_speak_http_is_a_bad_gateway() {
    let proxy = TestProxy::start().await;
    let garbage = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        heard.say("220 smtp.example.com ESMTP\r\n\r\n").await;
    })
    .await;
    put(&proxy, &[garbage.address]).await;
    let reply = send(
        proxy.address,
        "POST",
        "/",
        &[("accept", "application/json")],
        "x",
    )
    .await;
    assert_eq!(reply.status, 502);
    assert_eq!(
        reply.header("proxy-status"),
        "crossfade; error=http_protocol_error"
    );
    assert_eq!(reply.json()["error"]["status"], 502);
}

#[tokio::test]
async fn an_endpoint_that_does_not_respond_is_a_gateway_timeout() {
    let proxy = TestProxy::with_config("[timeouts]\nfirst_byte = \"200ms\"").await;
    let silent = TestEndpoint::start("1").await;
    put(&proxy, &[silent.address]).await;
    let reply = send(proxy.address, "POST", "/slow?for=60s", &[], "").await;
    assert_eq!(reply.status, 504);
    assert_eq!(
        reply.header("proxy-status"),
        "crossfade; error=http_response_timeout"
    );
    assert_eq!(proxy.stats().await.versions["1"].failed_tries.timeout, 1);
}

#[tokio::test]
async fn a_request_has_a_time_over_all_of_its_attempts() {
    let config = "[timeouts]\nfirst_byte = \"500ms\"\nrequest = \"900ms\"";
    let proxy = TestProxy::with_config(config).await;
    let silent = |_, mut heard: Heard| async move {
        heard.head().await;
        std::future::pending::<()>().await;
    };
    let endpoints = [
        ScriptedEndpoint::start(silent).await,
        ScriptedEndpoint::start(silent).await,
        ScriptedEndpoint::start(silent).await,
    ];
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    let retries = json!({"retry": {"on": ["timeout"]}});
    put_with(&proxy, &addresses, retries).await;
    let began = Instant::now();
    let reply = get(proxy.address, "/").await;
    let took = began.elapsed();
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(
        reply.header("proxy-status"),
        "crossfade; error=http_response_timeout; details=\"request\""
    );
    assert!(took >= Duration::from_millis(900), "{took:?}");
    let heard: usize = endpoints
        .iter()
        .map(|endpoint| endpoint.heard().len())
        .sum();
    assert_eq!(heard, 2, "there is no time for a third attempt");
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(stats.failed_tries.timeout, 2, "{stats:?}");
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let line = "crossfade_refused_total{reason=\"request_timed_out\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn the_time_of_a_request_ends_an_attempt_that_has_more() {
    let config = "[timeouts]\nfirst_byte = \"60s\"\nrequest = \"300ms\"";
    let proxy = TestProxy::with_config(config).await;
    let silent = TestEndpoint::start("1").await;
    put(&proxy, &[silent.address]).await;
    let began = Instant::now();
    for method in ["GET", "POST"] {
        let reply = send(proxy.address, method, "/slow?for=60s", &[], "").await;
        assert_eq!(reply.status, 504, "{method}: {reply:?}");
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(600), "{took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(stats.failed_tries.timeout, 2, "{stats:?}");
}

#[tokio::test]
async fn a_response_that_has_begun_in_time_goes_on_for_as_long_as_it_likes() {
    let limit = Duration::from_millis(200);
    let proxy = TestProxy::with_config("[timeouts]\nrequest = \"200ms\"").await;
    let (go_on, goes_on) = tokio::sync::watch::channel(false);
    let streaming = ScriptedEndpoint::start(move |_, mut heard: Heard| {
        let mut goes_on = goes_on.clone();
        async move {
            heard.head().await;
            heard
                .say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await;
            let _ = goes_on.wait_for(|goes_on| *goes_on).await;
            heard.say("4\r\nlast\r\n0\r\n\r\n").await;
        }
    })
    .await;
    put(&proxy, &[streaming.address]).await;
    let address = proxy.address;
    let response = tokio::spawn(async move { get(address, "/").await });
    proxy.wait_in_flight(1).await;
    let began = Instant::now();
    wait_until("the limit is far behind", || async {
        began.elapsed() > 3 * limit
    })
    .await;
    go_on.send_replace(true);
    let reply = response.await.unwrap();
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, "firstlast"));
}

#[tokio::test]
async fn an_endpoint_that_stops_reading_an_upload_is_a_gateway_timeout_and_to_blame() {
    let config = "[timeouts]\nbody_idle = \"300ms\"\nfirst_byte = \"300ms\"";
    let proxy = TestProxy::with_config(config).await;
    let deaf = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    put(&proxy, &[deaf.address]).await;
    // More than all the buffers on its way can hold.
    let pieces = 256;
    let piece = "x".repeat(1024 * 1024);
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        pieces * piece.len()
    );
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    // It sends first and reads later, and gets its response all the same.
    for _ in 0..pieces {
        client.write_all(piece.as_bytes()).await.unwrap();
    }
    let mut response = [0; 13];
    client.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 504 ");
    assert_eq!(proxy.stats().await.versions["1"].failed_tries.timeout, 1);
}

#[tokio::test]
async fn a_client_that_stalls_its_upload_is_no_failure_of_the_version() {
    let proxy = TestProxy::with_config("[timeouts]\nbody_idle = \"300ms\"").await;
    let streaming = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        heard
            .say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
            .await;
        while let Ok(1..) = heard.stream.read(&mut [0; 64]).await {}
    })
    .await;
    put(&proxy, &[streaming.address]).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly this";
    tests::raw(proxy.address, head.as_bytes()).await;
    proxy.wait_in_flight(0).await;
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.client_gone, stats.failures()), (1, 0), "{stats:?}");
}

#[tokio::test]
async fn a_client_that_stalls_a_large_upload_is_told_so_and_no_failure_of_the_version() {
    let proxy = TestProxy::with_config("[timeouts]\nbody_idle = \"300ms\"").await;
    let patient = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        while let Ok(1..) = heard.stream.read(&mut [0; 64]).await {}
    })
    .await;
    put(&proxy, &[patient.address]).await;
    // So long that the kernel moves what is left of it.
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nonly this";
    let response = tests::raw(proxy.address, head.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.client_gone, stats.failures()), (1, 0), "{stats:?}");
}

#[tokio::test]
async fn an_endpoint_that_stalls_in_the_middle_of_a_large_response_is_to_blame() {
    let proxy = TestProxy::with_config("[timeouts]\nbody_idle = \"300ms\"").await;
    let hanging = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        let begun = "x".repeat(100_000);
        heard
            .say(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{begun}"
            ))
            .await;
        while let Ok(1..) = heard.stream.read(&mut [0; 64]).await {}
    })
    .await;
    put(&proxy, &[hanging.address]).await;
    let response = tests::raw(proxy.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(response.len() > 100_000, "what there was is passed on");
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(
        (stats.client_gone, stats.failed_tries.body),
        (0, 1),
        "{stats:?}"
    );
}
