//! Clients that leave before they have their response, or end their half on purpose.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    Heard, ScriptedEndpoint, StreamClient, TestCa, TestEndpoint, TestProxy, wait_until, within,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: web.test\r\n\r\n";
const SLOW: &[u8] = b"GET /slow?for=300ms HTTP/1.1\r\nhost: web.test\r\n\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
/// What these have as their first.
const EVENT: &str = "data: 1\n\n";
/// How long a request may go on without its client.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fin,
    Reset,
    /// Over TLS, without the end of the connection below.
    CloseNotify,
}

/// What an endpoint has seen of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    Request,
    End,
}

type Notes = UnboundedReceiver<Noted>;

/// An endpoint that says this to each request, and then nothing until its connection ends.
async fn silent_after(says: &'static str) -> (ScriptedEndpoint, Notes) {
    let (notes, noted) = unbounded_channel();
    let endpoint = ScriptedEndpoint::start(move |_, mut heard: Heard| {
        let notes = notes.clone();
        async move {
            if heard.head().await.is_some() {
                heard.say(says).await;
                let _ = notes.send(Noted::Request);
                let _ = heard.stream.read_to_end(&mut Vec::new()).await;
                let _ = notes.send(Noted::End);
            }
        }
    })
    .await;
    (endpoint, noted)
}

async fn put(proxy: &TestProxy, endpoint: &ScriptedEndpoint) {
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    let service = json!({"endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", service).await;
}

async fn noted(notes: &mut Notes, want: Noted) {
    assert_eq!(
        within("what the endpoint sees", notes.recv()).await,
        Some(want)
    );
}

/// Requests, and reads what the endpoint says to it.
async fn request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    notes: &mut Notes,
    says: &str,
) {
    stream.write_all(GET).await.unwrap();
    stream.flush().await.unwrap();
    noted(notes, Noted::Request).await;
    let body = says.rsplit("\r\n\r\n").next().unwrap_or_default();
    let mut got = Vec::new();
    while !got.ends_with(body.as_bytes()) {
        got.push(within("the response", stream.read_u8()).await.unwrap());
    }
}

/// The end of what a client has requested that left at `left`.
async fn ends_at_once(notes: &mut Notes, left: Instant, name: &str) {
    noted(notes, Noted::End).await;
    assert!(left.elapsed() < AT_ONCE, "{name}: {:?}", left.elapsed());
}

