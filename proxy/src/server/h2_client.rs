//! What the streams of one client's connection share: who it is, how many are open, and how many
//! it may still give up.

use std::cell::Cell;
use std::rc::Rc;

use crate::wire::peer::Peer;

/// Requests that a client may give up beyond those that it lets finish (CVE-2023-44487):
/// each takes one, each response gives one back.
const RESET_BUDGET: u32 = 200;

/// What the streams of a connection share.
pub(super) struct H2Client {
    peer: Peer,
    open: Cell<usize>,
    reset_budget: Cell<u32>,
}

/// A stream that is open, until it is dropped.
pub(super) struct Open(Rc<H2Client>);

impl H2Client {
    pub(super) fn new(peer: Peer) -> Rc<Self> {
        Rc::new(Self {
            peer,
            open: Cell::new(0),
            reset_budget: Cell::new(RESET_BUDGET),
        })
    }

    /// A stream begins.
    pub(super) fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(self.clone())
    }

    /// Whether no stream is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0
    }

    /// Whether it has given up more requests than it may.
    pub(super) fn has_no_reset_budget(&self) -> bool {
        self.reset_budget.get() == 0
    }
}

impl Open {
    pub(super) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// How the stream ended: whether the client let it finish.
    pub(super) fn ended(&self, completed: bool) {
        let reset_budget = self.0.reset_budget.get();
        self.0.reset_budget.set(if completed {
            RESET_BUDGET.min(reset_budget + 1)
        } else {
            reset_budget.saturating_sub(1)
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}
