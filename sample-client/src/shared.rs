//! What the connections of a run share: its config, its schedule, its report, and the stop.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::options::Config;
use crate::report::Report;
use crate::resolver::Resolver;
use crate::schedule::Schedule;

/// The state that all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) resolver: Resolver,
    pub(crate) schedule: Schedule,
    pub(crate) report: Report,
}

/// The signal to send no more requests.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Follows the sender: the stop is set when `true` is sent, or when the sender is gone.
    pub(crate) fn new(stopping: watch::Receiver<bool>) -> Self {
        Self(stopping)
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn wait(&mut self) {
        // An error means that the run has ended, which is a stop too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Sleeps for `time`, or until the stop.
    pub(crate) async fn sleep_or_stop(&mut self, time: Duration) {
        tokio::select! {
            () = self.wait() => {}
            () = sleep(time) => {}
        }
    }
}
