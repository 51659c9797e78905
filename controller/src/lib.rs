//! Crossfade's controller: it starts containers of a new version, waits until the proxy has
//! seen them healthy, moves the traffic split step by step, watches what the clients are
//! getting, and promotes or rolls back. `rollout` is the life of a rollout, top to bottom.
//!
//! It never touches a client's traffic: a controller that is dead leaves the last split as it is.

pub mod admin;
pub mod api;
mod caller;
pub mod cli;
pub mod client;
pub mod clock;
mod demo;
mod doctor;
mod drain;
mod endpoints;
mod engine;
mod error;
mod explain;
pub mod hooks;
pub mod manifest;
pub mod plan;
pub mod post;
mod proxy;
mod reconcile;
mod report;
pub mod rollout;
pub mod runtime;
pub mod secrets;
pub mod serve;
mod site;
pub mod state_dir;
pub mod store;
#[cfg(test)]
mod testing;
mod upstreams;
mod verbs;
pub mod verdict;
mod webhooks;

pub use error::{
    EXIT_FAILED, EXIT_PAUSED, EXIT_ROLLED_BACK, EXIT_STALE, EXIT_UNAVAILABLE, EXIT_USAGE, Error,
    Result,
};
