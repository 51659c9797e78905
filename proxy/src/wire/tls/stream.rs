//! A TLS connection over a TCP socket.
//!
//! rustls' unbuffered API leaves every buffer to its caller, and this is why it is used: what is
//! read, decrypted and encrypted passes through buffers that the thread has once, and a
//! connection holds bytes only where the socket or the reader left it some: a record that has
//! come in part, plaintext for which the reader had no room, ciphertext that the socket did not
//! take. An idle connection holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::identity::ClientIdentity;
use super::settings::Version;
use crate::wire::tcp::{Ended, Tcp};

/// Ciphertext that is read at once. A handshake message of the largest size, and the records
/// around it, have to fit.
const READ: usize = 80 * 1024;
/// Read even where the reader has little room: a record is decrypted whole or not at all.
const MIN_READ: usize = 17 * 1024;
/// What records add to the plaintext in them, at most, for each 16 KiB of it.
const OVERHEAD: usize = 64;
/// Plaintext that is encrypted at once: what a client that does not read makes a connection hold.
const WRITE: usize = 32 * 1024;
/// Plaintext that is read ahead to see whether the peer ends behind it.
const AHEAD: usize = 16 * 1024;
/// Less than this still waits for the next piece that is written, to go out along with it.
const SMALL: usize = 2 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; READ].into(),
        gathered: Vec::new(),
        outgoing: vec![0; WRITE + (WRITE / 16_384 + 1) * OVERHEAD],
    });
}

/// The buffers of a thread. Nothing is left in them from one call to the next.
struct Scratch {
    incoming: Box<[u8]>,
    gathered: Vec<u8>,
    outgoing: Vec<u8>,
}

/// Which side of a TLS connection we are.
pub(crate) trait Side: Unpin {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }
}

/// A TLS connection whose handshake is done.
///
/// What is written is on its way once it was flushed, or something is read after it: what the
/// socket does not take at once waits for that.
pub(crate) struct TlsStream<S> {
    tcp: Tcp,
    tls: Box<S>,
    /// Ciphertext that came: the start of a record, or records that the reader had no room for.
    incoming: Vec<u8>,
    /// rustls has not seen all of `incoming` yet.
    unseen: bool,
    plaintext: Left,
    outgoing: Left,
    /// The client said that it sends no more.
    peer_closed: bool,
    /// We said so.
    closed: bool,
}

