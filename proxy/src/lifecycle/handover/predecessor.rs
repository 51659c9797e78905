//! The process before, as its successor sees it: asks it for its sockets and its table.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use program::sockets::{Channel, Given};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::HandoverError;
use super::message::{Commit, FORMAT, Hello, Offer, Prepared, Ready};
use crate::control::snapshot::HandoverSnapshot;
use crate::table::counts::remote::ProcessId;
use crate::wire::listener_id::ListenerId;
use crate::wire::tls::{ListenerTickets, Listening};

/// How long it may take for each of its replies.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A process that serves, and has been asked to hand over.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    process: ProcessId,
    tickets: BTreeMap<ListenerId, ListenerTickets>,
}

/// An older process that still lives, and the way to it.
#[derive(Debug)]
pub(crate) struct DrainingProcess {
    pub(crate) process: ProcessId,
    pub(crate) channel: Channel,
}

impl Predecessor {
    /// Looks for a process that serves behind this socket, and asks for its sockets. `None` where
    /// there is none: a socket that a killed process left behind has no listener.
    ///
    /// # Errors
    /// Where there is one, and it does not give them.
    pub async fn find(socket: &Path) -> Result<Option<(Self, Vec<Given>)>, HandoverError> {
        let error = |source| HandoverError::Socket {
            path: socket.to_owned(),
            source,
        };
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(error(source)),
        };
        let mut channel = Channel::new(stream, socket).map_err(error)?;
        let hello = Hello {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").into(),
            draining_process: None,
            copies: false,
            standby: false,
        };
        let step = async {
            channel.send(&hello).await?;
            match channel.receive().await? {
                Offer::Refused(why) => Ok(Err(why)),
                Offer::Sockets {
                    process,
                    labels,
                    tickets,
                    named_tickets,
                } => {
                    let fds = channel.receive_fds(labels.len()).await?;
                    let named = named_tickets.into_iter();
                    let named = named.map(|(name, keys)| (ListenerId::Named(name.into()), keys));
                    let tickets = tickets.into_iter();
                    let tickets = tickets.map(|(at, keys)| (ListenerId::Address(at), keys));
                    let tickets = tickets.chain(named).collect();
                    Ok(Ok((process, labels.into_iter().zip(fds), tickets)))
                }
            }
        };
        let offered = in_time(step).await?.map_err(HandoverError::Refused)?;
        let (process, sockets, tickets) = offered;
        let given = sockets.map(|(label, fd)| Given { label, fd }).collect();
        let predecessor = Self {
            channel,
            process,
            tickets,
        };
        Ok(Some((predecessor, given)))
    }

    /// Has these listeners open the session tickets that it has made.
    pub(crate) fn give_tickets(&self, listeners: &Listening) {
        for (id, listener) in listeners {
            if let Some(tickets) = self.tickets.get(id) {
                listener.take_over(tickets);
            }
        }
    }

    /// Its number.
    pub(crate) fn process(&self) -> ProcessId {
        self.process
    }

    /// Asks for its table. From here on it changes nothing, for some seconds.
    pub(crate) async fn snapshot(&mut self) -> Result<HandoverSnapshot, HandoverError> {
        let step = async {
            self.channel.send(&Prepared).await?;
            self.channel.receive().await
        };
        in_time(step).await
    }

    /// Says that connections are accepted. Then the table is ours: gives every older process
    /// that lives, the predecessor first.
    pub(crate) async fn ready(
        mut self,
        (kept, listeners): (Vec<SocketAddr>, Vec<ListenerId>),
        admin: Option<String>,
    ) -> Result<Vec<DrainingProcess>, HandoverError> {
        let step = async {
            let ready = Ready {
                kept,
                listeners: Some(listeners),
                admin,
            };
            self.channel.send(&ready).await?;
            let Commit { draining_processes } = self.channel.receive().await?;
            let fds = self.channel.receive_fds(draining_processes.len()).await?;
            let older = draining_processes.into_iter().zip(fds);
            older
                .map(|(process, fd)| {
                    let channel = Channel::from_fd(fd)?;
                    Ok(DrainingProcess { process, channel })
                })
                .collect::<io::Result<Vec<_>>>()
        };
        let older = in_time(step).await?;
        let mut draining_processes = vec![DrainingProcess {
            process: self.process,
            channel: self.channel,
        }];
        draining_processes.extend(older);
        Ok(draining_processes)
    }
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, HandoverError> {
    let response = timeout(RESPONSE_TIMEOUT, step).await;
    let response = response.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    response.map_err(HandoverError::Broken)
}
