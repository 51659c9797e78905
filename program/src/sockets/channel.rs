//! The wire between two processes that pass sockets on: messages of JSON behind their length, and
//! open sockets beside them (`SCM_RIGHTS`), over a unix socket.
//!
//! The peer has been let in by its user id, and is not trusted beyond that:
//! what it sends is bounded, and what is wrong with it is an error of this channel alone.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Of one message: a table of ten thousand endpoints is some megabytes.
const MAX_MESSAGE: u32 = 256 * 1024 * 1024;
/// Sockets that go in one piece; the kernel takes 253 at most.
const FDS_AT_ONCE: usize = 64;
/// Sockets that go at all.
const MAX_FDS: usize = 65_536;

/// One end of it.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// A channel with the peer behind `socket`, if that is a process of our own user, of root, or
    /// of the owner of the socket's folder, who can put any socket there.
    ///
    /// # Errors
    /// Where it is another user's, or the system does not say whose.
    pub fn new(stream: UnixStream, socket: &Path) -> io::Result<Self> {
        let peer = stream.peer_cred()?.uid();
        let own = rustix::process::geteuid().as_raw();
        let folder = || socket.parent().and_then(|folder| folder.metadata().ok());
        if peer == own || peer == 0 || folder().is_some_and(|folder| folder.uid() == peer) {
            return Ok(Self(stream));
        }
        let message = format!(
            "user {peer} is neither root nor this process's user {own}, and is not the owner of \
             the folder of {}",
            socket.display()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }

    /// A channel that was passed on, by a process that had let its peer in.
    ///
    /// # Errors
    /// Where it is no socket that can be waited for.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(Self)
    }

    /// Waits until the peer has sent something, or has closed the channel.
    ///
    /// # Errors
    /// Where the channel is broken.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Waits until the peer has closed the channel, where it is to send nothing more. Unlike
    /// [`Channel::readable`], it is not misled by what has been received before.
    pub async fn closed(&mut self) {
        // An error, or a byte that was not to come, is as good as the end.
        let _ = self.0.read(&mut [0]).await;
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Where the peer is gone, or the message is too long.
    pub async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if length > MAX_MESSAGE {
            return Err(invalid("a message is too long to be sent"));
        }
        self.0.write_all(&length.to_be_bytes()).await?;
        self.0.write_all(&text).await
    }

    /// Receives one message. Not to be given up half-way if the channel is used again.
    ///
    /// # Errors
    /// Where the peer is gone, or what it sent is no such message.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let length = self.0.read_u32().await?;
        if length > MAX_MESSAGE {
            return Err(invalid("a message is too long"));
        }
        // Grows with what comes, and not with what was said to come.
        let mut text = Vec::new();
        let mut rest = (&mut self.0).take(length.into());
        rest.read_to_end(&mut text).await?;
        if text.len() < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// Sends open sockets. The other end has to know how many.
    ///
    /// # Errors
    /// Where the peer is gone, or the system refuses to pass them.
    pub async fn send_fds(&mut self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        for fds in fds.chunks(FDS_AT_ONCE) {
            let send = || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(fds)) {
                    return Err(invalid("too many sockets at once"));
                }
                let byte = [IoSlice::new(&[0])];
                sendmsg(&self.0, &byte, &mut control, SendFlags::NOSIGNAL)?;
                Ok(())
            };
            self.0.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// Receives so many open sockets.
    ///
    /// # Errors
    /// Where the peer is gone, or has sent something else.
    pub async fn receive_fds(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if count > MAX_FDS {
            return Err(invalid("too many sockets"));
        }
        let mut fds = Vec::new();
        while fds.len() < count {
            let receive = || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut byte = [0];
                let mut into = [IoSliceMut::new(&mut byte)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let received = recvmsg(&self.0, &mut into, &mut control, flags)?;
                if received.bytes == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let mut came = Vec::new();
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        came.extend(rights);
                    }
                }
                Ok(came)
            };
            let came = self.0.async_io(Interest::READABLE, receive).await?;
            if came.len() != FDS_AT_ONCE.min(count - fds.len()) {
                return Err(invalid("sockets are missing"));
            }
            fds.extend(came);
        }
        Ok(fds)
    }
}

/// To be passed on between two messages.
impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel(stream: UnixStream) -> Channel {
        Channel::new(stream, Path::new("/none")).unwrap()
    }

    fn pair() -> (Channel, UnixStream) {
        let (one, other) = UnixStream::pair().unwrap();
        (channel(one), other)
    }

    #[tokio::test]
    async fn sockets_and_messages_arrive_in_order_and_whole() {
        let (mut one, other) = pair();
        let mut other = channel(other);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sent = vec![listener.as_fd(); 150];
        let long = "x".repeat(1_000_000);
        let send = async {
            one.send(&1).await.unwrap();
            one.send_fds(&sent).await.unwrap();
            one.send(&long).await.unwrap();
        };
        let receive = async {
            assert_eq!(other.receive::<u32>().await.unwrap(), 1);
            let fds = other.receive_fds(150).await.unwrap();
            assert_eq!(other.receive::<String>().await.unwrap(), long);
            fds
        };
        let ((), fds) = tokio::join!(send, receive);
        for fd in fds {
            let passed = std::net::TcpListener::from(fd);
            assert_eq!(passed.local_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn what_is_not_a_message_is_an_error_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 64],
            &[0, 0, 0, 3, b'{', b'{', b'{'],
            &[0, 0, 0, 9, b'1'],
        ] {
            let (mut channel, mut other) = pair();
            other.write_all(bytes).await.unwrap();
            drop(other);
            let received = tokio::time::timeout(
                Duration::from_secs(10),
                channel.receive::<serde_json::Map<String, serde_json::Value>>(),
            );
            assert!(received.await.unwrap().is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_channel_is_closed_by_its_peer_and_not_by_what_it_sent_before() {
        let (mut one, other) = pair();
        let mut other = channel(other);
        one.send(&"the last").await.unwrap();
        let received: String = other.receive().await.unwrap();
        assert_eq!(received, "the last");
        let early = tokio::time::timeout(Duration::from_millis(20), other.closed()).await;
        assert!(early.is_err(), "it is open");
        drop(one);
        let closed = tokio::time::timeout(Duration::from_secs(10), other.closed());
        closed.await.unwrap();
    }

    #[tokio::test]
    async fn bytes_in_place_of_sockets_are_an_error() {
        let (mut channel, mut other) = pair();
        other.write_all(b"no socket").await.unwrap();
        assert!(channel.receive_fds(1).await.is_err());
    }
}
