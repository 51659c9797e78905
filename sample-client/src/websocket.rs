//! A WebSocket on which messages are sent and expected back (RFC 6455).

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

/// How long a server may take over the end of a closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps one WebSocket open until the stop or until all messages are sent, then waits for those
/// that are still to come back. One that ends is counted, and opened anew for the next message.
pub(crate) async fn work(shared: Arc<Shared>, mut stop: Stop) {
    let mut ticks = shared.config.interval.map(interval);
    let mut line = Line {
        shared: &shared,
        socket: None,
        version: None,
        pending: VecDeque::new(),
    };
    let mut sending = true;
    while sending || !line.pending.is_empty() {
        let is_quiet = line.pending.is_empty();
        tokio::select! {
            biased;
            () = stop.wait(), if sending => sending = false,
            message = next(&mut line.socket) => line.receive(message).await,
            () = overdue(&line.pending, shared.config.timeout) => {
                let deadline = Deadline::after(shared.config.timeout);
                line.fail(deadline.missed(Cause::Stall, "no echo"));
            }
            () = due(&mut ticks, is_quiet), if sending => {
                if shared.schedule.take().is_none() {
                    sending = false;
                } else if !line.send().await && ticks.is_none() {
                    stop.or_pause(REFUSED_PAUSE).await;
                }
            }
        }
    }
    line.close().await;
}

/// A WebSocket, and the messages on their way.
struct Line<'a> {
    shared: &'a Shared,
    socket: Option<Socket>,
    /// What the server said first.
    version: Option<String>,
    /// Sent and not yet back, the oldest first.
    pending: VecDeque<(String, Instant)>,
}

impl Line<'_> {
    /// Sends one message, over a new WebSocket where there is none. Whether there is one now.
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
            Err(_) => self.fail(deadline.missed(Cause::Stall, "a message was not taken")),
        }
        true
    }

    async fn receive(&mut self, message: Option<Result<Message, Error>>) {
        match message {
            Some(Ok(Message::Text(text))) => self.receive_text(&text),
            // The socket itself answers pings as it is read.
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
                    // Sends the answer to it. A server that has left is no news.
                    let _ = timeout(CLOSE_TIMEOUT, socket.flush()).await;
                }
                self.fail(Failure::new(Cause::Closed, detail.trim_end()));
            }
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                self.fail(Failure::new(
                    Cause::Protocol,
                    "a message that was never sent",
                ));
            }
            Some(Err(error)) => self.fail(ended_by(&error)),
            None => self.fail(Failure::new(Cause::Cut, "the end without a Close frame")),
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
            _ => self.fail(Failure::new(
                Cause::Protocol,
                "a message that was never sent",
            )),
        }
    }

    /// Counts the end of this WebSocket, once, whatever was on its way.
    fn fail(&mut self, mut failure: Failure) {
        if !self.pending.is_empty() {
            failure
                .detail
                .push_str(&format!(", with {} sent and not back", self.pending.len()));
        }
        self.shared.report.failure(&failure);
        self.pending.clear();
        self.version = None;
        self.socket = None;
    }

    /// Says good-bye properly.
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
        // Nothing is on its way any more: how the server takes it changes nothing.
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

/// Without a pace, a message is due when the one before it is back.
async fn due(ticks: &mut Option<Interval>, is_quiet: bool) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None if is_quiet => {}
        None => std::future::pending().await,
    }
}

async fn open(shared: &Shared, deadline: Deadline) -> Result<Socket, Failure> {
    let stream = timeout_at(deadline.at, connect(&shared.names, &shared.config.target))
        .await
        .map_err(|_| deadline.missed(Cause::Connect, "no connection"))??;
    shared.report.opened();
    let request = handshake(&shared.config)?;
    let (socket, _) = timeout_at(deadline.at, client_async(request, stream))
        .await
        .map_err(|_| deadline.missed(Cause::Stall, "no answer to the handshake"))?
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
            format!("the handshake was answered {}", response.status()),
        ),
        Error::Http(response) => Failure::new(
            Cause::Protocol,
            format!("the handshake was answered {}", response.status()),
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
