//! A connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::body::Framing;
use super::head::{BadHead, answer_framing, find_end, read_answer};
use crate::alarm::{Alarm, Millis};
use crate::head::Head;
use crate::socket::{Inbox, Pool, Socket};

/// The longest head of an answer.
const MAX_HEAD: usize = 256 * 1024;

/// A connection to an endpoint. Dropping it closes it, in the middle of whatever it carries.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) inbox: Inbox,
    /// Bytes of the inbox that were searched for the end of a head.
    scanned: usize,
    pub(crate) idle_since: Millis,
    /// It carried a request before.
    pub(crate) reused: bool,
}

/// The head of an answer was read: it is the first so many bytes of the inbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) length: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
}

/// Why there is no head of an answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The connection broke, or was closed. `silently`: without a byte of an answer.
    Broken { silently: bool },
    /// What came is not the head of an answer.
    Bad,
}

impl From<BadHead> for NoAnswer {
    fn from(_: BadHead) -> Self {
        Self::Bad
    }
}

impl Connection {
    /// Connects, within so much time.
    pub(crate) async fn open(
        target: SocketAddr,
        alarm: &Alarm,
        within: Duration,
    ) -> io::Result<Self> {
        let mut connecting = std::pin::pin!(TcpStream::connect(target));
        let stream = alarm
            .wait(within, |cx| connecting.as_mut().poll(cx))
            .await??;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&crate::keep_alive())?;
        Ok(Self {
            socket: Socket::plain(stream),
            inbox: Inbox::default(),
            scanned: 0,
            idle_since: 0,
            reused: false,
        })
    }

    /// Reads the head of an answer.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        pool: &Pool,
        to_head: bool,
        head: &mut Head,
    ) -> Poll<Result<Answered, NoAnswer>> {
        loop {
            if let Some(length) = find_end(self.inbox.data(), &mut self.scanned)? {
                let bytes = &self.inbox.data()[..length];
                read_answer(bytes, head)?;
                let message = head.over(bytes);
                let framing = answer_framing(message, to_head)?;
                self.scanned = 0;
                return Poll::Ready(Ok(Answered {
                    length,
                    status: message.status(),
                    framing,
                }));
            }
            let silently = self.inbox.is_empty();
            match ready!(self.inbox.poll_fill(&self.socket, pool, MAX_HEAD, cx)) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    return Poll::Ready(Err(NoAnswer::Bad));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(NoAnswer::Broken { silently })),
            }
        }
    }
}
