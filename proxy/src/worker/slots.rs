//! Memory for futures that come and go: the next one gets it again. A caller that waits
//! for a reason to start one holds none of it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// How many stay when none is in use.
const KEPT: usize = 512;

/// Runs one kind of future, made of an `A` each, to its `T`.
pub(crate) struct Slots<A, T> {
    make: fn() -> Box<dyn Slot<A, T>>,
    free: RefCell<Vec<Box<dyn Slot<A, T>>>>,
}

/// Room for one future.
pub(crate) trait Slot<A, T> {
    fn begin(&mut self, with: A);
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T>;
}

/// Room for the futures that `start` makes.
struct Room<F, S> {
    future: Pin<Box<Option<F>>>,
    start: S,
}

/// A slot for futures as this one makes them.
pub(crate) fn slot<A, T, F>(start: impl Fn(A) -> F + 'static) -> Box<dyn Slot<A, T>>
where
    F: Future<Output = T> + 'static,
{
    Box::new(Room {
        future: Box::pin(None),
        start,
    })
}

impl<A, T, F: Future<Output = T>, S: Fn(A) -> F> Slot<A, T> for Room<F, S> {
    fn begin(&mut self, with: A) {
        self.future.set(Some((self.start)(with)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let done = ready!(future.poll(cx));
        self.future.set(None);
        Poll::Ready(done)
    }
}

impl<A, T> Slots<A, T> {
    pub(crate) fn new(make: fn() -> Box<dyn Slot<A, T>>) -> Self {
        Self {
            make,
            free: RefCell::default(),
        }
    }

    pub(crate) async fn run(&self, with: A) -> T {
        let free = self.free.borrow_mut().pop();
        let mut slot = free.unwrap_or_else(self.make);
        slot.begin(with);
        let done = poll_fn(|cx| slot.poll(cx)).await;
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT {
            free.push(slot);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::sync::oneshot;

    use super::*;

    type Job = (Rc<()>, oneshot::Receiver<u8>);

    fn slots() -> Slots<Job, u8> {
        Slots::new(|| {
            slot(|(held, receiver): Job| async move {
                let got = receiver.await.unwrap();
                drop(held);
                got
            })
        })
    }

    #[tokio::test]
    async fn as_many_run_at_once_as_there_are_and_their_slots_are_used_again() {
        let slots = slots();
        let held = Rc::new(());
        for _ in 0..3 {
            let (one, first) = oneshot::channel();
            let (two, second) = oneshot::channel();
            two.send(2).unwrap();
            let both = async {
                tokio::join!(async { slots.run((held.clone(), first)).await }, async {
                    let second = slots.run((held.clone(), second)).await;
                    one.send(1).unwrap();
                    second
                })
            };
            assert_eq!(both.await, (1, 2));
            assert_eq!(slots.free.borrow().len(), 2);
            assert_eq!(Rc::strong_count(&held), 1);
        }
    }

    #[tokio::test]
    async fn what_a_dropped_one_held_is_dropped() {
        let slots = slots();
        let held = Rc::new(());
        let (_sender, receiver) = oneshot::channel();
        let run = slots.run((held.clone(), receiver));
        tokio::select! {
            biased;
            _ = run => unreachable!("no sender"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(slots.free.borrow().len(), 0);
    }
}
