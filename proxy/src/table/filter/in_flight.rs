//! How many requests of a service are under way at once.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The limit of a service, for all workers.
#[derive(Debug)]
pub(crate) struct InFlight {
    most: u32,
    /// The same in every table, while there is a limit.
    now: Arc<AtomicU32>,
}

/// A request that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU32>);

impl InFlight {
    pub(super) fn of(most: NonZero<u32>, previous: Option<&Self>) -> Self {
        Self {
            most: most.get(),
            now: previous.map_or_else(Arc::default, |previous| previous.now.clone()),
        }
    }

    /// Counts a request, if there are not too many.
    pub(crate) fn begin(&self) -> Option<Counted> {
        let counted = Counted(self.now.clone());
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        // What was counted is dropped else.
        (before < self.most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_has_ended() {
        let limit = |most, previous| InFlight::of(NonZero::new(most).unwrap(), previous);
        let two = limit(2, None);
        let (first, second) = (two.begin(), two.begin());
        assert!(first.is_some() && second.is_some() && two.begin().is_none());
        drop(first);
        let third = two.begin();
        assert!(third.is_some() && two.begin().is_none());
        // Those of the table before count.
        let three = limit(3, Some(&two));
        let fourth = three.begin();
        assert!(fourth.is_some() && three.begin().is_none());
    }
}
