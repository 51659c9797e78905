//! A client's connection: reads its requests one after the other, forwards each, and
//! passes the responses on.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::Version;

use crate::access_log::own::Logged;
use crate::access_log::termination::Phase;
use crate::filter::Filtered;
use crate::forward::{BodyRead, EndpointResponse, Exchange, Unbegun};
use crate::server::h2;
use crate::server::incoming::{Incoming, Started, Unserved};
use crate::server::linger::linger;
use crate::server::logged;
use crate::wire::Wire;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::Framing;
use crate::wire::h1::head::{BadHead, find_end, read_request, request_at_once, request_framing};
use crate::wire::h1::write::{end_head, response_fields, say_connection, status_line};
use crate::wire::h2::connection::H2Socket;
use crate::wire::head::{Head, Known, Message};
use crate::wire::peer::Peer;
use crate::wire::pump::{Pump, Source};
use crate::wire::reply::{LocalReply, wants_json};
use crate::wire::sink::Sink;
use crate::wire::socket::{ReadBuffer, Socket};
use crate::wire::timer::{Timer, WaitError};
use crate::wire::tunnel::tunnel;
use crate::worker::Worker;
use crate::worker::slots::{Slots, slot};
use crate::worker::upstream::Attempt;

/// What a connection of HTTP/2 begins with, as far as it looks like a head (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// How long the end of this side's half may take, before what the client still sends is forgotten.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// How many bytes may come behind a head that cannot be read, so that its client gets to read why.
const MAX_BEHIND: u64 = 1024 * 1024;
/// How long a new connection may take to send its first request while the proxy stops.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// A client's connection.
pub(crate) struct H1Client {
    socket: Socket,
    read_buffer: ReadBuffer,
    timer: Timer,
    peer: Peer,
    served: u64,
}

/// A request whose head was read.
#[derive(Debug, Clone, Copy)]
struct Request {
    framing: Framing,
    version: Version,
    /// The client would like to send another request on this connection.
    keep_alive: bool,
    /// The client will send no other request on this connection (RFC 9112, 9.6).
    last: bool,
    /// It would like its errors in JSON.
    json: bool,
    to_head: bool,
}

/// The head of a request is at the front of the inbox.
struct Arrived {
    length: usize,
    /// What was read of it, where it was read already.
    head: Option<Head>,
}

/// The head of a response is written.
struct Begun {
    /// With whether its body goes on in chunks.
    head: (Vec<u8>, bool),
    /// The connection may serve another request after it.
    keep_alive: bool,
    /// Nothing but the connection's end can say where the body ends.
    ends_with_connection: bool,
}

/// What becomes of a client's connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Request,
    /// Closed, once the client has read what was sent. So many bytes may come from it until then.
    Close(u64),
    /// Closed at once, since the client has nothing more to send.
    CloseNow,
    /// Ended in the middle of a response: closed at once, so that the client sees it was cut.
    Cut,
}

/// What a request needs, from its head to the end of its response; a head that cannot be served
/// is refused.
pub(crate) struct Job {
    worker: Rc<Worker>,
    client: Box<H1Client>,
    arrived: Result<Arrived, LocalReply>,
}

/// Where a worker serves its requests. Connections wait for them without this memory.
pub(crate) type Jobs = Slots<Job, (Box<H1Client>, Next)>;

/// None yet.
pub(crate) fn jobs() -> Jobs {
    Slots::new(|| {
        slot(|job: Job| async move {
            let Job {
                worker,
                mut client,
                arrived,
            } = job;
            let next = match arrived {
                Ok(arrived) => client.request(&worker, arrived).await,
                Err(reply) => client.refuse_unread(&worker, reply).await,
            };
            (client, next)
        })
    })
}

