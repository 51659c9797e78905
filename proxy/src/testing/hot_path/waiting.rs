//! Requests that wait for an endpoint, and what ends their wait.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::{Connections, Script, Speaks};
use super::{GOOD, Http, Rig, run};
use crate::table::endpoint::Endpoint;

/// More than any wait of these tests.
const HANG: Duration = Duration::from_secs(60);

/// A rig with endpoints of these versions. Each connection to them responds well.
pub(crate) async fn rig(service: &str, endpoints: &[(&'static str, Speaks)]) -> Rc<Rig> {
    scripted(service, endpoints, &[&GOOD]).await
}

/// The same, where each connection does as it is told.
pub(crate) async fn scripted(
    service: &str,
    endpoints: &[(&'static str, Speaks)],
    connections: Connections<'_>,
) -> Rc<Rig> {
    let script = Script::new(connections, &[]);
    Rc::new(Rig::new("", service, endpoints, script).await)
}

/// The endpoint of the present table at this place.
pub(crate) fn endpoint(rig: &Rig, place: usize) -> Arc<Endpoint> {
    let table = rig.table();
    let mut endpoints = table.services()[0].endpoints();
    endpoints.nth(place).unwrap().clone()
}

/// Has it be up and, after that, down: its last probe got this far.
pub(crate) fn goes_down(endpoint: &Endpoint, is_reachable: bool) {
    endpoint.set_health(Ok(()));
    endpoint.set_unreachable(!is_reachable);
    endpoint.set_health(Err("by the test".into()));
}

/// Waits, waited and was refused.
pub(crate) fn waits(rig: &Rig) -> (u64, u64, u64) {
    let stats = rig.table().services()[0].waiting_room.stats();
    (stats.waiting, stats.waited, stats.refused)
}

/// Waits until so many requests wait.
pub(crate) async fn waiting(rig: &Rig, count: u64) {
    while waits(rig).0 != count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Over all wires.
pub(crate) fn on_all_wires(test: impl AsyncFn(Http, Speaks)) {
    for client in [Http::One, Http::Two] {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let in_time = tokio::time::timeout;
            let hangs = format!("it hangs: {client:?} {speaks:?}");
            run(async { in_time(HANG, test(client, speaks)).await }).expect(&hangs);
        }
    }
}
