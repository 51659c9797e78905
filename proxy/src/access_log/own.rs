//! A worker's side of the access log: the lines of its requests, until the writer takes them.
//!
//! Lines are made in a buffer of the worker's own, which goes to the writer as a whole: when it is full,
//! or a moment after its first line. The writer gives it back. A worker has so many buffers and no more,
//! so it never waits: where the writer has all of them, lines are lost, and counted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::AccessLog;
use super::clock::Clock;
use super::record::{Record, Wanted};
use super::writer::{Batch, ToWriter};
use crate::wire::head::Message;
use crate::wire::peer::Peer;

/// From so many bytes on, a buffer goes to the writer. Most lines fit into what is left behind that.
const FULL: usize = 60 * 1024;
const BUFFER: usize = 64 * 1024;
/// The buffers of a worker: 4 MiB in all.
const BUFFERS: usize = 64;
/// Buffers that are kept while the writer is as fast as the worker.
const KEPT: usize = 2;
/// How long a line waits for further ones.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// Records that are kept for further requests.
const RECORDS: usize = 512;

/// A worker's side of the access log.
pub(crate) struct OfWorker {
    log: Arc<AccessLog>,
    worker: usize,
    lines: RefCell<Vec<u8>>,
    /// A buffer has its first line.
    begun: Notify,
    clock: RefCell<Clock>,
    /// Buffers that the writer has.
    away: Cell<usize>,
    free: RefCell<Vec<Vec<u8>>>,
    back: RefCell<UnboundedReceiver<Vec<u8>>>,
    to_here: UnboundedSender<Vec<u8>>,
    #[expect(
        clippy::vec_box,
        reason = "each goes to a request as the box that it is"
    )]
    records: RefCell<Vec<Box<Open>>>,
}

/// A request that is under way.
pub(crate) struct Open {
    /// While it is.
    log: Option<Rc<OfWorker>>,
    record: Record,
}

/// A request that has its line when this is dropped, however it ends; nothing, where there is no log.
pub(crate) struct Logged(Option<Box<Open>>);

impl OfWorker {
    pub(crate) fn new(log: Arc<AccessLog>, worker: usize) -> Rc<Self> {
        let (to_here, back) = unbounded_channel();
        Rc::new(Self {
            log,
            worker,
            lines: RefCell::new(Vec::with_capacity(BUFFER)),
            begun: Notify::new(),
            clock: RefCell::new(Clock::new()),
            away: Cell::new(0),
            free: RefCell::default(),
            back: RefCell::new(back),
            to_here,
            records: RefCell::default(),
        })
    }

    /// Passes lines on that have waited. Never ends.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(FLUSH_AFTER).await;
            self.pass_on();
        }
    }

    fn open(self: &Rc<Self>, peer: &Peer) -> Box<Open> {
        let open = self.records.borrow_mut().pop();
        let mut open = open.unwrap_or_else(|| {
            Box::new(Open {
                log: None,
                record: Record::new(),
            })
        });
        open.log = Some(self.clone());
        open.record.begin(peer, self.log.line.is_json());
        open
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            query: self.log.query,
            fields: &self.log.fields,
        }
    }

    /// A request has ended.
    fn ended(&self, record: &Record) {
        if !self.log.sampling.takes(record) || !self.has_room() {
            return;
        }
        let now = Instant::now();
        let mut lines = self.lines.borrow_mut();
        if lines.is_empty() {
            self.begun.notify_one();
        }
        let mut clock = self.clock.borrow_mut();
        self.log.line.write(record, now, clock.at(now), &mut lines);
        if lines.len() >= FULL {
            drop(lines);
            self.pass_on();
        }
    }

    /// Whether there is a buffer for one more line. If not, that is counted.
    fn has_room(&self) -> bool {
        let mut lines = self.lines.borrow_mut();
        if lines.capacity() > 0 {
            return true;
        }
        self.take_back();
        if let Some(free) = self.free.borrow_mut().pop() {
            *lines = free;
        } else if self.away.get() < BUFFERS {
            *lines = Vec::with_capacity(BUFFER);
        } else {
            self.log.lost.no_room(self.worker);
            return false;
        }
        true
    }

    /// Takes buffers back that were written.
    fn take_back(&self) {
        let mut back = self.back.borrow_mut();
        let mut free = self.free.borrow_mut();
        while let Ok(mut buffer) = back.try_recv() {
            self.away.set(self.away.get() - 1);
            // One that a long line has made larger is not kept.
            if free.len() < KEPT && buffer.capacity() <= 2 * BUFFER {
                buffer.clear();
                free.push(buffer);
            }
        }
    }

    /// Passes what there is on to the writer.
    fn pass_on(&self) {
        let mut lines = self.lines.borrow_mut();
        if lines.is_empty() {
            return;
        }
        self.away.set(self.away.get() + 1);
        // Fails when the writer has ended: so has the process, nearly.
        let _ = self.log.writer.send(ToWriter::Batch(Batch {
            lines: std::mem::take(&mut *lines),
            back: self.to_here.clone(),
        }));
    }
}

impl Drop for OfWorker {
    fn drop(&mut self) {
        self.pass_on();
    }
}

impl Logged {
    /// Of no log.
    pub(crate) const NONE: Self = Self(None);

    /// A request whose head was read, of so many bytes.
    #[inline]
    pub(crate) fn begin(
        log: Option<&Rc<OfWorker>>,
        peer: &Peer,
        request: Message<'_>,
        length: usize,
    ) -> Self {
        Self(log.map(|log| {
            let mut open = log.open(peer);
            open.record.read(peer, request, &log.wanted());
            open.record.has_head(length);
            open
        }))
    }

    /// A request whose head cannot be read, with its first line.
    pub(crate) fn unread(log: Option<&Rc<OfWorker>>, peer: &Peer, line: &[u8]) -> Self {
        Self(log.map(|log| {
            let mut open = log.open(peer);
            open.record.read_line(peer, line, &log.wanted());
            open
        }))
    }

    /// Whether there is none.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Takes note of something, where there is a log.
    #[inline]
    pub(crate) fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(open) = &mut self.0 {
            note(&mut open.record);
        }
    }
}

impl Drop for Logged {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            end(open);
        }
    }
}

fn end(mut open: Box<Open>) {
    let Some(log) = open.log.take() else { return };
    log.ended(&open.record);
    let mut records = log.records.borrow_mut();
    if records.len() < RECORDS {
        records.push(open);
    }
}

#[cfg(test)]
mod tests;
