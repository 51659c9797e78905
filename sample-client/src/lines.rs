//! Lines to stdout, from a thread of their own: a reader that is slow does not slow requests.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;

use tokio::sync::oneshot;

/// Where lines are printed.
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
    /// Completes when nothing can be printed any more.
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

    /// Prints a line, soon. It is lost where the reader is gone, which the writer tells.
    pub(crate) fn print(&self, line: String) {
        let _ = self.0.send(Entry::Line(line));
    }
}

impl Writer {
    /// Waits until all lines are out. Says why not, where they could not be written.
    pub(crate) fn finish(self, lines: &Lines) -> io::Result<()> {
        let _ = lines.0.send(Entry::End);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the printing thread died")))
    }
}

/// Flushes whenever no line waits: each line at once, or many together when they come in a rush.
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
