//! WebSockets over HTTP/2 (RFC 8441), on either side.

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use serde_json::{Value, json};
use tests::{
    Heard, ScriptedEndpoint, StreamClient, StreamEndpoint, TestEndpoint, TestProxy, read_out,
    wait_until, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A text frame from a server, with the version of the endpoint.
const HELLO: &[u8] = b"\x81\x011";
/// A text frame from a client, masked with zeros, and as it comes back from a server that reads it.
const MASKED: &[u8] = b"\x81\x82\0\0\0\0hi";
const ECHO: &[u8] = b"\x81\x02hi";
/// A request with the key of RFC 6455's example (1.3), and what a server makes of it.
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: web.test\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

async fn put_h2(proxy: &TestProxy, endpoint: &StreamEndpoint) {
    let address = endpoint.address.to_string();
    let web = json!({"versions": {"1": {"protocol": "h2"}},
        "endpoints": [{"address": address, "version": "1"}]});
    proxy.must("PUT", "/v1/services/web", web).await;
}

async fn put_h1(proxy: &TestProxy, endpoint: &ScriptedEndpoint) {
    let address = endpoint.address.to_string();
    let web = json!({"endpoints": [{"address": address, "version": "1"}]});
    proxy.must("PUT", "/v1/services/web", web).await;
}

/// Waits until so many upgraded connections are open.
async fn open(proxy: &TestProxy, count: u64) {
    wait_until("so many WebSockets are open", || async {
        proxy.stats().await.versions["1"].upgraded == count
    })
    .await;
}

/// A WebSocket of a client of HTTP/2.
async fn open_stream(client: &StreamClient) -> (RecvStream, SendStream<Bytes>) {
    let (response, send) = client.connect_to("websocket", "/ws").await.unwrap();
    let response = within("a response", response).await.unwrap();
    assert_eq!(response.status(), 200);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(name), "{response:?}");
    }
    (response.into_body(), send)
}

/// Reads so much of a stream as `want` has, which it has to be.
async fn expect(body: &mut RecvStream, want: &[u8]) {
    let mut got = Vec::new();
    while got.len() < want.len() {
        let data = within("the other side's bytes", body.data()).await.unwrap();
        got.extend_from_slice(&data.unwrap());
    }
    assert_eq!(got, want);
}

/// The same over HTTP/1.1.
async fn expect_bytes(stream: &mut TcpStream, want: &[u8]) {
    let mut got = vec![0; want.len()];
    within("the other side's bytes", stream.read_exact(&mut got))
        .await
        .unwrap();
    assert_eq!(got, want);
}

