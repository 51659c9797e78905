//! What clients do not take: responses that wait in memory for room in their clients' windows. It is
//! counted, for each client and for each worker. Where it is much, only little is read ahead, each
//! connection has only few requests served at once, and responses are broken off of which nothing is
//! taken for a while. Where it is too much, those are that come to wait then, but of a client that has
//! none waiting.
//!
//! Slow clients take something at once, since a stream begins with a window (64 KiB by default). So
//! responses of which hardly anything was ever taken are counted apart, and much of them is less.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::wire::gauges::BufferedBytes;

/// What all clients of a worker may have waiting.
const OF_WORKER: usize = 64 * 1024 * 1024;
/// With what the worker is pressed.
const MUCH: usize = 16 * 1024 * 1024;
/// Requests that a connection has served at once from then on.
pub(crate) const FEW: usize = 8;
/// The same of responses of which less than this was taken.
const MUCH_UNTOUCHED: usize = 2 * 1024 * 1024;
const TOUCHED: usize = 16 * 1024;
/// From where on of those a connection has one request served after the other.
const VERY_MUCH_UNTOUCHED: usize = 4 * 1024 * 1024;
/// What all clients of a worker may have waiting of those.
const UNTOUCHED: usize = 8 * 1024 * 1024;
/// What one client may have waiting.
const OF_CLIENT: usize = 4 * 1024 * 1024;
/// What a client may have waiting, however much others have.
const OF_ANY: usize = 16 * 1024;
/// From where on only little of a client's responses is read ahead.
const READ_LITTLE: usize = 256 * 1024;
/// What a stream costs beside the bytes that wait.
const STREAM: usize = 8 * 1024;
/// What a request costs that waits for its turn.
const REQUEST: usize = 2 * 1024;
/// What such requests of a worker may cost, before clients lose theirs that take nothing; and in all.
const REQUESTS: usize = 1024 * 1024;
const ALL_REQUESTS: usize = 2 * REQUESTS;

/// What waits for one client.
#[derive(Debug)]
pub(crate) struct Backlog {
    of_client: Cell<usize>,
    /// How often a response went on that had waited.
    moves: Cell<u64>,
    of_worker: Rc<OfWorker>,
}

/// What waits for all clients of a worker.
#[derive(Debug, Default)]
pub(crate) struct OfWorker {
    buffered: Arc<BufferedBytes>,
    /// Of the responses, those of which hardly anything was taken.
    untouched: Cell<usize>,
}

impl OfWorker {
    /// With what counts the memory of the worker.
    pub(crate) fn new(buffered: Arc<BufferedBytes>) -> Rc<Self> {
        Rc::new(Self {
            buffered,
            untouched: Cell::new(0),
        })
    }
}

/// A response that waits: what is counted for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waits {
    bytes: usize,
    is_untouched: bool,
}

impl Waits {
    pub(super) fn is_any(self) -> bool {
        self.bytes > 0
    }
}

/// A request that waits for its turn is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Queued(Rc<OfWorker>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.buffered.requests.subtract(REQUEST);
    }
}

impl Backlog {
    pub(crate) fn new(of_worker: Rc<OfWorker>) -> Self {
        Self {
            of_client: Cell::new(0),
            moves: Cell::new(0),
            of_worker,
        }
    }

    /// A request begins to wait for its turn; `None`: too many do.
    pub(crate) fn queue(&self) -> Option<Queued> {
        let requests = &self.of_worker.buffered.requests;
        (requests.get() + REQUEST <= ALL_REQUESTS).then(|| {
            requests.add(REQUEST);
            Queued(self.of_worker.clone())
        })
    }

    /// Whether requests of clients that take nothing of their responses are not to wait.
    pub(crate) fn has_many_requests(&self) -> bool {
        self.of_worker.buffered.requests.get() > REQUESTS
    }

    /// How often a response of the client went on that had waited; `None`: none waits.
    pub(crate) fn moves(&self) -> Option<u64> {
        (self.of_client.get() > 0).then(|| self.moves.get())
    }

    /// How many requests of the client may be served at once.
    pub(crate) fn at_once(&self) -> usize {
        if self.of_worker.untouched.get() > VERY_MUCH_UNTOUCHED {
            1
        } else if self.is_pressed() {
            FEW
        } else {
            usize::MAX
        }
    }

