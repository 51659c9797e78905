//! What a process that serves does for its successors: gives its sockets and its table to the
//! first one that is ready to go on with them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use program::sockets::{Active, Channel, Given, Label, give_copies};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::link::Links;
use super::message::{Commit, FORMAT, Hello, Offer, Prepared, Ready};
use super::predecessor::DrainingProcess;
use crate::control::{Control, ProcessRole};
use crate::table::counts::remote::ProcessId;
use crate::wire::listener_id::ListenerId;
use crate::wire::tls::Listening;

/// How long a peer may take to send its first message.
const HELLO: Duration = Duration::from_secs(1);
/// How long a successor may take to load certificates and bind what is new.
const PREPARE: Duration = Duration::from_secs(60);
/// How long it may keep changes of the table waiting.
const FREEZE: Duration = Duration::from_secs(5);

/// What there is to be taken over.
pub(crate) struct HandoverState {
    pub(crate) control: Arc<Control>,
    pub(crate) links: Arc<Links>,
    pub(crate) process: ProcessId,
    pub(crate) tls: Arc<Listening>,
    /// Every listening socket once more. They are open for as long as this is here.
    pub(crate) sockets: Vec<Given>,
    /// The channels of those that wait to take this process's place.
    pub(crate) standbys: Standbys,
}

/// A task for each process that waits to take this one's place: it keeps the channel open.
#[derive(Default)]
pub(crate) struct Standbys(Mutex<JoinSet<()>>);

impl Standbys {
    async fn admit(&self, mut channel: Channel, control: &Control) -> io::Result<()> {
        in_time(HELLO, channel.send(&Active)).await?;
        let waiting = control.standbys.enter();
        let keeping = async move {
            // It says nothing more until it is gone.
            channel.closed().await;
            drop(waiting);
        };
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(keeping);
        Ok(())
    }

    /// This process is active no more: they look for the one that is.
    pub(crate) fn dismiss(&self) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }
}

/// A successor that has taken over.
pub(crate) struct Successor {
    pub(crate) channel: Channel,
    /// Where it accepts connections.
    pub(crate) kept: Vec<ListenerId>,
    /// Where its admin API is.
    pub(crate) admin: Option<String>,
    /// Older processes than this one, which are the successor's now.
    pub(crate) draining_processes: Vec<ProcessId>,
}

impl HandoverState {
    /// Waits for a process that takes over, behind this socket. What those before it got wrong
    /// changes nothing.
    pub(crate) async fn pass_on(&self, path: &Path, listener: &UnixListener) -> Successor {
        let listener = loop {
            let again = listener.try_clone();
            match again.and_then(tokio::net::UnixListener::from_std) {
                Ok(listener) => break listener,
                Err(error) => pause_after("cannot listen for a successor", &error).await,
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match self.receive(path, stream).await {
                    Ok(Some(successor)) => return successor,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "no process has taken over: this one continues to serve");
                    }
                },
                Err(error) => pause_after("cannot accept a successor", &error).await,
            }
        }
    }

    /// Hands over to one process. `None`: it did not want that.
    async fn receive(&self, path: &Path, stream: UnixStream) -> io::Result<Option<Successor>> {
        let mut channel = Channel::new(stream, path)?;
        let hello: Hello = match in_time(HELLO, channel.receive()).await {
            // It has given up before it was its turn.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            hello => hello?,
        };
        if hello.format != FORMAT {
            let why = format!(
                "release {} speaks format {}, and release {} here speaks {FORMAT}",
                hello.release,
                hello.format,
                env!("CARGO_PKG_VERSION")
            );
            in_time(HELLO, channel.send(&Offer::Refused(why))).await?;
            return Ok(None);
        }
        if let Some(process) = hello.draining_process {
            // Its owner has died, and this process is the owner now.
            let links = self.links.clone();
            tokio::spawn(
                async move { links.add(vec![DrainingProcess { process, channel }]).await },
            );
            return Ok(None);
        }
        if hello.copies {
            let given = self.give_copies(channel, hello.standby).await;
            if let Err(error) = given {
                // As a standby that has begun to wait for a successor, and serves itself by now.
                tracing::debug!(%error, "a process that wanted copies of the sockets is gone");
            }
            return Ok(None);
        }
        in_time(HELLO, self.offer(&mut channel)).await?;
        let Prepared = in_time(PREPARE, channel.receive()).await?;
        let ready = in_time(FREEZE, self.freeze(&mut channel)).await;
        let handed_over = match ready {
            Ok(ready) => self
                .hand_over(&mut channel)
                .await
                .map(|draining_processes| (ready, draining_processes)),
            Err(error) => Err(error),
        };
        match handed_over {
            Ok((ready, draining_processes)) => Ok(Some(Successor {
                channel,
                kept: ready.kept_listeners(),
                admin: ready.admin,
                draining_processes,
            })),
            Err(error) => {
                self.control.set_process_role(ProcessRole::Active);
                Err(error)
            }
        }
    }

    async fn give_copies(&self, mut channel: Channel, is_standby: bool) -> io::Result<()> {
        in_time(HELLO, give_copies(&mut channel, &self.sockets)).await?;
        match is_standby {
            true => self.standbys.admit(channel, &self.control).await,
            false => Ok(()),
        }
    }

    async fn offer(&self, channel: &mut Channel) -> io::Result<()> {
        let labels: Vec<Label> = self
            .sockets
            .iter()
            .map(|given| given.label.clone())
            .collect();
        let (mut tickets, mut named_tickets) = (BTreeMap::new(), BTreeMap::new());
        for (id, listener) in self.tls.iter() {
            match id {
                ListenerId::Address(address) => tickets.insert(*address, listener.tickets()),
                ListenerId::Named(name) => {
                    named_tickets.insert(name.to_string(), listener.tickets())
                }
            };
        }
        let offer = Offer::Sockets {
            process: self.process,
            labels,
            tickets,
            named_tickets,
        };
        channel.send(&offer).await?;
        let fds: Vec<BorrowedFd<'_>> = self.sockets.iter().map(|given| given.fd.as_fd()).collect();
        channel.send_fds(&fds).await
    }

    /// From here on nothing changes. Gives what the successor says once it has the table.
    async fn freeze(&self, channel: &mut Channel) -> io::Result<Ready> {
        self.control.freeze().await;
        let (_, snapshot) = self.control.snapshot(None);
        channel.send(&snapshot).await?;
        channel.receive().await
    }

    /// Gives the table away, and the links to older processes.
    async fn hand_over(&self, channel: &mut Channel) -> io::Result<Vec<ProcessId>> {
        let draining_processes = self.links.pass().await;
        let commit = Commit {
            draining_processes: draining_processes
                .iter()
                .map(|draining_process| draining_process.process)
                .collect(),
        };
        let passed = async {
            let fds: Vec<BorrowedFd<'_>> = draining_processes
                .iter()
                .map(|draining_process| draining_process.channel.as_fd())
                .collect();
            channel.send(&commit).await?;
            channel.send_fds(&fds).await
        };
        if let Err(error) = in_time(HELLO, passed).await {
            self.links.add(draining_processes).await;
            return Err(error);
        }
        self.control.set_process_role(ProcessRole::Draining);
        Ok(commit.draining_processes)
    }
}

async fn in_time<T>(within: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(within, step).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn pause_after(what: &str, error: &io::Error) {
    tracing::warn!(%error, "{what}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
