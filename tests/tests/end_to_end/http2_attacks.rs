//! HTTP/2 from clients that mean harm: what they cost is bounded, and everybody else is served.

use serde_json::Value;
use tests::http2::connection::{Connection, PREFACE, first_settings};
use tests::http2::frame::{Code, continuation, flag, headers, ping, rst_stream, settings};
use tests::http2::hpack::block;
use tests::{TestEndpoint, TestProxy, get};

const MIB: u64 = 1024 * 1024;

async fn proxy() -> (TestProxy, TestEndpoint) {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    (proxy, endpoint)
}

/// Lets a client of this kind do what it wants, and sees that nothing came of it.
async fn harmless(attack: impl FnOnce(&mut Connection) + Send + 'static) -> TestProxy {
    let (proxy, _endpoint) = proxy().await;
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
    let proxy = harmless(move |c| {
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
    proxy.wait_in_flight(0).await;
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
    proxy.wait_in_flight(0).await;
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
