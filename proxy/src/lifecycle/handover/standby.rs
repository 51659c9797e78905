//! A process that waits to take the active one's place. It has copies of the listening sockets, so
//! that clients wait in them when the active process dies, and nothing else: one thread that sleeps.
//! What it serves then is in the config file and in the state file, as at every start.
//!
//! ```text
//!   standby                                  active process
//!      │ ── Hello { copies, standby } ─────────► │
//!      │ ◄─ every listening socket, Active ───── │
//!      :            the channel is open          :
//!      │ ◄─ it is closed ─────────────────────── │ has died, or has handed over
//!  takes the lock, and serves: it has died       │
//!      │ ── Hello { copies, standby } ─────────► │ another process is active
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use program::sockets::{Channel, Given, stand_by};
use tokio::time::{sleep, timeout};

use super::active_lock::ActiveLock;
use super::error::HandoverError;

/// How often it looks for the process that is active by now.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// The kernel closes what a process that dies has open one after the other.
const DYING: Duration = Duration::from_millis(500);

/// A process that waits.
#[derive(Debug)]
pub struct Standby {
    socket: PathBuf,
    lock: ActiveLock,
    sockets: Vec<Given>,
    channel: Channel,
}

/// The lock of the active process. Keep it until the process that serves holds its own.
#[derive(Debug)]
pub struct HeldLock(#[expect(dead_code, reason = "it is there to be held")] ActiveLock);

impl Standby {
    /// Gets copies of the sockets of the process that serves behind this socket. `None` where there
    /// is none: nothing is to be waited for.
    ///
    /// # Errors
    /// Where there is one and it gives none, or its death could not be told from a handover.
    pub async fn join(socket: &Path) -> Result<Option<Self>, HandoverError> {
        let joined = stand_by(socket)
            .await
            .map_err(|source| HandoverError::Socket {
                path: socket.to_owned(),
                source,
            })?;
        let Some((sockets, channel)) = joined else {
            return Ok(None);
        };
        let mut standby = Self {
            socket: socket.to_owned(),
            lock: ActiveLock::beside(Some(socket)),
            sockets,
            channel,
        };
        match standby.is_told_apart().await {
            true => Ok(Some(standby)),
            false => Err(HandoverError::Unlocked {
                socket: socket.to_owned(),
            }),
        }
    }

    /// Waits until no process is active, and gives the sockets, and the lock of the active process.
    pub async fn until_it_serves(mut self) -> (Vec<Given>, HeldLock) {
        tracing::info!("standby: waiting for the active process to end");
        loop {
            self.channel.closed().await;
            tokio::select! {
                biased;
                () = self.lock.take() => {
                    tracing::warn!("the active process has ended: the standby serves in its place");
                    return (self.sockets, HeldLock(self.lock));
                }
                (sockets, channel) = join_again(&self.socket) => {
                    (self.sockets, self.channel) = (sockets, channel);
                }
            }
        }
    }

    /// Whether the lock can be taken only once the process that serves has ended. It could be taken
    /// before where locks do not work.
    async fn is_told_apart(&mut self) -> bool {
        if !self.lock.try_take() {
            return true;
        }
        self.lock.release();
        timeout(DYING, self.channel.closed()).await.is_ok()
    }
}

/// The copies of the process that is active by now, once there is one.
async fn join_again(socket: &Path) -> (Vec<Given>, Channel) {
    loop {
        match stand_by(socket).await {
            Ok(Some(joined)) => return joined,
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => tracing::debug!(%error, "standby: no other process is active yet"),
        }
        sleep(POLL_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use program::sockets::{Active, Hello, Label, Role, bind, give_copies};
    use tokio::net::UnixListener;

    use super::*;

    const HANG: Duration = Duration::from_secs(20);

    /// An active process, as a standby sees it.
    struct ActiveProcess {
        listener: UnixListener,
        path: PathBuf,
        clients: std::net::TcpListener,
        lock: ActiveLock,
    }

    impl ActiveProcess {
        async fn new(folder: &Path) -> Self {
            let path = folder.join("handover.sock");
            // As a successor has it: the path leads to the newest.
            let _ = std::fs::remove_file(&path);
            let lock = ActiveLock::beside(Some(&path));
            lock.hold().await;
            Self {
                listener: UnixListener::bind(&path).unwrap(),
                path,
                clients: bind(([127, 0, 0, 1], 0).into(), true).unwrap(),
                lock,
            }
        }

        async fn admit(&self) -> Channel {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut channel = Channel::new(stream, &self.path).unwrap();
            let hello: Hello = channel.receive().await.unwrap();
            assert!(hello.copies && hello.standby);
            let given = Given {
                label: Label {
                    role: Role::Clients,
                    configured: "127.0.0.1:0".into(),
                    actual: self.clients.local_addr().ok(),
                    name: None,
                },
                fd: self.clients.as_fd().try_clone_to_owned().unwrap(),
            };
            give_copies(&mut channel, &[given]).await.unwrap();
            channel.send(&Active).await.unwrap();
            channel
        }

        fn address(&self) -> Option<std::net::SocketAddr> {
            self.clients.local_addr().ok()
        }
    }

    async fn joined(active: &ActiveProcess) -> (Standby, Channel) {
        let (standby, channel) = tokio::join!(Standby::join(&active.path), active.admit());
        (standby.unwrap().expect("a process is active"), channel)
    }

    #[tokio::test]
    async fn it_serves_once_the_active_process_has_ended_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let active = ActiveProcess::new(folder.path()).await;
        let address = active.address();
        let (standby, channel) = joined(&active).await;
        let mut serves = std::pin::pin!(standby.until_it_serves());
        let early = timeout(Duration::from_millis(50), &mut serves).await;
        assert!(early.is_err(), "the active process lives");
        drop(channel);
        let early = timeout(Duration::from_millis(50), &mut serves).await;
        assert!(early.is_err(), "it has the lock still");
        drop(active);
        let (sockets, _lock) = timeout(HANG, serves).await.unwrap();
        assert_eq!(sockets.len(), 1);
        assert_eq!(sockets[0].label.actual, address);
    }

    #[tokio::test]
    async fn it_waits_for_the_successor_of_a_process_that_has_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let before = ActiveProcess::new(folder.path()).await;
        let (standby, channel) = joined(&before).await;
        let serves = tokio::spawn(standby.until_it_serves());
        let after = ActiveProcess::new(folder.path()).await;
        before.lock.release();
        drop(channel);
        let channel = timeout(HANG, after.admit()).await.unwrap();
        assert!(!serves.is_finished());
        let address = after.address();
        drop((before, after, channel));
        let (sockets, _lock) = timeout(HANG, serves).await.unwrap().unwrap();
        assert_eq!(sockets[0].label.actual, address, "the successor's");
    }

    #[tokio::test]
    async fn without_a_process_there_is_nothing_to_wait_for() {
        let folder = tempfile::tempdir().unwrap();
        let none = Standby::join(&folder.path().join("handover.sock")).await;
        assert!(none.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_process_that_holds_no_lock_has_no_standby() {
        let folder = tempfile::tempdir().unwrap();
        let active = ActiveProcess::new(folder.path()).await;
        active.lock.release();
        let (standby, _channel) = tokio::join!(Standby::join(&active.path), active.admit());
        let error = standby.unwrap_err().to_string();
        assert!(error.contains("holds no lock"), "{error}");
    }
}
