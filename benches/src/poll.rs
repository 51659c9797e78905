//! Sockets that are ready: epoll, as the origin and the load generator use it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// At most so many sockets are reported by one call.
const BATCH: usize = 256;

/// Waits for sockets. Each is known by a number.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// One that waits for nothing yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).context(|| "epoll".into())?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Waits for bytes to read from it. Closing it ends that.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        epoll::add(&self.epoll, socket, data(number), EventFlags::IN).context(|| "epoll".into())
    }

    /// Waits for room to write to it as well, or no longer.
    pub(crate) fn want_write(&self, socket: impl AsFd, number: usize, want: bool) -> Result<()> {
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, want);
        epoll::modify(&self.epoll, socket, data(number), flags).context(|| "epoll".into())
    }

    /// Puts the numbers of the sockets that are ready into `ready`; for none, after the time.
    pub(crate) fn wait(&mut self, within: Option<Duration>, ready: &mut Vec<usize>) -> Result<()> {
        let timeout = within.and_then(|within| Timespec::try_from(within).ok());
        self.events.clear();
        ready.clear();
        let buffer = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "epoll".into()),
        }
        // On x86-64 the fields are packed: they are copied, not borrowed.
        ready.extend(self.events.iter().map(|event| {
            let data = event.data;
            usize::try_from(data.u64()).unwrap_or(usize::MAX)
        }));
        Ok(())
    }
}

fn data(number: usize) -> EventData {
    EventData::new_u64(number as u64)
}