/// Tells a client that speaks HTTP without TLS that this listener has TLS. nginx does the same.
pub(crate) async fn refuse_plain(worker: Rc<Worker>, socket: Socket, peer: Peer) {
    let mut client = H1Client::new(&worker, socket, peer);
    let refused = client.refuse_unread(&worker, LocalReply::PlainHttp);
    if let Next::Close(most) = refused.await {
        client.linger(&worker, most).await;
    }
}

/// Serves a client's connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, jobs: &Jobs, socket: Socket, peer: Peer) {
    let mut client = Box::new(H1Client::new(&worker, socket, peer));
    loop {
        let arrived = match client.head(&worker).await {
            Ok(None) => return client.socket.send_close_notify(),
            // Rare, and so not worth memory in every connection.
            Ok(Some(_)) if client.begins_h2() => return Box::pin(client.serve_h2(worker)).await,
            Ok(Some(arrived)) => Ok(arrived),
            Err(reply) => Err(reply),
        };
        let job = Job {
            worker: worker.clone(),
            client,
            arrived,
        };
        let next;
        (client, next) = jobs.run(job).await;
        client.served += 1;
        match next {
            Next::Request => {}
            Next::Close(most) => return Box::pin(client.linger(&worker, most)).await,
            Next::CloseNow | Next::Cut => return,
        }
    }
}

impl H1Client {
    fn new(worker: &Worker, socket: Socket, peer: Peer) -> Self {
        Self {
            socket,
            read_buffer: ReadBuffer::default(),
            timer: worker.timers.timer(),
            peer,
            served: 0,
        }
    }

    /// Waits for the whole head of a request. `None`: there will be none.
    async fn head(&mut self, worker: &Worker) -> Result<Option<Arrived>, LocalReply> {
        // A connection that waits holds no table, and little else.
        let (header, keep_alive) = {
            let table = worker.table();
            (table.timeouts.header, table.timeouts.keep_alive)
        };
        let most = worker.limits.header_bytes;
        let Self {
            read_buffer,
            socket,
            timer,
            ..
        } = self;
        let mut scanned = 0;
        let mut begun = false;
        let fresh = self.served == 0;
        timer.set(if fresh { header } else { keep_alive });
        let mut is_leaving = false;
        poll_fn(|cx| {
            loop {
                // Empty lines before a request are ignored (RFC 9112, 2.2).
                while read_buffer.data().starts_with(b"\r\n") {
                    read_buffer.consume(2);
                    scanned = 0;
                }
                if !begun && !read_buffer.is_empty() {
                    begun = true;
                    timer.set(header);
                }
                // Most heads come whole, and are well.
                if scanned == 0
                    && let Some(arrived) = arrived_at_once(worker, read_buffer)
                {
                    return Poll::Ready(Ok(Some(arrived)));
                }
                match find_end(read_buffer.data(), &mut scanned) {
                    Err(_) => return Poll::Ready(Err(LocalReply::BadSyntax)),
                    Ok(Some(length)) if length <= most => {
                        return Poll::Ready(Ok(Some(Arrived { length, head: None })));
                    }
                    Ok(None) if read_buffer.data().len() < most => {}
                    Ok(_) if read_buffer.data().contains(&b'\n') => {
                        return Poll::Ready(Err(LocalReply::HeadTooLong));
                    }
                    Ok(_) => return Poll::Ready(Err(LocalReply::TargetTooLong)),
                }
                match read_buffer.poll_fill(socket, &worker.pool, most, cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Pending => break,
                }
            }
            if worker.is_stopping() && !begun {
                // One that was just accepted may still bring the request that it was made for.
                if !fresh {
                    return Poll::Ready(Ok(None));
                }
                if !is_leaving {
                    is_leaving = true;
                    timer.set(LAST_REQUEST);
                }
            }
            match ready!(timer.poll(cx)) {
                WaitError::TimedOut if begun => Poll::Ready(Err(LocalReply::HeadTimedOut)),
                _ => Poll::Ready(Ok(None)),
            }
        })
        .await
    }

