//! A new connection for a request. Where its endpoint takes long, another one is connected to
//! beside it, and the first connection that is there is used (as RFC 8305 does for addresses).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use admin_api::RetryOn;

use crate::forward::attempt::{Blame, Failed};
use crate::forward::{Exchange, settle};
use crate::table::counts::stats::Failure;
use crate::wire::Wire;
use crate::wire::connection::Connection;
use crate::wire::resources;
use crate::wire::timer::{Millis, Timer, WaitError};
use crate::worker::Worker;
use crate::worker::upstream::Attempt;

/// How often endpoints are looked at that are connected to.
const LOOK: Duration = Duration::from_millis(25);

/// A connection that is being made.
struct Connecting {
    /// Dropped before the timer, which is in `connection`.
    attempt: Attempt,
    since: Millis,
    /// Its endpoint was up when it began.
    was_up: bool,
    connection: Pin<Box<dyn Future<Output = io::Result<Connection>>>>,
}

impl Connecting {
    fn new(worker: &Worker, attempt: Attempt, within: Duration, client: Wire<'_>) -> Self {
        let timer = worker.timers.timer();
        attempt.waits_with(&timer);
        let upstream = attempt.upstream().clone();
        let since = worker.timers.now();
        let apart = client.client_apart(since).cloned();
        Self {
            was_up: upstream.endpoint.is_up(),
            attempt,
            since,
            connection: Box::pin(async move { upstream.connect(&timer, within, apart).await }),
        }
    }

    /// Its endpoint gets no requests any more.
    fn is_dead(&self) -> bool {
        let endpoint = &self.attempt.upstream().endpoint;
        endpoint.claims.is_retired() || !endpoint.is_up()
    }

    /// The same, and it is known only since it began.
    fn has_died(&self) -> bool {
        self.is_dead() && (self.was_up || self.attempt.upstream().endpoint.claims.is_retired())
    }

    fn has_taken(&self, time: Duration, now: Millis) -> bool {
        u128::from(now - self.since) >= time.as_millis()
    }

    /// Ends it, since it came to this, and another endpoint is connected to.
    fn fail(self, error: &io::Error) {
        Failed::connecting(error).suspect(&self.attempt.upstream().endpoint);
        if resources::are_exhausted(error) {
            self.attempt.excused();
        } else {
            self.give_up();
        }
    }

    /// Ends it, since another endpoint is connected to.
    fn give_up(self) {
        let blame = if self.attempt.upstream().endpoint.claims.is_retired() {
            Blame::Excused
        } else {
            Blame::Endpoint(Failure::Connect)
        };
        settle(self.attempt, blame);
    }
}

impl Exchange {
    /// A new connection to the attempt's endpoint or, where that takes long or is down meanwhile, to
    /// another one: with the attempt that it is for. Two are connected to at the same time at most. A
    /// client that leaves ends the wait, and so does the end of an endpoint if the request may wait for
    /// another.
    pub(super) async fn connect(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        client: Wire<'_>,
        attempt: Attempt,
    ) -> (Attempt, Result<Connection, Failed>) {
        let within = self.service().timeouts.connect;
        let mut first = Connecting::new(worker, attempt, within, client);
        let mut second: Option<Connecting> = None;
        let connected = poll_fn(|cx| {
            loop {
                if let Poll::Ready(connected) = poll_both(&mut first, &mut second, cx) {
                    return Poll::Ready(connected.map_err(|error| Failed::connecting(&error)));
                }
                if client.has_left(cx) {
                    return Poll::Ready(Err(Failed::client_gone()));
                }
                let now = worker.timers.now();
                if self.is_slow(second.as_ref().unwrap_or(&first), now)
                    && let Some(next) = self.claim_another(worker, timer, false)
                {
                    // In place of the slowest, if there are two.
                    let next = Connecting::new(worker, next, within, client);
                    if let Some(other) = second.replace(next) {
                        std::mem::replace(&mut first, other).give_up();
                    }
                    continue;
                }
                if second.is_none()
                    && first.has_died()
                    && self.may_wait(worker, RetryOn::Connect, true)
                {
                    let gone = io::ErrorKind::ConnectionAborted.into();
                    return Poll::Ready(Err(Failed::connecting(&gone)));
                }
                let failover = self.service().timeouts.connect_failover;
                if (first.is_dead() || first.has_taken(failover, now))
                    && let Some(other) = second.take()
                {
                    std::mem::replace(&mut first, other).give_up();
                    continue;
                }
                timer.set(LOOK);
                match timer.poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(WaitError::TimedOut) if !timer.is_past_limit() => {}
                    Poll::Ready(wait_error) => {
                        return Poll::Ready(Err(Failed::connecting(&wait_error.into())));
                    }
                }
            }
        });
        let connected = connected.await;
        if let Some(second) = second {
            // It took no longer than the other one.
            second.attempt.excused();
        }
        first.attempt.waits_with(timer);
        (first.attempt, connected)
    }

    /// Whether it is time to connect to another endpoint beside this one.
    fn is_slow(&self, connecting: &Connecting, now: Millis) -> bool {
        let timeouts = &self.service().timeouts;
        let failover = timeouts.connect_failover;
        let time = timeouts
            .connect_hedge
            .map_or(failover, |hedge| hedge.min(failover));
        (connecting.has_taken(time, now) || connecting.is_dead())
            && self.attempts < self.service().retry.attempts
    }
}

/// Polls one and the other. One that fails while the other is there is given up; what is given is of
/// `first`.
fn poll_both(
    first: &mut Connecting,
    second: &mut Option<Connecting>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Connection>> {
    loop {
        match (first.connection.as_mut().poll(cx), second.take()) {
            (Poll::Ready(Err(error)), Some(other)) => {
                std::mem::replace(first, other).fail(&error);
            }
            (Poll::Ready(connected), other) => {
                *second = other;
                return Poll::Ready(connected);
            }
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(mut other)) => match other.connection.as_mut().poll(cx) {
                Poll::Ready(Ok(connection)) => {
                    *second = Some(std::mem::replace(first, other));
                    return Poll::Ready(Ok(connection));
                }
                Poll::Ready(Err(error)) => {
                    other.fail(&error);
                    return Poll::Pending;
                }
                Poll::Pending => {
                    *second = Some(other);
                    return Poll::Pending;
                }
            },
        }
    }
}
