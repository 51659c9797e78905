//! The containers as podman listed them last. While podman tells of every change, it is not asked
//! again: a list of ten containers costs it more time than the controller takes in a minute.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::runtime::Container;

/// After so long podman is asked again, although it has told of no change.
const TRUSTED: Duration = Duration::from_secs(50);

/// The last list, for as long as it holds.
#[derive(Debug, Default)]
pub(super) struct Listing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether podman tells of changes.
    listening: bool,
    /// How many changes there were: a list that was begun before one of them may lack it.
    changes: u64,
    last: Option<(Vec<Container>, Instant)>,
}

impl State {
    fn change(&mut self) {
        self.changes += 1;
        self.last = None;
    }
}

impl Listing {
    /// The last list, if nothing has changed since.
    pub(super) fn get(&self) -> Option<Vec<Container>> {
        let state = self.state();
        let (containers, at) = state.last.as_ref()?;
        (at.elapsed() < TRUSTED).then(|| containers.clone())
    }

    /// How many changes there were: to be read before podman is asked.
    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Keeps a list that was begun after `changes` of them.
    pub(super) fn keep(&self, changes: u64, containers: &[Container]) {
        let mut state = self.state();
        if state.listening && state.changes == changes {
            state.last = Some((containers.to_vec(), Instant::now()));
        }
    }

    /// Something has changed.
    pub(super) fn change(&self) {
        self.state().change();
    }

    /// Something is being changed, until this is dropped.
    pub(super) fn changing(&self) -> Changing<'_> {
        self.change();
        Changing(self)
    }

    /// Podman tells of changes, until this is dropped.
    pub(super) fn listen(&self) -> Listening<'_> {
        self.state().listening = true;
        Listening(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change in progress: a list from the middle of it does not outlive it.
pub(super) struct Changing<'a>(&'a Listing);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.change();
    }
}

/// Podman tells of changes.
pub(super) struct Listening<'a>(&'a Listing);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.listening = false;
        state.change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(listing: &Listing) {
        listing.keep(listing.changes(), &[]);
    }

    #[test]
    fn nothing_is_kept_while_podman_tells_of_no_changes() {
        let listing = Listing::default();
        keep(&listing);
        assert_eq!(listing.get(), None);
        let listening = listing.listen();
        keep(&listing);
        assert_eq!(listing.get(), Some(Vec::new()));
        drop(listening);
        assert_eq!(listing.get(), None);
    }

    #[test]
    fn a_change_ends_the_list_and_one_that_was_begun_before_it() {
        let listing = Listing::default();
        let _listening = listing.listen();
        keep(&listing);
        listing.change();
        assert_eq!(listing.get(), None);
        let begun = listing.changes();
        let changing = listing.changing();
        listing.keep(begun, &[]);
        assert_eq!(listing.get(), None, "begun before the change");
        keep(&listing);
        assert_eq!(listing.get(), Some(Vec::new()), "a look into the middle");
        drop(changing);
        assert_eq!(listing.get(), None, "the change has come to its end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_trusted_for_a_minute() {
        let listing = Listing::default();
        let _listening = listing.listen();
        keep(&listing);
        tokio::time::advance(TRUSTED - Duration::from_millis(1)).await;
        assert!(listing.get().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(listing.get(), None);
    }
}
