//! HTTP/1.1 (RFC 9112), our own: what most requests between clients, proxy and containers speak.
//!
//! [`head`] reads heads and [`body`] finds where bodies end; both know bytes and no sockets.
//! [`pump`] moves a message from one connection to another. [`connection`] is a connection to
//! an endpoint, [`server`] serves a client's, and [`write`] has what it writes of heads.

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod head;
pub(crate) mod pump;
pub(crate) mod server;
mod splice;
mod write;
