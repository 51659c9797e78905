//! Files: read at once, or again whenever they change.
//!
//! A file's folder is watched, not the file: editors rename over it, and a container volume
//! swaps a symlink beside it. Where events do not reach us (a file mounted alone into a
//! container) a check every other second finds the change. A file that is still being written
//! is waited for.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

/// No event told that the writer is done: the file has to stay the same for so long. Who copies it
/// here over a network may well pause.
const SETTLE: Duration = Duration::from_secs(1);
/// The watcher hears of a change a moment after it.
const MOMENT: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The content of a regular file: opening a pipe would wait for a writer.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(most).read_to_end(&mut bytes)?;
    if read as u64 == most {
        let most = ByteSize(most);
        return Err(io::Error::other(format!("is longer than {most}")));
    }
    Ok(bytes)
}

/// A watch over some files.
pub(crate) struct FileWatch {
    hints: Arc<Hints>,
    /// Watches for as long as it is there.
    _watcher: Option<notify::RecommendedWatcher>,
}

/// What the watcher says.
#[derive(Default)]
struct Hints {
    /// The names of the files, and of what they are symlinks to.
    names: BTreeSet<OsString>,
    /// Something has happened that may have changed a file.
    changed: Notify,
    /// A file was touched.
    touched: Notify,
    touches: Mutex<Touches>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Touches {
    count: u64,
    /// Files that are being written, or were deleted: the change is not complete.
    unfinished: BTreeSet<OsString>,
}

impl FileWatch {
    /// Watches the folders of these files, and of what they are symlinks to.
    pub(crate) fn new<'p>(files: impl IntoIterator<Item = &'p Path>) -> Self {
        let mut hints = Hints::default();
        let mut folders = BTreeSet::new();
        for file in files {
            let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
            for path in [file, &real] {
                hints.names.extend(path.file_name().map(OsString::from));
                let folder = path.parent().filter(|folder| *folder != Path::new(""));
                folders.insert(folder.unwrap_or(Path::new(".")).to_owned());
            }
        }
        let hints = Arc::new(hints);
        let watcher = hints.watcher(&folders);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "files cannot be watched; they are checked every {LOOK_EVERY:?}");
        }
        Self {
            hints,
            _watcher: watcher.ok(),
        }
    }

    /// Ends when one of the files may have changed. Gives whether the watcher said so; if not,
    /// it was just time for a look.
    pub(crate) async fn changed(&self) -> bool {
        let hint = self.hints.changed.notified();
        tokio::time::timeout(LOOK_EVERY, hint).await.is_ok()
    }

    /// What `read` gives at a moment when the files are not being written. `told`: the watcher can
    /// be relied on to report writes.
    pub(crate) async fn settled<T: PartialEq, E, F>(
        &self,
        told: bool,
        read: impl Fn() -> F,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        loop {
            let before = self.hints.touches();
            let first = read().await.ok();
            let done = told && before.unfinished.is_empty();
            let quiet = if done { MOMENT } else { SETTLE };
            let touched = self.hints.touched.notified();
            if tokio::time::timeout(quiet, touched).await.is_ok() {
                continue;
            }
            let again = read().await;
            if again.as_ref().ok() == first.as_ref() && self.hints.touches() == before {
                return again;
            }
        }
    }
}

impl Hints {
    fn watcher(
        self: &Arc<Self>,
        folders: &BTreeSet<PathBuf>,
    ) -> notify::Result<notify::RecommendedWatcher> {
        let hints = self.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<_>| {
            if let Ok(event) = event {
                hints.take_in(&event);
            }
        })?;
        for folder in folders {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, "{} cannot be watched", folder.display());
            }
        }
        Ok(watcher)
    }

    fn take_in(&self, event: &Event) {
        for path in &event.paths {
            let Some(name) = path.file_name() else {
                continue;
            };
            if self.names.contains(name) {
                self.touch(name, event.kind);
            } else if is_swapped(path, event.kind) {
                self.changed.notify_one();
            }
        }
    }

    fn touch(&self, name: &OsStr, kind: EventKind) {
        let mut touches = self.touches.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            // Said again of what was said of either name.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
            // Renamed away: another one comes in its place.
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                touches.unfinished.insert(name.to_owned());
            }
            // Who renames a file into its place, or closes it, is done with it.
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_)) => {
                touches.unfinished.remove(name);
            }
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Metadata(_)) => {}
            _ => {
                touches.unfinished.insert(name.to_owned());
            }
        }
        touches.count += 1;
        drop(touches);
        self.touched.notify_waiters();
        self.changed.notify_one();
    }

    fn touches(&self) -> Touches {
        let touches = self.touches.lock().unwrap_or_else(PoisonError::into_inner);
        touches.clone()
    }
}

/// Whether something beside the files came that they may be reached through: a symlink or a
/// folder. What is written there otherwise, such as our own state, is nothing to look at.
fn is_swapped(path: &Path, kind: EventKind) -> bool {
    let came = matches!(
        kind,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_))
    );
    came && std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file())
}
