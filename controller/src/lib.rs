//! Crossfade's controller: it starts containers of a new version, waits until the proxy has
//! seen them healthy, moves the traffic split step by step, watches what the clients are
//! getting, and promotes or rolls back. `rollout` is the life of a rollout, top to bottom.
//!
//! It never touches a client's traffic: a controller that is dead leaves the last split as it is.

pub mod api;
pub mod cli;
pub mod client;
pub mod clock;
mod demo;
mod doctor;
mod error;
pub mod hooks;
pub mod http;
mod install;
pub mod journal;
pub mod manifest;
mod no_link;
pub mod plan;
mod ports;
mod print;
pub mod project;
mod project_name;
mod renamed;
pub mod rollout;
pub mod runtime;
pub mod server;
pub mod state_dir;
#[cfg(test)]
mod testing;
pub mod verdict;

pub use error::{ContainerError, Error, Exit, Fault, NoController, Result, Unhealthy, VerbError};
