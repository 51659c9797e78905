//! A WebSocket (RFC 6455) to an echo server: every message is expected back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Request, Uri};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, interval, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::connection::connect;
use crate::exchange::Deadline;
use crate::failure::{Cause, Failure};
use crate::options::Config;
use crate::shared::{Shared, Stop};
use crate::worker::{REFUSED_PAUSE, headers};

type Socket = WebSocketStream<TcpStream>;

/// How long a server may take to complete the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps one WebSocket open until the stop or until all messages are sent, then waits for the
/// outstanding echoes. A WebSocket that ends is counted; the next message opens another.
pub(crate) async fn work(shared: Arc<Shared>, mut stop: Stop) {
    let mut ticks = shared.config.interval.map(interval);
    let mut session = EchoSession {
        shared: &shared,
        socket: None,
        version: None,
        pending: VecDeque::new(),
    };
    let mut sending = true;
    while sending || !session.pending.is_empty() {
        let is_idle = session.pending.is_empty();
        tokio::select! {
            biased;
            () = stop.wait(), if sending => sending = false,
            message = next(&mut session.socket) => session.receive(message).await,
            () = overdue(&session.pending, shared.config.timeout) => {
                let deadline = Deadline::after(shared.config.timeout);
                session.fail(deadline.missed(Cause::Stall, "no echo"));
            }
            () = due(&mut ticks, is_idle), if sending => {
                if shared.schedule.take().is_none() {
                    sending = false;
                } else if !session.send().await && ticks.is_none() {
                    stop.sleep_or_stop(REFUSED_PAUSE).await;
                }
            }
        }
    }
    session.close().await;
}

/// A WebSocket and its outstanding messages.
struct EchoSession<'a> {
    shared: &'a Shared,
    socket: Option<Socket>,
    /// The server's first message: its version.
    version: Option<String>,
    /// Messages without an echo so far, the oldest first.
    pending: VecDeque<(String, Instant)>,
}

impl EchoSession<'_> {
    /// Sends one message, on a new WebSocket if none is open. Returns whether one was opened or
    /// already open.
    async fn send(&mut self) -> bool {
        let report = &self.shared.report;
        let number = report.request();
        let deadline = Deadline::after(self.shared.config.timeout);
        let socket = match self.socket.take() {
            Some(socket) => Ok(socket),
            None => open(self.shared, deadline).await,
        };
        let mut socket = match socket {
            Ok(socket) => socket,
            Err(failure) => {
                report.failure(&failure);
                return false;
            }
        };
        let text = format!("crossfade {number}");
        let now = Instant::now();
        match timeout_at(deadline.at, socket.send(Message::text(&text))).await {
            Ok(Ok(())) => {
                self.pending.push_back((text, now));
                self.socket = Some(socket);
            }
            Ok(Err(error)) => self.fail(ended_by(&error)),
            Err(_) => self.fail(deadline.missed(Cause::Stall, "a message could not be sent")),
        }
        true
    }

    async fn receive(&mut self, message: Option<Result<Message, Error>>) {
        match message {
            Some(Ok(Message::Text(text))) => self.receive_text(&text),
            // tungstenite replies to pings while the socket is read.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let detail = frame.map_or("a Close frame without a code".to_owned(), |frame| {
                    format!(
                        "a Close frame with {} {}",
                        u16::from(frame.code),
                        frame.reason
                    )
                });
                if let Some(socket) = &mut self.socket {
                    // Sends the Close frame in reply. It does not matter whether it arrives.
                    let _ = timeout(CLOSE_TIMEOUT, socket.flush()).await;
                }
                self.fail(Failure::new(Cause::Closed, detail.trim_end()));
            }
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                self.fail(Failure::new(Cause::Protocol, "a message that is no echo"));
            }
            Some(Err(error)) => self.fail(ended_by(&error)),
            None => self.fail(Failure::new(Cause::Cut, "ended without a Close frame")),
        }
    }

    fn receive_text(&mut self, text: &str) {
        match self.pending.front() {
            Some((sent, since)) if sent == text => {
                self.shared
                    .report
                    .echo(text, self.version.as_deref(), since.elapsed());
                self.pending.pop_front();
            }
            _ if self.version.is_none() => self.version = Some(text.to_owned()),
            _ => self.fail(Failure::new(Cause::Protocol, "a message that is no echo")),
        }
    }

    /// Counts the end of this WebSocket as one failure, however many messages are outstanding.
    fn fail(&mut self, mut failure: Failure) {
        if !self.pending.is_empty() {
            failure
                .detail
                .push_str(&format!(", with {} outstanding", self.pending.len()));
        }
        self.shared.report.failure(&failure);
        self.pending.clear();
        self.version = None;
        self.socket = None;
    }

    /// Closes the WebSocket with a closing handshake.
    async fn close(mut self) {
        let Some(mut socket) = self.socket.take() else {
            return;
        };
        let done = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let closing = async {
            socket.close(Some(done)).await?;
            while socket.next().await.transpose()?.is_some() {}
            Ok::<(), Error>(())
        };
        // No message is outstanding, so a failed closing handshake loses nothing.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }
}

async fn next(socket: &mut Option<Socket>) -> Option<Result<Message, Error>> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

async fn overdue(pending: &VecDeque<(String, Instant)>, timeout: Duration) {
    match pending.front() {
        Some((_, since)) => sleep_until(*since + timeout).await,
        None => std::future::pending().await,
    }
}

/// Without a rate, a message is due when the one before it has come back.
async fn due(ticks: &mut Option<Interval>, is_idle: bool) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None if is_idle => {}
        None => std::future::pending().await,
    }
}

async fn open(shared: &Shared, deadline: Deadline) -> Result<Socket, Failure> {
    let stream = timeout_at(
        deadline.at,
        connect(&shared.resolver, &shared.config.target),
    )
    .await
    .map_err(|_| deadline.missed(Cause::Connect, "no connection"))??;
    shared.report.opened();
    let request = handshake(&shared.config)?;
    let (socket, _) = timeout_at(deadline.at, client_async(request, stream))
        .await
        .map_err(|_| deadline.missed(Cause::Stall, "no response to the handshake"))?
        .map_err(|error| refused_by(&error))?;
    Ok(socket)
}

fn handshake(config: &Config) -> Result<Request<()>, Failure> {
    let mut headers = headers(config);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let invalid = |error: &dyn std::error::Error| Failure::from_error(Cause::Protocol, error);
    let key = generate_key()
        .parse()
        .map_err(|error| invalid(&error as &_))?;
    headers.insert(SEC_WEBSOCKET_KEY, key);
    let authority = config.target.host_header.as_bytes();
    let uri = Uri::builder()
        .scheme("ws")
        .authority(authority)
        .path_and_query(config.target.path.clone())
        .build()
        .map_err(|error| invalid(&error))?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Why a handshake failed.
fn refused_by(error: &Error) -> Failure {
    match error {
        Error::Http(response) if response.status().is_server_error() => Failure::new(
            Cause::Http5xx,
            format!("the response to the handshake was {}", response.status()),
        ),
        Error::Http(response) => Failure::new(
            Cause::Protocol,
            format!("the response to the handshake was {}", response.status()),
        ),
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            Failure::from_error(Cause::Reset, error)
        }
        _ => Failure::from_error(Cause::Protocol, error),
    }
}

/// Why an open WebSocket ended.
fn ended_by(error: &Error) -> Failure {
    let cause = match error {
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Cause::Cut,
        _ => Cause::Protocol,
    };
    Failure::from_error(cause, error)
}
