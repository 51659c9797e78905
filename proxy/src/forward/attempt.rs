//! One attempt: a request is sent to one endpoint, up to the head of the response. For requests
//! of clients, and for copies of them.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use admin_api::RetryOn;
// The system's clock, unless a test has paused the runtime's.
use tokio::time::Instant;

use crate::table::counts::stats::Failure;
use crate::table::endpoint::Endpoint;
use crate::table::probes::Suspicion;
use crate::table::timeouts::Timeouts;
use crate::wire::Wire;
use crate::wire::connection::Connection;
use crate::wire::expectation::Expectation;
use crate::wire::pump::{Pump, Source, Stopped};
use crate::wire::reply::LocalReply;
use crate::wire::resources;
use crate::wire::response::{NoResponse, ResponseHead};
use crate::wire::timer::{Timer, WaitError};
use crate::worker::upstream::Attempt;

/// How long all interim responses (1xx) to one request may be.
const MAX_INTERIM_BYTES: usize = 256 * 1024;
/// How long after the first of them the response may come.
const MAX_INTERIM_TIME: Duration = Duration::from_secs(60 * 60);
/// How long a client waits for a 100 of an endpoint that says nothing (RFC 9110, 10.1.1), which may
/// not know that it should. Then it gets one from the proxy. curl waits as long.
const GO_AHEAD: Duration = Duration::from_secs(1);

/// What a request asks for, as far as it has to be known until its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestTraits {
    /// Its response has no body.
    pub(crate) to_head: bool,
    /// It may be sent twice (RFC 9110, 9.2.2).
    pub(crate) idempotent: bool,
    /// It asks for another protocol.
    pub(crate) upgrade: bool,
}

/// What an attempt needs to know.
pub(super) struct Sending<'s> {
    pub(super) timeouts: &'s Timeouts,
    pub(super) traits: RequestTraits,
    pub(super) timer: &'s Timer,
}

/// Why an attempt failed.
pub(super) struct Failed {
    failure: Failure,
    pub(super) reply: LocalReply,
    /// There was no response: the endpoint may have closed a kept connection before.
    pub(super) stale: bool,
    /// The endpoint says that it has not looked at the request.
    pub(super) unprocessed: bool,
    /// Its connection was refused.
    refused: bool,
}

/// Whom a failed attempt is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is the client's doing.
    Client,
    /// The connection had ended before, and nothing is lost; or this machine has run out of what a
    /// connection needs, which is no version's doing.
    Excused,
    /// No side: a drain cut it, and another endpoint has the request.
    Spared,
    /// The version, but its endpoint is no worse than others.
    Version(Failure),
    /// The version, and its endpoint.
    Endpoint(Failure),
}

impl Failed {
    fn with(failure: Failure, reply: LocalReply) -> Self {
        Self {
            failure,
            reply,
            stale: false,
            unprocessed: false,
            refused: false,
        }
    }

    /// No connection could be made: nothing of the request was sent.
    pub(super) fn connecting(error: &io::Error) -> Self {
        let reply = match error.kind() {
            io::ErrorKind::TimedOut => LocalReply::ConnectTimedOut,
            io::ErrorKind::Interrupted => LocalReply::Cut,
            _ if resources::are_exhausted(error) => LocalReply::ResourceExhausted,
            _ => LocalReply::ConnectFailed,
        };
        Self {
            refused: error.kind() == io::ErrorKind::ConnectionRefused,
            ..Self::with(Failure::Connect, reply)
        }
    }

    /// Its client has left.
    pub(super) fn client_gone() -> Self {
        Self::with(Failure::Reset, LocalReply::ClientGone)
    }

    /// The request could not be read to its end.
    fn reading(stopped: &Stopped) -> Self {
        let reply = match stopped {
            Stopped::Framing => LocalReply::BadFraming,
            Stopped::TooLong => LocalReply::BodyTooLong,
            Stopped::From | Stopped::To => LocalReply::ClientGone,
        };
        Self::with(Failure::Reset, reply)
    }

