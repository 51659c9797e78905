//! HTTP/2: to clients and to endpoints, beside HTTP/1.1 on either side.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::http2::connection::Connection;
use tests::http2::frame::{Code, flag};
use tests::http2::heard::Heard;
use tests::http2::{self, Report, cases, frame, hpack};
use tests::{
    MAX_STREAMS, ScriptedEndpoint, StreamClient, StreamEndpoint, TestCa, TestEndpoint, TestProxy,
    raw, read_out, send, send_out, wait_until, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Sets service `web` to these endpoints, all of version 1, which speaks HTTP/2.
async fn put_h2(proxy: &TestProxy, endpoints: &[&StreamEndpoint]) {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|e| json!({"address": e.address.to_string(), "version": "1"}))
        .collect();
    let web = json!({"versions": {"1": {"protocol": "h2"}}, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", web).await;
}

async fn put_h1(proxy: &TestProxy, endpoint: &ScriptedEndpoint) {
    let address = endpoint.address.to_string();
    let web = json!({"endpoints": [{"address": address, "version": "1"}]});
    proxy.must("PUT", "/v1/services/web", web).await;
}

/// The reason for which a stream was reset.
#[track_caller]
fn reason<T: std::fmt::Debug>(result: Result<T, h2::Error>) -> Reason {
    result.unwrap_err().reason().unwrap()
}

/// What every server gets wrong that is built as ours: the pseudo-header fields of a trailer
/// section are dropped before anybody could see them.
const KNOWN: &[&str] = &["8.1/7"];

async fn conforms(address: std::net::SocketAddr) {
    let run = move || {
        let mut all = Report::default();
        for (_, cases) in cases::SECTIONS {
            all.add(http2::run(address, cases));
        }
        all
    };
    let report = tokio::task::spawn_blocking(run).await.unwrap();
    let failed: Vec<&str> = report.failures.iter().map(|(case, _)| case.name).collect();
    assert_eq!(failed, KNOWN, "{report}");
    assert!(report.cases > 200);
}

#[tokio::test]
async fn it_conforms_without_tls() {
    let endpoint = TestEndpoint::with("1", &["--body-bytes", "2000"]).await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    conforms(proxy.address).await;
}

#[tokio::test]
async fn it_conforms_over_tls() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::with("1", &["--body-bytes", "2000"]).await;
    let proxy = TestProxy::with_config(&format!("tls = [{}]", ca.issue("a", "a.test", 2100))).await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let tunnel = ca.client(&["h2"]).tunnel(proxy.address, "a.test").await;
    conforms(tunnel).await;
}

#[tokio::test]
async fn bodies_go_both_ways_on_every_pair_of_wires() {
    let proxy = TestProxy::start().await;
    let body = "0123456789abcdef".repeat(50_000);
    let (h1, h2) = (
        TestEndpoint::start("1").await,
        StreamEndpoint::start("1").await,
    );
    for speaks_h2 in [false, true] {
        if speaks_h2 {
            put_h2(&proxy, &[&h2]).await;
        } else {
            proxy.put_web(&[&h1], Value::Null).await;
        }
        let client = StreamClient::connect(proxy.address).await;
        for body in ["", "short", &body] {
            let length = body.len();
            let reply = send(proxy.address, "POST", "/echo", &[], body).await;
            assert_eq!(reply.status, 200);
            assert!(
                reply.body == body,
                "{length} bytes from HTTP/1.1, {speaks_h2}"
            );
            let reply = client.send("POST", "/echo", &[], body).await.unwrap();
            assert_eq!(reply.status, 200);
            assert!(
                reply.body == body,
                "{length} bytes from HTTP/2, {speaks_h2}"
            );
            let bare = client.send("HEAD", "/", &[], "").await.unwrap();
            assert_eq!((bare.status.as_u16(), &*bare.body), (200, ""));
        }
    }
    let responses = proxy.stats().await.versions["1"].responses.success;
    assert_eq!(responses, 18);
}

#[tokio::test]
async fn a_grpc_call_streams_both_ways_and_ends_with_trailers() {
    let proxy = TestProxy::start().await;
    let endpoint = StreamEndpoint::start("1").await;
    put_h2(&proxy, &[&endpoint]).await;
    let client = StreamClient::connect(proxy.address).await;
    let fields = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "5S"),
    ];
    let (response, mut send) = client.begin("POST", "/echo", &fields, false).await.unwrap();
    let (head, mut body) = within("the head", response).await.unwrap().into_parts();
    assert_eq!(head.headers["content-type"], "application/grpc");
    for message in ["one", "two", "three"] {
        send.send_data(message.into(), false).unwrap();
        let echo = within("the echo", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(echo.len()).unwrap();
        assert_eq!(echo, message);
    }
    send_out(&mut send, b"four", &[("x-checksum", "77")]).await;
    let (rest, trailers) = read_out(body).await.unwrap();
    assert_eq!(rest, b"four");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-checksum"], "77");

    let reply = client.send("GET", "/fields", &fields, "").await.unwrap();
    for line in [
        "te: trailers\n",
        "grpc-timeout: 5S\n",
        "GET http://web.test/fields\n",
    ] {
        assert!(reply.body.contains(line), "{line}: {}", reply.body);
    }
}

