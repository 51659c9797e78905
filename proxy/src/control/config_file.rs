//! The config file, read again whenever it changes. One that is wrong or gone leaves the running
//! table as it is, and is read again at the next change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Config, ConfigError};
use crate::control::{ChangeError, Control, ProcessRole};
use crate::file::FileWatch;

/// Follows the config file. Never ends. `valid` says whether its newest text is in force.
pub(crate) async fn follow(
    path: PathBuf,
    started_with: Config,
    control: Arc<Control>,
    valid: Arc<AtomicBool>,
) {
    let watch = FileWatch::new([&*path]);
    // What the file had at the last check; there was none yet since it was loaded.
    let mut seen: Option<Option<String>> = None;
    let mut process_role = control.watch_process_role();
    loop {
        let told = watch.changed().await;
        // The process that has taken over follows the file. An error: the proxy ends.
        let _ = process_role
            .wait_for(|now| *now == ProcessRole::Active)
            .await;
        let now = read(&path).await.ok();
        if seen.as_ref() == Some(&now) {
            continue;
        }
        let now = watch.settled(told, || read(&path)).await;
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
            "a change of [admin], [sticky], [access_log], [[listeners]] or [limits] takes effect at the next start"
        );
    }
    match control.read_file(&config).await {
        Ok(true) => {
            tracing::info!(
                generation = control.table().generation,
                "config file applied"
            );
            true
        }
        Ok(false) => true,
        Err(error @ ChangeError::NotSaved(_)) => {
            tracing::error!("{}: {error}", path.display());
            true
        }
        Err(error) => {
            tracing::error!(
                "{}: {error}; the running table stays as it is",
                path.display()
            );
            false
        }
    }
}