    /// The request was sent, or began to be, and there was no response.
    fn responding(why: &NoResponse, reused: bool) -> Self {
        match why {
            NoResponse::Bad => Self::with(Failure::Protocol, LocalReply::BadResponse),
            NoResponse::Unfit(reply @ LocalReply::UpgradeOverHttp2) => {
                Self::with(Failure::Protocol, *reply)
            }
            NoResponse::Unfit(reply) => Self::with(Failure::Reset, *reply),
            NoResponse::Broken { silently } => Self {
                stale: *silently && reused,
                ..Self::with(Failure::Reset, LocalReply::ConnectionBroken)
            },
            NoResponse::Unprocessed { is_refused } => Self {
                stale: !is_refused,
                unprocessed: true,
                ..Self::with(Failure::Reset, LocalReply::ConnectionBroken)
            },
        }
    }

    /// It took too long: the fault of the side that was waited for.
    fn waiting(wait_error: WaitError, upload: &Pump) -> Self {
        match wait_error {
            WaitError::Cut => Self::with(Failure::Timeout, LocalReply::Cut),
            WaitError::TimedOut if upload.is_starved() => {
                Self::with(Failure::Reset, LocalReply::ClientStalled)
            }
            WaitError::TimedOut => Self::with(Failure::Timeout, LocalReply::TimedOut),
        }
    }

    /// Its endpoint went down, and its health check got no response either.
    fn silent() -> Self {
        Self::with(Failure::Timeout, LocalReply::EndpointSilent)
    }

    /// What was waited for did not come in the time that the whole request has.
    pub(super) fn of_request_timed_out(self, timer: &Timer) -> Self {
        match self.reply {
            LocalReply::TimedOut | LocalReply::ConnectTimedOut if timer.is_past_limit() => {
                Self::with(Failure::Timeout, LocalReply::RequestTimedOut)
            }
            _ => self,
        }
    }

    /// Why the request may be sent again; `None`: another endpoint would do no better.
    pub(super) fn cause(&self) -> Option<RetryOn> {
        match self.reply {
            LocalReply::ConnectFailed
            | LocalReply::ConnectTimedOut
            | LocalReply::ResourceExhausted => Some(RetryOn::Connect),
            LocalReply::ConnectionBroken
            | LocalReply::BadResponse
            | LocalReply::EndpointSilent
            | LocalReply::Cut => Some(RetryOn::Reset),
            LocalReply::TimedOut => Some(RetryOn::Timeout),
            _ => None,
        }
    }

    /// Whether there are no more requests that failed like this than waited at one endpoint when it
    /// was lost: sent again, they are no storm that a budget has to keep from the others.
    pub(super) fn is_of_lost_endpoint(&self) -> bool {
        matches!(self.reply, LocalReply::EndpointSilent | LocalReply::Cut)
    }

