//! HTTP/2 from clients that mean harm: what they cost is bounded, and everybody else is served.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http2::Step;
use tests::http2::connection::{Connection, PREFACE, first_settings};
use tests::http2::frame::{
    Code, Frame, continuation, flag, headers, ping, rst_stream, setting, settings, window_update,
};
use tests::http2::heard::Heard;
use tests::http2::hpack::block;
use tests::{TestEndpoint, TestProxy, get, wait_until};

const MIB: u64 = 1024 * 1024;
/// Streams that a client may have open at once.
const STREAMS: u32 = 100;
const DEADLINE: Duration = Duration::from_secs(60);
/// Until when one that takes its responses gets them while others take nothing, before theirs are
/// broken off.
const AGAIN: Duration = Duration::from_secs(5);

/// Lets a client of this kind do what it wants, and sees that nothing came of it: whether bodies go on
/// as they come, or wait in the proxy. The second proxy is returned.
async fn harmless(attack: impl FnOnce(&mut Connection) + Clone + Send + 'static) -> TestProxy {
    harmless_with(json!({}), attack.clone()).await;
    harmless_with(json!({"request": "1MiB", "response": "1MiB"}), attack).await
}

async fn harmless_with(
    buffer: Value,
    attack: impl FnOnce(&mut Connection) + Send + 'static,
) -> TestProxy {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    let web = json!({
        "endpoints": [{"address": endpoint.address.to_string(), "version": "1"}],
        "buffer": buffer,
    });
    proxy.must("PUT", "/v1/services/web", web).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let before = proxy.process_stats().peak_memory;
    let address = proxy.address;
    tokio::task::spawn_blocking(move || {
        let mut connection = Connection::connect(address).unwrap();
        attack(&mut connection);
    })
    .await
    .unwrap();
    let grown = proxy.process_stats().peak_memory.saturating_sub(before);
    assert!(grown < 16 * MIB, "it has grown by {grown} bytes");
    assert_eq!(get(proxy.address, "/").await.status, 200);
    proxy.wait_in_flight(0).await;
    proxy
}

fn request() -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/slow?for=10s"),
        (":authority", "web.test"),
    ])
}

fn calm(connection: &mut Connection) {
    connection
        .connection_error(&[Code::ENHANCE_YOUR_CALM])
        .unwrap();
}

#[tokio::test]
async fn a_client_that_resets_its_own_requests_is_sent_away() {
    let whole = flag::END_HEADERS | flag::END_STREAM;
    harmless(move |c| {
        c.open().unwrap();
        for n in 0..10_000 {
            let stream = 2 * n + 1;
            c.send([
                headers(whole, stream, request()),
                rst_stream(stream, Code::CANCEL),
            ]);
        }
        calm(c);
    })
    .await;
}

#[tokio::test]
async fn one_that_lets_each_begin_before_it_resets_it_is_sent_away_too() {
    let whole = flag::END_HEADERS | flag::END_STREAM;
    let proxy = harmless(move |c| {
        c.open().unwrap();
        for n in 0..10_000 {
            let stream = 2 * n + 1;
            c.send([headers(whole, stream, request())]);
            // Once it is acknowledged, the request before it was taken up.
            if c.alive().is_err() {
                break;
            }
            c.send([rst_stream(stream, Code::CANCEL)]);
        }
        calm(c);
    })
    .await;
    assert!(proxy.stats().await.versions["1"].client_gone < 300);
}

#[tokio::test]
async fn a_flood_of_continuations_is_bounded() {
    harmless(|c| {
        c.open().unwrap();
        c.send([headers(flag::NONE, 1, request())]);
        for n in 0..20_000 {
            let name = format!("x-{n}");
            c.send([continuation(flag::NONE, 1, block(&[(&name, "y")]))]);
        }
        c.closed().unwrap();
    })
    .await;
}

#[tokio::test]
async fn floods_of_pings_and_settings_without_a_reader_are_bounded() {
    harmless(|c| {
        c.raw(PREFACE);
        c.send([first_settings(&[])]);
        for _ in 0..5_000 {
            c.send([ping(flag::NONE, [7; 8]), settings(&[])]);
        }
    })
    .await;
}

const REQUEST: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "web.test"),
];

/// As many requests as a client may have open.
fn requests() -> impl Iterator<Item = Frame> {
    let whole = flag::END_HEADERS | flag::END_STREAM;
    (0..STREAMS).map(move |n| headers(whole, 2 * n + 1, block(&REQUEST)))
}

/// When clients say that they give no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrow {
    FromTheBeginning,
    Later,
}

