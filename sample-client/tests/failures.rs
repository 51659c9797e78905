//! Every failure of a server is counted by its cause, and no request is retried.

// Clippy allows `unwrap` only below `cfg(test)`.
#[cfg(test)]
mod server;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use sample_client::{Cause, Config, Mode, Output, RunError, Summary};
use server::{RESPONSE, TestServer, target, watch, without_reader};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Asserts that exactly these failures were counted.
#[track_caller]
fn assert_failures(summary: &Summary, want: &[(Cause, u64)]) {
    let failures: Vec<_> = Cause::ALL
        .into_iter()
        .map(|cause| (cause, summary.failures(cause)))
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(failures, want);
}

fn responses(summary: &Summary) -> u64 {
    summary.responses.values().sum()
}

#[tokio::test]
async fn responses_are_printed_as_python_dicts() {
    let server = TestServer::new().await;
    let (summary, lines) = watch(server.config(2), async {
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        peer.respond("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nit's\n")
            .await;
        assert_eq!(peer.request().await, None);
    })
    .await;
    assert_eq!(
        lines,
        [
            r#"{'status_code': 200, 'body': '{"message":"Hello World","version":"1.0.0"}'}"#,
            r#"{'status_code': 404, 'body': "it's\n"}"#,
        ]
    );
    assert_failures(&summary, &[]);
    assert!(summary.is_clean(false));
    assert_eq!(
        (
            summary.requests,
            summary.connections_opened,
            summary.closed_idle
        ),
        (2, 1, 0)
    );
    assert_eq!(summary.responses[&(Some("1.0.0".to_owned()), 200)], 1);
}

#[tokio::test]
async fn responses_are_printed_as_json() {
    let server = TestServer::new().await;
    let config = Config {
        output: Output::Json,
        summary: true,
        ..server.config(2)
    };
    let (_, lines) = watch(config, async {
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        assert!(peer.request().await.is_some());
    })
    .await;
    let lines: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["status"], &lines[0]["version"]),
        (&200.into(), &"1.0.0".into())
    );
    assert!(lines[0]["latency_us"].is_u64() && lines[0]["at_ms"].is_u64());
    assert_eq!(lines[1]["error"], "reset");
    assert!(lines[1]["detail"].is_string());
    assert_eq!(lines[2]["summary"]["requests"], 2);
    assert_eq!(lines[2]["summary"]["failures"]["reset"], 1);
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn a_request_has_the_configured_host_and_headers() {
    let server = TestServer::new().await;
    let mut config = server.config(1);
    config.target = target(server.address, "/path?a=b");
    config.target.host_header = "app.example".parse().unwrap();
    config.headers = vec![("x-a".parse().unwrap(), "1".parse().unwrap())];
    watch(config, async {
        let mut peer = server.accept().await;
        let head = peer.request().await.unwrap();
        assert!(head.starts_with("GET /path?a=b HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: app.example\r\n"), "{head}");
        assert!(head.contains("\r\nx-a: 1\r\n"), "{head}");
        peer.send(RESPONSE).await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_connect() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let config = Config {
        count: Some(2),
        ..Config::new(target(address, "/"))
    };
    let (summary, lines) = watch(config, async {}).await;
    assert_failures(&summary, &[(Cause::Connect, 2)]);
    assert_eq!((summary.requests, summary.connections_opened), (2, 0));
    assert!(
        lines[0].starts_with("{'error': 'connect', 'detail': '127.0.0.1:"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_connection_closed_before_the_response_is_reset() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(2), async {
        let mut peer = server.accept().await;
        assert!(peer.request().await.is_some());
        drop(peer);
        // The next request has a new connection; the first request is not sent again.
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        assert_eq!(peer.request().await, None);
    })
    .await;
    assert_failures(&summary, &[(Cause::Reset, 1)]);
    assert_eq!(
        (
            summary.requests,
            responses(&summary),
            summary.connections_opened
        ),
        (2, 1, 2)
    );
}

#[tokio::test]
async fn a_connection_reset_before_the_response_is_reset() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(1), async {
        let mut peer = server.accept().await;
        assert!(peer.request().await.is_some());
        peer.reset();
    })
    .await;
    assert_failures(&summary, &[(Cause::Reset, 1)]);
    assert_eq!(summary.requests, 1);
}

#[tokio::test]
async fn half_a_head_is_reset() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(1), async {
        server
            .accept()
            .await
            .respond("HTTP/1.1 200 OK\r\ncontent-le")
            .await;
    })
    .await;
    assert_failures(&summary, &[(Cause::Reset, 1)]);
}

#[tokio::test]
async fn a_reused_connection_that_breaks_under_a_request_is_reset_and_not_retried() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(3), async {
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        assert!(peer.request().await.is_some());
        drop(peer);
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        assert_eq!(peer.request().await, None);
    })
    .await;
    assert_failures(&summary, &[(Cause::Reset, 1)]);
    assert_eq!(
        (summary.requests, responses(&summary), summary.closed_idle),
        (3, 2, 0)
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_cut() {
    for half in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n012",
    ] {
        let server = TestServer::new().await;
        let (summary, _) = watch(server.config(1), async {
            server.accept().await.respond(half).await;
        })
        .await;
        assert_failures(&summary, &[(Cause::Cut, 1)]);
        assert_eq!(responses(&summary), 0);
    }
}

