//! Tells the reconciler at once when the proxy's table, or what the proxy sees of a container's health,
//! is another one, and when the proxy is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::project::Project;

/// How long one call waits for news.
const WAIT: Duration = Duration::from_secs(60);
/// From one attempt to the next, where the proxy does not respond.
const AGAIN: Duration = Duration::from_millis(500);
/// The same for a proxy that knows no such call: one of an older release.
const OLDER: Duration = Duration::from_secs(60);

/// The watch over one proxy. Ended by dropping.
#[derive(Debug)]
pub(super) struct TableWatch {
    task: tokio::task::JoinHandle<()>,
    works: Arc<AtomicBool>,
}

impl TableWatch {
    pub(super) fn start(project: Arc<Project>, changed: Arc<Notify>) -> Self {
        let works = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(watch(project, changed, works.clone()));
        Self { task, works }
    }

    /// Whether changes are told now.
    pub(super) fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }
}

impl Drop for TableWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(project: Arc<Project>, changed: Arc<Notify>, works: Arc<AtomicBool>) {
    let mut seen = None;
    loop {
        match project.admin.changes(seen.as_deref(), WAIT).await {
            Ok(now) => {
                works.store(true, Ordering::Relaxed);
                if seen.as_ref() != Some(&now.at) {
                    changed.notify_one();
                }
                seen = Some(now.at);
            }
            Err(error) => {
                works.store(false, Ordering::Relaxed);
                seen = None;
                let is_older = error.is_unknown();
                if !is_older {
                    changed.notify_one();
                }
                tokio::time::sleep(if is_older { OLDER } else { AGAIN }).await;
            }
        }
    }
}
