//! One connection of the load generator, with its requests and responses. Over HTTP/1.1 it carries
//! one request at a time, over HTTP/2 several.

use std::io::{self, ErrorKind};
use std::time::Instant;

use crate::error::Result;
use crate::h2::{self, Session};
use crate::plan::{Exchange, Failure, Outcome, Plan, Requests};
use crate::poll::Poll;
use crate::response::{Response, ResponseReader};
use crate::socket::ClientSocket;

/// The bytes of uploads.
static UPLOAD: [u8; 256 * 1024] = [b'x'; 256 * 1024];

/// A connection. It opens with its first request, and again after it has ended.
#[derive(Default)]
pub(crate) struct Connection {
    socket: Option<ClientSocket>,
    wire: Wire,
    /// Bytes to send, and how many of them are sent.
    out: Vec<u8>,
    sent: usize,
    /// Bytes of body to send after them.
    upload_left: u64,
    /// The index of the next request.
    next: usize,
    in_flight: Vec<InFlight>,
    /// Streams that have ended; a buffer that is reused.
    ended: Vec<h2::Ended>,
    reused: bool,
    waits_for_room: bool,
    /// It takes no more requests; the other side closes it.
    ending: bool,
}

#[derive(Default)]
enum Wire {
    #[default]
    Closed,
    Http1(ResponseReader),
    Http2(Session),
}

#[derive(Clone, Copy)]
struct InFlight {
    /// 0 over HTTP/1.1.
    stream: u32,
    due: Instant,
    sent: Instant,
}

/// The state of a connection after bytes were sent or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is open.
    Open,
    /// It is closed, and nothing was in flight.
    Closed,
    /// It is closed, and the requests in flight have failed.
    Failed(Failure),
}

impl Connection {
    /// A closed connection whose first request is number `next` of the plan.
    pub(crate) fn starting_at(next: usize) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// Queues the next request, and opens the connection if it is closed. The request goes out with
    /// the next [`send`](Self::send).
    pub(crate) fn begin(
        &mut self,
        plan: &Plan,
        poll: &Poll,
        number: usize,
        due: Instant,
    ) -> Result<io::Result<()>> {
        let sent = Instant::now();
        let mut flight = InFlight {
            stream: 0,
            due,
            sent,
        };
        if self.socket.is_none() {
            match ClientSocket::open(plan.target, plan.tls.as_ref()) {
                Ok(socket) => {
                    poll.add(&socket, number)?;
                    self.socket = Some(socket);
                }
                Err(error) => {
                    self.in_flight.push(flight);
                    return Ok(Err(error));
                }
            }
            self.wire = match plan.requests {
                Requests::Http1(_) => Wire::Http1(ResponseReader::default()),
                Requests::Http2 { streams, .. } => {
                    Wire::Http2(Session::new(&mut self.out, streams))
                }
            };
        }
        match (&plan.requests, &mut self.wire) {
            (Requests::Http2 { blocks, .. }, Wire::Http2(session)) => {
                flight.stream = session.request(blocks, &mut self.out);
            }
            (Requests::Http1(requests), _) => {
                if let Some(request) = requests.get(self.next) {
                    self.out.extend_from_slice(request);
                }
                self.upload_left = plan.upload;
                self.next = (self.next + 1) % requests.len().max(1);
            }
            (Requests::Http2 { .. }, _) => {}
        }
        self.in_flight.push(flight);
        Ok(Ok(()))
    }

