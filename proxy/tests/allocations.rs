//! A request on connections that are kept allocates nothing: routed, split, claimed, counted, its
//! head read and written anew, in both directions.

#![expect(
    clippy::expect_used,
    reason = "what fails here fails the test, and all of this is for it"
)]

use std::net::SocketAddr;

use proxy::fuzz::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const GET: &[u8] = b"GET /items?page=2 HTTP/1.1\r\nhost: app.example.com\r\n\
    user-agent: test\r\naccept: */*\r\ncookie: a=b; c=d\r\nconnection: keep-alive\r\n\r\n";
const POST: &[u8] = b"POST /items HTTP/1.1\r\nhost: app.example.com\r\n\
    content-type: text/plain\r\ncontent-length: 5\r\n\r\nping!";
const CHUNKED: &[u8] = b"POST /items HTTP/1.1\r\nhost: app.example.com\r\n\
    transfer-encoding: chunked\r\n\r\n5\r\nping?\r\n0\r\n\r\n";
const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: test\r\n\
    content-length: 5\r\n\r\npong!";
const CHUNKS: &[u8] = b"HTTP/1.1 201 Created\r\nlocation: /items/7\r\n\
    transfer-encoding: chunked\r\n\r\n5\r\npong!\r\n0\r\n\r\n";

/// Responds on all connections, without an allocation for a request.
async fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut buffer, mut length) = ([0; 4096], 0);
                while let Ok(read @ 1..) = stream.read(&mut buffer[length..]).await {
                    length += read;
                    let request = &buffer[..length];
                    let is_get = request.starts_with(b"GET");
                    let is_chunked = request.ends_with(b"\r\n0\r\n\r\n");
                    if is_get && request.ends_with(b"\r\n\r\n") || request.ends_with(b"ping!") {
                        stream.write_all(LENGTH).await.expect("the proxy is there");
                        length = 0;
                    } else if is_chunked {
                        stream.write_all(CHUNKS).await.expect("the proxy is there");
                        length = 0;
                    }
                }
            });
        }
    });
    address
}

/// Sends a request, and reads its response.
async fn exchange(client: &mut TcpStream, request: &[u8], end: &[u8]) {
    client.write_all(request).await.expect("the proxy is there");
    let (mut buffer, mut length) = ([0; 4096], 0);
    while !buffer[..length].ends_with(end) {
        let read = client
            .read(&mut buffer[length..])
            .await
            .expect("a response");
        assert!(read > 0, "{}", buffer[..length].escape_ascii());
        length += read;
    }
    assert!(
        buffer.starts_with(b"HTTP/1.1 20"),
        "{}",
        buffer[..length].escape_ascii()
    );
}

async fn request_everything(client: &mut TcpStream) {
    exchange(client, GET, b"pong!").await;
    exchange(client, POST, b"pong!").await;
    exchange(client, CHUNKED, b"0\r\n\r\n").await;
}

#[test]
fn a_further_request_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let wire = Wire::before(endpoint().await).unwrap();
        tokio::task::spawn_local(wire.clock());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(wire.serve(theirs.into_std().unwrap()).unwrap());
        for _ in 0..100 {
            request_everything(&mut client).await;
        }
        let before = dhat::HeapStats::get();
        for _ in 0..2_000 {
            request_everything(&mut client).await;
        }
        let after = dhat::HeapStats::get();
        let blocks = after.total_blocks - before.total_blocks;
        assert_eq!(blocks, 0, "in 6,000 requests");
    });
}
