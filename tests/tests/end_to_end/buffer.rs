//! Bodies that wait in the proxy (`buffer`), for endpoints that serve one request at a time, as gunicorn's
//! sync workers, Puma and PHP do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use tests::{TestEndpoint, TestProxy, get, wait_until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a large response has, more than the system's own buffers.
const LARGE: usize = 7_500_000;
const HALF: &str =
    "POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
const REST: &str = "3\r\ntwo\r\n0\r\n\r\n";

/// A server of two workers. Each serves one connection at a time, and one request on it, whose body it
/// reads by its length alone.
fn sync_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // Who leaves in the middle is no concern of the next.
                let _ = serve(stream);
            }
        });
    }
    address
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let head = loop {
        let count = stream.read(&mut buffer)?;
        read.extend_from_slice(&buffer[..count]);
        if let Some(at) = read.windows(4).position(|part| part == b"\r\n\r\n") {
            break at + 4;
        }
        if count == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while read.len() < head + length {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        read.extend_from_slice(&buffer[..count]);
    }
    let body = if text.starts_with("get /large") {
        vec![b'x'; LARGE]
    } else {
        read[head..head + length].to_vec()
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat())?;
    // Its proxy reads to the end.
    stream.shutdown(std::net::Shutdown::Write)?;
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

async fn proxy() -> TestProxy {
    let proxy = TestProxy::start().await;
    let endpoint =
        |version: &str| json!({"address": sync_server().to_string(), "version": version});
    let service = json!({
        "endpoints": [endpoint("1"), endpoint("2")],
        "split": {"1": 1, "2": 0},
        "buffer": {"request": "1MiB", "response": "8MiB"},
    });
    proxy.must("PUT", "/v1/services/web", service).await;
    proxy
}

/// A client that has said this, and nothing more for now.
async fn saying(proxy: &TestProxy, says: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(says.as_bytes()).await.unwrap();
    stream
}

/// The body of the response that ends a connection.
async fn body(mut stream: tokio::net::TcpStream) -> String {
    let mut all = String::new();
    within("a response", stream.read_to_string(&mut all))
        .await
        .unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

#[tokio::test]
async fn slow_clients_hold_no_worker_of_a_service_that_serves_one_request_at_a_time() {
    let proxy = proxy().await;
    let uploads = [saying(&proxy, HALF).await, saying(&proxy, HALF).await];
    let large = "GET /large HTTP/1.1\r\nhost: a\r\n\r\n";
    let downloads = [saying(&proxy, large).await, saying(&proxy, large).await];
    for _ in 0..5 {
        let quick = tokio::time::timeout(Duration::from_secs(10), get(proxy.address, "/quick"));
        assert_eq!(quick.await.expect("a worker is free").status, 200);
    }
    // What waits here alone is in flight for no endpoint.
    proxy.wait_in_flight(0).await;
    proxy.split(json!({"2": 1})).await;
    let receipt = proxy.drain("1", "0s").await;
    assert!(receipt.drained && !receipt.forced, "{receipt:?}");
    for mut download in downloads {
        let mut head = vec![0; 64 * 1024];
        let mut read = 0;
        let all = async {
            while read < LARGE {
                read += download.read(&mut head).await.unwrap();
            }
        };
        within("all of a large response", all).await;
    }
    drop(uploads);
}

#[tokio::test]
async fn what_waits_in_the_proxy_has_a_bound_that_is_seen_and_beyond_it_goes_on_as_it_comes() {
    const MOST: u64 = 64 * 1024 * 1024;
    const CLIENTS: usize = 16;
    const SIZE: usize = 8_000_000;
    let endpoint = TestEndpoint::with("1", &["--body-bytes", &SIZE.to_string()]).await;
    let mut proxy = TestProxy::start().await;
    // To one thread, which has all clients.
    let before = proxy.upgrade_to(1).await;
    assert_eq!(before.finished().await.code, Some(0));
    let service = json!({
        "endpoints": [{"address": endpoint.address.to_string(), "version": "1"}],
        "buffer": {"response": "8MiB"},
    });
    proxy.must("PUT", "/v1/services/web", service).await;
    let mut downloads = Vec::new();
    for _ in 0..CLIENTS {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // The system holds little of it.
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let mut stream = socket.connect(proxy.address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        downloads.push(stream);
    }
    let bodies = || proxy.metric("crossfade_buffered_bytes{of=\"bodies\"}");
    wait_until("nearly as much waits as may", || async {
        bodies().await > MOST - 8 * 1024 * 1024
    })
    .await;
    let waiting = bodies().await;
    assert!(waiting <= MOST, "{waiting} bytes wait");
    for mut download in downloads {
        let (mut buffer, mut read) = (vec![0; 256 * 1024], 0);
        let all = async {
            while let count @ 1.. = download.read(&mut buffer).await.unwrap() {
                read += count;
            }
        };
        within("all of a large response", all).await;
        assert!(read > SIZE, "{read} of {SIZE} bytes, and the head");
    }
    wait_until("nothing waits", || async { bodies().await == 0 }).await;
}

#[tokio::test]
async fn a_body_that_waits_is_finished_by_the_process_that_has_it() {
    let mut proxy = proxy().await;
    let mut upload = saying(&proxy, HALF).await;
    proxy.wait_connections(1).await;
    let before = proxy.upgrade().await;
    upload.write_all(REST.as_bytes()).await.unwrap();
    assert_eq!(body(upload).await, "onetwo");
    assert_eq!(before.finished().await.code, Some(0));
}
