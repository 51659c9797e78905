//! The documentation says what the code does: every key, command, option and metric is in it, it
//! names no other, and every link leads somewhere.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod access_log;
mod admin_api;
mod commands;
mod config;
mod examples;
mod links;
mod metrics;
mod page;
