//! Who may have a connection to the admin port. A client that has shown the token keeps its place.
//! All others share few places, for a short time each: when these are taken, the oldest of them
//! makes room for the newest. So nobody who lacks the token keeps the owner out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Connections without a request that was allowed.
const STRANGERS: usize = 128;
/// How long such a connection may last.
const STRANGER_FOR: Duration = Duration::from_secs(10);
/// Connections with such a request.
const KNOWN: usize = 1024;

/// The places of one admin port.
pub(super) struct Places {
    strangers: Mutex<Strangers>,
    known: Arc<Semaphore>,
}

/// In the order in which they came.
#[derive(Default)]
struct Strangers {
    next: u64,
    /// What tells each of them to leave.
    leave: BTreeMap<u64, Arc<Notify>>,
}

/// The place of one connection, at first that of a stranger.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
    known: OnceLock<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            strangers: Mutex::default(),
            known: Arc::new(Semaphore::new(KNOWN)),
        })
    }

    /// A place for a connection that has just been made.
    pub(super) fn stranger(self: &Arc<Self>) -> Place {
        let mut strangers = self.strangers();
        if strangers.leave.len() >= STRANGERS
            && let Some((_, oldest)) = strangers.leave.pop_first()
        {
            oldest.notify_one();
        }
        let (number, leave) = (strangers.next, Arc::new(Notify::new()));
        strangers.next += 1;
        strangers.leave.insert(number, leave.clone());
        Place {
            places: self.clone(),
            number,
            leave,
            known: OnceLock::new(),
        }
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    /// A request on the connection was allowed: its place is kept from now on. `false`: all such
    /// places are taken.
    pub(super) fn make_known(&self) -> bool {
        if self.is_known() {
            return true;
        }
        let Ok(permit) = self.places.known.clone().try_acquire_owned() else {
            return false;
        };
        // Only requests of this connection do this, and they come one after the other.
        let _ = self.known.set(permit);
        self.places.strangers().leave.remove(&self.number);
        true
    }

    /// Waits until the connection has to go. Never ends for one that keeps its place.
    pub(super) async fn has_to_go(&self) {
        tokio::select! {
            () = self.leave.notified() => {}
            () = tokio::time::sleep(STRANGER_FOR) => {}
        }
        if self.is_known() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_known() {
            self.places.strangers().leave.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn has_to_go(place: &Place) -> bool {
        place.has_to_go().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stranger_makes_room_and_no_known_client_does() {
        let places = Places::new();
        let known = places.stranger();
        assert!(known.make_known() && known.make_known());
        let strangers: Vec<Place> = (0..STRANGERS).map(|_| places.stranger()).collect();
        assert!(!strangers.iter().any(has_to_go));
        let late = places.stranger();
        let gone: Vec<bool> = strangers.iter().map(has_to_go).collect();
        assert!(gone[0] && !gone[1..].contains(&true));
        assert!(!has_to_go(&late) && !has_to_go(&known));
        // One that leaves by itself makes room, too.
        drop(late);
        let later = places.stranger();
        assert!(!has_to_go(&strangers[1]) && !has_to_go(&later));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_its_time_and_a_known_client_has_no_end() {
        let places = Places::new();
        let (stranger, known) = (places.stranger(), places.stranger());
        assert!(known.make_known());
        let began = tokio::time::Instant::now();
        stranger.has_to_go().await;
        assert_eq!(began.elapsed(), STRANGER_FOR);
        let long = tokio::time::timeout(100 * STRANGER_FOR, known.has_to_go());
        assert!(long.await.is_err());
    }

    #[test]
    fn there_is_an_end_of_places_for_known_clients_too() {
        let places = Places::new();
        let known: Vec<Place> = (0..KNOWN).map(|_| places.stranger()).collect();
        assert!(known.iter().all(Place::make_known));
        let late = places.stranger();
        assert!(!late.make_known());
        drop(known);
        assert!(late.make_known());
    }
}