    /// A stream begins to wait with so many bytes, of whose response so many were taken. Gives what is
    /// to be taken off when it goes on; `None`: it is too much.
    pub(super) fn add(&self, bytes: usize, taken: usize) -> Option<Waits> {
        let bytes = bytes + STREAM;
        let of_client = self.of_client.get() + bytes;
        let responses = &self.of_worker.buffered.responses;
        let of_worker = responses.get() + bytes;
        let is_untouched = taken < TOUCHED;
        let untouched = self.of_worker.untouched.get() + bytes;
        let is_too_much = of_worker > OF_WORKER || is_untouched && untouched > UNTOUCHED;
        if of_client > OF_CLIENT || is_too_much && of_client > OF_ANY.max(bytes) {
            return None;
        }
        self.of_client.set(of_client);
        responses.set(of_worker);
        if is_untouched {
            self.of_worker.untouched.set(untouched);
        }
        Some(Waits {
            bytes,
            is_untouched,
        })
    }

    pub(super) fn take_off(&self, waits: Waits) {
        let bytes = waits.bytes;
        if waits.is_untouched {
            let untouched = &self.of_worker.untouched;
            untouched.set(untouched.get() - bytes);
        }
        self.moves.set(self.moves.get() + 1);
        self.of_client.set(self.of_client.get() - bytes);
        self.of_worker.buffered.responses.subtract(bytes);
    }

    /// Whether only little is to be read ahead for it.
    pub(super) fn is_long(&self) -> bool {
        self.of_client.get() > READ_LITTLE || self.is_pressed()
    }

    /// Whether the worker has much waiting.
    pub(crate) fn is_pressed(&self) -> bool {
        let of_worker = &self.of_worker;
        of_worker.buffered.responses.get() > MUCH || of_worker.untouched.get() > MUCH_UNTOUCHED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_and_each_client_have_their_budgets_and_a_client_with_nothing_has_its_turn() {
        let of_worker = Rc::<OfWorker>::default();
        let client = || Backlog::new(of_worker.clone());
        let (one, last) = (client(), client());
        let mut added = Vec::new();
        while let Some(bytes) = one.add(32 * 1024, TOUCHED) {
            added.push(bytes);
        }
        assert_eq!(added.len(), OF_CLIENT / (40 * 1024));
        assert!(one.is_long() && !last.is_long());
        let others: Vec<_> = (0..OF_WORKER / OF_CLIENT).map(|_| client()).collect();
        for other in &others {
            while other.add(8 * 1024, TOUCHED).is_some() {}
        }
        assert!(of_worker.buffered.responses.get() > OF_WORKER - 16 * 1024);
        assert!(last.is_long(), "the worker has much");
        assert!(last.add(32 * 1024, TOUCHED).is_some(), "it has nothing yet");
        assert!(last.add(0, TOUCHED).is_none());
        for waits in added {
            one.take_off(waits);
        }
        assert_eq!(one.of_client.get(), 0);
        assert!(last.add(0, TOUCHED).is_some());
    }

    #[test]
    fn what_is_hardly_touched_has_a_smaller_budget() {
        let of_worker = Rc::<OfWorker>::default();
        let client = || Backlog::new(of_worker.clone());
        while client().add(8 * 1024, TOUCHED - 1).is_some() && of_worker.untouched.get() < UNTOUCHED
        {
        }
        let (one, other) = (client(), client());
        let first = one.add(8 * 1024, 0).expect("it has nothing yet");
        assert!(one.add(8 * 1024, 0).is_none());
        assert!(other.add(8 * 1024, TOUCHED).is_some());
        assert!(other.add(8 * 1024, TOUCHED).is_some(), "it takes something");
        let before = of_worker.untouched.get();
        one.take_off(first);
        assert_eq!(of_worker.untouched.get(), before - 8 * 1024 - STREAM);
    }

    #[test]
    fn the_more_waits_the_fewer_requests_of_a_client_are_served_at_once() {
        let of_worker = Rc::<OfWorker>::default();
        let client = Backlog::new(of_worker.clone());
        for (waits, untouched, want) in [
            (0, 0, usize::MAX),
            (MUCH, MUCH_UNTOUCHED, usize::MAX),
            (MUCH + 1, 0, FEW),
            (OF_WORKER, 0, FEW),
            (MUCH, MUCH_UNTOUCHED + 1, FEW),
            (MUCH, VERY_MUCH_UNTOUCHED, FEW),
            (MUCH, VERY_MUCH_UNTOUCHED + 1, 1),
        ] {
            of_worker.buffered.responses.set(waits);
            of_worker.untouched.set(untouched);
            let at_once = client.at_once();
            assert_eq!(
                at_once, want,
                "{waits} bytes wait, {untouched} of them untouched"
            );
        }
    }

    #[test]
    fn so_many_requests_wait_for_their_turn_and_no_more() {
        let client = Backlog::new(Rc::default());
        let mut queued: Vec<_> = std::iter::from_fn(|| client.queue()).collect();
        assert_eq!(queued.len(), ALL_REQUESTS / REQUEST);
        assert!(client.has_many_requests());
        queued.pop();
        assert!(client.queue().is_some());
        queued.truncate(REQUESTS / REQUEST);
        assert!(!client.has_many_requests());
    }
}
