//! How a process asks another for copies of its listening sockets, and how it gives them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Channel, Given, Label};

/// Raised when a release could misunderstand an older one.
pub const FORMAT: u32 = 1;

/// How long the other process may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The first message on a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`FORMAT`].
    pub format: u32,
    /// Of the program.
    pub release: String,
    /// The number of a draining process that looks for the active one; `None` from a process that
    /// wants to take over, or copies.
    #[serde(default, rename = "elder")]
    pub draining_process: Option<u64>,
    /// Copies of the sockets are wanted, and nothing else. To a release that does not know this, it
    /// looks as if a process began to take over and broke off, which changes nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copies: bool,
    /// Copies are wanted by a process that waits to take the active one's place: [`Active`] follows
    /// them, and the channel stays open.
    #[serde(default, skip_serializing_if = "is_false")]
    pub standby: bool,
}

/// Sent behind the copies to a process that waits to take the sender's place. The channel is open from
/// here on for as long as the sender is the active process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Active;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The reply, as far as it is read here. Sockets follow, one for each label.
#[derive(Debug, Serialize, Deserialize)]
enum Offer {
    Sockets { labels: Vec<Label> },
    Refused(String),
}

impl Hello {
    /// Asks for copies.
    pub fn for_copies() -> Self {
        Self {
            format: FORMAT,
            release: env!("CARGO_PKG_VERSION").into(),
            draining_process: None,
            copies: true,
            standby: false,
        }
    }
}

/// Asks the process behind `socket` for copies of its sockets. `None` where there is none.
///
/// # Errors
/// Where there is one and it gives none.
pub async fn copies_from(socket: &Path) -> io::Result<Option<Vec<Given>>> {
    let received = async |mut channel: Channel| receive(&mut channel, &Hello::for_copies()).await;
    request(socket, received).await
}

/// The same, for a process that is to take the place of the one behind `socket`: gives the channel,
/// too, which that one closes when it is the active process no more.
///
/// # Errors
/// Where there is one and it gives none, or is of a release that knows no standby.
pub async fn stand_by(socket: &Path) -> io::Result<Option<(Vec<Given>, Channel)>> {
    let received = async |mut channel: Channel| {
        let hello = Hello {
            standby: true,
            ..Hello::for_copies()
        };
        let given = receive(&mut channel, &hello).await?;
        match channel.receive().await {
            Ok(Active) => Ok((given, channel)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let why = "the process that serves is of a release that knows no standby";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
            Err(error) => Err(error),
        }
    };
    request(socket, received).await
}

/// Asks the process behind `socket` for something. `None` where there is none.
async fn request<T>(
    socket: &Path,
    exchange: impl AsyncFnOnce(Channel) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let channel = Channel::new(stream, socket)?;
    match timeout(TIMEOUT, exchange(channel)).await {
        Ok(reply) => reply.map(Some),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn receive(channel: &mut Channel, hello: &Hello) -> io::Result<Vec<Given>> {
    channel.send(hello).await?;
    match channel.receive().await? {
        Offer::Refused(why) => Err(io::Error::other(why)),
        Offer::Sockets { labels } => {
            let fds = channel.receive_fds(labels.len()).await?;
            let given = labels.into_iter().zip(fds);
            Ok(given.map(|(label, fd)| Given { label, fd }).collect())
        }
    }
}

/// Responds to a process that has just connected: with copies if that is what it wants, else with no.
///
/// # Errors
/// Where it is gone, or has not asked in time.
pub async fn serve_copies(
    channel: &mut Channel,
    copies: impl FnOnce() -> io::Result<Vec<Given>>,
) -> io::Result<()> {
    let served = async {
        let hello: Hello = channel.receive().await?;
        if hello.format == FORMAT && hello.copies {
            return give_copies(channel, &copies()?).await;
        }
        let why = "only copies of sockets are given here";
        channel.send(&Offer::Refused(why.into())).await
    };
    let served = timeout(TIMEOUT, served).await;
    served.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Gives copies to a process that has asked for them.
///
/// # Errors
/// Where it is gone.
pub async fn give_copies(channel: &mut Channel, sockets: &[Given]) -> io::Result<()> {
    let labels = sockets.iter().map(|given| given.label.clone()).collect();
    channel.send(&Offer::Sockets { labels }).await?;
    let fds: Vec<BorrowedFd<'_>> = sockets.iter().map(|given| given.fd.as_fd()).collect();
    channel.send_fds(&fds).await
}

/// Whether no process is behind a socket: one that was killed leaves its file.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
