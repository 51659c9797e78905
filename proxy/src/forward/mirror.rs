//! Sends copies of requests to a version that has to prove itself: beside the originals, in tasks
//! of their own; the responses are thrown away.
//!
//! A copy takes a claim like any request, so a drain waits for it, or cuts it. It is counted
//! apart ([`Mirror`](crate::table::mirror::Mirror)), and no endpoint is ejected for it.

use std::rc::Rc;
use std::time::Instant;

use crate::forward::attempt::{Blame, Failed, RequestTraits, Sending};
use crate::forward::relay::{Bodies, Keep, Side};
use crate::table::counts::stats::{Failure, Stats};
use crate::wire::Wire;
use crate::wire::expectation::Expectation;
use crate::wire::h1::body::Framing;
use crate::wire::head::{Known, Message};
use crate::wire::pump::{Pump, Relay, Source};
use crate::wire::reply::LocalReply;
use crate::wire::socket::ReadBuffer;
use crate::wire::timer::Timer;
use crate::worker::upstream::Attempt;
use crate::worker::{TableView, Worker};

/// Attempts of one copy, the first among them.
const MAX_ATTEMPTS: usize = 3;
/// A response that is longer is not read to its end: its connection is closed.
const MAX_BODY: u64 = 4 << 20;

/// One copy, from its claim to its end.
struct Copy {
    worker: Rc<Worker>,
    table: Rc<TableView>,
    service: usize,
    attempt: Attempt,
    timer: Timer,
    bytes: Vec<u8>,
    to_head: bool,
    begun: Instant,
}

/// Sends a copy of a request on its way, where its service has it copied. `version` is who gets
/// the original, and `head` what an endpoint is sent of it, but for how its body is framed. Gives
/// since when the two are under way.
pub(crate) fn copy(
    worker: &Rc<Worker>,
    table: &Rc<TableView>,
    service: usize,
    version: usize,
    request: Message<'_>,
    head: &[u8],
) -> Option<Instant> {
    let of = table.at(service);
    let mirror = of.mirror.as_ref()?;
    if mirror.version == version || !is_safe(request) || !mirror.is_its_turn(worker.index) {
        return None;
    }
    if !mirror.add_in_flight(worker.index) {
        mirror.drop_one(worker.index);
        return None;
    }
    let Some(endpoint) = of.claim_copy(worker.index, mirror.version) else {
        mirror.take_in_flight(worker.index);
        mirror.drop_one(worker.index);
        return None;
    };
    let (begun, timer) = (Instant::now(), worker.timers.timer());
    let mut bytes = worker.pool.take_small();
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(b"\r\n");
    let copy = Copy {
        attempt: worker.upstream(endpoint).begin(&timer),
        worker: worker.clone(),
        table: table.clone(),
        service,
        timer,
        bytes,
        to_head: request.method() == b"HEAD",
        begun,
    };
    // Not one that the worker waits for before it ends: no client gets the response.
    tokio::task::spawn_local(copy.run());
    Some(begun)
}

/// RFC 9110, 9.2.1; what has a body, or asks for another protocol, is left alone.
fn is_safe(request: Message<'_>) -> bool {
    matches!(request.method(), b"GET" | b"HEAD")
        && request.fields().all(|line| {
            !matches!(
                line.known,
                Known::ContentLength | Known::TransferEncoding | Known::Upgrade | Known::Expect
            )
        })
}

impl Copy {
    async fn run(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if let Some(mirror) = &self.table.at(self.service).mirror {
            self.send(mirror.copies(), bytes).await;
            mirror.take_in_flight(self.worker.index);
        }
        // Whatever came of it, its endpoint gets no fewer requests for it.
        self.attempt.excused();
    }

    /// Sends it until there is a response, reads that to its end, and counts what came of it.
    async fn send(&self, copies: &Stats, bytes: Vec<u8>) {
        let (worker, timer) = (&self.worker, &self.timer);
        let mut read_buffer = ReadBuffer::default();
        let mut client = Source {
            wire: Wire::Nowhere,
            read_buffer: &mut read_buffer,
            pool: &worker.pool,
            takes_interim: false,
            expectation: Expectation::Nothing,
        };
        let relay = Relay {
            framing: Framing::Empty,
            chunked: false,
            most: u64::MAX,
            splices: true,
        };
        let mut upload = Pump::new(bytes, relay, client.wire);
        let sending = Sending {
            timeouts: &self.table.at(self.service).timeouts,
            traits: RequestTraits {
                to_head: self.to_head,
                idempotent: true,
                upgrade: false,
            },
            timer,
        };
        for attempts in 1..=MAX_ATTEMPTS {
            let sent = async {
                let mut connection = sending.connection(&self.attempt).await?;
                let endpoint = &self.attempt.upstream().endpoint;
                let head = sending.send(endpoint, &mut connection, &mut client, &mut upload);
                Ok::<_, Failed>((head.await?, connection))
            };
            let failed = match sent.await {
                Ok((head, mut connection)) => {
                    copies.response_began_after(worker.index, self.begun.elapsed());
                    let idle = self.table.at(self.service).timeouts.body_idle;
                    let mut bodies = Bodies::new(timer, idle, &mut client, &mut upload);
                    let begun = (Vec::new(), false);
                    let read = bodies.relay(&mut connection, &head, begun, MAX_BODY).await;
                    if read == Ok(Keep::Yes) {
                        self.attempt.upstream().keep(connection.link);
                    }
                    match read {
                        Err(Side::Endpoint) => copies.failed(worker.index, Failure::Body),
                        // A drain has no more time for it.
                        Err(Side::Client) if timer.is_cut() => {}
                        // Read to its end, or for long enough.
                        Ok(_) | Err(Side::Client) => {
                            copies.responded(worker.index, head.status);
                        }
                    }
                    break;
                }
                Err(failed) => failed,
            };
            failed.suspect(&self.attempt.upstream().endpoint);
            let is_unprocessed = failed.is_unprocessed(&upload);
            // The next connection is another, and at last a new one.
            let again = failed.stale && attempts < MAX_ATTEMPTS && upload.rewind();
            match failed.blame(is_unprocessed, again) {
                // No client waits for it, so a drain that cuts it takes nothing from any.
                _ if failed.reply == LocalReply::Cut => {}
                Blame::Client | Blame::Excused | Blame::Spared => {}
                Blame::Version(failure) | Blame::Endpoint(failure) => {
                    copies.failed(worker.index, failure);
                }
            }
            if !again {
                break;
            }
        }
        upload.finish(client.read_buffer, client.pool);
    }
}
