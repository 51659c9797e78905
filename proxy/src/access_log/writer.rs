//! The one thread that writes the access log.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::lost::Lost;
use super::output::Output;

/// What the writer is told.
pub(crate) enum ToWriter {
    Batch(Batch),
    /// The file was moved away: another one is to be made.
    Reopen,
    /// Nothing comes after this.
    End,
}

/// Lines of a worker.
pub(crate) struct Batch {
    pub(super) lines: Vec<u8>,
    /// Where the worker takes its buffer back.
    pub(super) back: UnboundedSender<Vec<u8>>,
}

/// Starts the writer. The receiver hears when it has ended.
pub(super) fn start(
    output: Output,
    batches: UnboundedReceiver<ToWriter>,
    lost: Arc<Lost>,
) -> io::Result<oneshot::Receiver<()>> {
    let (ended, has_ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || {
            run(output, batches, &lost);
            // No one may wait for it.
            let _ = ended.send(());
        })?;
    Ok(has_ended)
}

fn run(mut output: Output, mut batches: UnboundedReceiver<ToWriter>, lost: &Lost) {
    let mut is_well = true;
    while let Some(told) = batches.blocking_recv() {
        match told {
            ToWriter::Batch(Batch { lines, back }) => {
                match output.write(&lines) {
                    Ok(()) if is_well => {}
                    Ok(()) => {
                        is_well = true;
                        lost.is_well();
                    }
                    Err(failed) => {
                        is_well = false;
                        let unwritten = memchr::memchr_iter(b'\n', &lines[failed.written..]);
                        lost.unwritten(unwritten.count() as u64, failed.why);
                    }
                }
                // The worker may have ended.
                let _ = back.send(lines);
            }
            ToWriter::Reopen => output.reopen(),
            ToWriter::End => return,
        }
    }
}
