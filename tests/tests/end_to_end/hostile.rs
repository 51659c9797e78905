//! Clients that mean harm: what they cost is bounded, and everybody
//! else is served as before.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use socket2::SockRef;
use tests::{TestEndpoint, TestProxy, get, send, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// A proxy before a good endpoint, and thousands of files to be had for both sides.
async fn proxy_before(endpoint: &TestEndpoint) -> TestProxy {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let proxy = TestProxy::start().await;
    proxy.put_web(&[endpoint], json!(null)).await;
    proxy
}

async fn connect(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

#[tokio::test]
async fn at_the_limit_of_files_nothing_spins_and_who_is_there_is_served() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_before(&endpoint).await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = connect(proxy.address, request).await;
    assert!(response_of(&mut first).await.starts_with("HTTP/1.1 200"));

    proxy.limit_files(100);
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    proxy.logged("cannot accept").await;
    let (start, before) = (Instant::now(), proxy.process_stats());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (time, spent) = (start.elapsed(), proxy.process_stats().cpu - before.cpu);
    assert!(spent < time / 4, "{spent:?} of processor time in {time:?}");
    let warnings = proxy.log().matches("cannot accept").count();
    // One for each worker, and one more for a slow machine.
    assert!(warnings <= 4, "it complained {warnings} times");
    first.write_all(request).await.unwrap();
    assert!(response_of(&mut first).await.starts_with("HTTP/1.1 200"));

    drop(crowd);
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn a_crowd_that_sends_nothing_takes_no_file_that_others_need() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::with_files(100, 200, "[timeouts]\nheader = \"2s\"").await;
    let health = json!({"path": "/healthz", "interval": "20ms", "timeout": "1s", "fall": 1});
    let web = json!({
        "health": health,
        "endpoints": [{"address": endpoint.address.to_string(), "version": "1.0.0"}],
    });
    proxy.must("PUT", "/v1/services/web", web).await;
    proxy.wait_up("1.0.0").await;
    // It is raised to the hard one.
    let limit = proxy.logged("limit of open files").await;
    assert!(limit.contains("files=200 before=100"), "{limit}");

    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    proxy.logged("limits.connections is reached").await;
    for _ in 0..50 {
        assert_eq!(get(proxy.admin, "/healthz").await.status, 200);
    }
    // The whole of the crowd is closed in turn, without a word of it.
    for stream in &mut crowd {
        assert_eq!(within("its end", stream.read(&mut [0])).await.unwrap(), 0);
    }
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let log = proxy.log();
    for fault in ["endpoint is down", "cannot be probed", "cannot accept"] {
        assert!(!log.contains(fault), "{log}");
    }
}

/// What comes, up to the end of a small response of the sample server.
async fn response_of(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    while !response.ends_with(b"}") {
        response.push(within("a response", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(response).unwrap()
}

/// Sends bytes again and again until so many are sent or the other side stops reading, and gives
/// what came back.
async fn flood(address: SocketAddr, start: &[u8], more: &[u8], bytes: usize) -> String {
    let mut stream = connect(address, start).await;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for _ in 0..bytes / more.len() {
            if writer.write_all(more).await.is_err() {
                return true;
            }
        }
        false
    };
    let read = async {
        let mut response = Vec::new();
        // A server that closes while there is something for it to read resets.
        let _ = reader.read_to_end(&mut response).await;
        String::from_utf8_lossy(&response).into_owned()
    };
    let both = async { tokio::join!(write, read) };
    let (is_refused, response) = within("the end of a flood", both).await;
    assert!(is_refused, "all of {bytes} bytes were taken");
    response
}

#[tokio::test]
async fn heads_without_end_are_refused_and_not_kept() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_before(&endpoint).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let before = proxy.process_stats();

    let one_field = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ".to_vec();
    let many_fields = b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec();
    let target = b"GET /".to_vec();
    let method = Vec::new();
    let mut floods = JoinSet::new();
    for (start, more) in [
        (one_field, vec![b'x'; 16_384]),
        (many_fields, b"x-field: yes\r\n".repeat(1_000)),
        (target, vec![b'x'; 16_384]),
        (method, vec![b'X'; 16_384]),
    ] {
        for _ in 0..50 {
            let (start, more) = (start.clone(), more.clone());
            let address = proxy.address;
            floods.spawn(async move { flood(address, &start, &more, 64 << 20).await });
        }
    }
    let responses = floods.join_all().await;
    let refused = ["", "HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"];
    let is_refused = |response: &&String| {
        refused
            .iter()
            .any(|start| response.starts_with(start) && !response.contains("200 OK"))
    };
    assert_eq!(responses.iter().filter(is_refused).count(), responses.len());
    proxy.process_stats().expect_growth_below(32, before);
    proxy.wait_connections(0).await;
    // Nothing but the good request has reached the endpoint.
    assert_eq!(proxy.stats().await.versions["1.0.0"].attempts(), 1);
}

#[tokio::test]
async fn pipelined_requests_whose_responses_are_not_read_wait_with_the_client() {
    let endpoint = TestEndpoint::with("1.0.0", &["--body-bytes", "2000"]).await;
    let proxy = proxy_before(&endpoint).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let before = proxy.process_stats();

    let padding = "x".repeat(4_000);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx-padding: {padding}\r\n\r\n");
    let mut stream = connect(proxy.address, request.as_bytes()).await;
    let mut sent = 1;
    // More than any kernel keeps: at some point the proxy must have stopped to read.
    let limit = Duration::from_secs(1);
    while let Ok(written) = tokio::time::timeout(limit, stream.write_all(request.as_bytes())).await
    {
        written.unwrap();
        sent += 1;
        assert!(sent < 50_000, "nothing holds the client back");
    }
    proxy.process_stats().expect_growth_below(8, before);

    let mut responses = 0;
    let mut unread = Vec::new();
    while responses < sent - 1 {
        let mut buffer = [0; 65_536];
        let read = within("responses", stream.read(&mut buffer)).await.unwrap();
        assert!(read > 0, "closed after {responses} of {sent} responses");
        unread.extend_from_slice(&buffer[..read]);
        while let Some(end) = find(&unread, b"HTTP/1.1 200 OK\r\n") {
            responses += 1;
            unread.drain(..end);
        }
    }
}

/// Where the first of these is over.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let start = bytes
        .windows(wanted.len())
        .position(|window| window == wanted);
    start.map(|start| start + wanted.len())
}

#[tokio::test]
async fn clients_that_reset_their_connections_leave_nothing_behind() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_before(&endpoint).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let before = proxy.process_stats();
    let requests: [&[u8]; 4] = [
        b"GET /slow?for=60s HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nsome",
        b"GET / HTTP/1.1\r\nhost: ",
        b"",
    ];
    for _ in 0..10 {
        let mut round = Vec::new();
        for request in requests.iter().cycle().take(200) {
            round.push(connect(proxy.address, request).await);
        }
        // Half of them have reached the endpoint, and are cut there.
        proxy.wait_in_flight(100).await;
        for stream in round {
            stream.set_zero_linger().unwrap();
        }
        proxy.wait_in_flight(0).await;
        proxy.wait_connections(0).await;
    }
    assert_eq!(get(proxy.address, "/").await.status, 200);
    proxy.process_stats().expect_growth_below(32, before);
}

