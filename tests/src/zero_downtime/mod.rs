//! Zero downtime, put to the test: clients of every kind send requests through a proxy while
//! something about it changes all the time, and whatever one of them could notice is found.
//!
//! ```text
//!   Traffic ──── requests ────► proxy ────► Origin, Origin, …
//!      │                          ▲             │
//!      │ Finding                  │ changes     │ Sight
//!      ▼                          │             ▼
//!   Witness ◄──────────────────── Row ◄──── Witness
//! ```
//!
//! A [`Row`] is a kind of change, and a line of the table that `make soak` prints. Clients, origins
//! and the witness know nothing of Crossfade: only rows do.

mod admin;
mod client;
mod killable;
mod origin;
mod outcome;
mod replies;
mod request;
mod rows;
mod test_env;
mod traffic;
mod websocket;
mod wire;
mod witness;

pub use client::GoodResponse;
pub use killable::run_origin;
pub use origin::{HEALTH, Origin};
pub use outcome::{Figure, Limit, Outcome};
pub use request::{Kind, Request};
pub use rows::{Extent, Row};
pub use test_env::{Limits, TestEnv};
pub use traffic::{Observer, Plan, Seen, Traffic};
pub use witness::{Failure, Finding, Findings, Sight, Witness};
