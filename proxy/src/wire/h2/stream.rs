//! A stream, on either side: carries a request and its response, as does a
//! connection of HTTP/1.1.
//!
//! What comes is put into an inbox, a chunk at a time: the peer gets as much room back as was
//! written on. What goes is sent as far as the peer's window has room.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;
use http::{HeaderMap, Response};

use super::backlog::Waits;
use super::load::StreamSlot;
use super::message::{push_fields, read_response, read_sent_request, response_of, trailers_of};
use super::resets::Sharer;
use crate::wire::head::{Head, Message};
use crate::wire::headers;
use crate::wire::reply::LocalReply;
use crate::wire::response::{NoResponse, ResponseHead};
use crate::wire::socket::{Pool, ReadBuffer};
use crate::wire::timer::Millis;
use crate::wire::websocket::Accept;

/// One stream.
pub(crate) struct Stream {
    outlet: RefCell<Outlet>,
    inlet: RefCell<Inlet>,
    /// All that goes was sent.
    has_ended: Cell<bool>,
    /// What may come in for it behind what is sent.
    ahead: Cell<usize>,
    /// What is counted while it waits for its client.
    waits_with: Cell<Waits>,
    /// How much of its body was sent.
    sent: Cell<usize>,
    peer: Peer,
}

/// Who is at the other end.
enum Peer {
    Client(Rc<Sharer>),
    /// With the stream's place among those to the endpoint.
    Endpoint(StreamSlot),
}

/// What is sent.
enum Outlet {
    /// To a client that has no response yet, with the head of its response once that is known.
    Response(SendResponse<Bytes>, Option<Response<()>>),
    /// To an endpoint that was not asked yet.
    Request(SendRequest<Bytes>, Scheme),
    /// The head is sent.
    Body(SendStream<Bytes>),
    /// The request was given up, and its stream is reset later.
    GivenUp,
}

/// What comes.
struct Inlet {
    coming: Coming,
    /// The first of the body, where it was read ahead.
    first: Option<Bytes>,
    /// Bytes that the peer has not got back in its window.
    unreleased: usize,
    trailers: Option<HeaderMap>,
    /// An endpoint was asked for a WebSocket: what its response says over HTTP/1.1.
    accept: Option<Box<Accept>>,
}

enum Coming {
    /// The request was not sent yet.
    Nothing,
    /// It could not be.
    Never,
    /// It cannot be: HTTP/2 has no form for it.
    Unfit(LocalReply),
    Response(ResponseFuture),
    Body(RecvStream),
}

/// A piece of a message that is to be sent: `before` is the head, where none was sent yet, and
/// of no use otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Part<'p> {
    pub(crate) before: &'p [u8],
    pub(crate) data: &'p [u8],
    pub(crate) trailers: &'p [u8],
    pub(crate) is_last: bool,
}

impl<'p> Part<'p> {
    /// Nothing more.
    pub(crate) const END: Self = Self {
        is_last: true,
        ..Self::of(b"")
    };

    /// Data alone, with more to come.
    pub(crate) const fn of(data: &'p [u8]) -> Self {
        Self {
            before: b"",
            data,
            trailers: b"",
            is_last: false,
        }
    }
}

impl Stream {
    /// A client's.
    pub(crate) fn of_client(
        respond: SendResponse<Bytes>,
        body: RecvStream,
        client: Rc<Sharer>,
    ) -> Self {
        Self {
            outlet: RefCell::new(Outlet::Response(respond, None)),
            inlet: RefCell::new(Inlet::new(Coming::Body(body))),
            has_ended: Cell::new(false),
            ahead: Cell::new(0),
            waits_with: Cell::default(),
            sent: Cell::new(0),
            peer: Peer::Client(client),
        }
    }

    /// To an endpoint.
    pub(crate) fn to_endpoint(
        sender: SendRequest<Bytes>,
        scheme: Scheme,
        slot: StreamSlot,
    ) -> Self {
        Self {
            outlet: RefCell::new(Outlet::Request(sender, scheme)),
            inlet: RefCell::new(Inlet::new(Coming::Nothing)),
            has_ended: Cell::new(false),
            ahead: Cell::new(0),
            waits_with: Cell::default(),
            sent: Cell::new(0),
            peer: Peer::Endpoint(slot),
        }
    }

    /// The client.
    pub(crate) fn sharer(&self) -> Option<&Rc<Sharer>> {
        match &self.peer {
            Peer::Client(client) => Some(client),
            Peer::Endpoint(_) => None,
        }
    }

