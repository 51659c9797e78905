//! The file in which what the admin API has set is kept for the next start.
//!
//! `text` is what it looks like. A change is a record behind what there is, and on the disk before
//! the call for it gets its response; calls that come while the disk works share the next record, and
//! where calls come side by side, `pace` has them share one on purpose.
//! When the records are longer than the snapshot before them, the file is written anew, beside
//! itself, and renamed.

mod pace;
mod text;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::control::saved::{Saved, SavedChanges};
use text::{Fault, FaultKind, Read};
use writer::{Form, RealDisk, Writer};

/// The state file.
pub(crate) struct StateFile {
    path: PathBuf,
    /// Held while it is written, also where the caller has gone meanwhile. Those that wait for it
    /// find their change written.
    writer: Arc<Mutex<Writer>>,
    /// Calls that wait for what they have changed to be written.
    calls: AtomicUsize,
    /// It is another process's to write.
    closed: AtomicBool,
}

/// What there is to be saved.
pub(crate) trait StateSource {
    /// Everything, as it is now.
    fn all(&self) -> Saved;
    /// What has changed since `all` or this was called last; `None` where only all is known.
    fn changes(&self) -> Option<SavedChanges>;
}

impl StateFile {
    /// The file at this path, which is not written before it is opened.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            writer: Arc::new(Mutex::new(Writer::new(path.clone(), RealDisk))),
            path,
            calls: AtomicUsize::new(0),
            closed: AtomicBool::new(true),
        }
    }

    /// What was kept. What of it is damaged is kept aside and said so: the proxy starts with the
    /// rest all the same. A file that cannot be read is an error, since the next write would replace
    /// it.
    pub(crate) fn load(&self) -> Result<Saved, String> {
        let path = self.path.display();
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(error) => return Err(format!("admin.state_file: {path}: {error}")),
        };
        let Read { saved, faults } = text::read(&bytes);
        let mut is_copied = false;
        for Fault {
            offset,
            length,
            kind,
        } in faults
        {
            match kind {
                FaultKind::Torn => tracing::warn!(
                    "{path}: the record at byte {offset} is not whole, and left out: its change was not confirmed to anyone"
                ),
                FaultKind::Record(why) => {
                    if !is_copied {
                        self.keep_a_copy("damaged");
                        is_copied = true;
                    }
                    tracing::error!(
                        "{path}: the record of {length} bytes at byte {offset} is left out: {why}. \
                         A service that it changed is as before: see `GET /v1/services`, and PUT what is not as you want it"
                    );
                }
                FaultKind::Snapshot(why) => self.put_aside(&why)?,
            }
        }
        Ok(saved)
    }

    /// The snapshot is not used. What was changed after it is, and the config file has the rest.
    fn put_aside(&self, why: &str) -> Result<(), String> {
        let path = self.path.display();
        let aside = beside(&self.path, "unreadable");
        tracing::error!(
            error = why,
            "{path} cannot be used; it is kept as {}",
            aside.display()
        );
        std::fs::rename(&self.path, &aside)
            .map_err(|error| format!("admin.state_file: {path} cannot be renamed: {error}"))
    }

    /// Copies the file aside, so that nothing of it is lost.
    pub(crate) fn keep_a_copy(&self, ending: &str) {
        let aside = beside(&self.path, ending);
        match std::fs::copy(&self.path, &aside) {
            Ok(_) => tracing::warn!("the saved state is kept as {}", aside.display()),
            Err(error) => tracing::warn!(%error, "the saved state cannot be copied"),
        }
    }

    /// The file is this process's to write from here on.
    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::Relaxed);
    }

    /// The file is another process's to write from here on, once it has what is to be saved.
    pub(crate) async fn close(&self, source: &impl StateSource) {
        self.settle(source).await;
        self.closed.store(true, Ordering::Relaxed);
        self.writer.lock().await.close();
    }

    /// Writes the file as releases that know no records read it.
    pub(crate) async fn settle(&self, source: &impl StateSource) {
        let writer = self.writer.clone().lock_owned().await;
        if writer.is_open() && !self.is_closed() {
            // An error was said so: the file stays as it was.
            let _ = self.rewrite(writer, source.all(), Form::Plain).await;
        }
    }

    /// Returns when the file holds `generation` or a later one.
    pub(crate) async fn save(
        &self,
        generation: u64,
        source: &impl StateSource,
    ) -> Result<(), String> {
        let call = Call::of(self);
        let mut writer = self.writer.clone().lock_owned().await;
        if writer.durable >= generation {
            return Ok(());
        }
        if self.is_closed() {
            return Err("another process of the proxy has the state file".into());
        }
        let (now, others) = (Instant::now(), call.is_not_alone());
        let due = writer.pace.next(now, others);
        if due > now {
            tokio::time::sleep_until(due).await;
        }
        if writer.has_room()
            && let Some(changes) = source.changes()
        {
            let append = move |writer: &mut Writer| writer.append(&changes);
            match on_another_thread(writer, append).await? {
                (_, Ok(())) => return Ok(()),
                (back, Err(error)) => {
                    let path = self.path.display();
                    tracing::warn!(%error, "{path} cannot be appended to: it is written anew");
                    writer = back;
                }
            }
        }
        self.rewrite(writer, source.all(), Form::Log).await
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    async fn rewrite(
        &self,
        writer: OwnedMutexGuard<Writer>,
        saved: Saved,
        form: Form,
    ) -> Result<(), String> {
        let rewrite = move |writer: &mut Writer| writer.rewrite(&saved, form);
        let (_, rewritten) = on_another_thread(writer, rewrite).await?;
        rewritten.map_err(|error| {
            let message = format!("{}: {error}", self.path.display());
            tracing::error!(error = message, "the state cannot be saved");
            message
        })
    }
}

/// A call that waits, until it is dropped.
struct Call<'s> {
    calls: &'s AtomicUsize,
    /// Another one was there before it.
    has_met: bool,
}

impl<'s> Call<'s> {
    fn of(file: &'s StateFile) -> Self {
        let calls = &file.calls;
        let has_met = calls.fetch_add(1, Ordering::Relaxed) > 0;
        Self { calls, has_met }
    }

    /// Whether another one was there, or is.
    fn is_not_alone(&self) -> bool {
        self.has_met || self.calls.load(Ordering::Relaxed) > 1
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes, and sees it to its end: whether or not the caller still waits for it.
async fn on_another_thread(
    mut writer: OwnedMutexGuard<Writer>,
    write: impl FnOnce(&mut Writer) -> io::Result<()> + Send + 'static,
) -> Result<(OwnedMutexGuard<Writer>, io::Result<()>), String> {
    let done = tokio::task::spawn_blocking(move || {
        let written = write(&mut writer);
        (writer, written)
    });
    done.await.map_err(|error| error.to_string())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests;
