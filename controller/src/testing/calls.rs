//! What was asked of the fakes.

use std::sync::Arc;

use tokio::sync::watch;

use crate::rollout::Handle;

/// Everything that was asked of runtime and proxy, in order.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Arc<watch::Sender<Vec<String>>>);

impl Calls {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    /// Forgets what there was.
    pub(crate) fn clear(&self) {
        self.0.send_modify(Vec::clear);
    }

    pub(super) fn push(&self, call: String) {
        self.0.send_modify(|calls| calls.push(call));
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Until so many calls were made; `false` if `handle` ends before.
    pub(crate) async fn wait_for_count(&self, count: usize, handle: &Handle) -> bool {
        let mut calls = self.0.subscribe();
        tokio::select! {
            biased;
            () = handle.ended() => false,
            reached = calls.wait_for(|calls| calls.len() >= count) => reached.is_ok(),
        }
    }
}
