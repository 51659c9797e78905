//! A request whose head was read, from whichever wire: it is checked against the limits, waits
//! while its service is held or has no endpoint, and begins its exchange. What cannot be forwarded
//! gets a response of the proxy's own.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;

use crate::filter::Filtered;
use crate::forward::endpoint_wait::EndpointWait;
use crate::forward::{BodyRead, Exchange, Unbegun, hold};
use crate::server::body_buffer;
use crate::wire::Wire;
use crate::wire::buffered::Reserved;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::Framing;
use crate::wire::h1::write::end_head;
use crate::wire::head::Message;
use crate::wire::peer::Peer;
use crate::wire::pump::{Pump, Relay, Source};
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;
use crate::wire::socket::ReadBuffer;
use crate::wire::timer::Timer;
use crate::worker::Worker;
use crate::worker::upstream::Attempt;

/// A request that has come in.
pub(super) struct Incoming<'r> {
    pub(super) worker: &'r Rc<Worker>,
    pub(super) timer: &'r Timer,
    pub(super) peer: &'r Peer,
    pub(super) head: Message<'r>,
    pub(super) framing: Framing,
    pub(super) read: BodyRead,
    pub(super) client: Wire<'r>,
    /// What the filters of its service found of it, while it has not begun.
    pub(super) filtered: Cell<Option<Box<Filtered>>>,
}

/// A request on its way: its endpoint is claimed, and nothing of it is sent.
pub(super) struct Started {
    pub(super) exchange: Exchange,
    pub(super) attempt: Attempt,
    pub(super) upload: Pump,
    /// What its body takes that waits here.
    pub(super) reserved: Option<Box<Reserved>>,
}

