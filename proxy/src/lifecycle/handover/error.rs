//! Why a process could not take over.

use std::io;
use std::path::PathBuf;

/// Why a process could not take over from the one before.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The socket is there and cannot be used.
    #[error("handover.socket: {path}: {source}", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The predecessor does not want to be taken over from.
    #[error("the running proxy does not hand over: {0}")]
    Refused(String),
    /// It broke off on the way.
    #[error("the running proxy did not hand over, and continues to serve: {0}")]
    Broken(#[source] io::Error),
    /// A standby could not tell the death of the process that serves from a handover.
    #[error(
        "handover.socket: {socket}: the process that serves holds no lock on {socket}.lock, so that a \
         standby cannot know when it has ended: is the folder on a file system without locks?",
        socket = socket.display()
    )]
    Unlocked {
        /// The socket.
        socket: PathBuf,
    },
    /// What it has cannot be taken over.
    #[error("the running proxy's state cannot be taken over: {0}")]
    Table(String),
}