/// Opens connections whose client gives no window, and requests on each of them as much as it may.
/// The first response of each has begun.
fn take_nothing(
    address: std::net::SocketAddr,
    connections: usize,
    narrow: Narrow,
) -> Vec<Connection> {
    let open = |_| {
        let mut connection = Connection::connect(address).unwrap();
        connection.give(DEADLINE);
        let no_window = [(setting::INITIAL_WINDOW_SIZE, 0)];
        match narrow {
            Narrow::FromTheBeginning => connection.open_with(&no_window).unwrap(),
            Narrow::Later => {
                connection.open().unwrap();
                connection.change_settings(&no_window).unwrap();
            }
        }
        connection.send(requests());
        connection
    };
    let mut open: Vec<_> = (0..connections).map(open).collect();
    for connection in &mut open {
        let begun = |heard: &Heard| heard.response(1).status.map(|_| Ok(()));
        connection.until("a response", begun).unwrap();
    }
    open
}

/// Requests as much at once as a client may, and takes it.
fn take_everything(address: std::net::SocketAddr) -> Step {
    let mut connection = Connection::connect(address)?;
    connection.give(DEADLINE);
    let all = 1 << 30;
    connection.open_with(&[(setting::INITIAL_WINDOW_SIZE, all)])?;
    connection.send([window_update(0, all)]);
    let at_once = connection.server_setting(setting::MAX_CONCURRENT_STREAMS);
    let requests: Vec<_> = requests().collect();
    for some in requests.chunks(at_once.unwrap_or(STREAMS) as usize) {
        connection.send(some.to_vec());
        for request in some {
            connection.success(request.stream)?;
        }
    }
    Ok(())
}

/// Memory in which something waits for the slower side, in bytes.
async fn buffered(proxy: &TestProxy, of: &str) -> u64 {
    let series = format!("crossfade_buffered_bytes{{of=\"{of}\"}}");
    proxy.metric(&series).await
}

/// How many requests over HTTP/2 the proxy has refused unread.
async fn refused(proxy: &TestProxy) -> u64 {
    proxy.metric("crossfade_streams_refused_total").await
}

#[tokio::test]
async fn clients_that_take_nothing_of_their_responses_cost_little_and_others_are_served() {
    const CONNECTIONS: usize = 100;
    let endpoint = TestEndpoint::with("1", &["--body-bytes", "100000"]).await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let before = proxy.process_stats().private_memory;
    let address = proxy.address;
    let taking =
        tokio::task::spawn_blocking(move || take_nothing(address, CONNECTIONS, Narrow::Later));
    let open = taking.await.unwrap();
    let grown = proxy.process_stats().private_memory - before;
    let of_stream = grown / (CONNECTIONS as u64 * u64::from(STREAMS));
    assert!(
        grown < 48 * MIB,
        "{grown} bytes, {of_stream} of each stream"
    );
    // 8 MiB of responses that were hardly begun, for each of two workers.
    let waiting = buffered(&proxy, "responses").await;
    assert!((MIB..=16 * MIB).contains(&waiting), "{waiting} bytes wait");
    let queued = buffered(&proxy, "requests").await;
    assert!((1..=4 * MIB).contains(&queued), "{queued} bytes wait");
    assert_eq!(buffered(&proxy, "bodies").await, 0);
    assert_eq!(get(proxy.address, "/").await.status, 200);
    // What is refused meanwhile may be sent again (RFC 9113, 8.7).
    tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        while let Err(error) = take_everything(address) {
            assert!(begun.elapsed() < AGAIN, "{error:?}");
        }
    })
    .await
    .unwrap();
    assert_eq!(refused(&proxy).await, 0);
    // Where even those that wait for their turn are many, further ones are refused.
    let taking =
        tokio::task::spawn_blocking(move || take_nothing(address, 3 * CONNECTIONS, Narrow::Later));
    let more = taking.await.unwrap();
    assert!(refused(&proxy).await > 0);
    drop((open, more));
    proxy.wait_in_flight(0).await;
    wait_until("nothing waits", || async {
        buffered(&proxy, "responses").await + buffered(&proxy, "requests").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_thousand_clients_that_take_nothing_of_a_hundred_responses_have_64_mib_in_all() {
    const CONNECTIONS: usize = 1_000;
    let endpoint = TestEndpoint::with("1", &["--body-bytes", "100000"]).await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let before = proxy.process_stats().private_memory;
    let address = proxy.address;
    let taking = tokio::task::spawn_blocking(move || {
        take_nothing(address, CONNECTIONS, Narrow::FromTheBeginning)
    });
    let open = taking.await.unwrap();
    let grown = proxy.process_stats().private_memory - before;
    let of_connection = grown / CONNECTIONS as u64;
    assert!(grown < 64 * MIB, "{grown} bytes, {of_connection} each");
    assert_eq!(get(proxy.address, "/").await.status, 200);
    drop(open);
    proxy.wait_in_flight(0).await;
}
