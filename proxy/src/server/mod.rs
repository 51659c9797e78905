//! Where clients come in: listening sockets, admission, and the client's side of HTTP/1.1 and
//! HTTP/2.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod h1;
pub(crate) mod h2;
mod h2_client;
mod h2_stream;
mod incoming;
mod linger;
pub(crate) mod listeners;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
