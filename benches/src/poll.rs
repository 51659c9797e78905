//! epoll, for the origin and the load generator.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// The most events that one call returns.
const BATCH: usize = 256;

/// An epoll instance. Each socket has a number.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// Creates an instance without sockets.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).context(|| "epoll".into())?,
            events: Vec::with_capacity(BATCH),
        })
    }

    /// Adds a socket, to wait until it is readable. Closing the socket removes it.
    pub(crate) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        epoll::add(&self.epoll, socket, data(number), EventFlags::IN).context(|| "epoll".into())
    }

    /// Waits until the socket is writable too, or no longer.
    pub(crate) fn want_write(&self, socket: impl AsFd, number: usize, want: bool) -> Result<()> {
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, want);
        epoll::modify(&self.epoll, socket, data(number), flags).context(|| "epoll".into())
    }

    /// Puts the numbers of the ready sockets into `ready`. It is empty after the timeout.
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
