//! The real programs over real sockets, as users run them.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use std::path::Path;

mod access_log;
mod admin;
mod bad_input;
mod balancing;
mod buffer;
mod config;
mod controller_kills;
mod costs;
mod disk_full;
mod doctor;
mod drains;
mod external;
mod filters;
mod handover;
mod health;
mod hold;
mod hostile;
mod http2;
mod http2_attacks;
mod hung_controller;
mod install;
mod leaving;
mod lost;
mod maintenance;
mod mirror;
mod operator;
mod pulls;
mod quiet;
mod requests;
mod retries;
mod rollouts;
mod rollouts_demo;
mod routes;
mod scripting;
mod signals;
mod splits;
mod standby;
mod sticky;
mod strangers;
mod swaps;
mod tls;
mod tls_to_endpoints;
mod unix_sockets;
mod users;
mod websocket;
mod who;
mod wire;

#[test]
fn a_relative_folder_of_programs_is_meant_from_the_workspace() {
    let own_manifest = tests::from_workspace(Path::new("tests/Cargo.toml"));
    assert!(own_manifest.exists(), "{}", own_manifest.display());
    let absolute = Path::new("/usr/bin");
    assert_eq!(tests::from_workspace(absolute), absolute);
}
