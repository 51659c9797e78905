//! Sends copies of requests to a version that has to prove itself: beside the originals, in tasks
//! of their own, and what is answered is thrown away.
//!
//! A copy takes a claim like any request, so a drain waits for it, or cuts it. It is counted
//! apart ([`Mirror`](crate::table::mirror::Mirror)), and no endpoint is ejected for it.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::table::counts::stats::Failure;
use crate::wire::alarm::{Alarm, Rang};
use crate::wire::answer::{Answered, NoAnswer};
use crate::wire::connection::{Connection, Link};
use crate::wire::h1::body::{Decoder, Piece};
use crate::wire::h2::stream::Part;
use crate::wire::head::{Known, Message};
use crate::worker::upstream::{MAX_TRIES, Try};
use crate::worker::{Held, Worker};

/// Interim answers (1xx) to one copy.
const MAX_INTERIM: usize = 32;
/// An answer that is longer is not read to its end: its connection is closed.
const MAX_BODY: usize = 4 << 20;

/// One copy, from its claim to its end.
struct Copy {
    worker: Rc<Worker>,
    table: Rc<Held>,
    service: usize,
    attempt: Try,
    alarm: Alarm,
    bytes: Vec<u8>,
    to_head: bool,
    begun: Instant,
}

/// Why there is no whole answer.
enum Failed {
    By(Failure),
    /// The endpoint had closed a connection that was kept: that is no answer.
    Stale,
    /// Nobody is to blame.
    Excused,
}

/// Sends a copy of a request on its way, where its service has it copied. `version` is who gets
/// the original, and `head` what an endpoint is sent of it, but for how its body is framed. Gives
/// since when the two are under way.
pub(crate) fn copy(
    worker: &Rc<Worker>,
    table: &Rc<Held>,
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
    let (begun, alarm) = (Instant::now(), worker.alarms.alarm());
    let mut bytes = worker.pool.take_small();
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(b"\r\n");
    let copy = Copy {
        attempt: worker.upstream(endpoint).begin(&alarm),
        worker: worker.clone(),
        table: table.clone(),
        service,
        alarm,
        bytes,
        to_head: request.method() == b"HEAD",
        begun,
    };
    // Not one that the worker waits for before it ends: nobody gets the answer.
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
    async fn run(self) {
        let outcome = self.ask().await;
        let Self {
            worker,
            table,
            service,
            attempt,
            bytes,
            ..
        } = self;
        if let Some(mirror) = &table.at(service).mirror {
            let copies = mirror.copies();
            match outcome {
                Ok(status) => copies.responded(worker.index, status),
                Err(Failed::By(failure)) => copies.failed(worker.index, failure),
                Err(Failed::Stale | Failed::Excused) => {}
            }
            mirror.take_in_flight(worker.index);
        }
        worker.pool.give(bytes);
        // Whatever came of it, its endpoint gets no fewer requests for it.
        attempt.excused();
    }

    /// Sends it, and reads the answer to its end.
    async fn ask(&self) -> Result<u16, Failed> {
        let upstream = self.attempt.upstream();
        for _ in 0..MAX_TRIES {
            let within = self.table.timeouts.connect;
            let connection = upstream.connection(true, &self.alarm, within).await;
            let mut connection = connection.map_err(|error| match error.kind() {
                io::ErrorKind::Interrupted => Failed::Excused,
                _ => Failed::By(Failure::Connect),
            })?;
            match self.send(&mut connection).await {
                // The next one is another, and at last a new one.
                Err(Failed::Stale) => {}
                Err(failed) => return Err(failed),
                Ok(answered) => return self.read_away(connection, answered).await,
            }
        }
        Err(Failed::By(Failure::Reset))
    }

    /// Sends it, and reads the head of the answer.
    async fn send(&self, connection: &mut Connection) -> Result<Answered, Failed> {
        let timeouts = &self.table.timeouts;
        let reused = connection.reused;
        let broken = |silently: bool| match silently && reused {
            true => Failed::Stale,
            false => Failed::By(Failure::Reset),
        };
        let mut written = 0;
        let sending = self
            .alarm
            .wait(timeouts.body_idle, |cx| match &connection.link {
                Link::H1(socket) => socket.poll_write_all(cx, [&self.bytes], &mut written),
                Link::H2(stream) => {
                    let part = Part {
                        before: &self.bytes,
                        data: &[],
                        trailers: &[],
                        is_last: true,
                    };
                    stream.poll_write(cx, part, &mut written)
                }
            });
        let sent = sending.await;
        // What came of it, where it could not be sent, is read below.
        let _ = sent.map_err(|rang| rang_as(Failure::Timeout, rang))?;
        for _ in 0..MAX_INTERIM {
            let reading = self.alarm.wait(timeouts.first_byte, |cx| {
                connection.poll_head(cx, &self.worker.pool, self.to_head)
            });
            let answered = reading
                .await
                .map_err(|rang| rang_as(Failure::Timeout, rang))?;
            let answered = answered.map_err(|why| match why {
                NoAnswer::Bad => Failed::By(Failure::Protocol),
                NoAnswer::Unfit(_) => Failed::Excused,
                NoAnswer::Broken { silently } => broken(silently),
                NoAnswer::Unprocessed { is_refused } => broken(!is_refused),
            })?;
            if answered.status >= 200 {
                if let Some(mirror) = &self.table.at(self.service).mirror {
                    let copies = mirror.copies();
                    copies.answered_after(self.worker.index, self.begun.elapsed());
                }
                return Ok(answered);
            }
            connection.take_off(&answered, &self.worker.pool);
        }
        Err(Failed::By(Failure::Protocol))
    }

    /// Reads the body of the answer, and keeps the connection where another request may follow.
    async fn read_away(
        &self,
        mut connection: Connection,
        answered: Answered,
    ) -> Result<u16, Failed> {
        let keeps = connection.take_off(&answered, &self.worker.pool);
        let mut decoder = Decoder::new(connection.link.wire().decoding(answered.framing));
        let mut read = 0;
        loop {
            let broken = |_| Failed::By(Failure::Body);
            match decoder.next(connection.inbox.data()).map_err(broken)? {
                Piece::Data { skip, data } => {
                    connection.inbox.consume(skip + data);
                    read += data;
                    if read > MAX_BODY {
                        return Ok(answered.status);
                    }
                }
                Piece::End { skip, trailers } => {
                    connection.inbox.consume(skip + trailers);
                    break;
                }
                Piece::More => {
                    let Connection { inbox, link, .. } = &mut connection;
                    let filling = self.alarm.wait(self.table.timeouts.body_idle, |cx| {
                        link.wire().poll_fill(cx, inbox, &self.worker.pool)
                    });
                    let filled = filling.await.map_err(|rang| rang_as(Failure::Body, rang))?;
                    match filled {
                        Ok(1..) => {}
                        Ok(0) if decoder.ends_here() => break,
                        Ok(0) | Err(_) => return Err(Failed::By(Failure::Body)),
                    }
                }
            }
        }
        let whole = connection.inbox.is_empty();
        connection.inbox.park(&self.worker.pool);
        if let (Link::H1(socket), true) = (connection.link, keeps && whole) {
            self.attempt.upstream().keep(socket);
        }
        Ok(answered.status)
    }
}

/// Whoever was too slow is to blame; whoever was cut by a drain is not.
fn rang_as(failure: Failure, rang: Rang) -> Failed {
    match rang {
        Rang::TimedOut => Failed::By(failure),
        Rang::Cut => Failed::Excused,
    }
}
