//! The older processes that still live, as the owner of the table knows them: they finish what
//! they have, and until then no drain is done without them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::table::counts::remote::ProcessId;
use crate::table::counts::values::EndpointCounts;
use crate::table::endpoint::Endpoint;

/// The older processes.
#[derive(Debug)]
pub(crate) struct DrainingProcesses {
    living: Mutex<BTreeSet<ProcessId>>,
    /// Counts what they have to be told of.
    news: watch::Sender<u64>,
}

impl Default for DrainingProcesses {
    fn default() -> Self {
        Self {
            living: Mutex::default(),
            news: watch::channel(0).0,
        }
    }
}

impl DrainingProcesses {
    /// Another one.
    pub(crate) fn add(&self, process: ProcessId) {
        self.living().insert(process);
    }

    /// One has ended.
    pub(crate) fn remove(&self, process: ProcessId) {
        self.living().remove(&process);
    }

    /// Another process has them now.
    pub(crate) fn clear(&self) {
        self.living().clear();
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<ProcessId> {
        self.living().iter().copied().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.living().len()
    }

    /// Whether each of them has said that it takes no claims on the endpoint any more, and has
    /// none. One that has said nothing yet has not.
    pub(crate) fn are_done_with(&self, endpoint: &Endpoint) -> bool {
        let done = |process: &ProcessId| {
            let counts = endpoint.remote.of(*process);
            counts.is_some_and(EndpointCounts::is_drained)
        };
        self.living().iter().all(done)
    }

    /// The table has changed, or a drain has begun.
    pub(crate) fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Changes with everything that they have to be told of.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn living(&self) -> MutexGuard<'_, BTreeSet<ProcessId>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