    /// Whether nothing of the request was sent, since there was no connection.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(
            self.reply,
            LocalReply::ConnectFailed | LocalReply::ConnectTimedOut
        )
    }

    /// Why its endpoint may be gone, if it may.
    fn suspicion(&self) -> Option<Suspicion> {
        match self.reply {
            LocalReply::ConnectFailed if self.refused => Some(Suspicion::Refused),
            // An endpoint that refuses a stream is there.
            LocalReply::ConnectionBroken if self.unprocessed && !self.stale => None,
            LocalReply::ConnectFailed
            | LocalReply::ConnectTimedOut
            | LocalReply::ConnectionBroken => Some(Suspicion::Broken),
            _ => None,
        }
    }

    /// Has its endpoint probed now, where that may be gone.
    pub(super) fn suspect(&self, endpoint: &Endpoint) {
        if let Some(suspicion) = self.suspicion() {
            endpoint.probes.suspect(suspicion);
        }
    }

    /// Whether its request may do better in a moment, by an endpoint that has come up then.
    pub(super) fn may_pass(&self) -> bool {
        self.suspicion().is_some() || self.is_of_lost_endpoint()
    }

    /// Whether its endpoint may have died of the request: it had the whole of it, and was gone
    /// without a response. To be asked before `upload` is rewound.
    pub(super) fn may_have_killed(&self, upload: &Pump) -> bool {
        let is_gone = matches!(
            self.reply,
            LocalReply::ConnectionBroken | LocalReply::EndpointSilent
        );
        is_gone && !self.unprocessed && upload.is_done()
    }

    /// Whether nothing of the request was looked at, as far as that can be known. To be asked
    /// before `upload` is rewound.
    pub(super) fn is_unprocessed(&self, upload: &Pump) -> bool {
        self.unprocessed || self.stale && upload.is_untouched()
    }

    /// Whom the attempt is counted against. Whatever ends at the client as a 5xx of the proxy's own
    /// is a failure of the version, unless this machine has run out of something. So is an attempt that
    /// a retry saves, unless the connection had ended with the request `is_unprocessed`, or a drain cut
    /// it, and it `is_sent_again`.
    pub(super) fn blame(&self, is_unprocessed: bool, is_sent_again: bool) -> Blame {
        match self.reply {
            LocalReply::ClientStalled
            | LocalReply::ClientGone
            | LocalReply::BadFraming
            | LocalReply::BadTarget
            | LocalReply::BadHost
            | LocalReply::HeadTooLong
            | LocalReply::BodyTooLong => Blame::Client,
            LocalReply::Cut if is_sent_again => Blame::Spared,
            // Another endpoint of the version would have done no better.
            LocalReply::Cut | LocalReply::UpgradeOverHttp2 => Blame::Version(self.failure),
            LocalReply::ResourceExhausted => Blame::Excused,
            _ if self.stale && is_unprocessed && is_sent_again => Blame::Excused,
            _ => Blame::Endpoint(self.failure),
        }
    }
}

