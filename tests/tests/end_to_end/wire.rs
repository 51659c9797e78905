//! HTTP/1.1 as clients and endpoints see it, down to the bytes: what is served, what is refused,
//! and what is never passed on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Heard, ScriptedEndpoint, TestEndpoint, TestProxy, raw, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

async fn proxy_before(address: SocketAddr, config: &str) -> TestProxy {
    let proxy = TestProxy::with_config(config).await;
    let endpoints = json!([{"address": address.to_string(), "version": "1"}]);
    proxy
        .must("PUT", "/v1/services/web", json!({"endpoints": endpoints}))
        .await;
    proxy
}

/// An endpoint that says this to every request, and ends the connection.
async fn says(response: &'static str) -> ScriptedEndpoint {
    ScriptedEndpoint::start(move |_, mut heard: Heard| async move {
        if heard.head().await.is_some() {
            heard.say(response).await;
        }
    })
    .await
}

/// Reads until what came ends like this.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        got.push(within(end, stream.read_u8()).await.unwrap());
    }
    String::from_utf8(got).unwrap()
}

#[tokio::test]
async fn what_is_not_strictly_one_request_is_refused_and_ends_the_connection() {
    let endpoint = TestEndpoint::start("1").await;
    let config = "[limits]\nheader_bytes = \"8KiB\"\nrequest_line = \"1KiB\"\nheader_count = 20\nbody = \"1KiB\"\n[timeouts]\nheader = \"300ms\"\n";
    let proxy = proxy_before(endpoint.address, config).await;
    let many = "a: b\r\n".repeat(20);
    let long = "x".repeat(2_000);
    for (status, request) in [
        (400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nabcd".to_owned()),
        (400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 4\r\n\r\nabcd".to_owned()),
        (400, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd".to_owned()),
        (400, "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: folded\r\n line\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n".to_owned()),
        (400, "OPTIONS * HTTP/1.1\r\nhost: a\r\nmax-forwards: many\r\n\r\n".to_owned()),
        (408, "GET / HTTP/1.1\r\nhost: ".to_owned()),
        (413, format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n{long}")),
        (413, format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n{long}\r\n0\r\n\r\n")),
        (414, format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
        (431, format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", long.repeat(5))),
        (501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned()),
        (505, "GET / HTTP/3.0\r\nhost: a\r\n\r\n".to_owned()),
    ] {
        // Whatever comes behind it is not a request any more.
        let behind = if status == 408 { "" } else { "GET /behind HTTP/1.1\r\nhost: a\r\n\r\n" };
        let response = raw(proxy.address, format!("{request}{behind}").as_bytes()).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {response}");
        assert!(response.contains("\r\nconnection: close\r\n"), "{request:?}: {response}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{request:?}: {response}");
    }
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.attempts(), stats.failures()), (0, 0), "{stats:?}");
}

#[tokio::test]
async fn broken_chunks_are_cut_at_the_endpoint_and_refused() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(endpoint.address, "").await;
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
    ] {
        let response = raw(
            proxy.address,
            format!("{head}{body}GET / HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(
            !response.contains("HTTP/1.1 200 OK\r\n") || !response.ends_with("0\r\n\r\n"),
            "{body:?}: {response}"
        );
        assert!(
            response.matches("HTTP/1.1 ").count() <= 1,
            "{body:?}: {response}"
        );
    }
}

#[tokio::test]
async fn a_response_that_two_readers_could_read_differently_is_never_relayed() {
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nsecret",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\nsecret",
        "HTTP/1.1 200 OK\r\nx: a\r\n secret\r\n\r\n",
        "HTTP/1.1 200 OK\rx: secret\r\n\r\n",
        "HTTP/1.1 200 OK\nx: secret\ry: 1\n\n",
        "\r\nHTTP/1.1 200 OK\r\nx: secret\r\n\r\n",
        "HTTP/1.1 abc OK\r\nx: secret\r\n\r\n",
        "SSH-2.0-secret\r\n",
        "secret",
    ] {
        let endpoint = says(bad).await;
        let proxy = proxy_before(endpoint.address, "").await;
        let request =
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let response = raw(proxy.address, request).await;
        assert!(response.starts_with("HTTP/1.1 502 "), "{bad:?}: {response}");
        assert!(!response.contains("secret"), "{bad:?}: {response}");
        assert_eq!(proxy.stats().await.versions["1"].failures(), 1, "{bad:?}");
    }
}

#[tokio::test]
async fn a_response_that_is_cut_short_never_looks_whole() {
    for short in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nsome",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\nbad\r\n",
    ] {
        let endpoint = says(short).await;
        let proxy = proxy_before(endpoint.address, "").await;
        let response = raw(proxy.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(
            response.starts_with("HTTP/1.1 200 "),
            "{short:?}: {response}"
        );
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let whole = if head.contains("content-length: 100") {
            body.len() == 100
        } else {
            body.ends_with("0\r\n\r\n")
        };
        assert!(!whole, "{short:?}: {response}");

        // A client that knows no chunks, and no length, sees the connection reset.
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        let end = within("the end", stream.read_to_end(&mut response)).await;
        let has_length = response.windows(14).any(|part| part == b"content-length");
        assert!(
            has_length || end.is_err(),
            "{short:?}: {}",
            response.escape_ascii()
        );
        assert_eq!(proxy.stats().await.versions["1"].failures(), 2, "{short:?}");
    }
}

#[tokio::test]
async fn interim_responses_go_to_clients_that_know_them() {
    let endpoint = says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let proxy = proxy_before(endpoint.address, "").await;
    let response = raw(
        proxy.address,
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        response.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n"),
        "{response}"
    );
    assert!(
        response.contains("\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{response}"
    );
    let old = raw(proxy.address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n"), "{old}");
    assert!(!old.contains("Early"), "{old}");
}

#[tokio::test]
async fn a_client_that_expects_a_100_gets_it_or_the_response() {
    let endpoint = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        while heard.head().await.is_some() {
            heard.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            let mut body = [0; 5];
            if heard.stream.read_exact(&mut body).await.is_ok() {
                let text = String::from_utf8_lossy(&body);
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
                heard.say(&format!("{head}{text}")).await;
            }
        }
    })
    .await;
    let proxy = proxy_before(endpoint.address, "[limits]\nbody = \"1KiB\"\n").await;
    let expecting = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(expecting(5).as_bytes()).await.unwrap();
    // From the endpoint, through the proxy.
    let interim = read_to(&mut stream, "\r\n\r\n").await;
    assert!(
        interim.starts_with("HTTP/1.1 100 Continue\r\nvia: "),
        "{interim}"
    );
    stream.write_all(b"hello").await.unwrap();
    let response = read_to(&mut stream, "hello").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // One that does not wait is served all the same.
    let sent = format!("{}hello", expecting(5)).replace("host: a", "host: a\r\nconnection: close");
    let response = raw(proxy.address, sent.as_bytes()).await;
    assert!(response.contains("HTTP/1.1 200 "), "{response}");
    // What is refused is refused before any of it is sent.
    let response = raw(proxy.address, expecting(2_000).as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
}

#[tokio::test]
async fn an_endpoint_may_respond_before_it_has_the_body() {
    let endpoint = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        heard
            .say("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            .await;
        // It stays, and reads no more.
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let proxy = proxy_before(endpoint.address, "").await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    within(
        "the response and the end",
        stream.read_to_string(&mut response),
    )
    .await
    .unwrap();
    assert!(
        response.contains("HTTP/1.1 403 Forbidden\r\n"),
        "{response}"
    );
    // The rest of the body would be taken for a request.
    assert!(
        response.contains("\r\nconnection: close\r\n") && response.ends_with("no"),
        "{response}"
    );
    assert_eq!(proxy.stats().await.versions["1"].responses.client_error, 1);
}

#[tokio::test]
async fn a_request_that_breaks_off_during_its_response_is_cut_at_once() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(endpoint.address, "").await;
    let head = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for bad in ["", "bad"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        read_to(&mut stream, "hello\r\n").await;
        stream.write_all(bad.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let end = within("the end", stream.read_to_end(&mut rest)).await;
        assert!(end.is_err() || rest.is_empty(), "{}", rest.escape_ascii());
        proxy.wait_in_flight(0).await;
    }
    assert_eq!(proxy.stats().await.versions["1"].client_gone, 2);
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let endpoint = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(heard.stream.read_u8().await.unwrap());
        }
        let seen = String::from_utf8(body).unwrap().contains("\r\n0\r\nx-sum: 7\r\n\r\n");
        heard.say(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-seen\r\n\r\n2\r\nok\r\n0\r\nx-seen: {seen}\r\ncontent-length: 9\r\n\r\n")).await;
    })
    .await;
    let proxy = proxy_before(endpoint.address, "").await;
    let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nx-sum: 7\r\nhost: other\r\n\r\n";
    let response = raw(proxy.address, request.as_bytes()).await;
    // What only a head may have does not come behind it.
    assert!(
        response.ends_with("\r\n0\r\nx-seen: true\r\n\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn pipelined_requests_get_their_responses_in_order() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(endpoint.address, "").await;
    let mut requests = String::new();
    for number in 0..20 {
        requests += &format!(
            "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nnumber{number:02}"
        );
        requests += &format!(
            "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n8\r\nchunks{number:02}\r\n0\r\n\r\n"
        );
    }
    requests += "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let responses = raw(proxy.address, requests.as_bytes()).await;
    let mut at = 0;
    for number in 0..20 {
        for body in ["number", "chunks"] {
            let found = responses[at..].find(&format!("{body}{number:02}"));
            at += found.unwrap_or_else(|| panic!("{body}{number:02} is not in order: {responses}"));
        }
    }
    assert_eq!(
        responses.matches("HTTP/1.1 200 OK\r\n").count(),
        41,
        "{responses}"
    );
}

#[tokio::test]
async fn clients_of_http_1_0_are_served() {
    let chunked =
        says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n")
            .await;
    let proxy = proxy_before(chunked.address, "").await;
    let response = raw(
        proxy.address,
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    )
    .await;
    assert!(
        response.starts_with("HTTP/1.0 200 OK\r\n") && response.ends_with("\r\n\r\nabc"),
        "{response}"
    );
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
    assert!(!response.contains("transfer-encoding"), "{response}");

    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(endpoint.address, "").await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    for _ in 0..2 {
        stream
            .write_all(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
            .await
            .unwrap();
        let response = read_to(&mut stream, "}").await;
        assert!(
            response.contains("\r\nconnection: keep-alive\r\n"),
            "{response}"
        );
    }
}

#[tokio::test]
async fn options_and_trace_go_as_far_as_they_may() {
    let endpoint = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        while heard.head().await.is_some() {
            heard
                .say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let proxy = proxy_before(endpoint.address, "").await;
    let get = |line: &str, hops: &str| {
        let request = format!(
            "{line} HTTP/1.1\r\nhost: a\r\nmax-forwards: {hops}\r\nconnection: close\r\n\r\n"
        );
        let address = proxy.address;
        async move { raw(address, request.as_bytes()).await }
    };
    assert!(get("OPTIONS *", "3").await.starts_with("HTTP/1.1 200 "));
    assert!(
        get("OPTIONS http://b", "3")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(get("GET /", "0").await.starts_with("HTTP/1.1 200 "));
    let last = get("OPTIONS *", "0").await;
    assert!(
        last.starts_with("HTTP/1.1 200 ") && last.contains("proxy-status: crossfade"),
        "{last}"
    );
    assert!(get("TRACE /", "0").await.starts_with("HTTP/1.1 405 "));
    let heard = endpoint.heard();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(
        heard[0].starts_with("OPTIONS * HTTP/1.1\r\nhost: a\r\n"),
        "{heard:?}"
    );
    assert!(heard[0].contains("\r\nmax-forwards: 2\r\n"), "{heard:?}");
    assert!(
        heard[1].starts_with("OPTIONS * HTTP/1.1\r\nhost: b\r\n"),
        "{heard:?}"
    );
    assert!(heard[2].contains("\r\nmax-forwards: 0\r\n"), "{heard:?}");
}

#[tokio::test]
async fn an_address_has_only_so_many_connections() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(endpoint.address, "[limits]\nconnections_per_address = 3\n").await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read_to(&mut stream, "}").await;
        crowd.push(stream);
    }
    assert_eq!(raw(proxy.address, request).await, "", "one too many");
    proxy.logged("limits.connections_per_address").await;
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    assert!(
        metrics.contains("crossfade_connections_turned_away_total 1\n"),
        "{metrics}"
    );
    crowd.pop();
    proxy.wait_connections(2).await;
    assert!(
        raw(proxy.address, b"GET / HTTP/1.0\r\n\r\n")
            .await
            .contains(" 200 OK")
    );
}

#[tokio::test]
async fn a_client_that_comes_to_a_full_listener_waits_until_another_leaves() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = proxy_before(endpoint.address, "[limits]\nconnections = 2\n").await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        read_to(&mut stream, "}").await;
        served.push(stream);
    }
    let mut waiting = TcpStream::connect(proxy.address).await.unwrap();
    waiting.write_all(request).await.unwrap();
    proxy.logged("limits.connections is reached").await;
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    assert!(
        metrics.contains("crossfade_connections_waited_total 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("crossfade_connections 2\n"), "{metrics}");
    // Those who are there are served, and the other one once there is a place.
    served[0].write_all(request).await.unwrap();
    read_to(&mut served[0], "}").await;
    served.pop();
    let response = read_to(&mut waiting, "}").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

/// A socket that is closed with something unread in it is reset, and with it goes what its client
/// has not read yet.
#[tokio::test]
async fn a_client_that_says_close_and_sends_more_still_reads_the_whole_response() {
    let (sent, more) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (has_sent, has_more) = (sent.clone(), more.clone());
    let endpoint = ScriptedEndpoint::start(move |_, mut heard: Heard| {
        let (sent, more) = (has_sent.clone(), has_more.clone());
        async move {
            if heard.head().await.is_some() {
                sent.notify_one();
                more.notified().await;
                let body = "x".repeat(100_000);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                heard.say(&(head + &body)).await;
            }
        }
    })
    .await;
    let proxy = proxy_before(endpoint.address, "").await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    within("the endpoint is asked", sent.notified()).await;
    stream.write_all(b"\r\n").await.unwrap();
    more.notify_one();
    let mut response = Vec::new();
    let read = within("the end", stream.read_to_end(&mut response)).await;
    assert!(read.is_ok(), "{read:?} after {} bytes", response.len());
    assert!(
        response.ends_with(&[b'x'; 100_000]),
        "{} bytes",
        response.len()
    );
}

#[tokio::test]
async fn another_protocol_does_not_begin_before_the_request_has_ended() {
    let hasty =
        says("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    let hasty = hasty.await;
    let proxy = proxy_before(hasty.address, "").await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: x\r\nconnection: upgrade\r\n\
        content-length: 1000\r\n\r\nnot all of it";
    let response = raw(proxy.address, request.as_bytes()).await;
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
}

#[tokio::test]
async fn an_empty_line_behind_a_body_begins_no_request() {
    let endpoint = TestEndpoint::start("1").await;
    let config = "[timeouts]\nheader = \"100ms\"\nkeep_alive = \"1s\"";
    let proxy = proxy_before(endpoint.address, config).await;
    // Some old clients add it (RFC 9112, 2.2).
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi\r\n";
    let began = Instant::now();
    let response = raw(proxy.address, request.as_bytes()).await;
    assert!(response.ends_with("hi"), "{response}");
    let stayed = began.elapsed();
    assert!(stayed >= Duration::from_secs(1), "closed after {stayed:?}");
}