#[tokio::test]
async fn a_body_that_is_reset_is_cut() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(1), async {
        let mut peer = server.accept().await;
        peer.respond("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234")
            .await;
        peer.reset();
    })
    .await;
    // The reset may overtake what was sent before it.
    let failures = summary.failures(Cause::Cut) + summary.failures(Cause::Reset);
    assert_eq!((failures, responses(&summary)), (1, 0));
}

#[tokio::test]
async fn a_missing_response_is_a_stall() {
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01",
    ] {
        let server = TestServer::new().await;
        let config = Config {
            timeout: Duration::from_millis(50),
            ..server.config(1)
        };
        let (summary, lines) = watch(config, async {
            let mut peer = server.accept().await;
            peer.respond(begun).await;
            assert_eq!(peer.request().await, None);
        })
        .await;
        assert_failures(&summary, &[(Cause::Stall, 1)]);
        assert!(lines[0].contains("within 50ms"), "{lines:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_protocol() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\0\0\0\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a number\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let server = TestServer::new().await;
        let (summary, _) = watch(server.config(1), async {
            server.accept().await.respond(garbage).await;
        })
        .await;
        assert_failures(&summary, &[(Cause::Protocol, 1)]);
    }
}

#[tokio::test]
async fn an_unsolicited_response_is_protocol() {
    let server = TestServer::new().await;
    let config = Config {
        interval: Some(Duration::from_millis(50)),
        ..server.config(2)
    };
    let (summary, _) = watch(config, async {
        let mut peer = server.accept().await;
        peer.respond(&RESPONSE.repeat(2)).await;
        assert_eq!(peer.request().await, None);
        server.accept().await.respond(RESPONSE).await;
    })
    .await;
    assert_failures(&summary, &[(Cause::Protocol, 1)]);
    assert_eq!((summary.requests, responses(&summary)), (2, 2));
}

#[tokio::test]
async fn a_server_error_is_a_response_and_a_failure() {
    let server = TestServer::new().await;
    let (summary, lines) = watch(server.config(1), async {
        let error = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
        server.accept().await.respond(error).await;
    })
    .await;
    assert_failures(&summary, &[(Cause::Http5xx, 1)]);
    assert_eq!(lines, ["{'status_code': 502, 'body': ''}"]);
    assert!(!summary.is_clean(false) && summary.is_clean(true));
}

#[tokio::test]
async fn a_connection_closed_between_requests_is_no_failure_and_is_counted() {
    let server = TestServer::new().await;
    let config = Config {
        interval: Some(Duration::from_millis(50)),
        ..server.config(2)
    };
    let (summary, lines) = watch(config, async {
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        drop(peer);
        server.accept().await.respond(RESPONSE).await;
    })
    .await;
    assert_failures(&summary, &[]);
    assert_eq!((summary.closed_idle, summary.connections_opened), (1, 2));
    assert_eq!(
        (summary.requests, responses(&summary), lines.len()),
        (2, 2, 2)
    );
}

#[tokio::test]
async fn a_connection_that_was_said_to_close_is_not_counted_as_closed_idle() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(2), async {
        for _ in 0..2 {
            let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            server.accept().await.respond(last).await;
        }
    })
    .await;
    assert_failures(&summary, &[]);
    assert_eq!((summary.closed_idle, summary.connections_opened), (0, 2));
}

#[tokio::test]
async fn connections_that_are_closed_at_once_are_reset_one_by_one() {
    let server = TestServer::new().await;
    let (summary, _) = watch(server.config(3), async {
        for _ in 0..3 {
            drop(server.accept().await);
        }
    })
    .await;
    assert_failures(&summary, &[(Cause::Reset, 3)]);
    assert_eq!((summary.requests, summary.connections_opened), (3, 3));
}

#[tokio::test]
async fn a_request_that_waited_for_a_connection_is_late_by_its_wait() {
    let server = TestServer::new().await;
    let config = Config {
        interval: Some(Duration::from_millis(10)),
        ..server.config(3)
    };
    let (summary, _) = watch(config, async {
        let mut peer = server.accept().await;
        assert!(peer.request().await.is_some());
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.send(RESPONSE).await;
        peer.respond(RESPONSE).await;
        peer.respond(RESPONSE).await;
    })
    .await;
    // Due after 10 and 20 ms, sent after 100.
    let latency = summary.latency().unwrap();
    assert!(latency.p50 >= Duration::from_millis(80), "{latency:?}");
}

