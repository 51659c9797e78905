//! The config file, read again whenever it changes.
//!
//! The file's folder is watched, not the file: editors rename over it, and a container volume
//! swaps a symlink beside it. Where events do not reach us (a file mounted alone into a
//! container) a look every few seconds finds the change. A file that is half-written, wrong or
//! gone leaves the running table as it is, and is read again at the next change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::{Config, ConfigError};
use crate::control::Control;

/// A burst of events is one change.
const SETTLE: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Follows the config file. Never ends. `valid` says whether its newest text is in force.
pub(crate) async fn follow(
    path: PathBuf,
    started_with: Config,
    control: Arc<Control>,
    valid: Arc<AtomicBool>,
) {
    let changed = Arc::new(Notify::new());
    let _watcher = watch(&path, changed.clone());
    let mut seen = std::fs::read(&path).ok();
    loop {
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = std::fs::read(&path).ok();
        if now == seen {
            continue;
        }
        seen = now;
        let in_force = take_up(&path, &started_with, &control).await;
        valid.store(in_force, Ordering::Relaxed);
    }
}

/// Reads the file and puts it in force; says what is wrong where that cannot be.
async fn take_up(path: &Path, started_with: &Config, control: &Control) -> bool {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error @ (ConfigError::Wrong { .. } | ConfigError::Unreadable { .. })) => {
            tracing::error!("{error}; the running table stays as it is");
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

/// Watches the folder of the file, and of what it is a symlink to.
fn watch(path: &Path, changed: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let wake = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
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
