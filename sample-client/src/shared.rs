//! What the connections of a run share: its config, its schedule, its report, and the stop.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::options::Config;
use crate::report::Report;
use crate::resolve::Names;
use crate::schedule::Schedule;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) names: Names,
    pub(crate) schedule: Schedule,
    pub(crate) report: Report,
}

/// Tells when to send no more.
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
        // An error means that the run is gone, which is as good as being told.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Waits so long, or until the stop.
    pub(crate) async fn or_pause(&mut self, time: Duration) {
        tokio::select! {
            () = self.wait() => {}
            () = sleep(time) => {}
        }
    }
}