    /// Whether what came first is the preface of HTTP/2, by whose prior knowledge (RFC 9113, 3.3)
    /// a client goes without TLS.
    fn begins_h2(&self) -> bool {
        self.served == 0
            && self.read_buffer.data().starts_with(PREFACE)
            && self.socket.as_plain().is_some()
    }

    /// Leaves the connection, with what came of it, to HTTP/2.
    async fn serve_h2(self, worker: Rc<Worker>) {
        let Self {
            socket,
            mut read_buffer,
            timer,
            peer,
            ..
        } = self;
        let read = read_buffer.data().to_vec();
        read_buffer.clear(&worker.pool);
        drop((read_buffer, timer));
        let h2_socket = H2Socket::to_client(read, socket.into_inner());
        h2::serve(worker, h2_socket, peer).await;
    }

    /// Serves the request whose head has arrived.
    async fn request(&mut self, worker: &Rc<Worker>, arrived: Arrived) -> Next {
        let Arrived { mut length, head } = arrived;
        let is_read = head.is_some();
        let mut head = head.unwrap_or_else(|| worker.pool.head());
        let request = match self.read(worker, length, is_read, &mut head) {
            Ok(request) => request,
            Err(bad) => {
                worker.pool.give_head(head);
                let refused = self.refuse_unread(worker, bad.into()).await;
                self.read_buffer.consume(length);
                return refused;
            }
        };
        let mut logged = Logged::begin(
            worker.access_log.as_ref(),
            &self.peer,
            head.over(&self.read_buffer.data()[..length]),
            length,
        );
        let client = (&self.timer, &self.peer, &self.socket);
        let message = head.over(&self.read_buffer.data()[..length]);
        let incoming = incoming(worker, client, message, request.framing, None);
        // What it is made of is large, and stays where it is to its end.
        let mut started = incoming.begin();
        if started.is_err() {
            logged::not_begun(&mut logged, worker, incoming.head);
        }
        let mut filtered = incoming.filtered.take();
        let mut has_waited = false;
        if let Err(unbegun) = started
            && unbegun.may_pass()
        {
            has_waited = true;
            let waits = (unbegun, &mut filtered);
            let beginning = self.begin_later(worker, &head, length, request.framing, waits);
            length = 0;
            // Rare, and so not worth memory in every request.
            started = Box::pin(beginning).await;
        }
        worker.pool.give_head(head);
        self.read_buffer.consume(length);
        let (exchange, attempt, upload) = match started {
            Ok(Started {
                ref mut exchange,
                attempt,
                ref mut upload,
                reserved: _,
            }) => (exchange, attempt, upload),
            Err(unbegun) => {
                let reply = unbegun.reply();
                let is_read = self.skip_body(request.framing);
                logged::refused(&mut logged, reply, Phase::Queue);
                let unserved = Unserved::new(reply, filtered);
                let refused = self.refuse(worker, unserved, Some(request), is_read, &mut logged);
                return refused.await;
            }
        };
        logged::begun(&mut logged, exchange, has_waited);
        self.exchange(worker, request, exchange, attempt, upload, &mut logged)
            .await
    }

