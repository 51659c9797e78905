//! A WebSocket that sends the version and then echoes (RFC 6455).

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long the client may take to reply to the server's Close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Checks the client's half of the handshake (RFC 6455, section 4.2.1). Returns the value of
/// `Sec-WebSocket-Accept`, or why the request is no handshake.
pub(crate) fn check<B>(request: &Request<B>) -> Result<HeaderValue, &'static str> {
    let headers = request.headers();
    let has_token = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    let is_upgrade = request.method() == Method::GET
        && has_token(CONNECTION, "upgrade")
        && has_token(UPGRADE, "websocket");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade);
    let key = key.ok_or("this path is a WebSocket: send a WebSocket handshake\n")?;
    if !has_token(SEC_WEBSOCKET_VERSION, "13") {
        return Err("only version 13 of WebSocket is supported\n");
    }
    // Base64 is always a valid header value.
    derive_accept_key(key.as_bytes())
        .parse()
        .map_err(|_| "this Sec-WebSocket-Key is not valid\n")
}

/// The response that makes the connection a WebSocket.
pub(crate) fn switch<B>(key: HeaderValue, body: B) -> Response<B> {
    let mut response = upgrade(StatusCode::SWITCHING_PROTOCOLS, body);
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, key);
    response
}

/// The response to a request that is no handshake.
pub(crate) fn refuse<B>(why: B) -> Response<B> {
    let mut response = upgrade(StatusCode::UPGRADE_REQUIRED, why);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

fn upgrade<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// Sends the version, then every message back, until the client leaves or `stop` completes;
/// then closes with 1001, "going away" (RFC 6455, section 7.4.1).
pub(crate) async fn echo(
    upgraded: Upgraded,
    version: &str,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    tokio::pin!(stop);
    socket.send(Message::text(version)).await?;
    loop {
        tokio::select! {
            message = socket.next() => match message.transpose()? {
                None => return Ok(()),
                Some(message @ (Message::Text(_) | Message::Binary(_))) => {
                    socket.send(message).await?;
                }
                // tungstenite replies to pings and Close frames while the socket is read.
                Some(_) => {}
            },
            () = &mut stop => break,
        }
    }
    let going_away = CloseFrame {
        code: CloseCode::Away,
        reason: "the server is stopping".into(),
    };
    socket.close(Some(going_away)).await?;
    let replied = async { while let Some(Ok(_)) = socket.next().await {} };
    // A client that does not reply is disconnected.
    let _ = timeout(CLOSE_TIMEOUT, replied).await;
    Ok(())
}