/// Each of `count` clients is counted as one that went away, and as no failure.
async fn only_gone(proxy: &TestProxy, count: u64) {
    proxy.wait_in_flight(0).await;
    let stats = &proxy.stats().await.versions["1"];
    assert_eq!(
        (stats.client_gone, stats.failures(), stats.attempts()),
        (count, 0, 0),
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_at_the_endpoint_within_a_second() {
    for says in ["", EVENTS] {
        let (endpoint, mut notes) = silent_after(says).await;
        let proxy = TestProxy::start().await;
        put(&proxy, &endpoint).await;
        for way in [Way::Fin, Way::Reset] {
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            request(&mut stream, &mut notes, says).await;
            let left = Instant::now();
            if way == Way::Fin {
                stream.shutdown().await.unwrap();
                ends_at_once(&mut notes, left, "FIN").await;
                let mut rest = Vec::new();
                let _ = within("the end", stream.read_to_end(&mut rest)).await;
                assert!(rest.is_empty(), "{}", rest.escape_ascii());
            } else {
                stream.set_zero_linger().unwrap();
                drop(stream);
                ends_at_once(&mut notes, left, "RST").await;
            }
        }
        only_gone(&proxy, 2).await;
    }
}

#[tokio::test]
async fn a_client_of_tls_leaves_by_a_close_notify_or_by_the_end_of_its_connection() {
    let ca = TestCa::new();
    for says in ["", EVENTS] {
        let (endpoint, mut notes) = silent_after(says).await;
        let tls = format!("tls = [{}]", ca.issue("a", "a.test", 2100));
        let proxy = TestProxy::with_config(&tls).await;
        put(&proxy, &endpoint).await;
        for way in [Way::CloseNotify, Way::Fin, Way::Reset] {
            let mut stream = ca
                .client(&[])
                .connect(proxy.address, "a.test")
                .await
                .unwrap();
            request(&mut stream, &mut notes, says).await;
            let left = Instant::now();
            match way {
                Way::CloseNotify => {
                    stream.get_mut().1.send_close_notify();
                    stream.flush().await.unwrap();
                }
                Way::Fin => stream.get_mut().0.shutdown().await.unwrap(),
                Way::Reset => stream.get_ref().0.set_zero_linger().unwrap(),
            }
            let _kept = (way != Way::Reset).then_some(stream);
            ends_at_once(&mut notes, left, &format!("{way:?}")).await;
        }
        only_gone(&proxy, 3).await;
    }
}

#[tokio::test]
async fn a_client_of_http2_leaves_by_a_reset_of_its_stream_or_by_the_end_of_its_connection() {
    for says in ["", EVENTS] {
        let (endpoint, mut notes) = silent_after(says).await;
        let proxy = TestProxy::start().await;
        put(&proxy, &endpoint).await;
        for way in [Way::Reset, Way::Fin] {
            let client = StreamClient::connect(proxy.address).await;
            let (response, mut send) = client.begin("GET", "/", &[], true).await.unwrap();
            noted(&mut notes, Noted::Request).await;
            let left = Instant::now();
            if way == Way::Reset {
                send.send_reset(h2::Reason::CANCEL);
                ends_at_once(&mut notes, left, "RST_STREAM").await;
            } else {
                drop((response, send, client));
                ends_at_once(&mut notes, left, "the connection's end").await;
            }
        }
        only_gone(&proxy, 2).await;
    }
}

/// The same endpoint as [`silent_after`] over HTTP/2, where a stream is what ends.
async fn silent_stream() -> (ScriptedEndpoint, Notes) {
    let (notes, noted) = unbounded_channel();
    let endpoint = ScriptedEndpoint::start(move |_, heard: Heard| {
        let notes = notes.clone();
        async move {
            let mut connection = h2::server::handshake(heard.stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let notes = notes.clone();
                tokio::spawn(async move {
                    let mut send = respond.send_response(http::Response::new(()), false)?;
                    send.send_data(EVENT.into(), false)?;
                    let _ = notes.send(Noted::Request);
                    std::future::poll_fn(|cx| send.poll_reset(cx)).await?;
                    let _ = notes.send(Noted::End);
                    Ok::<_, h2::Error>(())
                });
            }
        }
    })
    .await;
    (endpoint, noted)
}

/// A client of HTTP/1.1 that gets the first of a stream, and leaves.
async fn leave_stream(proxy: &TestProxy, notes: &mut Notes, way: Way) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    request(&mut stream, notes, EVENTS).await;
    let left = Instant::now();
    match way {
        Way::Fin => stream.shutdown().await.unwrap(),
        _ => stream.set_zero_linger().unwrap(),
    }
    let _kept = (way == Way::Fin).then_some(stream);
    ends_at_once(notes, left, &format!("HTTP/1.1, {way:?}")).await;
}

/// The same of HTTP/2, by a reset of the stream, or the connection's end.
async fn leave_stream_of_http2(proxy: &TestProxy, notes: &mut Notes, way: Way) {
    let client = StreamClient::connect(proxy.address).await;
    let (response, mut send) = client.begin("GET", "/", &[], true).await.unwrap();
    noted(notes, Noted::Request).await;
    let mut body = within("a head", response).await.unwrap().into_body();
    let event = within("an event", body.data()).await.unwrap().unwrap();
    assert_eq!(event, EVENT);
    let left = Instant::now();
    if way == Way::Reset {
        send.send_reset(h2::Reason::CANCEL);
    } else {
        drop((body, send, client));
        ends_at_once(notes, left, "HTTP/2, the connection's end").await;
        return;
    }
    ends_at_once(notes, left, "HTTP/2, RST_STREAM").await;
}

#[tokio::test]
async fn a_stream_that_is_quiet_ends_with_its_client_on_every_pair_of_wires() {
    for over_http2 in [false, true] {
        let (endpoint, mut notes) = if over_http2 {
            silent_stream().await
        } else {
            silent_after(EVENTS).await
        };
        let proxy = TestProxy::start().await;
        let protocol = if over_http2 { "h2" } else { "http/1.1" };
        let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
        let service = json!({"endpoints": endpoints, "versions": {"1": {"protocol": protocol}}});
        proxy.must("PUT", "/v1/services/web", service).await;
        for way in [Way::Fin, Way::Reset] {
            leave_stream(&proxy, &mut notes, way).await;
            leave_stream_of_http2(&proxy, &mut notes, way).await;
        }
        only_gone(&proxy, 4).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_connection_is_being_made_is_not_waited_for() {
    // Of those that are dropped before they are there, nothing comes back.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(
        &"127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
    )
    .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _waiting = [(); 3].map(|()| {
        let waiting =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        waiting.set_nonblocking(true).unwrap();
        let _ = waiting.connect(&address.into());
        waiting
    });
    let proxy = TestProxy::with_config("[timeouts]\nconnect = \"60s\"").await;
    let endpoints = json!([{"address": address.to_string(), "version": "1"}]);
    let service = json!({"endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", service).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    proxy.wait_in_flight(1).await;
    stream.shutdown().await.unwrap();
    let left = Instant::now();
    wait_until("its client has gone", || async {
        proxy.stats().await.versions["1"].client_gone == 1
    })
    .await;
    assert!(left.elapsed() < AT_ONCE, "{:?}", left.elapsed());
    only_gone(&proxy, 1).await;
}

#[tokio::test]
async fn a_client_that_ends_its_half_on_purpose_is_served_where_its_listener_says_so() {
    let ca = TestCa::new();
    let tls = format!("tls = [{}]\n", ca.issue("a", "a.test", 2100));
    for (tls, is_tls) in [("", false), (&*tls, true)] {
        let endpoint = TestEndpoint::start("1").await;
        let proxy = TestProxy::with_config(&format!("{tls}half_close = \"serve\"")).await;
        proxy.put_web(&[&endpoint], Value::Null).await;
        let mut response = String::new();
        if is_tls {
            let mut stream = ca
                .client(&[])
                .connect(proxy.address, "a.test")
                .await
                .unwrap();
            stream.write_all(SLOW).await.unwrap();
            stream.shutdown().await.unwrap();
            let read = within("the response", stream.read_to_string(&mut response));
            read.await.unwrap();
        } else {
            let mut stream = TcpStream::connect(proxy.address).await.unwrap();
            stream.write_all(SLOW).await.unwrap();
            stream.shutdown().await.unwrap();
            let read = within("the response", stream.read_to_string(&mut response));
            read.await.unwrap();
        }
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert_eq!(proxy.stats().await.versions["1"].responses.success, 1);
    }
}
