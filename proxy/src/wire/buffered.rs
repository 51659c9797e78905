//! Memory in which bodies wait for the slower side (`buffer`). It is counted for each worker, and for
//! each client of HTTP/2, whose streams share a connection. Where none is left, a body goes on as it
//! comes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::wire::Wire;
use crate::wire::gauges::BufferedBytes;
use crate::wire::h2::resets::Sharer;
use crate::wire::socket::Pool;

/// What all bodies of a worker may take.
const OF_WORKER: usize = 64 * 1024 * 1024;
/// What those of one client of HTTP/2 may take.
const OF_CLIENT: usize = 16 * 1024 * 1024;

/// What one body takes, until it is dropped.
pub(crate) struct Reserved {
    of_worker: Arc<BufferedBytes>,
    client: Option<Rc<Sharer>>,
    bytes: usize,
}

impl Reserved {
    /// Nothing yet, for the body of a request of this client, or of the response to it.
    pub(crate) fn new(pool: &Pool, client: Wire<'_>) -> Self {
        Self {
            of_worker: pool.buffered.clone(),
            client: client.sharer().cloned(),
            bytes: 0,
        }
    }

    /// Takes so many bytes in all. Gives whether there are as many.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let bodies = &self.of_worker.bodies;
        let of_worker = bodies.get() + more;
        let buffered = self.client.as_ref().map(|client| &client.buffered);
        let of_client = buffered.map_or(0, Cell::get) + more;
        if more > 0 && (of_worker > OF_WORKER || buffered.is_some() && of_client > OF_CLIENT) {
            return false;
        }
        bodies.set(of_worker);
        if let Some(buffered) = buffered {
            buffered.set(of_client);
        }
        self.bytes += more;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.of_worker.bodies.subtract(self.bytes);
        if let Some(client) = &self.client {
            client.buffered.set(client.buffered.get() - self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h2::backlog::Backlog;

    fn reserved(pool: &Pool, client: Option<&Rc<Sharer>>) -> Reserved {
        let mut reserved = Reserved::new(pool, Wire::Nowhere);
        reserved.client = client.cloned();
        reserved
    }

    #[test]
    fn a_worker_and_each_client_of_http2_have_their_budgets() {
        let pool = Pool::default();
        let client = || Sharer::new(Backlog::new(Rc::default()));
        let one = client();
        let (mut first, mut second) = (reserved(&pool, Some(&one)), reserved(&pool, Some(&one)));
        assert!(first.cover(OF_CLIENT - 10) && second.cover(10));
        assert!(!second.cover(11), "its client has no more");
        assert!(first.cover(5), "it has as much already");
        let mut other = reserved(&pool, None);
        assert!(other.cover(OF_WORKER - OF_CLIENT));
        assert!(!other.cover(OF_WORKER - OF_CLIENT + 1));
        let mut last = reserved(&pool, Some(&client()));
        assert!(!last.cover(1), "the worker has no more");
        drop((first, other));
        assert!(last.cover(OF_CLIENT) && second.cover(11));
        drop((second, last));
        assert_eq!((pool.buffered.bodies.get(), one.buffered.get()), (0, 0));
    }
}
