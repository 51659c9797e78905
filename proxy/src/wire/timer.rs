//! A worker's clock and its alarms: what ends a wait that nothing else ends.
//!
//! One coarse clock serves all of a worker's timeouts. Every connection has one alarm, set anew
//! for each wait by writing a number; a tick looks through all of them. That costs a request
//! next to nothing, where a timer of its own for each wait was a twentieth of the proxy's work.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
// The system's clock, unless a test has paused the runtime's.
use tokio::time::Instant;

/// How far the clock may be behind. An alarm rings up to two of these late, and never early.
const TICK: Duration = Duration::from_millis(25);
const NEVER: u64 = u64::MAX;

/// The alarms of one worker, and its clock.
pub(crate) struct Timers {
    started: Instant,
    /// Milliseconds since `started`, at the last tick.
    now: Cell<u64>,
    entries: RefCell<Slab<Entry>>,
    /// The first alarm is there: the clock has to tick.
    begun: Notify,
}

struct Entry {
    due: u64,
    /// No wait is longer.
    limit: u64,
    cut: bool,
    waker: Option<Waker>,
}

/// One task's alarm.
pub(crate) struct Timer {
    timers: Rc<Timers>,
    key: usize,
}

/// Several waits of a task have a limit together, until this is dropped.
pub(crate) struct Limit<'a>(&'a Timer);

/// Why a wait ended before what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitError {
    /// Its time was up.
    TimedOut,
    /// A drain has no more time for what the task does.
    Cut,
}

/// Milliseconds on a worker's clock.
pub(crate) type Millis = u64;

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now: Cell::new(0),
            entries: RefCell::default(),
            begun: Notify::new(),
        })
    }

    /// The time, up to a tick ago.
    pub(crate) fn now(&self) -> Millis {
        self.now.get()
    }

    /// The time after so much more of it.
    pub(crate) fn after(&self, within: Duration) -> Millis {
        let within = u64::try_from(within.as_millis()).unwrap_or(NEVER);
        self.now.get().saturating_add(within)
    }

    /// An alarm for the task that will wait with it.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let mut entries = self.entries.borrow_mut();
        if entries.is_empty() {
            self.read_clock();
            self.begun.notify_one();
        }
        let key = entries.insert(Entry {
            due: NEVER,
            limit: NEVER,
            cut: false,
            waker: None,
        });
        Timer {
            timers: self.clone(),
            key,
        }
    }

    /// Lets the clock tick for as long as there are alarms. Never ends.
    pub(crate) async fn run(&self) {
        loop {
            while self.entries.borrow().is_empty() {
                self.begun.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.read_clock();
            self.fire();
        }
    }

    /// Wakes every task that has an alarm: something changed that all of them should look at.
    pub(crate) fn wake_all(&self) {
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            entry.waker.take().inspect(Waker::wake_by_ref);
        }
    }

    /// Wakes the task that has this alarm: something changed that it should look at.
    pub(crate) fn wake(&self, key: usize) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(key) {
            entry.waker.take().inspect(Waker::wake_by_ref);
        }
    }

    /// Ends the wait of the task with this alarm, and every further one until [`Timers::clear_cut`].
    pub(crate) fn cut(&self, key: usize) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(key) {
            entry.cut = true;
            entry.waker.take().inspect(Waker::wake_by_ref);
        }
    }

    /// What was cut has ended; the task may wait again.
    pub(crate) fn clear_cut(&self, key: usize) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(key) {
            entry.cut = false;
        }
    }

    fn read_clock(&self) {
        let millis = self.started.elapsed().as_millis();
        self.now.set(u64::try_from(millis).unwrap_or(NEVER - 1));
    }

    fn fire(&self) {
        let now = self.now.get();
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.due <= now {
                entry.waker.take().inspect(Waker::wake_by_ref);
            }
        }
    }
}

impl Timer {
    /// By which [`Timers::cut`] knows it.
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// The time on its worker's clock.
    pub(crate) fn now(&self) -> Millis {
        self.timers.now()
    }

    /// Sets it to ring after so much time from now.
    pub(crate) fn set(&self, within: Duration) {
        let due = self.after(within);
        let entry = &mut self.timers.entries.borrow_mut()[self.key];
        entry.due = due.min(entry.limit);
    }

    /// Lets it ring for a cut alone.
    pub(crate) fn clear(&self) {
        self.timers.entries.borrow_mut()[self.key].due = NEVER;
    }

