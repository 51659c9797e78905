//! Connections to unix sockets.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How soon a socket whose queue is full is tried again: first, and at most.
const AGAIN: Duration = Duration::from_millis(1);
const AGAIN_AT_MOST: Duration = Duration::from_millis(50);

/// Connects to the socket at `path`. What comes back is a stream like that of TCP for all that is
/// done with it here: reading, writing, waiting for either, and closing. It has no IP address and no
/// options of TCP.
///
/// A program that is slow to accept has a queue, as with TCP; where that is full, TCP waits and a
/// unix socket says so: it is tried again, for as long as the caller waits.
pub(crate) async fn connect(path: &Path) -> io::Result<TcpStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut again = AGAIN;
    loop {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return TcpStream::from_std(StdTcpStream::from(socket)),
            Err(Errno::AGAIN) => {
                drop(socket);
                sleep(again).await;
                again = (again * 2).min(AGAIN_AT_MOST);
            }
            // There is no socket: as if its program had closed it.
            Err(Errno::NOENT) => return Err(Errno::CONNREFUSED.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut stream = connect(&path).await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut read = [0; 4];
        accepted.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
        accepted.write_all(b"pong").await.unwrap();
        drop(accepted);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "pong");
    }

    #[tokio::test]
    async fn where_nothing_listens_the_connection_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        assert!(refused(connect(&path).await.unwrap_err()), "no file");
        drop(UnixListener::bind(&path).unwrap());
        assert!(
            refused(connect(&path).await.unwrap_err()),
            "a file that was left"
        );
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let flags = SocketFlags::CLOEXEC;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut open = Vec::new();
        // Fills the queue: from then on a connection waits.
        let waiting = loop {
            let mut connecting = Box::pin(connect(&path));
            match futures_util::poll!(&mut connecting) {
                std::task::Poll::Ready(stream) => open.push(stream.unwrap()),
                std::task::Poll::Pending => break connecting,
            }
            assert!(open.len() < 100, "the queue has no end");
        };
        let _accepted = rustix::net::accept(&listener).unwrap();
        let connected = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        connected.expect("there is room now").unwrap();
    }
}
