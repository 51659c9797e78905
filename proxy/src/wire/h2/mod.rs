//! HTTP/2 (RFC 9113), by the `h2` crate: what it needs of frames, header compression and flow
//! control is there, and its streams can be polled as sockets can.
//!
//! [`crate::server::h2`] serves a client's connection, and [`crate::server::h2_stream`] each of its
//! streams; [`client`] has the connections to endpoints. [`stream`] carries a request and its
//! response, [`message`] has their heads, [`resets`] counts those that are given up, [`backlog`]
//! what clients do not take, and [`connection`] is what is below.

pub(crate) mod backlog;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod fields;
mod load;
pub(crate) mod message;
mod refusals;
pub(crate) mod resets;
pub(crate) mod stream;
