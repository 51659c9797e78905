//! A client with one connection: sends a request, and says exactly what was wrong with the response.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::request::Request;
use super::websocket;
use super::wire::{ResponseHead, Wire};
use super::witness::{Failure, Finding};

/// A response is given up after this; it counted as late long before.
const GIVE_UP: Duration = Duration::from_secs(15);
/// A response is late after this, beside the time that its request asked for.
const LATE: Duration = Duration::from_secs(1);

/// The text of a finding about a good response that says it is its connection's last.
pub(super) const WITH_THE_RESPONSE: &str = "with the response";

/// A client, and its connection while it has one.
pub(super) struct Client {
    target: SocketAddr,
    wire: Option<Wire>,
}

/// A good response.
#[derive(Debug, Clone, Copy)]
pub struct GoodResponse {
    /// To what.
    pub request: Request,
    /// The origin that it came from.
    pub endpoint: u32,
    /// When the request was sent, with its connection open.
    pub sent: Instant,
    /// When the response was there.
    pub done: Instant,
}

/// What was wrong, before it is known when.
struct Wrong {
    failure: Failure,
    endpoint: Option<u32>,
    detail: String,
}

impl Client {
    pub(super) fn new(target: SocketAddr) -> Self {
        Self { target, wire: None }
    }

    /// Sends a request and checks its response to the last byte. `close`: the last one on its
    /// connection. After a failure the next request has a new connection.
    pub(super) async fn exchange(
        &mut self,
        request: Request,
        close: bool,
    ) -> Result<GoodResponse, Finding> {
        let mut sent = Instant::now();
        let exchange = async {
            let mut wire = self.connected().await?;
            sent = Instant::now();
            let (endpoint, keep) = converse(&mut wire, request, close).await?;
            self.wire = keep.then_some(wire);
            Ok(endpoint)
        };
        let outcome = tokio::time::timeout(GIVE_UP, exchange).await;
        let done = Instant::now();
        let late = done.duration_since(sent) > request.pause() + LATE;
        let wrong = match outcome {
            Ok(Ok(endpoint)) if late => Wrong::at(endpoint, Failure::Stalled, ""),
            Ok(Ok(endpoint)) => {
                return Ok(GoodResponse {
                    request,
                    endpoint,
                    sent,
                    done,
                });
            }
            Ok(Err(wrong)) => wrong,
            Err(_) => Wrong::of(Failure::Stalled, "and given up"),
        };
        Err(Finding {
            failure: wrong.failure,
            request: Some(request),
            endpoint: wrong.endpoint,
            sent,
            at: done,
            detail: wrong.detail,
        })
    }

    /// Closes its connection.
    pub(super) fn hang_up(&mut self) {
        self.wire = None;
    }

    async fn connected(&mut self) -> Result<Wire, Wrong> {
        if let Some(wire) = self.wire.take() {
            return Ok(wire);
        }
        let stream = TcpStream::connect(self.target).await;
        stream
            .and_then(Wire::new)
            .map_err(|error| Wrong::of(Failure::Refused, error.to_string()))
    }

    /// Waits, with its connection idle, until the proxy does something on it. It never should.
    pub(super) async fn disturbed(&mut self) -> Finding {
        let now = Instant::now();
        let Some(wire) = &mut self.wire else {
            return std::future::pending().await;
        };
        let bytes = wire.unasked().await;
        self.wire = None;
        Finding {
            failure: if bytes == 0 {
                Failure::Closed
            } else {
                Failure::Unasked
            },
            request: None,
            endpoint: None,
            sent: now,
            at: Instant::now(),
            detail: format!("{bytes} bytes"),
        }
    }

