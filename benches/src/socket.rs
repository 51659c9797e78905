//! The socket of one connection of the load generator: TCP, with or without TLS. It does not block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::net::{connect, recv, socket_with};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::tls::HOST;

/// A socket that is connected, or being connected.
pub(crate) struct ClientSocket {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl ClientSocket {
    /// Begins to connect. The TLS handshake continues with the first bytes that are sent.
    pub(crate) fn open(target: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let tls = tls.map(|config| {
            let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
            let connection = ClientConnection::new(config.clone(), name);
            let mut connection = connection.map_err(io::Error::other)?;
            // Bytes that are sent before the handshake is complete are buffered here.
            connection.set_buffer_limit(None);
            Ok::<_, io::Error>(Box::new(connection))
        });
        Ok(Self {
            socket: socket.into(),
            tls: tls.transpose()?,
        })
    }

    /// Sends bytes. Returns how many were taken. Over TLS all of them are taken, and [`has_unsent`]
    /// is whether some of them are still buffered.
    ///
    /// [`has_unsent`]: Self::has_unsent
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return would_block_is_nothing((&self.socket).write(bytes));
        };
        let taken = tls.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Whether TLS has buffered bytes that the socket had no room for.
    pub(crate) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        while tls.wants_write() {
            if would_block_is_nothing(tls.write_tls(&mut &self.socket))? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Reads into the buffer. 0: the other side has closed.
    ///
    /// # Errors
    /// `WouldBlock` if no bytes are available.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else {
                return (&self.socket).read(buffer);
            };
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Closed without close_notify: the end of the message is that of HTTP.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if tls.read_tls(&mut &self.socket)? == 0 {
                return Ok(0);
            }
            let processed = tls.process_new_packets();
            // After a failure too: it sends the alert.
            self.flush()?;
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Discards up to `wanted` bytes of a body, without TLS in the kernel: copying them would make
    /// the load generator the limit. Returns how many, as [`recv`](Self::recv) does.
    pub(crate) fn skip(&mut self, buffer: &mut [u8], wanted: usize) -> io::Result<usize> {
        let wanted = wanted.min(buffer.len());
        let (buffer, _) = buffer.split_at_mut(wanted);
        if self.tls.is_some() {
            return self.recv(buffer);
        }
        let (_, length) = recv(&self.socket, buffer, RecvFlags::TRUNC)?;
        Ok(length)
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn would_block_is_nothing(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        written => written,
    }
}