/// Connects by so small segments, and with so small a buffer, that the system takes little of an
/// response that is not read: the rest of it waits in the proxy and at the endpoint.
async fn connect_narrowly(address: SocketAddr, first: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    SockRef::from(&socket).set_tcp_mss(536).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// One good request, on a connection of its own.
async fn good_request(address: SocketAddr) {
    let reply = send(address, "GET", "/", &[("host", "good.test")], "").await;
    assert_eq!(reply.status, 200);
}

/// How often the crowd sends a byte each.
const ROUNDS: u32 = 10;

#[tokio::test]
async fn three_thousand_slow_clients_cost_little_and_delay_no_client() {
    let endpoint = TestEndpoint::with("1.0.0", &["--body-bytes", "1000000"]).await;
    let proxy = proxy_before(&endpoint).await;
    // What the crowd costs its endpoint is not what is measured.
    let other = TestEndpoint::start("1.0.0").await;
    let endpoints = json!([{"address": other.address.to_string(), "version": "1"}]);
    let service = json!({"hosts": ["good.test"], "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/good", service).await;
    good_request(proxy.address).await;
    let before = proxy.process_stats();
    let slow_head: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ";
    let slow_body: &[u8] = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    // These send requests, and read nothing of the response.
    let slow_read: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        for first in [slow_head, slow_body, slow_read] {
            crowd.push(connect_narrowly(proxy.address, first).await);
        }
    }
    proxy.wait_connections(3_000).await;
    proxy.wait_in_flight(2_000).await;
    let served = proxy.process_stats();
    // A request waits for what the proxy does before it. That is counted in its processor time, which
    // does not depend on what else the machine does.
    for _ in 0..ROUNDS {
        for stream in crowd.iter_mut().take(2_000) {
            // Of those that only read, nothing more is taken.
            let _ = stream.try_write(b"x");
        }
        good_request(proxy.address).await;
    }
    let a_round = (proxy.process_stats().cpu - served.cpu) / ROUNDS;
    assert!(a_round < Duration::from_millis(500), "{a_round:?}");
    proxy.process_stats().expect_growth_below(64, before);
    drop(crowd);
    proxy.wait_connections(0).await;
    proxy.wait_in_flight(0).await;
}
