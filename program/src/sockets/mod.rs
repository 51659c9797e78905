//! Listening sockets that outlive the process that serves them: how they are opened, what they are
//! called, and how one process asks another for copies of its own.
//!
//! ```text
//!   who asks                          who has them
//!      │ ── Hello { copies } ────────────► │
//!      │ ◄─ labels, and a socket for each ─│   or why not
//!      │ ◄─ Active ─────────────────────── │   to a process that is to take its place
//! ```
//!
//! The first two messages are also those of a handover between two proxies, so that a proxy of any
//! release responds.

mod bind;
mod channel;
mod copies;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

pub use bind::{BACKLOG, Family, bind, open_all};
pub use channel::Channel;
pub use copies::{Active, FORMAT, Hello, copies_from, give_copies, serve_copies, stand_by};

/// What a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Who is served by it.
    pub role: Role,
    /// As the config file has it.
    pub configured: String,
    /// Where it listens, if that is an address.
    pub actual: Option<SocketAddr>,
    /// Its listener's name, where it has one: then nothing else counts. The same address may be
    /// meant in another network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Who is served by a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Clients.
    Clients,
    /// Callers of the admin API.
    Admin,
    /// A process that takes over.
    Handover,
}

/// A socket that was open before this process began, or that another has a copy of.
#[derive(Debug)]
pub struct Given {
    /// What it is.
    pub label: Label,
    /// The socket.
    pub fd: OwnedFd,
}
