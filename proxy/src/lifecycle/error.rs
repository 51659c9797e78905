//! Why the proxy does not run.

use crate::lifecycle::handover::HandoverError;

/// Why the proxy could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The services of the config file contradict each other.
    #[error("{0}")]
    Services(String),
    /// The process before did not hand over.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The sockets could not be kept for a successor.
    #[error("cannot keep the sockets for the next process: {0}")]
    Sockets(#[source] std::io::Error),
    /// Clients could not be listened for.
    #[error("cannot listen for clients: {0}")]
    Listen(#[source] std::io::Error),
    /// The access log could not be started.
    #[error("cannot start the access log: {0}")]
    AccessLog(#[source] std::io::Error),
    /// A worker could not be started.
    #[error("cannot start a worker thread: {0}")]
    Worker(#[source] std::io::Error),
}
