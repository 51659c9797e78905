//! TLS, by rustls: to clients (`listener`, `names`, `follow`) and to endpoints (`version`), over
//! certificates from PEM files (`certificate`) and a stream that holds no buffers (`stream`).

mod certificate;
mod follow;
mod identity;
mod listener;
mod names;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod tickets;
mod version;

pub(crate) use follow::follow;
pub(crate) use identity::ClientIdentity;
pub(crate) use listener::{Accepted, ClientTls, ListenerTickets, ListenerTls, Listening};
pub use settings::{ClientAuth, KeyPair, ListenerSettings, Version};
pub(crate) use version::{EndpointTls, VersionTls};
