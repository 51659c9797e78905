//! A stream, on either side: carries a request and its response, as does a
//! connection of HTTP/1.1.
//!
//! What comes is put into an inbox, a chunk at a time: the peer gets as much room back as was
//! written on. What goes is sent as far as the peer's window has room.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;
use http::{HeaderMap, Response};

use super::message::{push_fields, read_sent_request, response_of, trailers_of};
use crate::wire::head::{Head, Message};
use crate::wire::headers;
use crate::wire::reply::LocalReply;
use crate::wire::response::{NoResponse, ResponseHead};
use crate::wire::socket::{Pool, ReadBuffer};
use crate::wire::timer::Millis;

/// One stream.
pub(crate) struct Stream {
    outlet: RefCell<Outlet>,
    inlet: RefCell<Inlet>,
    /// Among the streams to an endpoint. Given back last.
    _place: Option<StreamSlot>,
}

/// What is sent.
enum Outlet {
    /// To a client that has no response yet, with the head of its response once that is known.
    Response(SendResponse<Bytes>, Option<Response<()>>),
    /// To an endpoint that was not asked yet.
    Request(SendRequest<Bytes>, Scheme),
    /// The head is sent.
    Body(SendStream<Bytes>),
}

/// What comes.
struct Inlet {
    coming: Coming,
    /// Bytes that the peer has not got back in its window.
    unreleased: usize,
    trailers: Option<HeaderMap>,
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

/// How many streams of a connection are in use.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) streams: Cell<usize>,
    /// Whether one was begun since that was looked at last.
    pub(crate) was_used: Cell<bool>,
    /// When it was looked at last and was in use.
    pub(crate) used_at: Cell<Millis>,
}

/// A stream's place in its connection, until it is dropped.
pub(crate) struct StreamSlot(pub(crate) Rc<Load>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

impl Stream {
    /// A client's.
    pub(crate) fn of_client(respond: SendResponse<Bytes>, body: RecvStream) -> Self {
        Self {
            outlet: RefCell::new(Outlet::Response(respond, None)),
            inlet: RefCell::new(Inlet::new(Coming::Body(body))),
            _place: None,
        }
    }

    /// To an endpoint.
    pub(crate) fn to_endpoint(
        sender: SendRequest<Bytes>,
        scheme: Scheme,
        place: StreamSlot,
    ) -> Self {
        Self {
            _place: Some(place),
            outlet: RefCell::new(Outlet::Request(sender, scheme)),
            inlet: RefCell::new(Inlet::new(Coming::Nothing)),
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
            Outlet::Request(..) => {}
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
            let room = ready!(poll_room(cx, send, rest.len()))?;
            let chunk = &rest[..room.min(rest.len())];
            let ends = bare && chunk.len() == rest.len();
            send.send_data(Bytes::copy_from_slice(chunk), ends)
                .map_err(broken)?;
            *written += chunk.len();
        }
        if !part.trailers.is_empty() {
            let trailers = trailers_of(part.trailers)?;
            send.send_trailers(trailers).map_err(broken)?;
        } else if bare && part.data.is_empty() {
            send.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
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
                let request = match read_sent_request(head, scheme) {
                    Ok(request) => request,
                    Err(reply) => {
                        inlet.coming = Coming::Unfit(reply);
                        return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                    }
                };
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
            Outlet::Body(_) => Err(io::ErrorKind::AlreadyExists.into()),
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
        let coming = match &mut inlet.coming {
            Coming::Response(coming) => coming,
            Coming::Never => {
                let never = NoResponse::Unprocessed { is_refused: false };
                return Poll::Ready(Err(never));
            }
            Coming::Unfit(reply) => return Poll::Ready(Err(NoResponse::Unfit(*reply))),
            Coming::Nothing | Coming::Body(_) => return Poll::Pending,
        };
        if let Poll::Ready(Some(interim)) = coming.poll_informational(cx) {
            let (head_of, ()) = interim.map_err(|error| no_response(&error))?.into_parts();
            return Poll::Ready(read_response(
                &head_of,
                true,
                to_head,
                read_buffer,
                pool,
                head,
            ));
        }
        let response =
            ready!(std::pin::Pin::new(coming).poll(cx)).map_err(|error| no_response(&error))?;
        let (head_of, body) = response.into_parts();
        let is_over = body.is_end_stream();
        inlet.coming = Coming::Body(body);
        Poll::Ready(read_response(
            &head_of,
            is_over,
            to_head,
            read_buffer,
            pool,
            head,
        ))
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
            unreleased,
            trailers,
        } = &mut *self.inlet.borrow_mut();
        let Coming::Body(body) = coming else {
            return Poll::Pending;
        };
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
                    *trailers = ready!(body.poll_trailers(cx)).map_err(broken)?;
                    return Poll::Ready(Ok(0));
                }
                Poll::Pending => {
                    read_buffer.park(pool);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether nothing comes after what was read.
    pub(crate) fn is_over(&self) -> bool {
        match &self.inlet.borrow().coming {
            Coming::Body(body) => body.is_end_stream(),
            Coming::Nothing | Coming::Never | Coming::Unfit(_) | Coming::Response(_) => false,
        }
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
            Outlet::Request(..) => return Poll::Pending,
        };
        reset.map(drop)
    }
}

impl Inlet {
    fn new(coming: Coming) -> Self {
        Self {
            coming,
            unreleased: 0,
            trailers: None,
        }
    }
}

fn read_response(
    response: &http::response::Parts,
    is_over: bool,
    to_head: bool,
    read_buffer: &mut ReadBuffer,
    pool: &Pool,
    head: &mut Head,
) -> Result<ResponseHead, NoResponse> {
    let mut bytes = Vec::new();
    if head.is_unused() {
        *head = pool.head();
    }
    let framing = super::message::read_response(response, is_over, to_head, &mut bytes, head)?;
    let length = bytes.len();
    read_buffer.push(&bytes, pool);
    Ok(ResponseHead {
        length,
        status: response.status.as_u16(),
        framing,
    })
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
