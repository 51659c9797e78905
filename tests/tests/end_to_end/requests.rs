//! What an endpoint sees of a request, and a client of its response.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Heard, ScriptedEndpoint, TestEndpoint, TestProxy, get, raw, send, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn proxy_before(endpoint: &TestEndpoint) -> TestProxy {
    let proxy = TestProxy::start().await;
    proxy.put_web(&[endpoint], Value::Null).await;
    proxy
}

/// The header fields that the endpoint got, by name.
fn fields(reply: &Value, name: &str) -> Vec<String> {
    let fields = reply["headers"].as_array().unwrap().iter();
    let named = fields.filter(|field| field[0] == name);
    named
        .map(|field| field[1].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_endpoint_learns_the_clients_address_and_a_stranger_cannot_lie_about_it() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(&endpoint).await;
    let lies = [
        ("host", "app.example.com"),
        ("x-forwarded-for", "10.9.9.9"),
        ("x-forwarded-proto", "https"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("te", "gzip"),
    ];
    let got = send(proxy.address, "GET", "/headers", &lies, "")
        .await
        .json();
    for (name, want) in [
        ("host", vec!["app.example.com"]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-forwarded-proto", vec!["http"]),
        ("x-forwarded-host", vec!["app.example.com"]),
        ("via", vec!["1.1 crossfade"]),
        ("x-secret", vec![]),
        ("te", vec![]),
    ] {
        assert_eq!(fields(&got, name), want, "{name} in {got}");
    }
}

#[tokio::test]
async fn a_prefix_is_stripped_where_the_service_says_so() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    let service = json!({"path_prefix": "/api", "strip_prefix": true, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/api", service).await;
    assert_eq!(
        get(proxy.address, "/api/headers").await.json()["path"],
        "/headers"
    );
    let elsewhere = get(proxy.address, "/apiheaders").await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(
        elsewhere.header("proxy-status"),
        "crossfade; error=destination_not_found"
    );
}

#[tokio::test]
async fn services_are_told_apart_by_host() {
    let (one, two) = (
        TestEndpoint::start("one").await,
        TestEndpoint::start("two").await,
    );
    let proxy = TestProxy::start().await;
    for (name, endpoint, hosts) in [
        ("one", &one, json!(["one.example.com"])),
        ("two", &two, json!(["*.example.com"])),
    ] {
        let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
        let service = json!({"hosts": hosts, "endpoints": endpoints});
        proxy
            .must("PUT", &format!("/v1/services/{name}"), service)
            .await;
    }
    for (host, want) in [
        ("one.example.com", "one"),
        ("ONE.example.com:8080", "one"),
        ("x.example.com", "two"),
    ] {
        let reply = send(proxy.address, "GET", "/", &[("host", host)], "").await;
        assert!(reply.body.contains(want), "{host}: {reply:?}");
    }
    assert_eq!(get(proxy.address, "/").await.status, 404);
}

#[tokio::test]
async fn bad_hosts_are_refused() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(&endpoint).await;
    for head in [
        "GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: user@a\r\nconnection: close\r\n\r\n",
        "GET http://user:pw@a/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ] {
        let response = raw(proxy.address, head.as_bytes()).await;
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{head:?}: {response}"
        );
    }
    let connect = raw(
        proxy.address,
        b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(connect.starts_with("HTTP/1.1 405 "), "{connect}");
    let old = raw(proxy.address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
}

#[tokio::test]
async fn an_absolute_target_outranks_the_host_field() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(&endpoint).await;
    let head =
        "GET http://real.example.com/headers HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n";
    let response = raw(proxy.address, head.as_bytes()).await;
    assert!(response.contains("\"path\":\"/headers\""), "{response}");
    assert!(
        response.contains("[\"host\",\"real.example.com\"]"),
        "{response}"
    );
}

#[tokio::test]
async fn head_and_bodyless_responses_end_where_they_should() {
    let proxy = TestProxy::start().await;
    let endpoint = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        while let Some(head) = heard.head().await {
            let response = match head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => {
                    "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\netag: \"x\"\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
            };
            heard.say(response).await;
        }
    })
    .await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    proxy
        .must("PUT", "/v1/services/web", json!({"endpoints": endpoints}))
        .await;
    let head = send(proxy.address, "HEAD", "/", &[], "").await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-length")),
        (200, "1000")
    );
    assert_eq!(get(proxy.address, "/204").await.status, 204);
    let not_modified = get(proxy.address, "/304").await;
    assert_eq!(
        (not_modified.status.as_u16(), not_modified.header("etag")),
        (304, "\"x\"")
    );
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(stats.attempts(), 3, "each was settled: {stats:?}");
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(&endpoint).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // Each piece comes back before the next one is sent: neither side waits for the whole.
    for piece in ["first", "second", "third"] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        while !String::from_utf8_lossy(&response).contains(piece) {
            let mut buffer = [0; 1024];
            let read = within("the piece comes back", stream.read(&mut buffer))
                .await
                .unwrap();
            assert!(read > 0, "closed after {response:?}");
            response.extend_from_slice(&buffer[..read]);
        }
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    while !response.ends_with(b"0\r\n\r\n") {
        response.push(
            within("the end comes back", stream.read_u8())
                .await
                .unwrap(),
        );
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_endpoint_from_sending() {
    const PIECE: usize = 64 * 1024;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    let endpoint = ScriptedEndpoint::start(move |_, mut heard: Heard| {
        let counter = counter.clone();
        async move {
            heard.head().await;
            heard
                .say("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
                .await;
            while heard.stream.write_all(&[b'x'; PIECE]).await.is_ok() {
                counter.fetch_add(PIECE, std::sync::atomic::Ordering::Relaxed);
            }
        }
    })
    .await;
    let proxy = TestProxy::start().await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    proxy
        .must("PUT", "/v1/services/web", json!({"endpoints": endpoints}))
        .await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    // It has stopped when it did not move between two looks.
    let mut before = usize::MAX;
    tests::wait_until("the endpoint stands still", || {
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        let still = now == before && now > 0;
        before = now;
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            still
        }
    })
    .await;
    // Socket buffers on both sides take some MiB; the gibibyte is nowhere.
    let buffered = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(buffered < 64 * 1024 * 1024, "{buffered} bytes were taken");
}

#[tokio::test]
async fn upgrades_pass_bytes_both_ways_and_only_when_requested() {
    let endpoint = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        heard.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello ").await;
        let mut buffer = [0; 64];
        while let Ok(read @ 1..) = heard.stream.read(&mut buffer).await {
            let _ = heard.stream.write_all(&buffer[..read]).await;
        }
    })
    .await;
    let proxy = TestProxy::start().await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    proxy
        .must("PUT", "/v1/services/web", json!({"endpoints": endpoints}))
        .await;

    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"hello ") {
        response.push(
            within("the endpoint speaks first", stream.read_u8())
                .await
                .unwrap(),
        );
    }
    stream.write_all(b"world").await.unwrap();
    while !response.ends_with(b"hello world") {
        response.push(within("the echo comes", stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(response).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: echo\r\n"), "{head}");
    assert_eq!(proxy.stats().await.versions["1"].upgraded, 1);
    drop(stream);
    tests::wait_until("the upgraded connection is closed", || async {
        proxy.stats().await.versions["1"].upgraded == 0
    })
    .await;

    let unasked = get(proxy.address, "/").await;
    assert_eq!(unasked.status, 502, "a 101 without a request for it");
}