    /// Sends the queued bytes, as far as the socket has room.
    pub(crate) fn send(&mut self, poll: &Poll, number: usize) -> Result<State> {
        let Some(socket) = &mut self.socket else {
            return Ok(State::Open);
        };
        if let Err(error) = send(socket, &self.out, &mut self.sent, &mut self.upload_left) {
            let failure = match error.kind() {
                ErrorKind::ConnectionRefused => Failure::Connect,
                _ => self.closed(),
            };
            return Ok(State::Failed(failure));
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        let waits = !self.out.is_empty() || self.upload_left > 0 || socket.has_unsent();
        if waits != self.waits_for_room {
            self.waits_for_room = waits;
            poll.want_write(&*socket, number, waits)?;
        }
        Ok(State::Open)
    }

    /// Whether it waits for room to send, rather than for a response.
    pub(crate) const fn waits_for_room(&self) -> bool {
        self.waits_for_room
    }

    /// Whether bytes are queued, such as an acknowledgement.
    pub(crate) fn has_to_send(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether it takes no more requests, because its last response is complete.
    pub(crate) const fn is_ending(&self) -> bool {
        self.ending
    }

    /// The index of its next request.
    pub(crate) const fn next(&self) -> usize {
        self.next
    }

    /// When the requests without a response were due.
    pub(crate) fn due(&self) -> impl Iterator<Item = Instant> {
        self.in_flight.iter().map(|flight| flight.due)
    }

    /// Reads bytes. Requests that are complete go to `done`.
    pub(crate) fn receive(
        &mut self,
        reconnect: bool,
        buffer: &mut [u8],
        done: &mut Vec<Exchange>,
    ) -> State {
        let Some(socket) = &mut self.socket else {
            return State::Open;
        };
        let left = match &self.wire {
            Wire::Http1(reader) => reader.body_left(),
            Wire::Closed | Wire::Http2(_) => 0,
        };
        let read = if left > 0 {
            socket.skip(buffer, left)
        } else {
            socket.recv(buffer)
        };
        let length = match read {
            Ok(length) => length,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => return State::Open,
                ErrorKind::InvalidData => return State::Failed(Failure::Malformed),
                _ => 0,
            },
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let parsed = match &mut self.wire {
            _ if length == 0 => return self.over(),
            Wire::Closed => return State::Open,
            // No request is in flight: the other side is closing the connection.
            Wire::Http1(_) if self.in_flight.is_empty() => return self.over(),
            Wire::Http1(reader) => {
                let read = match left {
                    0 => reader.read(bytes),
                    _ => reader.skip(length),
                };
                read.map(|response| {
                    self.ended
                        .extend(response.map(|response| (0, Some(response))));
                })
            }
            Wire::Http2(session) => session.read(bytes, &mut self.out, &mut self.ended),
        };
        let mut ended = std::mem::take(&mut self.ended);
        for (stream, response) in ended.drain(..) {
            self.end(stream, response, reconnect, done);
        }
        self.ended = ended;
        match parsed {
            Ok(()) => State::Open,
            Err(_) => State::Failed(Failure::Malformed),
        }
    }

    fn end(
        &mut self,
        stream: u32,
        response: Option<Response>,
        reconnect: bool,
        done: &mut Vec<Exchange>,
    ) {
        let index = self
            .in_flight
            .iter()
            .position(|flight| flight.stream == stream);
        let Some(flight) = index.map(|index| self.in_flight.swap_remove(index)) else {
            return;
        };
        self.reused = true;
        self.ending = response.is_some_and(|response| response.last) || reconnect;
        done.push(flight.end(response.map_or(Outcome::Failed(Failure::Cut), Outcome::Response)));
    }

    fn over(&self) -> State {
        if self.in_flight.is_empty() {
            return State::Closed;
        }
        State::Failed(self.closed())
    }

    fn closed(&self) -> Failure {
        match &self.wire {
            Wire::Http1(reader) if !reader.is_empty() => Failure::Cut,
            Wire::Closed | Wire::Http1(_) | Wire::Http2(_) => Failure::Closed {
                reused: self.reused,
            },
        }
    }

    /// Closes the connection. Nothing is in flight.
    pub(crate) fn close(&mut self) {
        *self = Self::starting_at(self.next);
    }

    /// Closes the connection. The requests in flight have failed.
    pub(crate) fn fail(&mut self, failure: Failure, done: &mut Vec<Exchange>) {
        for flight in self.in_flight.drain(..) {
            done.push(flight.end(Outcome::Failed(failure)));
        }
        self.close();
    }
}

/// Sends queued bytes, then the bytes of a body, as far as the socket has room.
fn send(
    socket: &mut ClientSocket,
    out: &[u8],
    sent: &mut usize,
    upload_left: &mut u64,
) -> io::Result<()> {
    // Without queued bytes too: TLS may have some of its own.
    *sent += socket.send(out.get(*sent..).unwrap_or_default())?;
    while *sent == out.len() && *upload_left > 0 {
        let length = usize::try_from(*upload_left).unwrap_or(usize::MAX);
        let block = UPLOAD.get(..length).unwrap_or(&UPLOAD);
        match socket.send(block)? {
            0 => break,
            length => *upload_left -= length as u64,
        }
    }
    Ok(())
}

impl InFlight {
    fn end(self, outcome: Outcome) -> Exchange {
        Exchange {
            due: self.due,
            sent: self.sent,
            done: Instant::now(),
            outcome,
        }
    }
}
