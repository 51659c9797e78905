//! Where clients come in: listening sockets, admission, and the client's side of HTTP/1.1 and
//! HTTP/2.

pub(crate) mod accept;
pub(crate) mod admin_listener;
pub(crate) mod admission;
pub(crate) mod bind_error;
mod body_buffer;
pub(crate) mod h1;
pub(crate) mod h2;
mod h2_client;
mod h2_stream;
mod incoming;
pub(crate) mod keeper;
mod linger;
pub(crate) mod listeners;
mod logged;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
