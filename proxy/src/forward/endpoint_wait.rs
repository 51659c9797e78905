//! A request whose service has no endpoint that is up waits here for one that comes up: a new
//! request, and one whose endpoint was found gone. It holds no claim meanwhile.

use std::future::poll_fn;
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use admin_api::RetryOn;

use crate::forward::Exchange;
use crate::forward::attempt::Failed;
use crate::table::endpoint::Endpoint;
use crate::table::endpoint_id::EndpointId;
use crate::table::service::Service;
use crate::table::waiting_room::Seat;
use crate::wire::Wire;
use crate::wire::head::Message;
use crate::wire::reply::LocalReply;
use crate::wire::target::Target;
use crate::wire::timer::{Millis, Timer};
use crate::worker::Worker;
use crate::worker::upstream::{Attempt, MAX_ATTEMPTS};

/// How often it is looked whether an endpoint is up.
const LOOK: Duration = Duration::from_millis(25);

/// The wait of one request.
pub(crate) struct EndpointWait {
    seat: Seat,
    until: Millis,
}

/// The last probe of an endpoint that had begun when an attempt at it failed.
pub(super) struct LastProbe {
    endpoint: Arc<Endpoint>,
    number: u64,
}

impl EndpointWait {
    /// Begins the wait of a request that was not yet given to an endpoint.
    pub(crate) fn of_request(worker: &Worker, request: Message<'_>) -> Result<Self, LocalReply> {
        let table = worker.table();
        let target = Target::of(request)?;
        let service = table.at(table.route(&target, request)?);
        let within = service.timeouts.wait_for_endpoint;
        let within = within.ok_or(LocalReply::NoEndpoint)?;
        Self::begin(service, worker.timers.after(within))
    }

    /// Begins the wait of a request for this service.
    fn begin(service: &Service, until: Millis) -> Result<Self, LocalReply> {
        let seat = service.waiting_room.seat();
        let seat = seat.ok_or(LocalReply::NoEndpointInTime)?;
        Ok(Self { seat, until })
    }

    /// Waits until the request may find an endpoint that it did not find by the table of this
    /// number.
    pub(crate) async fn until_news(
        &self,
        worker: &Worker,
        timer: &Timer,
        generation: u64,
        request: Message<'_>,
        client: Wire<'_>,
    ) -> Result<(), LocalReply> {
        let target = Target::of(request)?;
        loop {
            self.look(worker, timer, client).await?;
            let table = worker.table();
            let service = table.route(&target, request);
            let is_up = service.is_ok_and(|service| table.at(service).has_any_up());
            if table.generation != generation || service.is_err() || is_up {
                return Ok(());
            }
        }
    }

    /// Waits until it is time to look again.
    async fn look(
        &self,
        worker: &Worker,
        timer: &Timer,
        client: Wire<'_>,
    ) -> Result<(), LocalReply> {
        if worker.timers.now() >= self.until {
            self.seat.refuse();
            return Err(LocalReply::NoEndpointInTime);
        }
        timer.set(LOOK);
        poll_fn(|cx| {
            if client.has_left(cx) {
                return Poll::Ready(Err(LocalReply::ClientGone));
            }
            timer.poll(cx).map(|_| Ok(()))
        })
        .await
    }
}

impl LastProbe {
    pub(super) fn of(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.clone(),
            number: endpoint.probes.begun(),
        }
    }

    /// Whether a later one has found the endpoint there. Then it may get the request again.
    fn is_outdated(&self) -> bool {
        self.endpoint.probes.was_good_after(self.number)
    }
}

impl Exchange {
    /// It has waited before it was given to an endpoint: that is a part of its time.
    pub(crate) fn has_waited(&mut self, wait: &EndpointWait) {
        self.waits_until = NonZero::new(wait.until);
    }

    /// Whether the request waits for an endpoint if an attempt fails for this, with nothing of it
    /// sent or not, and there is no other one now.
    pub(super) fn may_wait(&mut self, worker: &Worker, cause: RetryOn, is_unsent: bool) -> bool {
        let policy = self.service().retry;
        // What was not sent is no repetition.
        let most = match policy.attempts {
            2.. if is_unsent => MAX_ATTEMPTS,
            attempts => attempts,
        };
        policy.has(cause)
            && self.attempts < most
            && self.read_newest_table(worker)
            && self
                .service()
                .awaits_another(&self.hints, &self.attempted[..self.attempts])
    }

    /// Claims the next attempt of a request once an endpoint is up for it: one that it has not had, or
    /// one that a probe has found there since.
    ///
    /// # Errors
    /// There was none in time, or it has no more time, or its client has left: what its client gets.
    pub(super) async fn attempt_in_time(
        &mut self,
        worker: &Rc<Worker>,
        timer: &Timer,
        failed: &Failed,
        last_probe: LastProbe,
        client: Wire<'_>,
    ) -> Result<Attempt, LocalReply> {
        let until = self.waits_until(worker, failed);
        if until <= worker.timers.now() {
            return Err(failed.reply);
        }
        let wait = EndpointWait::begin(self.service(), until).map_err(|_| failed.reply)?;
        let probes = self.last_probes(last_probe);
        loop {
            let looked = wait.look(worker, timer, client).await;
            looked.map_err(|reply| match reply {
                LocalReply::ClientGone => reply,
                _ => failed.reply,
            })?;
            if timer.is_past_limit() {
                wait.seat.refuse();
                return Err(LocalReply::RequestTimedOut);
            }
            let gone = probes.iter().filter(|probe| !probe.is_outdated());
            let gone: Vec<EndpointId> = gone.map(|probe| probe.endpoint.id).collect();
            if let Some(next) = self.claim_besides(worker, timer, &gone) {
                return Ok(next);
            }
            let has_service = self.read_newest_table(worker);
            if !has_service || !self.service().awaits_endpoint(&self.hints) {
                wait.seat.refuse();
                return Err(failed.reply);
            }
        }
    }

    /// Until when the request may wait, with all the waits that it had. The time in which there was no
    /// connection to an endpoint, as there would have been to any other, is a part of it.
    fn waits_until(&mut self, worker: &Worker, failed: &Failed) -> Millis {
        let timeouts = &self.service().timeouts;
        let within = timeouts.wait_for_endpoint.unwrap_or_default();
        let within = match failed.reply {
            LocalReply::ConnectTimedOut => within.saturating_sub(timeouts.connect),
            _ => within,
        };
        let until = worker.timers.after(within);
        let until = NonZero::new(until).unwrap_or(NonZero::<Millis>::MIN);
        self.waits_until.get_or_insert(until).get()
    }

    /// The last probes of all endpoints that the request was given to; `last` is that of the last one.
    fn last_probes(&self, last: LastProbe) -> Vec<LastProbe> {
        let attempted = &self.attempted[..self.attempts];
        let is_other = |endpoint: &&Arc<Endpoint>| {
            endpoint.id != last.endpoint.id && attempted.contains(&endpoint.id)
        };
        let others = self.service().endpoints().filter(is_other);
        let mut all: Vec<LastProbe> = others.map(LastProbe::of).collect();
        all.push(last);
        all
    }
}
