//! The referee of a rollout: sends requests at a steady pace, retries none, and counts what went
//! wrong by its cause.
//!
//! ```text
//! ticket → wait until due → connect → send → answer or failure → line, tally
//! schedule      worker      connection  exchange                  report
//! ```

mod answer;
mod connection;
mod exchange;
mod failure;
mod lines;
mod options;
mod python;
mod report;
mod resolve;
mod run;
mod schedule;
mod shared;
mod signals;
mod summary;
mod target;
mod websocket;
mod worker;

pub use failure::{Cause, Failure};
pub use options::{Config, EXIT_USAGE, Mode, Options, Output};
pub use run::{RunError, run};
pub use signals::shutdown_signal;
pub use summary::{Latency, Summary};
pub use target::{InvalidTarget, Target};