    /// The client, if its requests must not be on one connection with those of others.
    pub(crate) fn client_apart(&self, now: Millis) -> Option<&Rc<Sharer>> {
        match &self.peer {
            Peer::Client(client) if !client.may_share(now) => Some(client),
            Peer::Client(_) | Peer::Endpoint(_) => None,
        }
    }

    /// Sets the head of the response, which is sent along with the first of its body.
    pub(crate) fn begin_response(&self, response: Response<()>) {
        if let Outlet::Response(_, head) = &mut *self.outlet.borrow_mut() {
            *head = Some(response);
        }
    }

    /// Sends an interim response to a client.
    pub(crate) fn interim(&self, response: Message<'_>) -> io::Result<()> {
        match &mut *self.outlet.borrow_mut() {
            Outlet::Response(respond, _) => {
                let response = response_of(response, |fields| {
                    headers::towards_client(response, false, b"", fields);
                });
                respond.send_informational(response).map_err(broken)
            }
            _ => Ok(()),
        }
    }

    /// Tells a client to go on with its body (RFC 9110, 10.1.1).
    pub(crate) fn proceed(&self) {
        if let Outlet::Response(respond, _) = &mut *self.outlet.borrow_mut() {
            let mut response = Response::new(());
            *response.status_mut() = http::StatusCode::CONTINUE;
            // A client that is gone is noticed soon enough.
            let _ = respond.send_informational(response);
        }
    }

    /// Breaks the stream off, so that its peer does not take what was sent for the whole.
    pub(crate) fn break_off(&self, reason: Reason) {
        match &mut *self.outlet.borrow_mut() {
            Outlet::Response(respond, _) => respond.send_reset(reason),
            Outlet::Body(send) => send.send_reset(reason),
            Outlet::Request(..) | Outlet::GivenUp => {}
        }
    }

