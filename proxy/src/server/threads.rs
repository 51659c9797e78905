//! The threads of the workers.

use std::io;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::server::accept::{self, Setup, Shared};
use crate::server::listeners::Bound;
use crate::worker::order::Order;

/// The threads, until all have ended.
pub(crate) struct Threads(Vec<oneshot::Receiver<io::Result<()>>>);

impl Threads {
    /// Starts a thread for each worker, with its own sockets, and where it hears orders.
    pub(crate) fn start(
        listeners: Vec<Vec<Bound>>,
        orders: Vec<mpsc::UnboundedReceiver<Order>>,
        shared: &Shared,
    ) -> io::Result<Self> {
        let each = listeners.into_iter().zip(orders).enumerate();
        let started = each.map(|(index, (listeners, orders))| {
            start(Setup {
                index,
                listeners,
                orders,
                shared: shared.clone(),
            })
        });
        started.collect::<io::Result<_>>().map(Self)
    }

    /// Waits until every worker has ended, or one has failed.
    pub(crate) async fn ended(self) -> io::Result<()> {
        let mut threads: JoinSet<_> = self.0.into_iter().collect();
        while let Some(ended) = threads.join_next().await {
            let panicked = |_| Err(io::Error::other("it panicked"));
            ended.map_or_else(|_| Ok(()), |thread| thread.unwrap_or_else(panicked))?;
        }
        Ok(())
    }
}

/// Starts a worker's thread. The receiver hears when it has ended, and how.
fn start(setup: Setup) -> io::Result<oneshot::Receiver<io::Result<()>>> {
    let (ended, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("worker-{}", setup.index))
        .spawn(move || {
            // No task waits any more: the whole process is about to end.
            let _ = ended.send(accept::run(setup));
        })?;
    Ok(receiver)
}