#[tokio::test]
async fn trailers_pass_from_one_wire_to_the_other() {
    let proxy = TestProxy::start().await;
    let h1 = ScriptedEndpoint::start(|_, mut heard| async move {
        heard.head().await;
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(heard.stream.read_u8().await.unwrap());
        }
        let body = String::from_utf8(body).unwrap();
        assert_eq!(body, "4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n");
        heard.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n").await;
    })
    .await;
    put_h1(&proxy, &h1).await;
    let client = StreamClient::connect(proxy.address).await;
    let (response, mut send) = client.begin("POST", "/", &[], false).await.unwrap();
    send_out(&mut send, b"body", &[("x-sum", "1")]).await;
    let response = within("a response", response).await.unwrap();
    let (body, trailers) = read_out(response.into_body()).await.unwrap();
    assert_eq!(body, b"ok");
    assert_eq!(trailers["x-sum"], "2");

    let h2 = StreamEndpoint::start("1").await;
    put_h2(&proxy, &[&h2]).await;
    let request = b"POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
        transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 3\r\n\r\n";
    let response = raw(proxy.address, request).await;
    let end = "\r\n4\r\nbody\r\n0\r\nx-sum: 3\r\ngrpc-status: 0\r\n\r\n";
    assert!(
        response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(end),
        "{response}"
    );
}

