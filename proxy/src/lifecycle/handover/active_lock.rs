//! Whether a process is active, as the kernel knows it. The active process holds a shared lock on a
//! file beside the handover socket, and so do both while one hands over to the other. The kernel
//! releases it when a process dies. A standby that has lost its link takes the lock for itself alone:
//! it can only where no process is active any more. Then it shares it, for its successor; since the
//! kernel lets a lock go for a moment to change its kind, standbys take it one after the other, which
//! a second file is for.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::{sleep, timeout};

/// How often it is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(2);
/// How long a standby may hold it for itself alone.
const TAKING: Duration = Duration::from_secs(1);

/// The lock, as one process sees it. Without a file, every attempt succeeds.
#[derive(Debug)]
pub(crate) struct ActiveLock {
    active: Option<File>,
    /// Held while a standby takes the other.
    taking: Option<File>,
}

impl ActiveLock {
    /// The lock beside this handover socket, if there is one.
    pub(crate) fn beside(socket: Option<&Path>) -> Self {
        let open = |ending| {
            let mut path = socket?.as_os_str().to_owned();
            path.push(ending);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600);
            match options.open(&path) {
                Ok(file) => Some(file),
                Err(error) => {
                    tracing::warn!(?path, %error, "cannot lock: a process that is cut off from the active one will take it for dead");
                    None
                }
            }
        };
        Self {
            active: open(".lock"),
            taking: open(".taking"),
        }
    }

    /// This process is active from here on, beside one that hands over to it.
    pub(crate) async fn hold(&self) {
        let held = async {
            while !lock(&self.active, FlockOperation::NonBlockingLockShared) {
                sleep(RETRY_EVERY).await;
            }
        };
        if timeout(TAKING, held).await.is_err() {
            tracing::warn!("another process keeps the lock of the active one");
        }
    }

    /// Another process is active from here on.
    pub(crate) fn release(&self) {
        lock(&self.active, FlockOperation::Unlock);
    }

    /// Waits until no process is active, and makes this one active. Given up on the way, it has
    /// changed nothing.
    pub(crate) async fn take(&self) {
        while !self.try_take() {
            sleep(RETRY_EVERY).await;
        }
    }

    /// Makes this process active, if none is.
    pub(super) fn try_take(&self) -> bool {
        let alone = FlockOperation::NonBlockingLockExclusive;
        if !lock(&self.taking, alone) {
            return false;
        }
        let taken =
            lock(&self.active, alone) && lock(&self.active, FlockOperation::NonBlockingLockShared);
        lock(&self.taking, FlockOperation::Unlock);
        taken
    }
}

/// `false`: another process has it. Where locks do not work, nothing is known, and this goes on as if
/// there was none.
fn lock(file: &Option<File>, how: FlockOperation) -> bool {
    let locked = file.as_ref().map_or(Ok(()), |file| flock(file, how));
    !matches!(locked, Err(Errno::WOULDBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn can_take(lock: &ActiveLock) -> bool {
        timeout(20 * RETRY_EVERY, lock.take()).await.is_ok()
    }

    #[tokio::test]
    async fn a_standby_gets_it_once_no_process_is_active_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("handover.sock");
        let open = || ActiveLock::beside(Some(&socket));
        let (standby, before, active) = (open(), open(), open());
        before.hold().await;
        active.hold().await;
        before.release();
        assert!(!can_take(&standby).await);
        // As the kernel does it when a process dies.
        drop(active);
        assert!(can_take(&standby).await);
        // It is active now, and shares that with its successor.
        let successor = open();
        successor.hold().await;
        standby.release();
        assert!(!can_take(&before).await);
    }

    #[tokio::test]
    async fn without_a_socket_or_a_folder_nothing_is_locked() {
        for path in [None, Some(Path::new("/proc/none/handover.sock"))] {
            let (one, other) = (ActiveLock::beside(path), ActiveLock::beside(path));
            one.hold().await;
            assert!(can_take(&other).await);
        }
    }
}
