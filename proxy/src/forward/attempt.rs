//! One attempt: a request is sent to one endpoint, up to the head of the response. For requests
//! of clients, and for copies of them.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use admin_api::Protocol;

use crate::table::counts::stats::Failure;
use crate::table::timeouts::Timeouts;
use crate::wire::alarm::{Alarm, Rang};
use crate::wire::connection::Connection;
use crate::wire::pump::{Pump, Source, Stopped};
use crate::wire::reply::Refusal;
use crate::wire::response::{NoResponse, ResponseHead};
use crate::worker::upstream::Try;

/// Interim answers (1xx) to one request.
const MAX_INTERIM: usize = 32;

/// What a request asks for, as far as it has to be known until it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestTraits {
    /// Its answer has no body.
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
    pub(super) alarm: &'s Alarm,
}

/// Why an attempt failed.
pub(super) struct Failed {
    failure: Failure,
    pub(super) refusal: Refusal,
    /// There was no response: the endpoint may have closed a kept connection before.
    pub(super) stale: bool,
    /// The endpoint says that it has not looked at the request.
    pub(super) unprocessed: bool,
}

/// Whom a failed attempt is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is the client's doing.
    Client,
    /// The connection had ended before, and nothing is lost.
    Excused,
    /// The version, but its endpoint is no worse than others.
    Version(Failure),
    /// The version, and its endpoint.
    Endpoint(Failure),
}

impl Failed {
    fn with(failure: Failure, refusal: Refusal) -> Self {
        Self {
            failure,
            refusal,
            stale: false,
            unprocessed: false,
        }
    }

    /// No connection could be made: nothing of the request was sent.
    fn to_connect(error: &io::Error) -> Self {
        let refusal = match error.kind() {
            io::ErrorKind::TimedOut => Refusal::ConnectTimedOut,
            io::ErrorKind::Interrupted => Refusal::Cut,
            _ if is_shortage(error) => Refusal::Shortage,
            _ => Refusal::ConnectFailed,
        };
        Self::with(Failure::Connect, refusal)
    }

    /// The request could not be read to its end.
    fn to_read(stopped: &Stopped) -> Self {
        let refusal = match stopped {
            Stopped::Framing => Refusal::BadFraming,
            Stopped::TooLong => Refusal::BodyTooLong,
            Stopped::From | Stopped::To => Refusal::ClientGone,
        };
        Self::with(Failure::Reset, refusal)
    }

    /// The request was sent, or began to be, and there was no answer.
    fn responding(why: &NoResponse, reused: bool) -> Self {
        match why {
            NoResponse::Bad => Self::with(Failure::Protocol, Refusal::BadResponse),
            NoResponse::Unfit(refusal) => Self::with(Failure::Reset, *refusal),
            NoResponse::Broken { silently } => Self {
                stale: *silently && reused,
                ..Self::with(Failure::Reset, Refusal::ConnectionBroken)
            },
            NoResponse::Unprocessed { is_refused } => Self {
                stale: !is_refused,
                unprocessed: true,
                ..Self::with(Failure::Reset, Refusal::ConnectionBroken)
            },
        }
    }

    /// It took too long, and so it is the fault of whoever was waited for.
    fn to_wait(rang: Rang, upload: &Pump) -> Self {
        match rang {
            Rang::Cut => Self::with(Failure::Timeout, Refusal::Cut),
            Rang::TimedOut if upload.is_starved() => {
                Self::with(Failure::Reset, Refusal::ClientStalled)
            }
            Rang::TimedOut => Self::with(Failure::Timeout, Refusal::TimedOut),
        }
    }

    /// What was waited for did not come in the time that the whole request has.
    pub(super) fn of_request_timed_out(self, alarm: &Alarm) -> Self {
        match self.refusal {
            Refusal::TimedOut | Refusal::ConnectTimedOut if alarm.is_past_limit() => {
                Self::with(Failure::Timeout, Refusal::RequestTimedOut)
            }
            _ => self,
        }
    }

    /// Whether nothing of the request was looked at, as far as that can be known. To be asked
    /// before `upload` is rewound.
    pub(super) fn is_unprocessed(&self, upload: &Pump) -> bool {
        self.unprocessed || self.stale && upload.is_untouched()
    }