#[tokio::test]
async fn heads_are_translated() {
    let proxy = TestProxy::start().await;
    let h1 = TestEndpoint::start("1").await;
    proxy.put_web(&[&h1], Value::Null).await;
    let client = StreamClient::connect(proxy.address).await;
    let fields = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "10.0.0.1"),
    ];
    let reply = client.send("GET", "/headers", &fields, "").await.unwrap();
    for field in [
        r#"["host","web.test"]"#,
        r#"["cookie","a=1; b=2"]"#,
        r#"["via","2 crossfade"]"#,
        r#"["x-forwarded-for","127.0.0.1"]"#,
        r#"["x-forwarded-proto","http"]"#,
    ] {
        assert!(reply.body.contains(field), "{field}: {}", reply.body);
    }
    assert!(reply.headers.contains_key("date") && !reply.headers.contains_key("connection"));

    let other = client
        .send("GET", "/", &[("host", "other.test")], "")
        .await
        .unwrap();
    assert_eq!(other.status, 400);
    let tunnel = client.send("CONNECT", "", &[], "").await.unwrap();
    assert_eq!(tunnel.status, 405);
    let long = "x".repeat(70_000);
    let too_long = client
        .send("GET", "/", &[("x-long", &long)], "")
        .await
        .unwrap();
    assert_eq!(too_long.status, 431);

    let h2 = StreamEndpoint::start("1").await;
    put_h2(&proxy, &[&h2]).await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let reply = send(proxy.address, "GET", "/", &upgrade, "").await;
    assert_eq!(reply.status, 501);
    assert!(reply.body.contains("HTTP/2"), "{reply:?}");
    let kept = [("connection", "keep-alive, x-private"), ("x-private", "1")];
    let reply = send(proxy.address, "GET", "/fields", &kept, "").await;
    assert!(
        !reply.body.contains("x-private") && !reply.body.contains("connection"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn interim_responses_are_passed_on() {
    let proxy = TestProxy::start().await;
    let h2 = StreamEndpoint::start("1").await;
    put_h2(&proxy, &[&h2]).await;
    let request = b"GET /hints HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let response = raw(proxy.address, request).await;
    assert!(
        response.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n"),
        "{response}"
    );
    assert!(response.contains("HTTP/1.1 200 OK\r\n"), "{response}");

    let h1 = ScriptedEndpoint::start(|_, mut heard| async move {
        heard.head().await;
        heard
            .say(
                "HTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            )
            .await;
    })
    .await;
    for endpoint in [Some(&h2), None] {
        let (path, link) = match endpoint {
            Some(h2) => {
                put_h2(&proxy, &[h2]).await;
                ("/hints", "</a.css>")
            }
            None => {
                put_h1(&proxy, &h1).await;
                ("/", "</b.css>")
            }
        };
        let client = StreamClient::connect(proxy.address).await;
        let (mut response, _) = client.begin("GET", path, &[], true).await.unwrap();
        let hints = std::future::poll_fn(|cx| response.poll_informational(cx));
        let hints = within("a 103", hints).await.unwrap().unwrap();
        assert_eq!(hints.status(), 103);
        assert_eq!(hints.headers()["link"], link);
        assert!(
            within("a response", response)
                .await
                .unwrap()
                .status()
                .is_success()
        );
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_elsewhere_whatever_its_method() {
    let proxy = TestProxy::start().await;
    let good = StreamEndpoint::start("1").await;
    let refusing = StreamEndpoint::refusing("1").await;
    put_h2(&proxy, &[&good, &refusing]).await;
    let client = StreamClient::connect(proxy.address).await;
    for _ in 0..6 {
        let reply = client.send("POST", "/", &[], "once").await.unwrap();
        assert_eq!((reply.status.as_u16(), &*reply.body), (200, "1"));
        let reply = send(proxy.address, "POST", "/", &[], "once").await;
        assert_eq!(reply.status, 200);
    }
    let refused = refusing.heard().len() as u64;
    assert!(refused > 0);
    assert_eq!(
        proxy.stats().await.versions["1"].failed_tries.reset,
        refused
    );
}

#[tokio::test]
async fn a_response_cut_short_resets_the_stream() {
    let proxy = TestProxy::start().await;
    let h1 = ScriptedEndpoint::start(|_, mut heard| async move {
        heard.head().await;
        heard
            .say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            .await;
    })
    .await;
    let h2 = StreamEndpoint::start("1").await;
    put_h1(&proxy, &h1).await;
    let client = StreamClient::connect(proxy.address).await;
    let cut = client.send("GET", "/cut", &[], "").await;
    assert_eq!(reason(cut), Reason::INTERNAL_ERROR);
    put_h2(&proxy, &[&h2]).await;
    let cut = client.send("GET", "/cut", &[], "").await;
    assert_eq!(reason(cut), Reason::INTERNAL_ERROR);
    let raw = raw(proxy.address, b"GET /cut HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(
        raw.ends_with("\r\n\r\nhalf") || raw.ends_with("\r\n\r\n"),
        "{raw}"
    );
    assert_eq!(proxy.stats().await.versions["1"].failed_tries.body, 3);
}

#[tokio::test]
async fn a_stream_that_its_client_resets_is_given_up() {
    let proxy = TestProxy::start().await;
    let h1 = TestEndpoint::start("1").await;
    let h2 = StreamEndpoint::start("1").await;
    for speaks_h2 in [false, true] {
        let path = if speaks_h2 {
            put_h2(&proxy, &[&h2]).await;
            "/hang"
        } else {
            proxy.put_web(&[&h1], Value::Null).await;
            "/slow?for=60s"
        };
        let client = StreamClient::connect(proxy.address).await;
        let (response, mut send) = client.begin("GET", path, &[], true).await.unwrap();
        proxy.wait_in_flight(1).await;
        send.send_reset(Reason::CANCEL);
        drop(response);
        proxy.wait_in_flight(0).await;
        assert!(
            client.send("GET", "/", &[], "").await.is_ok(),
            "the others go on"
        );
    }
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.client_gone, stats.failures()), (2, 0), "{stats:?}");
}

#[tokio::test]
async fn a_client_that_gives_no_room_runs_into_body_idle() {
    let proxy = TestProxy::with_config("[timeouts]\nbody_idle = \"500ms\"").await;
    let endpoint = TestEndpoint::with("1", &["--body-bytes", "1000000"]).await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = StreamClient::connect(proxy.address).await;
    let (response, _send) = client.begin("GET", "/", &[], true).await.unwrap();
    let mut body = within("a response", response).await.unwrap().into_body();
    let broken = loop {
        match within("a reset", body.data()).await {
            // Nothing that came is given back to the window.
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the response came whole"),
        }
    };
    assert_eq!(broken.reason(), Some(Reason::CANCEL));
    proxy.wait_in_flight(0).await;
    assert_eq!(proxy.stats().await.versions["1"].client_gone, 1);
}

#[tokio::test]
async fn a_body_that_contradicts_its_length_is_an_error_of_its_stream() {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = StreamClient::connect(proxy.address).await;
    // A response may come before the stream is reset (RFC 9113, 8.1.1).
    let short = client
        .send("POST", "/echo", &[("content-length", "9")], "short")
        .await;
    assert_eq!(short.unwrap().status, 400);
    assert!(
        client.send("GET", "/", &[], "").await.is_ok(),
        "the others go on"
    );
}

#[tokio::test]
async fn a_drain_without_time_cuts_the_streams_that_are_left() {
    let config = "[timeouts]\ndrain = \"200ms\"\nstream = \"500ms\"";
    let proxy = TestProxy::with_config(config).await;
    let (old, new) = (
        StreamEndpoint::start("1").await,
        StreamEndpoint::start("1").await,
    );
    put_h2(&proxy, &[&old]).await;
    let client = StreamClient::connect(proxy.address).await;
    let (response, mut send) = client.begin("POST", "/echo", &[], false).await.unwrap();
    let body = within("a response", response).await.unwrap().into_body();
    send.send_data(Bytes::from_static(b"begun"), false).unwrap();
    put_h2(&proxy, &[&new]).await;
    let reply = client.send("GET", "/", &[], "").await.unwrap();
    assert_eq!(reply.status, 200, "new requests go elsewhere meanwhile");
    assert_eq!(reason(read_out(body).await), Reason::CANCEL);
    let request = json!({"endpoint": old.address.to_string()});
    let receipt = proxy
        .must("POST", "/v1/services/web/drain?wait=10s", request)
        .await;
    assert_eq!(receipt["drained"], true, "{receipt}");
    assert_eq!(receipt["endpoints"][0]["cut"]["streams"], 1, "{receipt}");
}

#[tokio::test]
async fn at_sigterm_clients_are_told_and_nothing_fails() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let idle = StreamClient::connect(proxy.address).await;
    idle.send("GET", "/", &[], "").await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = StreamClient::connect(proxy.address).await;
        for _ in 0..10 {
            let (response, _) = client
                .begin("GET", "/slow?for=1s", &[], true)
                .await
                .unwrap();
            clients.push(tokio::spawn(async move {
                let (head, body) = response.await?.into_parts();
                read_out(body).await.map(|_| head.status)
            }));
        }
        clients.push(tokio::spawn(async move {
            client.closed().await.map(|()| http::StatusCode::OK)
        }));
    }
    proxy.wait_in_flight(50).await;
    proxy.signal(Signal::TERM);
    idle.closed().await.unwrap();
    for client in clients {
        let status = within("a response", client).await.unwrap();
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(proxy.finished().await.code, Some(0));
}

#[tokio::test]
async fn a_proxy_that_hands_over_tells_its_clients_and_serves_what_they_have_sent_by_then() {
    const LIMIT: Duration = Duration::from_secs(20);
    /// The first GOAWAY refuses nothing (RFC 9113, 6.8).
    const EVERY_STREAM: u32 = (1 << 31) - 1;
    let (may_respond, may) = watch::channel(false);
    let endpoint = ScriptedEndpoint::start(move |_, mut heard| {
        let mut may = may.clone();
        async move {
            heard.head().await;
            if may.wait_for(|may| *may).await.is_ok() {
                heard
                    .say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await;
            }
        }
    })
    .await;
    let mut proxy = TestProxy::start().await;
    put_h1(&proxy, &endpoint).await;
    let address = proxy.address;
    let request = |stream| {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "web.test"),
        ];
        let whole = flag::END_HEADERS | flag::END_STREAM;
        frame::headers(whole, stream, hpack::block(&fields))
    };
    let told = may_respond.clone();
    let client = tokio::task::spawn_blocking(move || {
        let mut client = Connection::connect(address)?;
        client.give(LIMIT);
        client.open()?;
        client.send([request(1)]);
        let goaway = |heard: &Heard| heard.goaway.map(Ok);
        let (last, code) = client.until("a GOAWAY", goaway)?;
        assert!(code == Code::NO_ERROR, "{code}");
        assert_eq!(last, EVERY_STREAM);
        assert_eq!(
            client.heard.response(1).status,
            None,
            "it is still in flight"
        );
        // On its way before the client could know; the PING behind the GOAWAY is acknowledged later.
        client.send([request(3)]);
        let last_of_all = |heard: &Heard| heard.goaway.filter(|(last, _)| *last == 3).map(Ok);
        client.until("a GOAWAY that names the last request", last_of_all)?;
        told.send_replace(true);
        for stream in [1, 3] {
            assert_eq!(client.success(stream)?.body, b"ok");
        }
        client.closed()
    });
    proxy.wait_in_flight(1).await;
    let old = proxy.upgrade().await;
    client
        .await
        .unwrap()
        .unwrap_or_else(|wrong| panic!("{}", wrong.0));
    assert_eq!(endpoint.heard().len(), 2);
    let finished = old.finished().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    wait_until("both are counted", || async {
        proxy.stats().await.versions["1"].responses.success == 2
    })
    .await;
    let next = StreamClient::connect(address).await;
    assert_eq!(next.send("GET", "/", &[], "").await.unwrap().status, 200);
}

