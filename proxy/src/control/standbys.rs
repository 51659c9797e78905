//! How many processes wait to take this one's place.

use std::sync::Arc;

/// Counts them.
#[derive(Debug, Default)]
pub(crate) struct Standbys(Arc<()>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(#[expect(dead_code, reason = "it is there to be dropped")] Arc<()>);

impl Standbys {
    /// Another one.
    pub(crate) fn enter(&self) -> Waiting {
        Waiting(self.0.clone())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}
