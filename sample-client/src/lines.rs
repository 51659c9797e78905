//! Writes lines to standard output from a thread of its own, so that a slow reader does not delay
//! requests.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use tokio::sync::oneshot;

/// The sending half: queues lines for the thread that prints.
#[derive(Debug, Clone)]
pub(crate) struct Lines(Sender<Entry>);

#[derive(Debug)]
enum Entry {
    Line(String),
    End,
}

/// The thread that prints.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: thread::JoinHandle<io::Result<()>>,
    /// Completes when the thread has ended, for example because the reader is gone.
    pub(crate) gone: oneshot::Receiver<()>,
}

impl Lines {
    pub(crate) fn to(out: impl Write + Send + 'static) -> (Self, Writer) {
        let (sender, entries) = mpsc::channel();
        let (alive, gone) = oneshot::channel();
        let thread = thread::spawn(move || {
            let result = print(&entries, out);
            drop(alive);
            result
        });
        (Self(sender), Writer { thread, gone })
    }

    /// Queues a line. It is lost if the reader is gone; [`Writer::finish`] reports that.
    pub(crate) fn print(&self, line: String) {
        let _ = self.0.send(Entry::Line(line));
    }
}

impl Writer {
    /// Waits until all lines are written.
    pub(crate) fn finish(self, lines: &Lines) -> io::Result<()> {
        let _ = lines.0.send(Entry::End);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the printing thread panicked")))
    }
}

/// Flushes whenever the queue is empty: single lines at once, bursts together.
fn print(entries: &Receiver<Entry>, out: impl Write) -> io::Result<()> {
    let mut out = io::BufWriter::new(out);
    loop {
        let entry = match entries.try_recv() {
            Ok(entry) => entry,
            Err(TryRecvError::Disconnected) => Entry::End,
            Err(TryRecvError::Empty) => {
                out.flush()?;
                entries.recv().unwrap_or(Entry::End)
            }
        };
        match entry {
            Entry::Line(line) => writeln!(out, "{line}")?,
            Entry::End => return out.flush(),
        }
    }
}
