//! The life of a process after it has handed over: it finishes what it has, with the table that
//! its successor tells it, and says what it has in flight.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use program::sockets::Channel;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::active_lock::ActiveLock;
use super::message::{FORMAT, Hello, Update};
use crate::control::Control;
use crate::table::counts::remote::ProcessId;
use crate::worker::counters::Counters;

/// A draining process whose active process has died looks for the next one so often, and for so
/// long.
const POLL_EVERY: Duration = Duration::from_millis(20);
const POLL_FOR: Duration = Duration::from_secs(10);
/// The kernel may take so long to release what a process that dies had locked.
const DYING: Duration = Duration::from_millis(100);

/// A process that finishes what it has.
pub(crate) struct Finishing {
    pub(crate) control: Arc<Control>,
    pub(crate) counters: Arc<Counters>,
    /// This one's number.
    pub(crate) process: ProcessId,
    /// Where the active process can be found.
    pub(crate) socket: PathBuf,
    /// True once nothing is left.
    pub(crate) is_done: watch::Receiver<bool>,
    /// False once another process would take the owner's place.
    pub(crate) standby: watch::Sender<bool>,
    pub(crate) active_lock: Arc<ActiveLock>,
}

/// Why the reports end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The last report was taken: nothing is left to do.
    Reported,
    /// The active process was told to stop: no process takes its place.
    Stopped,
    /// The active process has died, and this process is to take its place; these are draining, too.
    Inherited(Vec<ProcessId>),
    /// The active process has died, and none is found in its place.
    Alone,
}

impl Finishing {
    /// Does what the owner of the table says, until there is none or nothing is left.
    pub(crate) async fn follow(&self, mut channel: Channel, others: Vec<ProcessId>) -> Over {
        // A process that has just handed over is the standby, before the first message says so.
        let mut standby_with = Some(others);
        loop {
            if let Some(over) = self.obey(&mut channel, &mut standby_with).await {
                return over;
            }
            let found = match standby_with.take() {
                None => self.find_active_process().await,
                Some(others) => {
                    let is_dead = self.active_lock.take();
                    tokio::pin!(is_dead);
                    if timeout(DYING, &mut is_dead).await.is_ok() {
                        return Over::Inherited(others);
                    }
                    // It was let go by a process that could not wait for it.
                    tokio::select! {
                        () = is_dead => return Over::Inherited(others),
                        found = self.find_active_process() => found,
                    }
                }
            };
            match found {
                Some(owner) => channel = owner,
                None => return Over::Alone,
            }
        }
    }

    /// `None`: the owner is gone.
    async fn obey(
        &self,
        channel: &mut Channel,
        standby_with: &mut Option<Vec<ProcessId>>,
    ) -> Option<Over> {
        loop {
            let snapshot = match channel.receive().await {
                Ok(Update::Snapshot(snapshot)) => *snapshot,
                Ok(Update::Stopping) => return Some(Over::Stopped),
                Err(error) => {
                    tracing::warn!(%error, "the process that took over is gone");
                    return None;
                }
            };
            *standby_with = snapshot.is_standby.then(|| snapshot.others.clone());
            self.standby.send_replace(snapshot.is_standby);
            let retired = snapshot.retired.clone();
            if let Err(error) = self.control.adopt(snapshot) {
                tracing::error!(error, "a change of the table cannot be applied");
            }
            self.control.query_ages(&retired).await;
            // Read before the figures: what is done stays so.
            let last = *self.is_done.borrow();
            let mut report = self.control.report(&self.counters, &retired);
            report.last = last;
            if channel.send(&report).await.is_err() {
                return None;
            }
            if last {
                return Some(Over::Reported);
            }
        }
    }

    /// The process that is active by now, once it has let this one in.
    async fn find_active_process(&self) -> Option<Channel> {
        let until = Instant::now() + POLL_FOR;
        while Instant::now() < until {
            if let Ok(stream) = UnixStream::connect(&self.socket).await
                && let Ok(mut channel) = Channel::new(stream, &self.socket)
            {
                let hello = Hello {
                    format: FORMAT,
                    release: env!("CARGO_PKG_VERSION").into(),
                    draining_process: Some(self.process),
                    copies: false,
                    standby: false,
                };
                if channel.send(&hello).await.is_ok() {
                    let let_in = timeout_at(until, channel.readable()).await;
                    return let_in.is_ok().then_some(channel);
                }
            }
            sleep(POLL_EVERY).await;
        }
        None
    }
}