    /// Forwards a request whose exchange has begun, and passes the response on.
    async fn exchange(
        &mut self,
        worker: &Rc<Worker>,
        request: Request,
        exchange: &mut Exchange,
        attempt: Attempt,
        upload: &mut Pump,
        logged: &mut Logged,
    ) -> Next {
        if self.read_buffer.is_empty() {
            // However long the response takes, the connection holds no buffer until it is there.
            self.read_buffer.park(&worker.pool);
        }
        let mut source = Source {
            wire: Wire::H1(&self.socket),
            read_buffer: &mut self.read_buffer,
            pool: &worker.pool,
            takes_interim: request.version == Version::HTTP_11,
            expectation: exchange.expectation,
        };
        let response = exchange
            .response(worker, &self.timer, attempt, &mut source, upload)
            .await;
        let mut response = match response {
            Ok(response) => response,
            Err(reply) => {
                logged::unserved(logged, worker, exchange, reply, upload);
                let reply = Unserved::new(reply, exchange.take_filtered());
                let unserved = self.unserved(worker, reply, request, upload, logged);
                return unserved.await;
            }
        };
        logged::responded(logged, exchange, &response);
        if response.head.status == 101 {
            upload.finish(&mut self.read_buffer, &worker.pool);
            return self.upgrade(worker, exchange, response, logged).await;
        }
        let whole = upload.is_done();
        let begun = begin_response(worker, &request, exchange, &response, whole);
        let relayed = exchange
            .relay(&self.timer, &mut response, begun.head, &mut source, upload)
            .await;
        let timer = &self.timer;
        logged::relayed(logged, timer, exchange, &response, &relayed, upload);
        upload.finish(&mut self.read_buffer, &worker.pool);
        match response.settle(relayed) {
            Ok(()) if begun.keep_alive => Next::Request,
            Ok(()) if request.last && whole && self.has_read_all() => Next::CloseNow,
            Ok(()) => Next::Close(u64::MAX),
            Err(_) => self.cut(begun.ends_with_connection),
        }
    }

    /// Begins the exchange of a request that has to wait, and takes its head off the inbox.
    async fn begin_later(
        &mut self,
        worker: &Rc<Worker>,
        head: &Head,
        length: usize,
        framing: Framing,
        (unbegun, filtered): (Unbegun, &mut Option<Box<Filtered>>),
    ) -> Result<Started, Unbegun> {
        let bytes = self.read_buffer.data()[..length].to_vec();
        self.read_buffer.consume(length);
        let client = (&self.timer, &self.peer, &self.socket);
        let message = head.over(&bytes);
        let mut incoming = incoming(worker, client, message, framing, filtered.take());
        let beginning = incoming.begin_later(unbegun, &mut self.read_buffer);
        let started = beginning.await;
        *filtered = incoming.filtered.take();
        started
    }

    /// Refuses a request that no endpoint has responded to, after as much of its body as was sent on.
    async fn unserved(
        &mut self,
        worker: &Rc<Worker>,
        reply: Unserved,
        request: Request,
        upload: &mut Pump,
        logged: &mut Logged,
    ) -> Next {
        let (done, untouched) = (upload.is_done(), upload.is_untouched());
        upload.finish(&mut self.read_buffer, &worker.pool);
        let is_read = done || untouched && self.skip_body(request.framing);
        self.refuse(worker, reply, Some(request), is_read, logged)
            .await
    }

    /// Refuses a request whose head cannot be read; what came of it is at the front of the inbox.
    async fn refuse_unread(&mut self, worker: &Worker, reply: LocalReply) -> Next {
        let line = self.read_buffer.data();
        let mut logged = Logged::unread(worker.access_log.as_ref(), &self.peer, line);
        logged::refused(&mut logged, reply, Phase::Head);
        self.refuse(worker, reply.into(), None, false, &mut logged)
            .await
    }

    /// Ends a connection in the middle of a response.
    fn cut(&self, ends_with_connection: bool) -> Next {
        if ends_with_connection {
            // Its end alone would make the response look whole.
            self.socket.reset_when_dropped();
        }
        Next::Cut
    }

    /// Reads the head, if that was not done already, and what this connection has to know of it.
    fn read(
        &self,
        worker: &Worker,
        length: usize,
        is_read: bool,
        head: &mut Head,
    ) -> Result<Request, BadHead> {
        let bytes = &self.read_buffer.data()[..length];
        if !is_read {
            read_request(bytes, worker.limits.header_count, head)?;
        }
        let head = head.over(bytes);
        let framing = request_framing(head)?;
        Ok(self.request_of(worker, head, framing))
    }

