//! A sample service for rollouts: every response carries the version. It can be configured to
//! return errors, to stall, to cut bodies and to crash.
//!
//! ```text
//! accept → read head → count → route → fault → response
//! server               faults  router  faults  response
//! ```

mod faults;
mod options;
mod response;
mod router;
mod server;
mod share;
mod websocket;

pub use options::{Config, EXIT_USAGE, Options};
pub use program::signals::told_to_stop;
pub use server::{Ended, ListenAddress, Listener, StartError, bind, run};
pub use share::{InvalidShare, Share};
