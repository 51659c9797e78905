//! A request whose head was read, from whichever wire: it is checked against the limits, waits
//! while its service is held or has no endpoint, and begins its exchange. What cannot be forwarded
//! gets a response of the proxy's own.

use std::rc::Rc;

use crate::forward::endpoint_wait::EndpointWait;
use crate::forward::{Exchange, hold};
use crate::wire::Wire;
use crate::wire::h1::body::Framing;
use crate::wire::h1::write::end_head;
use crate::wire::head::Message;
use crate::wire::peer::Peer;
use crate::wire::pump::{Pump, Relay};
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;
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
    pub(super) client: Wire<'r>,
}

/// A request on its way: its endpoint is claimed, and nothing of it is sent.
pub(super) struct Started {
    pub(super) exchange: Exchange,
    pub(super) attempt: Attempt,
    pub(super) upload: Pump,
}

impl Incoming<'_> {
    /// Begins its exchange, once its service is not held and has an endpoint.
    pub(super) async fn begin_when_it_may(&self) -> Result<Started, LocalReply> {
        let mut wait = None;
        loop {
            hold::wait(self.worker, self.head, self.client).await?;
            let generation = self.worker.table().generation;
            match self.begin() {
                Err(LocalReply::ServiceHeld) => {}
                Err(LocalReply::NoEndpointInTime) => {
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

    /// Begins its exchange. What [`may_pass`] is said of: it has to wait until it may.
    pub(super) fn begin(&self) -> Result<Started, LocalReply> {
        if self.head.target().len() > self.worker.limits.request_line {
            return Err(LocalReply::TargetTooLong);
        }
        let pool = &self.worker.pool;
        let mut bytes = pool.take_small();
        let begun = self.begin_exchange(&mut bytes);
        let (exchange, attempt) = match begun {
            Ok(begun) => begun,
            Err(reply) => {
                pool.give(bytes);
                return Err(reply);
            }
        };
        // A method with content says so even where there is none (RFC 9110, 8.6).
        let bodyless = !matches!(self.head.method(), b"POST" | b"PUT" | b"PATCH");
        end_head(self.framing, &mut bytes, bodyless);
        let most = exchange.body_limit(self.worker);
        let upload = Pump::new(bytes, self.relay(most), self.client);
        Ok(Started {
            exchange,
            attempt,
            upload,
        })
    }

    fn begin_exchange(&self, to: &mut Vec<u8>) -> Result<(Exchange, Attempt), LocalReply> {
        Exchange::begin(
            self.worker,
            self.timer,
            self.peer,
            self.head,
            self.framing,
            to,
        )
    }

    /// How its body is passed on, which may be so long at `most`.
    fn relay(&self, most: u64) -> Relay {
        let chunked = self.framing == Framing::Chunked;
        Relay {
            framing: self.framing,
            chunked,
            // One that says how long it is was checked already.
            most: if chunked { most } else { u64::MAX },
        }
    }
}

/// Whether a request that cannot begin may do so in a moment.
pub(super) fn may_pass(reply: LocalReply) -> bool {
    matches!(
        reply,
        LocalReply::ServiceHeld | LocalReply::NoEndpointInTime
    )
}

/// Writes the fields of a response of the proxy's own, and gives its body, in JSON where the client
/// would like that.
pub(super) fn write_reply(
    worker: &Worker,
    reply: LocalReply,
    json: bool,
    to_head: bool,
    fields: &mut impl Sink,
) -> String {
    let body = reply.write(json, fields);
    fields.add(b"date", &[&*worker.date()]);
    if to_head { String::new() } else { body }
}