/// Requests a WebSocket over HTTP/1.1. Gives the head of the response.
async fn request_upgrade(proxy: &TestProxy) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn a_client_of_http2_has_a_websocket_with_an_endpoint_of_http1() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = StreamClient::connect(proxy.address).await;
    let (mut body, mut send) = open_stream(&client).await;
    expect(&mut body, HELLO).await;
    send.send_data(MASKED.into(), false).unwrap();
    expect(&mut body, ECHO).await;
    open(&proxy, 1).await;
    // Other requests are on the same connection.
    assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 200);
    send.send_reset(Reason::CANCEL);
    open(&proxy, 0).await;
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(
        (stats.responses.informational, stats.failures()),
        (1, 0),
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_client_of_http1_has_a_websocket_with_an_endpoint_of_http2() {
    let endpoint = StreamEndpoint::with_websockets("1").await;
    let proxy = TestProxy::start().await;
    put_h2(&proxy, &endpoint).await;
    let (mut stream, head) = request_upgrade(&proxy).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for line in ["upgrade: websocket\r\n", "connection: upgrade\r\n", ACCEPT] {
        assert!(head.contains(line), "{line}: {head}");
    }
    stream.write_all(b"over and").await.unwrap();
    expect_bytes(&mut stream, b"over and").await;
    open(&proxy, 1).await;
    stream.write_all(b" out").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within("the end", stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(rest, b" out");
    open(&proxy, 0).await;
}

#[tokio::test]
async fn a_websocket_goes_from_stream_to_stream() {
    let endpoint = StreamEndpoint::with_websockets("1").await;
    let proxy = TestProxy::start().await;
    put_h2(&proxy, &endpoint).await;
    let client = StreamClient::connect(proxy.address).await;
    let (mut body, mut send) = open_stream(&client).await;
    for bytes in [&b"one"[..], b"two"] {
        send.send_data(Bytes::from_static(bytes), false).unwrap();
        expect(&mut body, bytes).await;
    }
    send.send_data(Bytes::new(), true).unwrap();
    let (rest, _) = read_out(body).await.unwrap();
    assert_eq!(rest, b"");
    open(&proxy, 0).await;
}

#[tokio::test]
async fn what_does_not_grant_a_websocket_is_no_success() {
    let proxy = TestProxy::start().await;
    let client = StreamClient::connect(proxy.address).await;
    let says = |says: &'static str| {
        ScriptedEndpoint::start(move |_, mut heard: Heard| async move {
            heard.head().await;
            heard.say(says).await;
        })
    };
    for (response, want) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", 502),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            502,
        ),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", 403),
    ] {
        let endpoint = says(response).await;
        put_h1(&proxy, &endpoint).await;
        let (got, _send) = client.connect_to("websocket", "/ws").await.unwrap();
        let got = within("a response", got).await.unwrap();
        assert_eq!(got.status(), want, "{response}");
    }
    let (got, _send) = client.connect_to("webtransport", "/ws").await.unwrap();
    assert_eq!(within("a response", got).await.unwrap().status(), 501);

    let unable = StreamEndpoint::start("1").await;
    put_h2(&proxy, &unable).await;
    let (_stream, head) = request_upgrade(&proxy).await;
    assert!(head.starts_with("HTTP/1.1 501 "), "{head}");
    let (got, _send) = client.connect_to("websocket", "/ws").await.unwrap();
    assert_eq!(within("a response", got).await.unwrap().status(), 501);
    assert_eq!(unable.heard(), [""; 0]);
}

#[tokio::test]
async fn a_drain_waits_for_websockets_over_http2_and_cuts_them_when_it_has_no_more_time() {
    let config = "[timeouts]\ndrain = \"100ms\"\nupgraded = \"1500ms\"";
    let proxy = TestProxy::with_config(config).await;
    let (old, new) = (
        StreamEndpoint::with_websockets("1").await,
        StreamEndpoint::start("1").await,
    );
    put_h2(&proxy, &old).await;
    let client = StreamClient::connect(proxy.address).await;
    let (mut body, mut send) = open_stream(&client).await;
    let (mut stream, _) = request_upgrade(&proxy).await;
    open(&proxy, 2).await;
    put_h2(&proxy, &new).await;
    let drain = json!({"endpoint": old.address.to_string()});
    let receipt = proxy
        .must("POST", "/v1/services/web/drain?wait=500ms", drain.clone())
        .await;
    assert_eq!(receipt["drained"], false, "{receipt}");
    assert_eq!(receipt["endpoints"][0]["upgraded"], 2, "{receipt}");
    // Both go on meanwhile.
    send.send_data(Bytes::from_static(b"on"), false).unwrap();
    expect(&mut body, b"on").await;
    stream.write_all(b"on").await.unwrap();
    expect_bytes(&mut stream, b"on").await;
    let receipt = proxy
        .must("POST", "/v1/services/web/drain?wait=10s", drain)
        .await;
    assert_eq!(receipt["drained"], true, "{receipt}");
    assert_eq!(receipt["endpoints"][0]["cut"]["upgraded"], 2, "{receipt}");
    let cut = within("a reset", body.data()).await.unwrap().unwrap_err();
    assert_eq!(cut.reason(), Some(Reason::CANCEL));
    let mut rest = Vec::new();
    let _ = within("the end", stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn websockets_over_http2_go_on_in_a_process_that_has_handed_over() {
    let endpoint = TestEndpoint::start("1").await;
    let mut proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = StreamClient::connect(proxy.address).await;
    let (mut body, mut send) = open_stream(&client).await;
    expect(&mut body, HELLO).await;
    let old = proxy.upgrade().await;
    for _ in 0..3 {
        send.send_data(MASKED.into(), false).unwrap();
        expect(&mut body, ECHO).await;
    }
    open(&proxy, 1).await;
    drop((body, send, client));
    assert_eq!(old.finished().await.code, Some(0));
}