#[tokio::test]
async fn the_end_waits_for_the_response_in_flight_and_counts_the_unsent() {
    let server = TestServer::new().await;
    let config = Config {
        interval: Some(Duration::from_millis(10)),
        duration: Some(Duration::from_millis(45)),
        count: None,
        ..server.config(0)
    };
    let (summary, _) = watch(config, async {
        let mut peer = server.accept().await;
        assert!(peer.request().await.is_some());
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.send(RESPONSE).await;
        assert_eq!(peer.request().await, None);
    })
    .await;
    assert_failures(&summary, &[]);
    assert_eq!((summary.requests, responses(&summary)), (1, 1));
    // Those of 10, 20, 30 and 40 ms; more where the timer was late.
    assert!(summary.unsent >= 4, "{}", summary.unsent);
}

#[tokio::test]
async fn connections_share_the_requests() {
    let server = TestServer::new().await;
    let config = Config {
        connections: 3,
        ..server.config(3)
    };
    let (summary, _) = watch(config, async {
        let mut peers = Vec::new();
        for _ in 0..3 {
            peers.push(server.accept().await);
        }
        for peer in &mut peers {
            peer.respond(RESPONSE).await;
        }
    })
    .await;
    assert_eq!((responses(&summary), summary.connections_opened), (3, 3));
}

#[tokio::test]
async fn quiet_prints_failures_only() {
    let server = TestServer::new().await;
    let config = Config {
        quiet: true,
        ..server.config(2)
    };
    let (_, lines) = watch(config, async {
        let mut peer = server.accept().await;
        peer.respond(RESPONSE).await;
        assert!(peer.request().await.is_some());
    })
    .await;
    assert!(
        lines.len() == 1 && lines[0].starts_with("{'error': 'reset'"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_client_whose_reader_is_gone_stops() {
    let server = TestServer::new().await;
    let config = Config {
        count: None,
        ..server.config(0)
    };
    let responding = async {
        let mut peer = server.accept().await;
        while peer.request().await.is_some() {
            peer.send(RESPONSE).await;
        }
    };
    let (ended, ()) = tokio::join!(without_reader(config), responding);
    assert!(matches!(ended, Err(RunError::Output(_))));
}

fn websocket(server: &TestServer, count: u64) -> Config {
    Config {
        mode: Mode::WebSocket,
        ..server.config(count)
    }
}

#[tokio::test]
async fn echoes_are_counted_by_version_and_the_end_is_proper() {
    let server = TestServer::new().await;
    let (summary, lines) = watch(websocket(&server, 3), async {
        let mut socket = accept_async(server.accept().await.stream).await.unwrap();
        socket.send(Message::text("2.0.0")).await.unwrap();
        for _ in 0..3 {
            let message = socket.next().await.unwrap().unwrap();
            socket.send(message).await.unwrap();
        }
        assert!(socket.next().await.unwrap().unwrap().is_close());
    })
    .await;
    assert_failures(&summary, &[]);
    assert_eq!(
        (summary.requests, summary.echoes[&Some("2.0.0".to_owned())]),
        (3, 3)
    );
    assert_eq!(lines[0], "{'echo': 'crossfade 1', 'version': '2.0.0'}");
}

#[tokio::test]
async fn a_websocket_without_a_close_frame_is_cut_and_with_one_closed() {
    let server = TestServer::new().await;
    let (summary, lines) = watch(websocket(&server, 3), async {
        let mut socket = accept_async(server.accept().await.stream).await.unwrap();
        socket.next().await.unwrap().unwrap();
        drop(socket);
        let mut socket = accept_async(server.accept().await.stream).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let away = CloseFrame {
            code: CloseCode::Away,
            reason: "bye".into(),
        };
        socket.close(Some(away)).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_close());
        let mut socket = accept_async(server.accept().await.stream).await.unwrap();
        let message = socket.next().await.unwrap().unwrap();
        socket.send(message).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_close());
    })
    .await;
    assert_failures(&summary, &[(Cause::Cut, 1), (Cause::Closed, 1)]);
    assert_eq!((summary.requests, summary.echoes[&None]), (3, 1));
    assert_eq!(
        lines[1],
        "{'error': 'closed', 'detail': 'a Close frame with 1001 bye, with 1 outstanding'}"
    );
}

#[tokio::test]
async fn a_handshake_that_fails_counts_by_how() {
    for (response, cause) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            Cause::Http5xx,
        ),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            Cause::Protocol,
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", Cause::Protocol),
        ("", Cause::Reset),
    ] {
        let server = TestServer::new().await;
        let (summary, lines) = watch(websocket(&server, 1), async {
            server.accept().await.respond(response).await;
        })
        .await;
        assert_eq!(summary.failures(cause), 1, "{lines:?}");
        assert_failures(&summary, &[(cause, 1)]);
    }
}

#[tokio::test]
async fn a_message_that_does_not_come_back_is_a_stall() {
    let server = TestServer::new().await;
    let config = Config {
        timeout: Duration::from_millis(50),
        ..websocket(&server, 1)
    };
    let (summary, _) = watch(config, async {
        let mut socket = accept_async(server.accept().await.stream).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
    assert_failures(&summary, &[(Cause::Stall, 1)]);
}
