//! What requests tell the health check of an endpoint, and what they read of it: that the endpoint
//! may be gone, and that a probe found it there.

use tokio::sync::Notify;

use crate::table::counts::sync::{AtomicU32, AtomicU64, Ordering};

/// Why a request suspects that its endpoint is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// A connection to it broke, or could not be made.
    Broken,
    /// A connection was refused: nothing listens at its address.
    Refused,
}

/// The probes of one endpoint, as its requests see them.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// The strongest suspicion since the last probe; 0: none.
    suspicion: AtomicU32,
    suspected: Notify,
    begun: AtomicU64,
    /// The number of the last one that was good.
    good: AtomicU64,
}

impl Suspicion {
    fn strength(self) -> u32 {
        match self {
            Self::Broken => 1,
            Self::Refused => 2,
        }
    }
}

impl Probes {
    /// A request suspects that the endpoint is gone: it is probed now.
    pub(crate) fn suspect(&self, suspicion: Suspicion) {
        let strength = suspicion.strength();
        self.suspicion.fetch_max(strength, Ordering::Relaxed);
        self.suspected.notify_one();
    }

    /// Waits until a request suspects the endpoint, unless one has since the last wait.
    pub(crate) async fn suspected(&self) {
        self.suspected.notified().await;
    }

    /// The strongest suspicion since this was called last.
    pub(crate) fn take_suspicion(&self) -> Option<Suspicion> {
        let strength = self.suspicion.swap(0, Ordering::Relaxed);
        let all = [Suspicion::Broken, Suspicion::Refused];
        all.into_iter().find(|one| one.strength() == strength)
    }

    /// A probe begins. Gives its number.
    pub(crate) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The probe with this number was good.
    pub(crate) fn was_good(&self, number: u64) {
        self.good.fetch_max(number, Ordering::Relaxed);
    }

    /// The number of the last one that has begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether one was good that began after the one with this number.
    pub(crate) fn was_good_after(&self, number: u64) -> bool {
        self.good.load(Ordering::Relaxed) > number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_suspicion_stays_until_it_is_taken() {
        let probes = Probes::default();
        assert_eq!(probes.take_suspicion(), None);
        probes.suspect(Suspicion::Refused);
        probes.suspect(Suspicion::Broken);
        assert_eq!(probes.take_suspicion(), Some(Suspicion::Refused));
        assert_eq!(probes.take_suspicion(), None);
        probes.suspect(Suspicion::Broken);
        assert_eq!(probes.take_suspicion(), Some(Suspicion::Broken));
    }

    #[test]
    fn only_a_probe_that_begins_later_says_that_the_endpoint_is_there() {
        let probes = Probes::default();
        let under_way = probes.begin();
        let failed = probes.begun();
        probes.was_good(under_way);
        assert!(!probes.was_good_after(failed), "it began before");
        let (first, second) = (probes.begin(), probes.begin());
        probes.was_good(second);
        probes.was_good(first);
        assert!(probes.was_good_after(failed));
        assert!(!probes.was_good_after(second));
    }
}