impl Incoming<'_> {
    /// Begins its exchange after the wait that it needs: until its service may, and until its body is
    /// in `read_buffer`, where its service takes that up.
    pub(super) async fn begin_later(
        &mut self,
        unbegun: Unbegun,
        read_buffer: &mut ReadBuffer,
    ) -> Result<Started, Unbegun> {
        let started = match unbegun {
            Unbegun::Unread(_) => Err(unbegun),
            Unbegun::Refused(_) => self.begin_when_it_may().await,
            Unbegun::Unproven => {
                self.prove().await?;
                match self.begin() {
                    Err(unbegun) if unbegun.may_pass() => match unbegun {
                        Unbegun::Unread(_) => Err(unbegun),
                        _ => self.begin_when_it_may().await,
                    },
                    begun => begun,
                }
            }
        };
        let Err(Unbegun::Unread(wait)) = started else {
            return started;
        };
        let mut client = Source {
            wire: self.client,
            read_buffer,
            pool: &self.worker.pool,
            takes_interim: false,
            expectation: Expectation::of(self.head, true),
        };
        let body = body_buffer::read(self.timer, &mut client, self.framing, wait);
        let body = body.await?;
        (self.framing, self.read) = (body.framing, body.read);
        let mut started = self.begin_when_it_may().await?;
        started.reserved = Some(body.reserved);
        Ok(started)
    }

    /// Has its filters find out what they have to know.
    async fn prove(&self) -> Result<(), LocalReply> {
        let Some(mut filtered) = self.filtered.take() else {
            return Ok(());
        };
        let proven = {
            let mut proving = std::pin::pin!(filtered.prove());
            poll_fn(|cx| {
                if proving.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                match self.client.has_left(cx) {
                    true => Poll::Ready(Err(LocalReply::ClientGone)),
                    false => Poll::Pending,
                }
            })
            .await
        };
        self.filtered.set(Some(filtered));
        proven
    }

    /// Begins its exchange, once its service is not held and has an endpoint.
    async fn begin_when_it_may(&self) -> Result<Started, Unbegun> {
        let mut wait = None;
        loop {
            hold::wait(self.worker, self.head, self.client).await?;
            let generation = self.worker.table().generation;
            match self.begin() {
                Err(Unbegun::Refused(LocalReply::ServiceHeld)) => {}
                Err(Unbegun::Unproven) => self.prove().await?,
                Err(Unbegun::Refused(LocalReply::NoEndpointInTime)) => {
                    let wait = match &wait {
                        Some(wait) => wait,
                        None => wait.insert(EndpointWait::of_request(self.worker, self.head)?),
                    };
                    let (worker, timer) = (self.worker, self.timer);
                    wait.until_news(worker, timer, generation, self.head, self.client)
                        .await?;
                }
                begun => {
                    let mut begun = begun?;
                    if let Some(wait) = &wait {
                        begun.exchange.has_waited(wait);
                    }
                    return Ok(begun);
                }
            }
        }
    }

    /// Begins its exchange. What [`Unbegun::may_pass`] is said of: it has to wait until it may.
    pub(super) fn begin(&self) -> Result<Started, Unbegun> {
        if self.head.target().len() > self.worker.limits.request_line {
            return Err(LocalReply::TargetTooLong.into());
        }
        let pool = &self.worker.pool;
        let mut bytes = pool.take_small();
        let begun = self.begin_exchange(&mut bytes);
        let (exchange, attempt) = match begun {
            Ok(begun) => begun,
            Err(unbegun) => {
                pool.give(bytes);
                return Err(unbegun);
            }
        };
        // A method with content says so even where there is none (RFC 9110, 8.6).
        let bodyless = !matches!(self.head.method(), b"POST" | b"PUT" | b"PATCH");
        end_head(self.framing, &mut bytes, bodyless);
        let most = exchange.body_limit(self.worker);
        // Of a body that is here its length is known, on either wire.
        let from = match self.read {
            BodyRead::Whole => Wire::Nowhere,
            BodyRead::No | BodyRead::Begun => self.client,
        };
        let upload = Pump::new(bytes, self.relay(most), from);
        Ok(Started {
            exchange,
            attempt,
            upload,
            reserved: None,
        })
    }

    fn begin_exchange(&self, to: &mut Vec<u8>) -> Result<(Exchange, Attempt), Unbegun> {
        let mut filtered = self.filtered.take();
        let begun = Exchange::begin(
            self.worker,
            self.timer,
            self.peer,
            self.head,
            (self.framing, self.read),
            &mut filtered,
            to,
        );
        self.filtered.set(filtered);
        begun
    }

    /// How its body is passed on, which may be so long at `most`.
    fn relay(&self, most: u64) -> Relay {
        let chunked = self.framing == Framing::Chunked;
        Relay {
            framing: self.framing,
            chunked,
            // One that says how long it is was checked already.
            most: if chunked { most } else { u64::MAX },
            splices: true,
        }
    }
}

/// A request that gets a response of the proxy's own.
pub(super) struct Unserved {
    pub(super) reply: LocalReply,
    /// A filter may have the response.
    filtered: Option<Box<Filtered>>,
}

impl Unserved {
    pub(super) fn new(reply: LocalReply, filtered: Option<Box<Filtered>>) -> Self {
        Self { reply, filtered }
    }

    pub(super) fn status(&self) -> StatusCode {
        let own = self
            .filtered
            .as_ref()
            .and_then(|filtered| filtered.status());
        own.unwrap_or(self.reply.status())
    }

    /// The id of the request, where its service has one for it.
    pub(super) fn request_id(&self) -> Option<&[u8]> {
        self.filtered.as_ref()?.request_id()
    }

    /// Writes the fields of the response, and gives its body, in JSON where the client would like that.
    pub(super) fn write(
        &self,
        worker: &Worker,
        json: bool,
        to_head: bool,
        fields: &mut impl Sink,
    ) -> Bytes {
        fields.add(b"date", &[&*worker.date()]);
        let filtered = self.filtered.as_ref();
        let body = match filtered {
            Some(filtered) => filtered.write_reply(self.reply, json, fields),
            None => self.reply.write(json, fields).into(),
        };
        if to_head { Bytes::new() } else { body }
    }
}

impl From<LocalReply> for Unserved {
    fn from(reply: LocalReply) -> Self {
        Self::new(reply, None)
    }
}