#[tokio::test]
async fn requests_share_a_connection_for_as_long_as_it_has_streams() {
    let proxy = TestProxy::start().await;
    let endpoint = StreamEndpoint::start("1").await;
    put_h2(&proxy, &[&endpoint]).await;
    // All of them on one worker.
    let client = StreamClient::connect(proxy.address).await;
    for _ in 0..50 {
        assert_eq!(client.send("GET", "/", &[], "").await.unwrap().status, 200);
    }
    assert_eq!(endpoint.connections(), 1);
    let mut hanging = Vec::new();
    for _ in 0..2 * MAX_STREAMS + 1 {
        hanging.push(client.begin("GET", "/hang", &[], true).await.unwrap());
    }
    wait_until("all of them are asked", || async {
        endpoint.heard().len() == 50 + 2 * MAX_STREAMS as usize + 1
    })
    .await;
    assert_eq!(endpoint.connections(), 3);
    assert_eq!(proxy.stats().await.versions["1"].failures(), 0);
}

#[tokio::test]
async fn a_held_request_on_a_stream_goes_on_at_the_release() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    proxy.must("POST", "/v1/services/web/hold", json!({})).await;
    let client = StreamClient::connect(proxy.address).await;
    let (response, _) = client.begin("GET", "/", &[], true).await.unwrap();
    wait_until("it waits", || async {
        proxy.web().await.held.is_some_and(|held| held.waiting == 1)
    })
    .await;
    proxy
        .must("POST", "/v1/services/web/release", Value::Null)
        .await;
    assert_eq!(within("a response", response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_an_endpoint_has_not_looked_at_before_it_went_is_sent_again() {
    let proxy = TestProxy::start().await;
    let endpoint = ScriptedEndpoint::start(|number, mut heard| async move {
        if number == 0 {
            let first = [frame::settings(&[]), frame::goaway(0, Code::NO_ERROR)];
            for frame in first {
                heard.stream.write_all(&frame.bytes()).await.unwrap();
            }
            // Until the proxy has closed it.
            let _ = heard.stream.read_to_end(&mut Vec::new()).await;
            return;
        }
        let mut connection = h2::server::handshake(heard.stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
        }
    })
    .await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    let web = json!({"versions": {"1": {"protocol": "h2"}}, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", web).await;
    let reply = send(proxy.address, "POST", "/", &[], "once").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(proxy.stats().await.versions["1"].failures(), 0);
}

/// What a client gets that requests until it is told to stop: the requests that failed.
async fn failures(
    address: std::net::SocketAddr,
    mut is_over: watch::Receiver<bool>,
) -> Vec<String> {
    let client = StreamClient::connect(address).await;
    let mut failures = Vec::new();
    while !*is_over.borrow_and_update() {
        match client.send("POST", "/", &[], "order").await {
            Ok(reply) if reply.status == 200 => {}
            failure => failures.push(format!("{failure:?}")),
        }
    }
    failures
}

#[tokio::test]
async fn a_client_that_resets_many_streams_breaks_no_request_of_others() {
    let proxy = TestProxy::start().await;
    // Twice what any one connection that others share may have.
    let endpoint = StreamEndpoint::strict("1", 1_000).await;
    put_h2(&proxy, &[&endpoint]).await;
    let (over, is_over) = watch::channel(false);
    // Some of them on the worker that the other client is on.
    let others: Vec<_> = (0..6)
        .map(|_| tokio::spawn(failures(proxy.address, is_over.clone())))
        .collect();
    let mut client = StreamClient::connect(proxy.address).await;
    for number in 0..1_500 {
        let begun = client.begin("POST", "/echo", &[], false).await;
        let Ok((response, mut send)) = begun else {
            // Its own connection to the endpoint may end.
            client = StreamClient::connect(proxy.address).await;
            continue;
        };
        let response = within("a response", response).await;
        assert!(response.is_ok() || number > 1_000, "{number}: {response:?}");
        send.send_reset(Reason::CANCEL);
    }
    over.send_replace(true);
    for other in others {
        assert_eq!(within("the others", other).await.unwrap(), [""; 0]);
    }
}

/// In a request line of HTTP/1.1, but in no URI (RFC 3986, 2).
const NO_URIS: [&str; 3] = ["/<x", "/?q=\"x\"", "/`"];

#[tokio::test]
async fn what_http2_has_no_form_for_is_refused_at_once_and_blamed_on_the_endpoint() {
    let proxy = TestProxy::start().await;
    let endpoint = StreamEndpoint::start("1").await;
    put_h2(&proxy, &[&endpoint]).await;
    let mut requests: Vec<String> = NO_URIS
        .iter()
        .map(|target| format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    requests.push("GET / HTTP/1.1\r\nhost: a%4\r\n\r\n".into());
    for request in requests {
        let response = raw(proxy.address, request.as_bytes()).await;
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{request}: {response}"
        );
    }
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!((stats.client_gone, stats.failures()), (4, 0), "{stats:?}");
    assert_eq!(endpoint.heard(), [""; 0]);
}

#[tokio::test]
async fn an_endpoint_that_turns_away_every_new_connection_is_counted_as_failing() {
    /// SETTINGS, and GOAWAY: INTERNAL_ERROR, and no stream was looked at.
    const GOODBYE: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    let proxy = TestProxy::start().await;
    let rude = ScriptedEndpoint::start(|_, mut heard: tests::Heard| async move {
        let _ = heard.stream.write_all(GOODBYE).await;
        while let Ok(1..) = heard.stream.read(&mut [0; 1024]).await {}
    })
    .await;
    let endpoints = json!([{"address": rude.address.to_string(), "version": "1"}]);
    let web = json!({"versions": {"1": {"protocol": "h2"}}, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", web).await;
    let reply = send(proxy.address, "GET", "/", &[], "").await;
    assert_eq!(reply.status, 502, "{reply:?}");
    let stats = &proxy.stats().await.versions["1"];
    assert!(stats.failures() > 0, "{stats:?}");
}
