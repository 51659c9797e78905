//! What the streams of one client's connection share: who it is, how many are open, and how many
//! it may still give up.

use std::cell::Cell;
use std::rc::Rc;

use crate::wire::h2::backlog::Backlog;
use crate::wire::h2::resets::{ResetBudget, Sharer};
use crate::wire::peer::Peer;
use crate::wire::timer::Millis;

/// Requests that a client may give up without a response, beyond those that it lets finish
/// (CVE-2023-44487): each takes one, each response gives one back.
const GIVEN_UP: u32 = 200;
/// How many more each second.
const GIVEN_UP_PER_SECOND: u32 = 50;
/// How far beyond that it may go, before it is told to go.
const OVERDRAFT: i64 = 100;

/// What the streams of a connection share.
pub(super) struct H2Client {
    peer: Peer,
    open: Cell<usize>,
    given_up: ResetBudget,
    sharer: Rc<Sharer>,
}

/// A stream that is open, until it is dropped.
pub(super) struct Open(Rc<H2Client>);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client let it finish.
    Completed,
    /// The client gave it up, after its response had begun.
    CutShort,
    /// The client gave it up before: what was done for it was for nothing.
    GivenUp,
}

/// What a client may do that gives up requests, or does not take its responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Whatever it likes.
    Full,
    /// Its next requests wait.
    Slowed,
    /// It has to go, once what it has under way is over.
    Leaving,
    /// It has to go at once.
    Ended,
}

impl H2Client {
    pub(super) fn new(peer: Peer, backlog: Backlog) -> Rc<Self> {
        Rc::new(Self {
            peer,
            open: Cell::new(0),
            given_up: ResetBudget::new(GIVEN_UP, GIVEN_UP_PER_SECOND),
            sharer: Sharer::new(backlog),
        })
    }

    /// A stream begins.
    pub(super) fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(self.clone())
    }

    /// What it does not take of its responses.
    pub(super) fn backlog(&self) -> &Backlog {
        self.sharer.backlog()
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.open.get()
    }

    /// What it may do while so many of its requests are served.
    pub(super) fn allowance(&self, now: Millis, served: usize) -> Allowance {
        match self.given_up.left(now) {
            1.. if served >= self.backlog().at_once() => Allowance::Slowed,
            1.. => Allowance::Full,
            left if left > -OVERDRAFT => Allowance::Slowed,
            left if left > -2 * OVERDRAFT => Allowance::Leaving,
            _ => Allowance::Ended,
        }
    }
}

impl Open {
    pub(super) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub(super) fn sharer(&self) -> Rc<Sharer> {
        self.0.sharer.clone()
    }

    /// Takes note of how the stream ended.
    pub(super) fn ended(&self, ended: Ended, now: Millis) {
        let H2Client {
            given_up, sharer, ..
        } = &*self.0;
        match ended {
            Ended::Completed => return given_up.give(),
            Ended::CutShort => {}
            Ended::GivenUp => given_up.take(now),
        }
        sharer.gave_up(now);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
