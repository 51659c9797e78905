//! HTTP/1.1 (RFC 9112), our own: what most requests between clients, proxy and containers speak.
//!
//! [`head`] reads heads and [`body`] finds where bodies end; both know bytes and no sockets.
//! [`crate::server::h1`] serves a client's connection, and [`write`] has what it writes of heads.

pub(crate) mod body;
pub(crate) mod head;
pub(crate) mod splice;
pub(crate) mod write;