impl Sending<'_> {
    /// A connection to the attempt's endpoint that is there already, if one is, and a new one is not
    /// what it `wants_new`. A request that is not `repeatable` gets one that will surely take it.
    pub(super) fn connection_at_hand(
        &self,
        attempt: &Attempt,
        repeatable: bool,
        wants_new: bool,
        client: Wire<'_>,
    ) -> Option<Connection> {
        if wants_new {
            return None;
        }
        let upstream = attempt.upstream();
        upstream.connection_at_hand(repeatable, client)
    }

    /// A connection to the attempt's endpoint for a request that may be sent again, and that no client
    /// waits for: one that is there, or a new one.
    pub(super) async fn connection(&self, attempt: &Attempt) -> Result<Connection, Failed> {
        if let Some(connection) = self.connection_at_hand(attempt, true, false, Wire::Nowhere) {
            return Ok(connection);
        }
        let upstream = attempt.upstream();
        let connecting = upstream.connect(self.timer, self.timeouts.connect, None);
        connecting.await.map_err(|error| Failed::connecting(&error))
    }

    /// Sends the request to the attempt's endpoint, and waits for the head of its response.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        connection: &mut Connection,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<ResponseHead, Failed> {
        let mut interim = None;
        loop {
            let head = self.exchange(endpoint, connection, client, upload).await?;
            let Some(head) = head else {
                // Rare, as is what is below, and so not worth memory in every request.
                Box::pin(self.proceed(client)).await?;
                continue;
            };
            match head.status {
                // The other protocol begins where the request ends (RFC 9110, 7.8).
                101 if !self.traits.upgrade || !upload.is_done() => break,
                101 | 200.. => return Ok(head),
                _ => {}
            }
            if !interim.get_or_insert_with(Interim::begin).may_take(&head) {
                break;
            }
            Box::pin(self.pass_interim(&head, connection, client)).await?;
            connection.take_off(&head, client.pool);
        }
        Err(Failed::with(Failure::Protocol, LocalReply::BadResponse))
    }

    /// Passes an interim response on to a client that may get it.
    async fn pass_interim(
        &self,
        head: &ResponseHead,
        connection: &Connection,
        client: &mut Source<'_>,
    ) -> Result<(), Failed> {
        if head.status == 100 {
            if client.expectation == Expectation::Nothing {
                // It has had its 100 from us, or wants none.
                return Ok(());
            }
            client.expectation = Expectation::Nothing;
        }
        if !client.takes_interim {
            return Ok(());
        }
        let (pool, within) = (client.pool, self.timeouts.body_idle);
        let passed = client
            .wire
            .interim(pool, self.timer, within, connection.response());
        passed.await.map_err(|_| Failed::client_gone())
    }

    /// Tells a client to go on, for an endpoint that says nothing.
    async fn proceed(&self, client: &mut Source<'_>) -> Result<(), Failed> {
        client.expectation = Expectation::Nothing;
        let told = client.wire.proceed(self.timer, self.timeouts.body_idle);
        told.await.map_err(|_| Failed::client_gone())
    }

    /// How long nothing may happen, while the request is sent.
    fn stall_timeout(&self, client: &Source<'_>, upload: &Pump) -> Duration {
        let waits = client.expectation == Expectation::GoAhead
            && upload.is_starved()
            && !upload.is_untouched();
        if waits {
            GO_AHEAD.min(self.timeouts.body_idle)
        } else {
            self.timeouts.body_idle
        }
    }

    /// Sends what is left to send, and reads the next head at the same time. `None`: the endpoint
    /// says nothing to a client that waits for a 100.
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        connection: &mut Connection,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<Option<ResponseHead>, Failed> {
        let (timeouts, timer) = (self.timeouts, self.timer);
        let mut sending = !upload.is_done();
        // One that is asked although it is silent is waited for: there was no better one.
        let may_fall_silent = !endpoint.is_silent();
        timer.set(if sending {
            self.stall_timeout(client, upload)
        } else {
            timeouts.first_byte
        });
        poll_fn(|cx| {
            if timer.is_cut() {
                return Poll::Ready(Err(Failed::waiting(WaitError::Cut, upload)));
            }
            if sending {
                let mut moved = false;
                match upload.poll(cx, client, connection.link.wire(), &mut moved) {
                    // The endpoint may have responded before it broke the connection off.
                    Poll::Ready(Ok(()) | Err(Stopped::To)) => {
                        sending = false;
                        timer.set(timeouts.first_byte);
                    }
                    Poll::Ready(Err(stopped)) => {
                        return Poll::Ready(Err(Failed::reading(&stopped)));
                    }
                    Poll::Pending if moved => {
                        client.expects_no_longer(upload);
                        timer.set(self.stall_timeout(client, upload));
                    }
                    Poll::Pending => {}
                }
            }
            let reused = connection.reused;
            let to_head = self.traits.to_head;
            if let Poll::Ready(head) = connection.poll_head(cx, client.pool, to_head, client.wire) {
                let head = head.map_err(|why| Failed::responding(&why, reused));
                return Poll::Ready(head.map(Some));
            }
            let is_read = sending && upload.is_starved();
            if !is_read && client.wire.has_left(cx) {
                return Poll::Ready(Err(Failed::client_gone()));
            }
            if let Poll::Ready(wait_error) = timer.poll(cx) {
                let waits = client.expectation == Expectation::GoAhead;
                if waits && is_read && wait_error == WaitError::TimedOut {
                    return Poll::Ready(Ok(None));
                }
                return Poll::Ready(Err(Failed::waiting(wait_error, upload)));
            }
            // Order::Silent wakes this task.
            if may_fall_silent && endpoint.is_silent() {
                return Poll::Ready(Err(Failed::silent()));
            }
            Poll::Pending
        })
        .await
    }
}

/// The interim responses to one request.
struct Interim {
    since: Instant,
    bytes: usize,
}

impl Interim {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Takes a further one in. Gives whether there may be so many.
    fn may_take(&mut self, head: &ResponseHead) -> bool {
        self.bytes += head.length;
        self.bytes <= MAX_INTERIM_BYTES && self.since.elapsed() <= MAX_INTERIM_TIME
    }
}