    /// Whom the attempt is counted against. Whatever ends at the client as a 5xx of the proxy's own
    /// is a failure of the version; so is an attempt that a retry saves, unless the connection had
    /// ended before anything was processed, and the request `is_sent_again_unprocessed`.
    pub(super) fn blame(&self, is_sent_again_unprocessed: bool) -> Blame {
        match self.refusal {
            Refusal::ClientStalled
            | Refusal::ClientGone
            | Refusal::BadFraming
            | Refusal::BadTarget
            | Refusal::BadHost
            | Refusal::HeadTooLong
            | Refusal::BodyTooLong => Blame::Client,
            // Another endpoint of the version would have done no better.
            Refusal::Cut | Refusal::Shortage | Refusal::UpgradeOverHttp2 => {
                Blame::Version(self.failure)
            }
            _ if self.stale && is_sent_again_unprocessed => Blame::Excused,
            _ => Blame::Endpoint(self.failure),
        }
    }
}

/// Whether this machine has run out of something that a connection needs.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    shortages
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Sending<'_> {
    /// Sends the request, and waits for the head of its response.
    pub(super) async fn send(
        &self,
        attempt: &Try,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<(Connection, ResponseHead), Failed> {
        let upstream = attempt.upstream();
        if self.traits.upgrade && upstream.endpoint.reach.protocol == Protocol::H2 {
            return Err(Failed::with(Failure::Protocol, Refusal::UpgradeOverHttp2));
        }
        let (timeouts, alarm) = (self.timeouts, self.alarm);
        let mut connection = upstream
            .connection(self.traits.idempotent, alarm, timeouts.connect)
            .await
            .map_err(|error| Failed::to_connect(&error))?;
        for _ in 0..MAX_INTERIM {
            let head = self.exchange(&mut connection, client, upload).await?;
            match head.status {
                // The other protocol begins where the request ends (RFC 9110, 7.8).
                101 if !self.traits.upgrade || !upload.is_done() => break,
                101 | 200.. => return Ok((connection, head)),
                // The client has had its 100 from us (RFC 9110, 10.1.1).
                100 => {}
                _ if client.takes_interim => {
                    let (pool, within) = (client.pool, timeouts.body_idle);
                    client
                        .wire
                        .interim(pool, alarm, within, connection.response())
                        .await
                        .map_err(|_| Failed::with(Failure::Reset, Refusal::ClientGone))?;
                }
                _ => {}
            }
            connection.take_off(&head, client.pool);
        }
        Err(Failed::with(Failure::Protocol, Refusal::BadResponse))
    }

    /// Sends what is left to send, and reads the next head at the same time.
    async fn exchange(
        &self,
        connection: &mut Connection,
        client: &mut Source<'_>,
        upload: &mut Pump,
    ) -> Result<ResponseHead, Failed> {
        let (timeouts, alarm) = (self.timeouts, self.alarm);
        let mut sending = !upload.is_done();
        let mut watching = !self.traits.upgrade;
        alarm.set(if sending {
            timeouts.body_idle
        } else {
            timeouts.first_byte
        });
        poll_fn(|cx| {
            if alarm.is_cut() {
                return Poll::Ready(Err(Failed::to_wait(Rang::Cut, upload)));
            }
            if sending {
                let mut moved = false;
                match upload.poll(cx, client, connection.link.wire(), &mut moved) {
                    // The endpoint may have answered before it broke the connection off.
                    Poll::Ready(Ok(()) | Err(Stopped::To)) => {
                        sending = false;
                        alarm.set(timeouts.first_byte);
                    }
                    Poll::Ready(Err(stopped)) => {
                        return Poll::Ready(Err(Failed::to_read(&stopped)));
                    }
                    Poll::Pending if moved => alarm.set(timeouts.body_idle),
                    Poll::Pending => {}
                }
            }
            let reused = connection.reused;
            if let Poll::Ready(head) = connection.poll_head(cx, client.pool, self.traits.to_head) {
                return Poll::Ready(head.map_err(|why| Failed::responding(&why, reused)));
            }
            if !sending && watching {
                match client.wire.poll_reset(cx) {
                    Poll::Ready(true) => {
                        let gone = Failed::with(Failure::Reset, Refusal::ClientGone);
                        return Poll::Ready(Err(gone));
                    }
                    Poll::Ready(false) => watching = false,
                    Poll::Pending => {}
                }
            }
            alarm
                .poll(cx)
                .map(|rang| Err(Failed::to_wait(rang, upload)))
        })
        .await
    }
}