    fn request_of(&self, worker: &Worker, message: Message<'_>, framing: Framing) -> Request {
        let version = message.version();
        let goes_on = message.keeps_alive();
        let is_full = self.served + 1 >= worker.limits.requests_per_connection;
        Request {
            framing,
            version,
            keep_alive: goes_on && !is_full && !worker.is_leaving(),
            last: !goes_on,
            json: wants_json(message),
            to_head: message.method() == b"HEAD",
        }
    }

    /// Passes a 101 on, and then bytes both ways until one side ends.
    async fn upgrade(
        &mut self,
        worker: &Rc<Worker>,
        exchange: &Exchange,
        response: EndpointResponse,
        logged: &mut Logged,
    ) -> Next {
        let EndpointResponse {
            mut attempt,
            mut connection,
            head,
        } = response;
        let mut bytes = worker.pool.take_small();
        response_fields(Version::HTTP_11, connection.response(), b"", &mut bytes);
        exchange.finish_fields(&attempt.upstream().endpoint, &mut bytes);
        bytes.extend_from_slice(b"\r\n");
        connection.take_off(&head, &worker.pool);
        let written = self
            .socket
            .write_all(&self.timer, exchange.body_idle(), [&bytes])
            .await;
        worker.pool.give(bytes);
        if written.is_ok() {
            attempt.upgrade();
            let client = (Wire::H1(&self.socket), &mut self.read_buffer);
            let endpoint = (connection.link.wire(), &mut connection.read_buffer);
            let tunnelled = tunnel(&worker.pool, &self.timer, client, endpoint).await;
            logged::tunnelled(logged, tunnelled);
        } else {
            logged::replied(logged, 0, false);
        }
        Next::Cut
    }

    /// Takes a body off the inbox, if all of it is there. Gives whether it was.
    fn skip_body(&mut self, framing: Framing) -> bool {
        let here = self.read_buffer.data().len();
        match framing {
            Framing::Empty => true,
            Framing::Length(length) if length <= here as u64 => {
                self.read_buffer.consume(length as usize);
                true
            }
            _ => false,
        }
    }

    /// Sends the proxy's own response. `request` is what is known of the request, and `is_read`
    /// says that nothing of it is left unread.
    async fn refuse(
        &mut self,
        worker: &Worker,
        unserved: Unserved,
        request: Option<Request>,
        is_read: bool,
        logged: &mut Logged,
    ) -> Next {
        let reply = unserved.reply;
        worker.counters.refused(reply);
        if reply == LocalReply::ClientGone {
            return Next::Cut;
        }
        let version = request.map_or(Version::HTTP_11, |request| request.version);
        let keep_alive = is_read
            && !reply.ends_connection()
            && !worker.is_leaving()
            && request.is_some_and(|request| request.keep_alive);
        let mut bytes = worker.pool.take_small();
        let status = unserved.status();
        let reason = status.canonical_reason().unwrap_or_default();
        status_line(version, status.as_u16(), reason.as_bytes(), &mut bytes);
        let json = request.is_some_and(|request| request.json);
        let to_head = request.is_some_and(|request| request.to_head);
        let body = unserved.write(worker, json, to_head, &mut bytes);
        say_connection(version, keep_alive, &mut bytes);
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        let within = worker.table().timeouts.body_idle;
        let written = self.socket.write_all(&self.timer, within, [&bytes]).await;
        worker.pool.give(bytes);
        logged::filtered(logged, &unserved);
        logged::replied(logged, body.len(), written.is_ok());
        match written {
            Ok(()) if keep_alive => Next::Request,
            Ok(()) if request.is_some() => Next::Close(u64::MAX),
            // What comes behind a head that cannot be read is no body.
            Ok(()) => Next::Close(MAX_BEHIND),
            Err(_) => Next::Cut,
        }
    }

