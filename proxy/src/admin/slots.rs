//! Who may have a connection to the admin port. A client that has shown the token keeps its slot.
//! All others share few slots, for a short time each: when these are taken, the oldest of them
//! makes room for the newest. So a client that lacks the token does not keep the owner out.

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

/// The slots of one admin port.
pub(super) struct Slots {
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

/// The slot of one connection, at first that of a stranger.
pub(super) struct Slot {
    slots: Arc<Slots>,
    number: u64,
    leave: Arc<Notify>,
    known: OnceLock<OwnedSemaphorePermit>,
}

impl Slots {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            strangers: Mutex::default(),
            known: Arc::new(Semaphore::new(KNOWN)),
        })
    }

    /// A slot for a connection that has just been made.
    pub(super) fn stranger(self: &Arc<Self>) -> Slot {
        let mut strangers = self.strangers();
        if strangers.leave.len() >= STRANGERS
            && let Some((_, oldest)) = strangers.leave.pop_first()
        {
            oldest.notify_one();
        }
        let (number, leave) = (strangers.next, Arc::new(Notify::new()));
        strangers.next += 1;
        strangers.leave.insert(number, leave.clone());
        Slot {
            slots: self.clone(),
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

impl Slot {
    pub(super) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    /// A request on the connection was allowed: its slot is kept from now on. `false`: all such
    /// slots are taken.
    pub(super) fn make_known(&self) -> bool {
        if self.is_known() {
            return true;
        }
        let Ok(permit) = self.slots.known.clone().try_acquire_owned() else {
            return false;
        };
        // Only requests of this connection do this, and they come one after the other.
        let _ = self.known.set(permit);
        self.slots.strangers().leave.remove(&self.number);
        true
    }

    /// Waits until the connection has to go. Never ends for one that keeps its slot.
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

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.is_known() {
            self.slots.strangers().leave.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn has_to_go(slot: &Slot) -> bool {
        slot.has_to_go().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_stranger_makes_room_and_no_known_client_does() {
        let slots = Slots::new();
        let known = slots.stranger();
        assert!(known.make_known() && known.make_known());
        let strangers: Vec<Slot> = (0..STRANGERS).map(|_| slots.stranger()).collect();
        assert!(!strangers.iter().any(has_to_go));
        let late = slots.stranger();
        let gone: Vec<bool> = strangers.iter().map(has_to_go).collect();
        assert!(gone[0] && !gone[1..].contains(&true));
        assert!(!has_to_go(&late) && !has_to_go(&known));
        // One that leaves by itself makes room, too.
        drop(late);
        let later = slots.stranger();
        assert!(!has_to_go(&strangers[1]) && !has_to_go(&later));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_has_its_time_and_a_known_client_has_no_end() {
        let slots = Slots::new();
        let (stranger, known) = (slots.stranger(), slots.stranger());
        assert!(known.make_known());
        let began = tokio::time::Instant::now();
        stranger.has_to_go().await;
        assert_eq!(began.elapsed(), STRANGER_FOR);
        let long = tokio::time::timeout(100 * STRANGER_FOR, known.has_to_go());
        assert!(long.await.is_err());
    }

    #[test]
    fn there_is_an_end_of_places_for_known_clients_too() {
        let slots = Slots::new();
        let known: Vec<Slot> = (0..KNOWN).map(|_| slots.stranger()).collect();
        assert!(known.iter().all(Slot::make_known));
        let late = slots.stranger();
        assert!(!late.make_known());
        drop(known);
        assert!(late.make_known());
    }
}
