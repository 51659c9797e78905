//! A request whose service is held waits here for its release.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::table::hold::{Hold, Waited};
use crate::wire::Wire;
use crate::wire::head::Message;
use crate::wire::reply::LocalReply;
use crate::wire::target::Target;
use crate::worker::Worker;

/// Waits until the service of a request is held no more.
pub(crate) async fn wait(
    worker: &Worker,
    request: Message<'_>,
    client: Wire<'_>,
) -> Result<(), LocalReply> {
    let target = Target::of(request)?;
    let Some(hold) = of(worker, &target, request)? else {
        return Ok(());
    };
    let mut waiting = std::pin::pin!(hold.wait());
    poll_fn(|cx| {
        if let Poll::Ready(waited) = waiting.as_mut().poll(cx) {
            return Poll::Ready(match waited {
                Waited::Released => Ok(()),
                Waited::Refused => Err(LocalReply::ServiceHeld),
            });
        }
        if client.has_left(cx) {
            return Poll::Ready(Err(LocalReply::ClientGone));
        }
        Poll::Pending
    })
    .await
}

/// The hold that a request has to wait for. Once it has, the table is read again.
fn of(
    worker: &Worker,
    target: &Target<'_>,
    request: Message<'_>,
) -> Result<Option<Arc<Hold>>, LocalReply> {
    let table = worker.table();
    let service = table.at(table.route(target, request)?);
    // An external health check must not take the service out of use because
    // it is held.
    if service.hold.is_some() && service.definition.is_health_path(target.path.normal()) {
        return Err(LocalReply::HeldHealthCheck);
    }
    Ok(service.hold.clone())
}