    /// Whether the system holds nothing of the client's that was not read, so that it says
    /// closing handshake when the socket is closed, and no reset. Over TLS there is more to say.
    fn has_read_all(&self) -> bool {
        let Some(plain) = self.socket.as_plain() else {
            return false;
        };
        self.read_buffer.is_empty() && rustix::io::ioctl_fionread(&*plain) == Ok(0)
    }

    /// Ends the connection without taking from the client what it was sent last. So many bytes may
    /// come until then.
    async fn linger(mut self, worker: &Worker, most: u64) {
        let (socket, timer) = (&self.socket, &self.timer);
        let shut = timer.wait(SHUTDOWN, |cx| socket.poll_shutdown(cx)).await;
        if matches!(shut, Ok(Ok(()))) {
            let mut client = Source {
                wire: Wire::H1(socket),
                read_buffer: &mut self.read_buffer,
                pool: &worker.pool,
                takes_interim: false,
                expectation: Expectation::Nothing,
            };
            linger(worker, timer, &mut client, most).await;
        }
        self.read_buffer.clear(&worker.pool);
    }
}

/// A request of a client, with what filters have found of it already.
fn incoming<'r>(
    worker: &'r Rc<Worker>,
    (timer, peer, socket): (&'r Timer, &'r Peer, &'r Socket),
    head: Message<'r>,
    framing: Framing,
    filtered: Option<Box<Filtered>>,
) -> Incoming<'r> {
    Incoming {
        worker,
        timer,
        peer,
        head,
        framing,
        read: BodyRead::No,
        client: Wire::H1(socket),
        filtered: Cell::new(filtered),
    }
}

/// Writes what a client should see of a response's head. `whole`: its request was sent to the end.
fn begin_response(
    worker: &Worker,
    request: &Request,
    exchange: &Exchange,
    response: &EndpointResponse,
    whole: bool,
) -> Begun {
    let framing = response.head.framing;
    let message = response.connection.response();
    let ends_with_connection = request.version == Version::HTTP_10
        && matches!(framing, Framing::Chunked | Framing::UntilClose);
    let keep_alive = request.keep_alive && whole && !worker.is_leaving() && !ends_with_connection;
    let mut bytes = worker.pool.take_small();
    response_fields(request.version, message, &worker.date(), &mut bytes);
    exchange.finish_fields(&response.attempt.upstream().endpoint, &mut bytes);
    say_connection(request.version, keep_alive, &mut bytes);
    let chunked = if ends_with_connection {
        bytes.extend_from_slice(b"\r\n");
        false
    } else {
        let status = message.status();
        if request.to_head || status == 304 {
            // What a GET would have got (RFC 9110, 9.3.2 and 15.4.5).
            for length in message.values(Known::ContentLength) {
                bytes.add(b"content-length", &[length]);
            }
        }
        let bodyless = request.to_head || matches!(status, 100..=199 | 204 | 304);
        end_head(framing, &mut bytes, bodyless)
    };
    Begun {
        head: (bytes, chunked),
        keep_alive,
        ends_with_connection,
    }
}

/// The head that the inbox begins with, if all of it is there and nothing is wrong with it.
fn arrived_at_once(worker: &Worker, read_buffer: &ReadBuffer) -> Option<Arrived> {
    if read_buffer.is_empty() {
        return None;
    }
    let limits = &worker.limits;
    let mut head = worker.pool.head();
    let length = request_at_once(read_buffer.data(), limits.header_count, &mut head);
    match length.filter(|length| *length <= limits.header_bytes) {
        Some(length) => Some(Arrived {
            length,
            head: Some(head),
        }),
        None => {
            worker.pool.give_head(head);
            None
        }
    }
}

impl From<BadHead> for LocalReply {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::Syntax => Self::BadSyntax,
            BadHead::TooManyFields => Self::HeadTooLong,
            BadHead::Version => Self::UnknownVersion,
            BadHead::Framing => Self::BadFraming,
            BadHead::Coding => Self::UnknownCoding,
        }
    }
}
