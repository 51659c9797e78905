//! What the load generator is to do, and what it tells of each request.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::answer::Whole;

/// What is asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where.
    pub(crate) target: SocketAddr,
    /// How many connections.
    pub(crate) connections: usize,
    /// What is sent; each connection goes through them in turn.
    pub(crate) requests: Rc<[Vec<u8>]>,
    /// When.
    pub(crate) pace: Pace,
    /// A connection for each request: it closes after the answer, from the other side.
    pub(crate) reconnect: bool,
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
    Answered(Whole),
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
    NotUnderstood,
}

/// One request from beginning to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// When it should have been sent.
    pub(crate) due: Instant,
    /// When it was.
    pub(crate) sent: Instant,
    /// When its end was known.
    pub(crate) done: Instant,
    /// What became of it.
    pub(crate) outcome: Outcome,
}