    /// Sends a piece. `written` counts what of it was taken.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        part: Part<'_>,
        written: &mut usize,
    ) -> Poll<io::Result<()>> {
        let bare = part.is_last && part.trailers.is_empty();
        let mut outlet = self.outlet.borrow_mut();
        let send = match &mut *outlet {
            Outlet::Body(send) => send,
            unsent => {
                let ends = bare && part.data.is_empty();
                let send = ready!(self.poll_open(cx, unsent, part.before, ends))?;
                let is_tunnel = self.inlet.borrow().accept.is_some();
                self.has_ended.set(ends && !is_tunnel);
                *written = part.before.len();
                *unsent = Outlet::Body(send);
                match unsent {
                    Outlet::Body(send) if !ends => send,
                    _ => return Poll::Ready(Ok(())),
                }
            }
        };
        // Of a later piece, what HTTP/1.1 has before the data.
        *written = (*written).max(part.before.len());
        loop {
            let rest = &part.data[*written - part.before.len()..];
            if rest.is_empty() {
                break;
            }
            let room = match poll_room(cx, send, rest.len()) {
                Poll::Pending => return self.wait_for_room(rest.len()),
                Poll::Ready(room) => room?,
            };
            self.goes_on();
            let chunk = &rest[..room.min(rest.len())];
            let ends = bare && chunk.len() == rest.len();
            send.send_data(Bytes::copy_from_slice(chunk), ends)
                .map_err(broken)?;
            *written += chunk.len();
            self.sent.set(self.sent.get() + chunk.len());
        }
        if !part.trailers.is_empty() {
            let trailers = trailers_of(part.trailers)?;
            send.send_trailers(trailers).map_err(broken)?;
        } else if bare && part.data.is_empty() {
            send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        self.has_ended.set(part.is_last);
        Poll::Ready(Ok(()))
    }

    /// Of a client: only little is to be read ahead for it.
    pub(crate) fn reads_little(&self) -> bool {
        match &self.peer {
            Peer::Client(client) => client.backlog().is_long(),
            Peer::Endpoint(_) => false,
        }
    }

    /// Of a client: its worker has much waiting for clients.
    pub(crate) fn is_pressed(&self) -> bool {
        match &self.peer {
            Peer::Client(client) => client.backlog().is_pressed(),
            Peer::Endpoint(_) => false,
        }
    }

    /// So many bytes may come in for it that no one has read yet.
    pub(crate) fn is_behind(&self, ahead: usize) {
        self.ahead.set(ahead);
    }

    /// It has to wait with so many bytes, which is counted if they are for a client.
    fn wait_for_room(&self, bytes: usize) -> Poll<io::Result<()>> {
        if let Peer::Client(client) = &self.peer
            && !self.waits_with.get().is_any()
        {
            let bytes = ReadBuffer::capacity_for(bytes) + self.ahead.get();
            match client.backlog().add(bytes, self.sent.get()) {
                Some(added) => self.waits_with.set(added),
                None => return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into())),
            }
        }
        Poll::Pending
    }

    fn goes_on(&self) {
        if let Peer::Client(client) = &self.peer
            && self.waits_with.get().is_any()
        {
            client.backlog().take_off(self.waits_with.take());
        }
    }

    /// Sends the head.
    fn poll_open(
        &self,
        cx: &mut Context<'_>,
        outlet: &mut Outlet,
        head: &[u8],
        ends: bool,
    ) -> Poll<io::Result<SendStream<Bytes>>> {
        Poll::Ready(match outlet {
            Outlet::Response(respond, response) => {
                let response = response.take().unwrap_or_default();
                respond.send_response(response, ends).map_err(broken)
            }
            Outlet::Request(sender, scheme) => {
                let ready = ready!(sender.poll_ready(cx));
                let mut inlet = self.inlet.borrow_mut();
                let (request, accept) = match read_sent_request(head, scheme) {
                    Ok((_, Some(_))) if !sender.is_extended_connect_protocol_enabled() => {
                        inlet.coming = Coming::Unfit(LocalReply::UpgradeOverHttp2);
                        return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                    }
                    Ok(read) => read,
                    Err(reply) => {
                        inlet.coming = Coming::Unfit(reply);
                        return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                    }
                };
                // A WebSocket's own bytes come behind its head.
                let ends = ends && accept.is_none();
                inlet.accept = accept.map(Box::new);
                match ready.and_then(|()| sender.send_request(request, ends)) {
                    Ok((response, send)) => {
                        inlet.coming = Coming::Response(response);
                        Ok(send)
                    }
                    Err(error) => {
                        inlet.coming = Coming::Never;
                        Err(broken(error))
                    }
                }
            }
            Outlet::Body(_) | Outlet::GivenUp => Err(io::ErrorKind::AlreadyExists.into()),
        })
    }

    /// Reads the head of a response into the inbox.
    pub(crate) fn poll_head(
        &self,
        cx: &mut Context<'_>,
        read_buffer: &mut ReadBuffer,
        pool: &Pool,
        to_head: bool,
        head: &mut Head,
    ) -> Poll<Result<ResponseHead, NoResponse>> {
        let mut inlet = self.inlet.borrow_mut();
        let Inlet { coming, accept, .. } = &mut *inlet;
        let accept = accept.as_deref();
        let waiting = match coming {
            Coming::Response(waiting) => waiting,
            Coming::Never => {
                let never = NoResponse::Unprocessed { is_refused: false };
                return Poll::Ready(Err(never));
            }
            Coming::Unfit(reply) => return Poll::Ready(Err(NoResponse::Unfit(*reply))),
            Coming::Nothing | Coming::Body(_) => return Poll::Pending,
        };
        let (is_over, head_of) = match waiting.poll_informational(cx) {
            Poll::Ready(Some(interim)) => {
                let (head_of, ()) = interim.map_err(|error| no_response(&error))?.into_parts();
                (true, head_of)
            }
            _ => {
                let response = ready!(std::pin::Pin::new(waiting).poll(cx));
                let response = response.map_err(|error| no_response(&error))?;
                let (head_of, body) = response.into_parts();
                let is_over = body.is_end_stream();
                *coming = Coming::Body(body);
                (is_over, head_of)
            }
        };
        let mut bytes = Vec::new();
        if head.is_unused() {
            *head = pool.head();
        }
        let framing = read_response(&head_of, is_over, to_head, accept, &mut bytes, head)?;
        let status = head.over(&bytes).status();
        read_buffer.push(&bytes, pool);
        Poll::Ready(Ok(ResponseHead {
            length: bytes.len(),
            status,
            framing,
        }))
    }

    /// Reads the next of the body behind what is in the inbox. 0: there is no more.
    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        read_buffer: &mut ReadBuffer,
        pool: &Pool,
    ) -> Poll<io::Result<usize>> {
        let Inlet {
            coming,
            first,
            unreleased,
            trailers,
            accept: _,
        } = &mut *self.inlet.borrow_mut();
        let Coming::Body(body) = coming else {
            return Poll::Pending;
        };
        if let Some(first) = first.take() {
            *unreleased = first.len();
            read_buffer.push(&first, pool);
            return Poll::Ready(Ok(first.len()));
        }
        loop {
            // What was read before is written: the peer may send as much again.
            if *unreleased > 0 {
                body.flow_control()
                    .release_capacity(std::mem::take(unreleased))
                    .map_err(broken)?;
            }
            match body.poll_data(cx) {
                Poll::Ready(Some(chunk)) => {
                    let chunk = chunk.map_err(broken)?;
                    *unreleased = chunk.len();
                    if !chunk.is_empty() {
                        read_buffer.push(&chunk, pool);
                        return Poll::Ready(Ok(chunk.len()));
                    }
                }
                Poll::Ready(None) => {
                    let came = ready!(body.poll_trailers(cx)).map_err(broken)?;
                    *trailers = came.or(trailers.take());
                    return Poll::Ready(Ok(0));
                }
                Poll::Pending => {
                    read_buffer.park(pool);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether a body comes, or trailer fields: a request that has not ended with its head may do so
    /// with an empty frame.
    pub(crate) fn poll_has_body(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let Inlet { coming, first, .. } = &mut *self.inlet.borrow_mut();
        let Coming::Body(body) = coming else {
            return Poll::Ready(false);
        };
        while first.is_none() {
            match ready!(body.poll_data(cx)) {
                Some(Ok(chunk)) => *first = Some(chunk).filter(|chunk| !chunk.is_empty()),
                // Who reads on gets it once more.
                Some(Err(_)) => break,
                None => return Poll::Ready(!body.is_end_stream()),
            }
        }
        Poll::Ready(true)
    }

    /// Whether nothing comes after what was read.
    pub(crate) fn is_over(&self) -> bool {
        self.inlet.borrow().is_over()
    }

    /// Whether trailer fields came that were not taken yet.
    pub(crate) fn has_trailers(&self) -> bool {
        self.inlet.borrow().trailers.is_some()
    }

    /// Puts the trailer fields into the inbox, as lines with an empty one behind them.
    pub(crate) fn take_trailers(&self, read_buffer: &mut ReadBuffer, pool: &Pool) {
        if let Some(trailers) = self.inlet.borrow_mut().trailers.take() {
            let mut lines = Vec::new();
            push_fields(&trailers, &mut lines);
            lines.extend_from_slice(b"\r\n");
            read_buffer.push(&lines, pool);
        }
    }

    /// Waits until the client has reset the stream, or is gone.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut *self.outlet.borrow_mut() {
            Outlet::Response(respond, _) => respond.poll_reset(cx),
            Outlet::Body(send) => send.poll_reset(cx),
            Outlet::Request(..) | Outlet::GivenUp => return Poll::Pending,
        };
        reset.map(drop)
    }
}

/// A request to an endpoint that is given up has its stream reset, if that is to be now.
impl Drop for Stream {
    fn drop(&mut self) {
        self.goes_on();
        let Peer::Endpoint(StreamSlot(load)) = &self.peer else {
            return;
        };
        let (outlet, inlet) = (self.outlet.get_mut(), self.inlet.get_mut());
        let Outlet::Body(send) = outlet else { return };
        let is_over = self.has_ended.get() && inlet.is_over();
        // One that was broken off is over, too.
        let mut cx = Context::from_waker(Waker::noop());
        if is_over || send.poll_reset(&mut cx).is_ready() || load.may_reset() {
            return;
        }
        let response = match std::mem::replace(&mut inlet.coming, Coming::Never) {
            Coming::Response(response) => Some(response),
            _ => None,
        };
        if let Outlet::Body(send) = std::mem::replace(outlet, Outlet::GivenUp) {
            load.reset_later(send, response);
        }
    }
}

impl Inlet {
    fn new(coming: Coming) -> Self {
        Self {
            coming,
            first: None,
            unreleased: 0,
            trailers: None,
            accept: None,
        }
    }

    fn is_over(&self) -> bool {
        match &self.coming {
            Coming::Body(body) => self.first.is_none() && body.is_end_stream(),
            Coming::Nothing | Coming::Never | Coming::Unfit(_) | Coming::Response(_) => false,
        }
    }
}

/// How many bytes the peer's window has room for, of so many.
fn poll_room(
    cx: &mut Context<'_>,
    send: &mut SendStream<Bytes>,
    want: usize,
) -> Poll<io::Result<usize>> {
    send.reserve_capacity(want);
    loop {
        match send.capacity() {
            0 => match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            },
            room => return Poll::Ready(Ok(room)),
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

/// Why an endpoint did not respond to a request.
fn no_response(error: &h2::Error) -> NoResponse {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    match error.is_remote() {
        true if error.is_go_away() => NoResponse::Unprocessed { is_refused: false },
        true if is_refused => NoResponse::Unprocessed { is_refused: true },
        _ if error.is_io() => NoResponse::Broken { silently: true },
        true => NoResponse::Broken { silently: false },
        false => NoResponse::Bad,
    }
}
