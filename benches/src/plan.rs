//! What the load generator is to do, and what it tells of each request.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::h2::Blocks;
use crate::response::Response;

/// What is asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where.
    pub(crate) target: SocketAddr,
    /// How many connections.
    pub(crate) connections: usize,
    /// What is asked.
    pub(crate) requests: Requests,
    /// How it is encrypted, if it is.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// When.
    pub(crate) pace: Pace,
    /// A connection for each request: it closes after the answer, from the other side.
    pub(crate) reconnect: bool,
}

/// What is asked, in the words of a protocol.
#[derive(Debug, Clone)]
pub(crate) enum Requests {
    /// Each connection goes through these requests in turn.
    Http1(Rc<[Vec<u8>]>),
    /// Always the same, on so many streams of each connection at once.
    Http2 {
        /// The header blocks.
        blocks: Rc<Blocks>,
        /// Streams of each connection.
        streams: usize,
    },
}

impl Requests {
    /// A connection carries several requests at once.
    pub(crate) const fn is_multiplexed(&self) -> bool {
        matches!(self, Self::Http2 { .. })
    }
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each connection sends its next when it has its answer.
    Closed,
    /// So many a second.
    Rate(f64),
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// After this time.
    After(Duration),
    /// After so many answers and failures.
    Requests(u64),
}

/// What became of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// It was answered.
    Response(Response),
    /// It was not.
    Failed(Failure),
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection could be made.
    Connect,
    /// The connection closed with nothing of the answer come. `reused`: an earlier request on it
    /// was answered, so that a careful client may try again.
    Closed {
        /// It had served before.
        reused: bool,
    },
    /// The connection closed in the middle of the answer.
    Cut,
    /// What came is no answer.
    Malformed,
}

/// One request from beginning to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    /// When it should have been sent.
    pub(crate) due: Instant,
    /// When it was.
    pub(crate) sent: Instant,
    /// When its end was known.
    pub(crate) done: Instant,
    /// What became of it.
    pub(crate) outcome: Outcome,
}
