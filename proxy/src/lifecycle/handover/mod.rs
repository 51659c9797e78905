//! How one process of the proxy takes over from another, with no connection refused or reset.
//!
//! ```text
//!   successor                               predecessor
//!      │ ── Hello ────────────────────────────► │ serves, changes its table
//!      │ ◄─ Offer, and every listening socket ─ │
//!      │ ── Prepared ─────────────────────────► │ serves; changes wait
//!      │ ◄─ Picture: table, holds, drains ───── │
//!  accepts ─ Ready ───────────────────────────► │
//!      │ ◄─ Yours, and links to older ones ──── │ accepts no more: it is an elder
//!      │                                        │
//!      │ ── Picture, whenever it changes ─────► │ finishes what it has
//!      │ ◄─ Report: what it has in flight ───── │ with the table that it is told
//!      :                                        :
//!      │ ◄─ the last Report ─────────────────── │ ends
//! ```
//!
//! Until `Commit` nothing has happened: whatever goes wrong on the way, the predecessor serves on.
//! After it, the successor *owns* the table, and has a link to every *elder*, the older processes
//! that still have connections. A drain is done when no process has anything in flight
//! ([`crate::control::draining::DrainingProcesses`]); figures are the sum over all of them ([`crate::table::counts::remote::RemoteCounts`]).
//!
//! The youngest elder is the *heir*: it keeps the listening sockets open without accepting on
//! them, and if the owner dies before it has ended, serves again.

pub(crate) mod channel;
pub(crate) mod draining;
mod error;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod offer;
pub(crate) mod predecessor;

pub use error::HandoverError;
pub use predecessor::Predecessor;
