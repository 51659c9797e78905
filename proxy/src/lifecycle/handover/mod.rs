//! How one process of the proxy takes over from another, with no connection refused or reset.
//!
//! ```text
//!   successor                               predecessor
//!      │ ── Hello ────────────────────────────► │ serves, changes its table
//!      │ ◄─ Offer, and every listening socket ─ │
//!      │ ── Prepared ─────────────────────────► │ serves; changes wait
//!      │ ◄─ HandoverSnapshot: table, drains ─── │
//!  accepts ─ Ready ───────────────────────────► │
//!      │ ◄─ Commit, and links to older ones ─── │ accepts no more: it drains
//!      │                                        │
//!      │ ── Snapshot, whenever it changes ────► │ finishes what it has
//!      │ ◄─ Report: what it has in flight ───── │ with the table that it gets
//!      :                                        :
//!      │ ◄─ the last Report ─────────────────── │ ends
//! ```
//!
//! Until `Commit` nothing has happened: whatever goes wrong on the way, the predecessor serves on.
//! After it, the successor is the *active* process, and has a link to every *draining* process, the
//! older ones that still have connections. A drain is done when no process has anything in flight
//! ([`crate::control::draining::DrainingProcesses`]); counts are the sum over all of them
//! ([`crate::table::counts::remote::RemoteCounts`]).
//!
//! A *standby* keeps the listening sockets open without accepting on them, and serves if the active
//! process dies: a process that was started for that ([`standby`]), or the youngest draining process
//! until it has ended. A link that ends does not say that the active process has died: [`active_lock`]
//! does.

pub(crate) mod active_lock;
pub(crate) mod draining;
mod error;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod offer;
#[cfg(test)]
mod old_formats;
pub(crate) mod predecessor;
pub(crate) mod standby;

pub use error::HandoverError;
pub use predecessor::Predecessor;
pub use standby::{HeldLock, Standby};
