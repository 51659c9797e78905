//! A service to roll out: it answers every request with its version, and fails, stalls, breaks
//! off or crashes exactly as much as it is told to.
//!
//! ```text
//! accept → read head → count → route → fault → answer
//! server               faults  router  faults  reply
//! ```

mod faults;
mod options;
mod reply;
mod router;
mod server;
mod share;
mod signals;
mod websocket;

pub use options::{Config, EXIT_USAGE, Options};
pub use server::{Ended, StartError, bind, run};
pub use share::{NotAShare, Share};
pub use signals::shutdown_signal;