    /// Opens a WebSocket. Gives the origin at its other end.
    pub(super) async fn upgrade(&mut self, request: Request) -> Result<(Wire, u32), Finding> {
        let sent = Instant::now();
        let exchange = async {
            let mut wire = self.connected().await?;
            let opened = websocket::request(&request.path());
            let head = send(&mut wire, &opened).await?;
            match head.endpoint {
                Some(endpoint) if head.status == 101 => Ok((wire, endpoint)),
                _ => Err(Wrong::of(Failure::WebSocket, format!("{head:?}"))),
            }
        };
        let opened = tokio::time::timeout(GIVE_UP, exchange).await;
        let opened = opened.unwrap_or_else(|_| Err(Wrong::of(Failure::Stalled, "and given up")));
        opened.map_err(|wrong| Finding {
            failure: wrong.failure,
            request: Some(request),
            endpoint: wrong.endpoint,
            sent,
            at: Instant::now(),
            detail: wrong.detail,
        })
    }
}

/// Sends a message on an open WebSocket, and waits for its echo.
pub(super) async fn echo(wire: &mut Wire, text: &str) -> Result<(), String> {
    let exchange = async {
        wire.send(&websocket::masked(text)).await?;
        websocket::payload(wire).await
    };
    match tokio::time::timeout(LATE, exchange).await {
        Ok(Ok(payload)) if payload == text.as_bytes() => Ok(()),
        Ok(Ok(payload)) => Err(format!("{}, not {text}", payload.escape_ascii())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no echo within {LATE:?}")),
    }
}

/// The whole exchange on an open connection. Gives the origin that responded, and whether the
/// connection can be used again.
async fn converse(wire: &mut Wire, request: Request, close: bool) -> Result<(u32, bool), Wrong> {
    let head = send(wire, &request.bytes(close)).await?;
    let wrong = |failure, detail: String| Wrong {
        failure,
        endpoint: head.endpoint,
        detail,
    };
    let body = wire.body(head.length).await;
    let body = body.map_err(|error| wrong(Failure::Cut, error.to_string()))?;
    if head.status != 200 {
        let reason = head.reason.as_deref().unwrap_or("(by the origin)");
        return Err(wrong(Failure::Status, format!("{} {reason}", head.status)));
    }
    if body != request.response() {
        return Err(wrong(Failure::WrongBody, beginning(&body)));
    }
    let Some(endpoint) = head.endpoint else {
        return Err(wrong(Failure::WrongBody, "from no origin".into()));
    };
    if head.close && !close {
        return Err(wrong(Failure::Closed, WITH_THE_RESPONSE.into()));
    }
    if close {
        let bytes = wire.unasked().await;
        if bytes > 0 {
            return Err(wrong(Failure::Unasked, format!("{bytes} bytes")));
        }
    }
    Ok((endpoint, !close))
}

/// Sends bytes, and waits for the head of the response.
async fn send(wire: &mut Wire, bytes: &[u8]) -> Result<ResponseHead, Wrong> {
    let reset = |error: io::Error| Wrong::of(Failure::Reset, error.to_string());
    // A response may be there though its request was not taken whole.
    let sent = wire.send(bytes).await;
    let head = match wire.head().await {
        Ok(Some(head)) => head,
        Ok(None) => return Err(Wrong::of(Failure::Reset, "closed")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Wrong::of(Failure::Cut, "in its head"));
        }
        Err(error) => return Err(reset(sent.err().unwrap_or(error))),
    };
    ResponseHead::parse(&head).map_err(|error| Wrong::of(Failure::WrongBody, error.to_string()))
}

fn beginning(body: &Bytes) -> String {
    let first = &body[..body.len().min(40)];
    format!("{} bytes, `{}`", body.len(), first.escape_ascii())
}

impl Wrong {
    fn of(failure: Failure, detail: impl Into<String>) -> Self {
        Self {
            failure,
            endpoint: None,
            detail: detail.into(),
        }
    }

    fn at(endpoint: u32, failure: Failure, detail: &str) -> Self {
        Self {
            endpoint: Some(endpoint),
            ..Self::of(failure, detail)
        }
    }
}
