//! The server over real sockets: its responses, its faults, its stop.

// Clippy allows `unwrap` only below `cfg(test)`.
#[cfg(test)]
mod server;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use sample_server::{Config, Ended, ListenAddress};
use server::TestServer;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

fn config() -> Config {
    Config::default()
}

#[tokio::test]
async fn every_path_returns_the_version() {
    let server = TestServer::start(config()).await;
    let mut client = server.client().await;
    for path in ["/", "/anything?x=1"] {
        let response = client.get(path).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(
            response.text(),
            r#"{"message":"Hello World","version":"1.0.0"}"#
        );
        assert_eq!(response.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn a_quarter_of_the_responses_are_errors_and_health_checks_are_not() {
    let server = TestServer::start(Config {
        error_rate: "0.25".parse().unwrap(),
        ..config()
    })
    .await;
    let mut client = server.client().await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        assert_eq!(client.get("/healthz").await.unwrap().status, 200);
        statuses.push(client.get("/").await.unwrap().status);
    }
    assert_eq!(statuses, [200, 200, 200, 500, 200, 200, 200, 500]);
}

#[tokio::test]
async fn an_error_carries_the_version_too() {
    let server = TestServer::start(Config {
        error_rate: "1".parse().unwrap(),
        ..config()
    })
    .await;
    let response = server.client().await.get("/").await.unwrap();
    assert_eq!(response.status, 500);
    assert_eq!(
        response.text(),
        r#"{"message":"Internal Server Error","version":"1.0.0"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn health_begins_when_the_server_is_ready() {
    let server = TestServer::start(Config {
        ready_after: Duration::from_secs(60),
        ..config()
    })
    .await;
    let mut client = server.client().await;
    assert_eq!(client.get("/healthz").await.unwrap().status, 503);
    assert_eq!(client.get("/").await.unwrap().status, 200);
    tokio::time::advance(Duration::from_secs(60)).await;
    let response = client.get("/healthz").await.unwrap();
    assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
}

#[tokio::test]
async fn latency_comes_before_each_response() {
    let latency = Duration::from_millis(30);
    let server = TestServer::start(Config {
        latency,
        ..config()
    })
    .await;
    let mut client = server.client().await;
    let start = std::time::Instant::now();
    client.get("/").await.unwrap();
    assert!(start.elapsed() >= latency);
}

#[tokio::test]
async fn slow_responds_after_the_time_in_its_query() {
    let server = TestServer::start(config()).await;
    let mut client = server.client().await;
    let start = std::time::Instant::now();
    assert_eq!(client.get("/slow?for=30ms").await.unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(client.get("/slow?for=ever").await.unwrap().status, 400);
}

#[tokio::test]
async fn a_slow_body_arrives_whole() {
    let slow_body = Duration::from_millis(50);
    let server = TestServer::start(Config {
        slow_body,
        body_bytes: 5000,
        ..config()
    })
    .await;
    let start = std::time::Instant::now();
    let response = server.client().await.get("/").await.unwrap();
    assert_eq!(
        (response.body.len(), response.header("content-length")),
        (5000, "5000")
    );
    assert!(start.elapsed() >= slow_body);
}

#[tokio::test]
async fn a_cut_body_ends_half_way() {
    let server = TestServer::start(Config {
        cut_body_rate: "1".parse().unwrap(),
        ..config()
    })
    .await;
    let bytes = server.exchange("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("content-length: 43\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n{\"message\":\"Hello Wor"), "{text}");
}

#[tokio::test]
async fn the_request_after_the_last_one_crashes_the_server() {
    let server = TestServer::start(Config {
        crash_after: Some(1),
        ..config()
    })
    .await;
    let mut client = server.client().await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    assert_eq!(client.get("/healthz").await.unwrap().status, 200);
    client.get("/").await.unwrap_err();
    assert_eq!(server.ended().await, Ended::Crashed);
}

#[tokio::test]
async fn echo_sends_the_body_back() {
    let server = TestServer::start(config()).await;
    let mut client = server.client().await;
    let body = "0123456789".repeat(20_000);
    assert_eq!(client.post("/echo", &body).await.unwrap().text(), body);
    let refused = client.get("/echo").await.unwrap();
    assert_eq!((refused.status, refused.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn headers_returns_the_head_of_the_request() {
    let server = TestServer::start(config()).await;
    let response = server.client().await.get("/headers?a=b").await.unwrap();
    assert_eq!(
        response.text(),
        r#"{"method":"GET","path":"/headers?a=b","headers":[["host","test"]]}"#
    );
}

#[tokio::test]
async fn stopping_waits_for_the_response_in_flight() {
    let mut server = TestServer::start(config()).await;
    let mut client = server.client().await;
    // After a response the server has accepted the connection.
    client.get("/").await.unwrap();
    let mut echo = server
        .open("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        .await;
    echo.read_until("\r\n\r\nab").await;
    server.stop();
    client.get("/").await.unwrap_err();
    echo.write("cd").await;
    assert!(echo.read_to_end().await.ends_with("abcd"));
    assert_eq!(server.ended().await, Ended::Stopped);
}

#[tokio::test]
async fn a_websocket_sends_the_version_then_echoes_then_is_closed_by_the_stop() {
    let mut server = TestServer::start(config()).await;
    let mut socket = server.websocket("/ws").await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("1.0.0")
    );
    for message in [Message::text("hello"), Message::binary(vec![0, 1, 2])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    server.stop();
    let Message::Close(Some(frame)) = socket.next().await.unwrap().unwrap() else {
        panic!("no Close frame");
    };
    assert_eq!(frame.code, CloseCode::Away);
    assert!(socket.next().await.is_none());
    assert_eq!(server.ended().await, Ended::Stopped);
}

#[tokio::test]
async fn a_plain_request_to_the_websocket_gets_426() {
    let server = TestServer::start(config()).await;
    let response = server.client().await.get("/ws").await.unwrap();
    assert_eq!(
        (response.status, response.header("upgrade")),
        (426, "websocket")
    );
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_message() {
    let server = TestServer::start(config()).await;
    let taken = ListenAddress::Ip(server.address);
    let error = sample_server::bind(taken).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {}: another program listens there",
            server.address
        )
    );
}
