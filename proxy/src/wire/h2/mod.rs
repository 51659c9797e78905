//! HTTP/2 (RFC 9113), by the `h2` crate: what it needs of frames, header compression and flow
//! control is there, and its streams can be polled as sockets can.
//!
//! [`crate::server::h2`] serves a client's connection, and [`crate::server::h2_stream`] each of its
//! streams; [`client`] has the connections to endpoints. [`stream`] carries a request and its
//! response, [`message`] has their heads, and [`transport`] is what is below.

pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod fields;
pub(crate) mod message;
mod refusals;
pub(crate) mod stream;
