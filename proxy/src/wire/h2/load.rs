//! What the streams of one connection to an endpoint share: how many there are, and how many may
//! still be reset. Past that, a request that is given up goes on without its client, and what comes
//! of it is forgotten: other clients' requests are on the same connection, which an endpoint ends
//! where there are too many resets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;

use crate::wire::timer::Millis;

/// Streams that may be reset at once, and how many more each second: half of what the endpoint takes
/// that is strictest of those known (nghttp2, and so Node: 1,000 and 33).
const RESETS: u32 = 500;
const RESETS_PER_SECOND: u32 = 16;
/// With so many streams that are to be reset later, or with a quarter of those that the endpoint
/// takes, a connection gets no new ones.
const MAX_GIVEN_UP: usize = 100;

/// How many streams of a connection are in use.
pub(crate) struct Load {
    pub(crate) streams: Cell<usize>,
    /// Whether one was begun since that was looked at last.
    pub(crate) was_used: Cell<bool>,
    /// When it was looked at last and was in use.
    pub(crate) used_at: Cell<Millis>,
    /// How many may be reset.
    resets: Cell<u32>,
    /// Only one client is on it, which can take nothing from others.
    is_apart: bool,
    given_up: RefCell<VecDeque<GivenUp>>,
    /// How many those may be.
    max_given_up: Cell<usize>,
}

/// A stream's place in its connection, until it is dropped.
pub(crate) struct StreamSlot(pub(super) Rc<Load>);

/// A stream whose request was given up, and which is not reset yet. While this is here, it is not; and
/// it is in use.
struct GivenUp {
    _send: SendStream<Bytes>,
    /// Where no response has come yet. What comes is kept until it is looked at.
    response: Option<ResponseFuture>,
}

impl Load {
    /// Of a connection that is used by one client alone, or by all.
    pub(super) fn new(is_apart: bool) -> Rc<Self> {
        Rc::new(Self {
            streams: Cell::new(0),
            was_used: Cell::new(false),
            used_at: Cell::new(0),
            resets: Cell::new(RESETS),
            is_apart,
            given_up: RefCell::default(),
            max_given_up: Cell::new(MAX_GIVEN_UP),
        })
    }

    /// A stream begins.
    pub(super) fn slot(self: &Rc<Self>) -> StreamSlot {
        self.streams.set(self.streams.get() + 1);
        self.was_used.set(true);
        StreamSlot(self.clone())
    }

    /// Whether too many streams are to be reset later, of so many that the endpoint takes.
    pub(super) fn is_spent(&self, most: usize) -> bool {
        self.max_given_up.set((most / 4).clamp(1, MAX_GIVEN_UP));
        self.given_up.borrow().len() >= self.max_given_up.get()
    }

    /// Whether any stream is to be reset later.
    pub(super) fn has_given_up(&self) -> bool {
        !self.given_up.borrow().is_empty()
    }

    /// Whether any stream is in use that was not given up.
    pub(super) fn has_others(&self) -> bool {
        self.streams.get() > self.given_up.borrow().len()
    }

    /// Whether a stream may be reset now. Where far too many are to be reset later, there is no more
    /// to be saved.
    pub(super) fn may_reset(&self) -> bool {
        if self.is_apart || self.given_up.borrow().len() >= 2 * self.max_given_up.get() {
            return true;
        }
        let resets = self.resets.get();
        self.resets.set(resets.saturating_sub(1));
        resets > 0
    }

    /// Has a stream reset when there may be a further reset.
    pub(super) fn reset_later(&self, send: SendStream<Bytes>, response: Option<ResponseFuture>) {
        self.streams.set(self.streams.get() + 1);
        let given_up = GivenUp {
            _send: send,
            response,
        };
        self.given_up.borrow_mut().push_back(given_up);
    }

    /// To be called once a second: resets streams that were given up before.
    pub(super) fn refill(&self) {
        let mut given_up = self.given_up.borrow_mut();
        let resets = self.resets.get() + RESETS_PER_SECOND;
        let count = given_up.len().min(resets as usize);
        self.streams.set(self.streams.get() - count);
        given_up.drain(..count).for_each(drop);
        self.resets.set(RESETS.min(resets - count as u32));
        for stream in given_up.iter_mut() {
            stream.forget_response();
        }
    }
}

impl GivenUp {
    /// Forgets what has come of it, and what will.
    fn forget_response(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let response = self.response.as_mut().map(|response| {
            // The body goes with it, and is not kept when more of it comes.
            std::pin::Pin::new(response).poll(&mut cx)
        });
        if matches!(response, Some(Poll::Ready(_))) {
            self.response = None;
        }
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}
