//! The language in which the end-to-end tests are written: a real proxy, real endpoints, a
//! client that sees every failure, and waiting for conditions in place of sleeping.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking, and all of this is for tests"
)]

mod demo;
mod endpoint;
mod load;
mod program;
mod proxy;
mod reply;
mod scripted;
mod site;
pub mod stories;
mod traces;
mod wait;

pub use demo::TestDemo;
pub use endpoint::TestEndpoint;
pub use load::{Load, Seen};
pub use program::{Finished, Running, bin_dir, program};
pub use proxy::TestProxy;
pub use reply::{Reply, ask, ask_with, raw};
pub use scripted::{Heard, ScriptedEndpoint};
pub use site::{On, Settings, TestSite, free_address, traces_of};
pub use traces::{Process, podman, processes_of};
pub use wait::{DEADLINE, wait_until, within};
