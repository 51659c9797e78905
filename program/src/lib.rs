//! What each of our programs does the same way: its log, how it is told to stop, what it tells systemd, how
//! it passes listening sockets on, and how it writes numbers.

pub mod log;
pub mod signals;
pub mod sockets;
pub mod systemd;
pub mod text;
