//! What the control thread tells workers.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::table::counts::age::Ages;
use crate::table::counts::claim::Kind;
use crate::table::endpoint_id::EndpointId;
use crate::wire::listener_id::ListenerId;

/// What the control thread tells a worker.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// The endpoint is retired: close the idle connections to it.
    Retire(EndpointId),
    /// The endpoint has become silent: wake what waits for its response.
    Silent(EndpointId),
    /// The endpoint's drain has no more time for what it has of this kind: cut it.
    Cut { endpoint: EndpointId, kind: Kind },
    /// Say how old the oldest is that is in flight at these endpoints, and hang up.
    Ages {
        endpoints: Arc<[EndpointId]>,
        to: mpsc::UnboundedSender<(EndpointId, Ages)>,
    },
    /// Finish now, whatever is open.
    End,
}

/// The way to every worker.
#[derive(Debug, Clone)]
pub(crate) struct Orders(Arc<[mpsc::UnboundedSender<Order>]>);

impl Orders {
    /// The way to so many workers, and where each of them hears.
    pub(crate) fn to(workers: usize) -> (Self, Vec<mpsc::UnboundedReceiver<Order>>) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        (Self(senders.into()), receivers)
    }

    /// Sends an order to every worker.
    pub(crate) fn teller(&self) -> impl Fn(Order) + Send + Sync + 'static {
        let orders = self.clone();
        move |order| orders.send(&order)
    }

    /// Tells every worker.
    pub(crate) fn send(&self, order: &Order) {
        for sender in &*self.0 {
            // A worker that has ended has nothing left to be told about.
            let _ = sender.send(order.clone());
        }
    }
}

/// How far the process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShutdownPhase {
    Serving,
    /// Another process accepts connections on these listeners; on others no process does. On the
    /// connections that are open, the next response is the last.
    Leaving(Arc<[ListenerId]>),
    /// Connections that are idle are closed.
    Stopping,
}

/// A stage without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PhaseName {
    Serving,
    Leaving,
    Stopping,
}

impl From<&ShutdownPhase> for PhaseName {
    fn from(shutdown_phase: &ShutdownPhase) -> Self {
        match shutdown_phase {
            ShutdownPhase::Serving => Self::Serving,
            ShutdownPhase::Leaving(_) => Self::Leaving,
            ShutdownPhase::Stopping => Self::Stopping,
        }
    }
}
