//! The config file, read again whenever it changes.
//!
//! The file's folder is watched, not the file: editors rename over it, and a container volume
//! swaps a symlink beside it. Where events do not reach us (a file mounted alone into a
//! container) a look every other second finds the change. A file that is half-written, wrong or
//! gone leaves the running table as it is, and is read again at the next change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::{Config, ConfigError};
use crate::control::Control;

/// A file that may still be written has to stay the same for so long.
const SETTLE: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Follows the config file. Never ends. `valid` says whether its newest text is in force.
pub(crate) async fn follow(
    path: PathBuf,
    started_with: Config,
    control: Arc<Control>,
    valid: Arc<AtomicBool>,
) {
    let hints = Arc::new(Hints::default());
    let _watcher = watch(&path, &hints);
    // What the file had at the last look; nobody has looked yet since it was loaded.
    let mut seen: Option<Option<String>> = None;
    loop {
        let hinted = tokio::time::timeout(LOOK_EVERY, hints.changed.notified())
            .await
            .is_ok();
        let whole = hinted && hints.whole.swap(false, Ordering::Relaxed);
        let mut now = read(&path).await;
        if seen
            .as_ref()
            .is_some_and(|seen| seen.as_ref() == now.as_ref().ok())
        {
            continue;
        }
        if !whole {
            now = settled(&path, now).await;
        }
        let in_force = match &now {
            Ok(text) => take_up(&path, text, &started_with, &control).await,
            Err(error) => {
                tracing::error!("{error}; the running table stays as it is");
                false
            }
        };
        seen = Some(now.ok());
        valid.store(in_force, Ordering::Relaxed);
    }
}

/// Reads the file on another thread: a disk that hangs must not stop this one.
async fn read(path: &Path) -> Result<String, ConfigError> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || Config::read(&owned)).await;
    read.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })
    })
}

/// What the file has once nothing in it changes any more: nobody said that the writer is done.
async fn settled(path: &Path, first: Result<String, ConfigError>) -> Result<String, ConfigError> {
    let mut before = first;
    loop {
        tokio::time::sleep(SETTLE).await;
        let now = read(path).await;
        if now.as_ref().ok() == before.as_ref().ok() {
            return now;
        }
        before = now;
    }
}

/// Puts a text in force; says what is wrong where that cannot be.
async fn take_up(path: &Path, text: &str, started_with: &Config, control: &Control) -> bool {
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{}; the running table stays as it is", error.in_file(path));
            return false;
        }
    };
    if !config.same_sockets(started_with) {
        tracing::warn!(
            "a change of [admin], [[listeners]] or [limits] takes effect at the next start"
        );
    }
    match control.read_file(&config).await {
        Ok(true) => {
            tracing::info!(
                generation = control.table().generation,
                "config file taken up"
            );
            true
        }
        Ok(false) => true,
        Err(error) => {
            tracing::error!(
                "{}: {error}; the running table stays as it is",
                path.display()
            );
            false
        }
    }
}

/// What the watcher says.
#[derive(Default)]
struct Hints {
    changed: Notify,
    /// A file was closed after it was written, or renamed: what is there is whole.
    whole: AtomicBool,
}

/// Watches the folder of the file, and of what it is a symlink to.
fn watch(path: &Path, hints: &Arc<Hints>) -> Option<notify::RecommendedWatcher> {
    let hints = hints.clone();
    let wake = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_)) => {
                hints.whole.store(true, Ordering::Relaxed);
            }
            EventKind::Access(_) => return,
            _ => {}
        }
        hints.changed.notify_one();
    };
    let mut watcher = match notify::recommended_watcher(wake) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "the config file is looked at every {LOOK_EVERY:?} instead of watched");
            return None;
        }
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for folder in [path, &real].into_iter().filter_map(Path::parent) {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, "{} cannot be watched", folder.display());
        }
    }
    Some(watcher)
}
