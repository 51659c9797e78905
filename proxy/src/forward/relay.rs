//! The life of a request from the head of its answer to the answer's last byte.
//!
//! The wire on which the client is has written the answer's head (`server/h1.rs`,
//! `server/h2.rs`); the rest of the request may still be on its way.

use std::future::poll_fn;
use std::task::{Poll, ready};

use crate::forward::{Answer, Exchange};
use crate::table::counts::stats::Failure;
use crate::wire::alarm::Alarm;
use crate::wire::connection::Link;
use crate::wire::h1::body::Framing;
use crate::wire::pump::{Passage, Pump, Source, Stopped};

/// Whose doing it was that an answer broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Endpoint,
}

impl Exchange {
    /// Passes an answer on to its last byte, and settles the try. `begun` is the answer's head as
    /// the client's wire writes it, and `chunked` says whether its body goes on in chunks.
    pub(crate) async fn relay(
        &self,
        alarm: &Alarm,
        answer: Answer,
        (begun, chunked): (Vec<u8>, bool),
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<(), Side> {
        let Answer {
            mut attempt,
            mut connection,
            answered,
        } = answer;
        if matches!(answered.framing, Framing::Chunked | Framing::UntilClose) {
            attempt.stream();
        }
        let keeps = connection.take_off(&answered, client.pool);
        let mut endpoint = Source {
            wire: connection.link.wire(),
            inbox: &mut connection.inbox,
            pool: client.pool,
            takes_interim: false,
        };
        let passage = Passage {
            framing: answered.framing,
            chunked,
            most: u64::MAX,
        };
        let mut download = Pump::new(begun, passage, endpoint.wire);
        let relayed = self
            .relay_bodies(alarm, client, &mut endpoint, upload, &mut download)
            .await;
        download.finish(endpoint.inbox, client.pool);
        match relayed {
            Ok(()) => {
                let whole = upload.is_done() && connection.inbox.is_empty();
                connection.inbox.park(client.pool);
                match connection.link {
                    Link::H1(socket) if keeps && whole => attempt.upstream().keep(socket),
                    _ => {}
                }
                attempt.responded(answered.status);
            }
            Err(Side::Endpoint) => attempt.failed(Failure::Body),
            // Dropped unsettled.
            Err(Side::Client) => {}
        }
        relayed
    }

    /// Moves both bodies at the same time, until the answer's is through.
    async fn relay_bodies(
        &self,
        alarm: &Alarm,
        client: &mut Source<'_>,
        endpoint: &mut Source<'_>,
        upload: &mut Pump,
        download: &mut Pump,
    ) -> Result<(), Side> {
        let idle = self.body_idle();
        let (to_client, to_endpoint) = (client.wire, endpoint.wire);
        let mut sending = !upload.is_done();
        let mut client_failed = false;
        alarm.set(idle);
        poll_fn(|cx| {
            if alarm.is_cut() {
                return Poll::Ready(Err(Side::Client));
            }
            let mut moved = false;
            if sending {
                match upload.poll(cx, client, to_endpoint, &mut moved) {
                    Poll::Ready(outcome) => {
                        sending = false;
                        client_failed = !matches!(outcome, Ok(()) | Err(Stopped::To));
                    }
                    Poll::Pending => {}
                }
            }
            match download.poll(cx, endpoint, to_client, &mut moved) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Stopped::To)) => return Poll::Ready(Err(Side::Client)),
                // The rest of the request will never come: what could be answered to it was.
                _ if client_failed => return Poll::Ready(Err(Side::Client)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Side::Endpoint)),
                Poll::Pending => {}
            }
            if moved {
                alarm.set(idle);
            }
            let _ = ready!(alarm.poll(cx));
            let waits_for_client = !download.is_starved() || sending && upload.is_starved();
            Poll::Ready(Err(if waits_for_client {
                Side::Client
            } else {
                Side::Endpoint
            }))
        })
        .await
    }
}
