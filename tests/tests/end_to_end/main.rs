//! The real programs over real sockets, as users run them.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod admin;
mod bad_input;
mod config;
mod drains;
mod health;
mod requests;
mod retries;
mod rollouts;
mod rollouts_demo;
mod signals;
mod splits;
mod swaps;
