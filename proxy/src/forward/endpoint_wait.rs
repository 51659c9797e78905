//! A request whose service has no endpoint that is up waits here for one that comes up. It holds no
//! claim, and no table.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::table::service::Service;
use crate::table::waiting_room::Seat;
use crate::wire::Wire;
use crate::wire::head::Message;
use crate::wire::reply::LocalReply;
use crate::wire::target::Target;
use crate::wire::timer::{Millis, Timer};
use crate::worker::Worker;

/// How often it is looked whether an endpoint is up.
const LOOK: Duration = Duration::from_millis(25);

/// The wait of one request.
pub(crate) struct EndpointWait {
    seat: Seat,
    until: Millis,
}

impl EndpointWait {
    /// Begins the wait of a request that was not yet given to an endpoint.
    pub(crate) fn of_request(worker: &Worker, request: Message<'_>) -> Result<Self, LocalReply> {
        let table = worker.table();
        let target = Target::of(request)?;
        Self::begin(worker, table.at(table.route(&target)?))
    }

    /// Begins the wait of a request for this service.
    fn begin(worker: &Worker, service: &Service) -> Result<Self, LocalReply> {
        let within = service.timeouts.wait_for_endpoint;
        let within = within.ok_or(LocalReply::NoEndpoint)?.as_millis();
        let within = Millis::try_from(within).unwrap_or(Millis::MAX);
        let seat = service.waiting_room.seat();
        Ok(Self {
            seat: seat.ok_or(LocalReply::NoEndpointInTime)?,
            until: worker.timers.now().saturating_add(within),
        })
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
            let service = table.route(&target);
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
