//! The plan of a load, and the records of its requests.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::h2::Blocks;
use crate::response::Response;

/// What the load generator does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The address to connect to.
    pub(crate) target: SocketAddr,
    /// The number of connections.
    pub(crate) connections: usize,
    /// The requests.
    pub(crate) requests: Requests,
    /// Bytes of body that follow each of them, over HTTP/1.1.
    pub(crate) upload: u64,
    /// TLS, if it is used.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The pace of requests.
    pub(crate) pace: Pace,
    /// When connections close.
    pub(crate) closing: Closing,
}

/// When a connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// At the end of the load.
    Never,
    /// The other side closes it after each response.
    ByServer,
    /// The load generator closes it after each response.
    ByClient,
}

/// The requests, by protocol.
#[derive(Debug, Clone)]
pub(crate) enum Requests {
    /// Each connection sends these requests in turn.
    Http1(Rc<[Vec<u8>]>),
    /// The same request on several streams of each connection at once.
    Http2 {
        /// The header blocks.
        blocks: Rc<Blocks>,
        /// The number of streams on each connection.
        streams: usize,
    },
}

impl Requests {
    /// Whether a connection carries several requests at once.
    pub(crate) const fn is_multiplexed(&self) -> bool {
        matches!(self, Self::Http2 { .. })
    }
}

/// When requests are sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pace {
    /// Each connection sends its next request when the response is complete.
    Closed,
    /// This many requests a second.
    Rate(f64),
    /// Each connection waits between a response and its next request. The times belong to the
    /// requests, and precede them.
    Think(Rc<[Duration]>),
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// After this time.
    After(Duration),
    /// After this many responses and failures.
    Requests(u64),
    /// After this many requests: no more are sent.
    Exactly(u64),
}

/// The result of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// A complete response.
    Response(Response),
    /// No complete response.
    Failed(Failure),
}

/// Why a request has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection could not be opened.
    Connect,
    /// The connection closed before the first byte of the response.
    Closed {
        /// An earlier request on the connection had a response, so a careful client may retry.
        reused: bool,
    },
    /// The connection closed within the response.
    Cut,
    /// The bytes received are no valid response.
    Malformed,
}

/// The record of one request and its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    /// When it was due.
    pub(crate) due: Instant,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When it completed or failed.
    pub(crate) done: Instant,
    /// Its result.
    pub(crate) outcome: Outcome,
}