/// Bytes, from whose front some are gone. Takes no memory while it is empty.
#[derive(Default)]
struct Left {
    bytes: Vec<u8>,
    gone: usize,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    fn take(&mut self, n: usize) {
        self.gone += n;
        if self.gone == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// How far rustls has come.
enum Turn<T> {
    /// It gave plaintext.
    Plaintext,
    /// It needs more of the handshake.
    Blocked,
    /// It needs more, and takes what is to be sent.
    Open(T),
    PeerClosed,
}

/// Lets rustls work on what came, until it has plaintext or needs more.
fn turn<S: Side, T>(
    tls: &mut S,
    incoming: &mut [u8],
    used: &mut usize,
    outgoing: &mut Vec<u8>,
    mut plaintext: impl FnMut(&[u8]),
    open: impl FnOnce(WriteTraffic<'_, S::Data>) -> T,
) -> io::Result<Turn<T>> {
    let turn = loop {
        let UnbufferedStatus { mut discard, state } = tls.process(&mut incoming[*used..]);
        let turn = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(io::Error::other)?;
                    discard += record.discard;
                    plaintext(record.payload);
                }
                Turn::Plaintext
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, outgoing)?;
                *used += discard;
                continue;
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // `outgoing` goes out before anything else does.
                data.done();
                *used += discard;
                continue;
            }
            Ok(ConnectionState::BlockedHandshake) => Turn::Blocked,
            Ok(ConnectionState::WriteTraffic(traffic)) => Turn::Open(open(traffic)),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Turn::PeerClosed,
            // Early data can be replayed, so no client is offered to send any.
            Ok(_) => return Err(io::Error::other("unexpected early data")),
            Err(error) => {
                *used += discard;
                alert(tls, &mut incoming[*used..], outgoing)?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        *used += discard;
        break turn;
    };
    Ok(turn)
}

/// Puts the alert that tells the peer of an error behind what is to be sent.
fn alert<S: Side>(tls: &mut S, incoming: &mut [u8], outgoing: &mut Vec<u8>) -> io::Result<()> {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.process(incoming).state {
        encode(&mut data, outgoing)?;
    }
    Ok(())
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let before = outgoing.len();
    loop {
        match data.encode(&mut outgoing[before..]) {
            Ok(written) => {
                outgoing.truncate(before + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(error)) => {
                outgoing.resize(before + error.required_size, 0);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Encrypts into the start of `outgoing`. Gives how much of that it took.
fn encrypt<D>(
    mut traffic: WriteTraffic<'_, D>,
    bytes: &[u8],
    outgoing: &mut Vec<u8>,
) -> io::Result<usize> {
    loop {
        match traffic.encrypt(bytes, outgoing) {
            Ok(written) => return Ok(written),
            Err(EncryptError::InsufficientSize(error)) => outgoing.resize(error.required_size, 0),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

impl<S: Side> TlsStream<S> {
    /// Shakes hands. The last of what we say in it may still be unsent: it goes out with the
    /// first thing that is written, or as soon as nothing is there to be read.
    pub(crate) async fn handshake(tcp: TcpStream, tls: S) -> io::Result<Self> {
        let mut stream = Self {
            tcp: Tcp::new(tcp),
            tls: Box::new(tls),
            incoming: Vec::new(),
            // A client has something to say before anything came.
            unseen: true,
            plaintext: Left::default(),
            outgoing: Left::default(),
            peer_closed: false,
            closed: false,
        };
        let done = std::future::poll_fn(|cx| {
            while stream.tls.state().is_handshaking() {
                ready!(stream.poll_drain(cx))?;
                ready!(stream.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
            }
            Poll::Ready(Ok(()))
        });
        match done.await {
            Ok(()) => Ok(stream),
            Err(error) => {
                // An alert says why; so does our log.
                let _ = stream.tcp.stream().try_write(stream.outgoing.rest());
                Err(error)
            }
        }
    }

    /// Whether both sides have agreed on HTTP/2 (RFC 7301).
    pub(crate) fn speaks_h2(&self) -> bool {
        self.tls.state().alpn_protocol() == Some(b"h2")
    }

    /// The version that both sides have agreed on.
    pub(crate) fn version(&self) -> Option<Version> {
        match self.tls.state().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(Version::Tls12),
            ProtocolVersion::TLSv1_3 => Some(Version::Tls13),
            _ => None,
        }
    }

    /// Who the peer is by its certificate, where it has shown one.
    pub(crate) fn identity(&self) -> Option<Box<ClientIdentity>> {
        let certificate = self.tls.state().peer_certificates()?.first()?;
        Some(Box::new(ClientIdentity::of(certificate)))
    }

    /// Whether nothing that came waits for its reader.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.plaintext.is_empty() && self.incoming.is_empty() && !self.peer_closed
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// Whether a connection that waits holds no memory but its keys.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        let buffers = [&self.incoming, &self.plaintext.bytes, &self.outgoing.bytes];
        buffers.iter().all(|buffer| buffer.capacity() == 0)
    }

    /// Waits for the peer's end, and keeps what it has sent before, as far as that is little. It
    /// says so (close_notify), closes the connection below, or both: either is an end.
    pub(crate) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if self.peer_closed {
                return Poll::Ready(Ended::Half);
            }
            if self.plaintext.rest().len() + self.incoming.len() >= AHEAD {
                // Of those that say so and leave the connection open, none has sent so much.
                return self.tcp.poll_ended(cx);
            }
            // What came already is looked at before there is news.
            if !self.unseen
                && let Some(ended) = ready!(self.tcp.poll_news(cx))
            {
                return Poll::Ready(ended);
            }
            if ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut []))).is_err() {
                return Poll::Ready(Ended::Whole);
            }
        }
    }

    /// Takes what came from the socket, as much of it as `into` has room for.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let room = &mut *scratch.incoming;
            let mut filled = self.incoming.len();
            room[..filled].copy_from_slice(&self.incoming);
            if !self.unseen {
                let want = (into.remaining() + into.remaining() / 16_384 * OVERHEAD).max(MIN_READ);
                let end = room.len().min(filled + want);
                if filled == end {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a message of the handshake is too long",
                    )));
                }
                let mut read = ReadBuf::new(&mut room[filled..end]);
                ready!(self.tcp.poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    // Without a word of it: what came before may not be all that was sent.
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                filled += read.filled().len();
            }
            Poll::Ready(self.decrypt(&mut room[..filled], into))
        })
    }

    /// Decrypts `came` until it is used up or `into` is full, and keeps the rest.
    fn decrypt(&mut self, came: &mut [u8], into: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut used = 0;
        self.unseen = loop {
            let plaintext = &mut self.plaintext.bytes;
            let sink = |bytes: &[u8]| {
                let fits = bytes.len().min(into.remaining());
                into.put_slice(&bytes[..fits]);
                plaintext.extend_from_slice(&bytes[fits..]);
            };
            let outgoing = &mut self.outgoing.bytes;
            match turn(&mut *self.tls, came, &mut used, outgoing, sink, |_| ())? {
                Turn::Plaintext if into.remaining() == 0 => break true,
                Turn::Plaintext => {}
                Turn::Blocked | Turn::Open(()) => break false,
                Turn::PeerClosed => {
                    self.peer_closed = true;
                    break false;
                }
            }
        };
        self.incoming.clear();
        if used < came.len() {
            self.incoming.extend_from_slice(&came[used..]);
        } else {
            self.incoming = Vec::new();
        }
        Ok(())
    }

    /// Sends what waits to be sent.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let rest = self.outgoing.rest();
            let sent = ready!(self.tcp.poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.take(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Lets rustls write: what came before has to be seen by it, and its plaintext kept.
    fn open<T>(
        &mut self,
        write: impl FnOnce(WriteTraffic<'_, S::Data>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut used = 0;
        let mut write = Some(write);
        let written = loop {
            let kept = &mut self.plaintext.bytes;
            let outgoing = &mut self.outgoing.bytes;
            let turn = turn(
                &mut *self.tls,
                &mut self.incoming,
                &mut used,
                outgoing,
                |bytes| kept.extend_from_slice(bytes),
                |traffic| write.take().map(|write| write(traffic)),
            )?;
            match turn {
                Turn::Plaintext => {}
                Turn::PeerClosed if !self.peer_closed => self.peer_closed = true,
                Turn::Open(Some(written)) => break written,
                Turn::Open(None) | Turn::Blocked | Turn::PeerClosed => {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        };
        self.incoming.drain(..used);
        self.unseen = false;
        written
    }

    /// Encrypts `bytes`, which the socket takes as far as it can.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        encrypted: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if self.outgoing.rest().len() > SMALL {
            ready!(self.poll_drain(cx))?;
        }
        let written = self.open(|traffic| encrypt(traffic, bytes, encrypted))?;
        let mut sent = 0;
        if self.outgoing.is_empty() {
            // Nothing is copied where the socket takes it all.
            if let Poll::Ready(n) = self.tcp.poll_write(cx, &encrypted[..written])? {
                sent = n;
            }
        }
        self.outgoing
            .bytes
            .extend_from_slice(&encrypted[sent..written]);
        // What is left goes out when the next piece is written, or this one flushed.
        if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }
}

impl<S: Side> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        while buffer.remaining() > 0 && buffer.filled().len() == before {
            if !this.plaintext.is_empty() {
                let fits = this.plaintext.rest().len().min(buffer.remaining());
                buffer.put_slice(&this.plaintext.rest()[..fits]);
                this.plaintext.take(fits);
            } else if this.peer_closed {
                break;
            } else if this.poll_receive(cx, buffer)?.is_pending() {
                // The peer may wait for what we have to say.
                if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Side> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let bytes = &bytes[..bytes.len().min(WRITE)];
        SCRATCH
            .with_borrow_mut(|scratch| self.get_mut().poll_send(cx, bytes, &mut scratch.outgoing))
    }

    /// A head and its body are one record, and one system call.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let (Some(first), second) = (filled.next(), filled.next()) else {
            return Poll::Ready(Ok(0));
        };
        if second.is_none() || first.len() >= WRITE {
            return self.poll_write(cx, first);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch {
                gathered, outgoing, ..
            } = scratch;
            gathered.clear();
            for slice in slices {
                let fits = slice.len().min(WRITE - gathered.len());
                gathered.extend_from_slice(&slice[..fits]);
            }
            self.get_mut().poll_send(cx, gathered, outgoing)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            let mut alert = [0; 256];
            let written = this.open(|mut traffic| {
                traffic
                    .queue_close_notify(&mut alert)
                    .map_err(io::Error::other)
            })?;
            this.outgoing.bytes.extend_from_slice(&alert[..written]);
        }
        ready!(this.poll_drain(cx))?;
        this.tcp.poll_shutdown(cx)
    }
}
