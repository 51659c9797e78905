//! Which clients that keep their versions have failed: of each, one failure counts.
//!
//! Requests whose versions the split draws one by one hit all of them alike. A client that keeps its
//! version hits that one alone: what fails by its own doing would look like a bad version. What was
//! drawn is the client, so a client counts, and once: its first failure, at whichever version, for
//! as long as the split stays as it is. Whose that failure is was as much a matter of chance as with
//! single requests.
//!
//! Clients are told apart by a few bits of a hash. Those that share them count as one.

use super::sync::{AtomicU64, Ordering};
use crate::table::rendezvous::mix;

/// Clients that are told apart.
const CLIENTS: usize = 1 << 14;
const WORDS: usize = CLIENTS / 64;

/// A client that keeps its version, as far as it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keeper(u16);

impl Keeper {
    /// The client with this hash.
    pub(crate) fn of(user: u64) -> Self {
        // Its version is drawn by other bits.
        let [.., high, low] = mix(!user).to_be_bytes();
        Self(u16::from_be_bytes([high, low]) % CLIENTS as u16)
    }
}

/// The clients of one service that have failed since its split was changed.
#[derive(Debug)]
pub(crate) struct FailedClients {
    /// A bit for each.
    words: Box<[AtomicU64]>,
}

impl Default for FailedClients {
    fn default() -> Self {
        Self {
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl FailedClients {
    /// A request of this client failed. Gives whether it is the first.
    pub(crate) fn is_first(&self, Keeper(number): Keeper) -> bool {
        let (word, bit) = (usize::from(number / 64), 1 << (number % 64));
        self.words[word].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// The split is another: clients have other versions now.
    pub(crate) fn forget(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_counts_once_until_the_split_changes() {
        let failed = FailedClients::default();
        let first = |client: u64| failed.is_first(Keeper::of(mix(client)));
        assert_eq!([first(1), first(1), first(2)], [true, false, true]);
        failed.forget();
        assert_eq!([first(1), first(1)], [true, false]);
    }

    #[test]
    fn a_thousand_clients_are_told_apart_as_good_as_always() {
        let failed = FailedClients::default();
        let counted = (0..1_000).filter(|client| failed.is_first(Keeper::of(mix(*client))));
        let counted = counted.count();
        assert!(counted > 930, "{counted}");
    }
}