    /// Has it ring after so much time from now at the latest, however often it is set meanwhile.
    pub(crate) fn limit(&self, within: Duration) -> Limit<'_> {
        self.timers.entries.borrow_mut()[self.key].limit = self.after(within);
        Limit(self)
    }

    /// Whether the time of [`Timer::limit`] is up.
    pub(crate) fn is_past_limit(&self) -> bool {
        self.timers.entries.borrow()[self.key].limit <= self.timers.now.get()
    }

    fn after(&self, within: Duration) -> Millis {
        self.timers.after(within.saturating_add(TICK))
    }

    /// Whether it rings. If not, the task is woken when it does.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<WaitError> {
        let mut entries = self.timers.entries.borrow_mut();
        let entry = &mut entries[self.key];
        if entry.cut {
            return Poll::Ready(WaitError::Cut);
        }
        if entry.due <= self.timers.now.get() {
            return Poll::Ready(WaitError::TimedOut);
        }
        match &mut entry.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => entry.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Why its last wait has ended, if not since what it waited for has come.
    pub(crate) fn ended_by(&self) -> Option<WaitError> {
        let entry = &self.timers.entries.borrow()[self.key];
        if entry.cut {
            return Some(WaitError::Cut);
        }
        (entry.due <= self.timers.now.get()).then_some(WaitError::TimedOut)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.timers.entries.borrow()[self.key].cut
    }

    /// Waits for what `poll` gives, for so long at most.
    pub(crate) async fn wait<T>(
        &self,
        within: Duration,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, WaitError> {
        self.set(within);
        std::future::poll_fn(|cx| {
            if self.is_cut() {
                return Poll::Ready(Err(WaitError::Cut));
            }
            match poll(cx) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => self.poll(cx).map(Err),
            }
        })
        .await
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.entries.borrow_mut().remove(self.key);
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        self.0.timers.entries.borrow_mut()[self.0.key].limit = NEVER;
    }
}

impl From<WaitError> for io::Error {
    fn from(wait_error: WaitError) -> Self {
        match wait_error {
            WaitError::TimedOut => io::ErrorKind::TimedOut.into(),
            WaitError::Cut => io::ErrorKind::Interrupted.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timer_fires_when_its_time_is_up_and_not_before() {
        let timers = Timers::new();
        let ticking = timers.clone();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async move {
                tokio::task::spawn_local(async move { ticking.run().await });
                let timer = timers.timer();
                let begun = Instant::now();
                let within = Duration::from_millis(60);
                let wait_error = timer.wait(within, |_| Poll::<()>::Pending).await;
                assert_eq!(wait_error, Err(WaitError::TimedOut));
                assert!(begun.elapsed() >= within, "{:?}", begun.elapsed());
                let kept = timer.wait(within, |_| Poll::Ready(7)).await;
                assert_eq!(kept, Ok(7));
            })
            .await;
    }

    #[test]
    fn waits_with_a_limit_are_no_longer_together() {
        let timers = Timers::new();
        let timer = timers.timer();
        let cx = Context::from_waker(Waker::noop());
        let at = |millis| timers.now.set(millis);
        at(0);
        let limit = timer.limit(Duration::from_millis(1_000));
        timer.set(Duration::from_millis(800));
        at(800);
        assert!(timer.poll(&cx).is_pending());
        timer.set(Duration::from_millis(800));
        at(1_000);
        assert!(timer.poll(&cx).is_pending(), "never early");
        assert!(!timer.is_past_limit());
        at(1_025);
        assert_eq!(timer.poll(&cx), Poll::Ready(WaitError::TimedOut));
        assert!(timer.is_past_limit());
        drop(limit);
        timer.set(Duration::from_millis(800));
        assert!(timer.poll(&cx).is_pending());
        assert!(!timer.is_past_limit());
    }

    #[test]
    fn a_cut_ends_every_wait_until_it_is_cleared() {
        let timers = Timers::new();
        let timer = timers.timer();
        let cx = Context::from_waker(Waker::noop());
        timer.set(Duration::from_secs(1));
        assert!(timer.poll(&cx).is_pending());
        assert_eq!(timer.ended_by(), None);
        timers.cut(timer.key());
        assert_eq!(timer.poll(&cx), Poll::Ready(WaitError::Cut));
        assert_eq!(timer.ended_by(), Some(WaitError::Cut));
        timers.clear_cut(timer.key());
        assert!(timer.poll(&cx).is_pending());
    }
}
