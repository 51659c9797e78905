//! A load client that observes a rollout: it sends requests at a steady rate, retries none, and
//! counts failures by cause.
//!
//! ```text
//! ticket → wait until due → connect → send → response or failure → line, counts
//! schedule      worker      connection  exchange                    report
//! ```

mod connection;
mod exchange;
mod failure;
mod line_format;
mod lines;
mod options;
mod report;
mod resolver;
mod response;
mod run;
mod schedule;
mod shared;
mod summary;
mod target;
mod websocket;
mod worker;

pub use failure::{Cause, Failure};
pub use options::{Config, EXIT_USAGE, Mode, Options, Output};
pub use program::signals::told_to_stop;
pub use run::{RunError, run};
pub use summary::{Latency, Summary};
pub use target::{InvalidTarget, Target};
