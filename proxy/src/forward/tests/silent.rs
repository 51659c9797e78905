//! An endpoint that goes down, or whose drain has no more time, while a request waits for its
//! response: the request waits no longer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::table::counts::claim::Kind;
use crate::table::endpoint::Endpoint;
use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::{DELETE, GET, GOOD, GRPC, HEAD, Http, POST, PUT, Rig, SERVICE, run};
use crate::worker::order::Order;

use Speaks::{Http1, Http2};
use Step::{BeginBody, Say, Stall, Take, Wait};

/// What `timeouts.first_byte` is far from.
const AT_ONCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(25);
const FREEZES: &[Step] = &[Take, Stall];

/// What becomes of the endpoint that has the request.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// Its health check gets nothing back.
    Silent,
    /// Its drain has no more time for requests.
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct Case<'c> {
    client: Http,
    speaks: Speaks,
    endpoints: usize,
    request: Request,
    script: &'c [&'c [Step]],
    event: Event,
}

impl Event {
    fn happens(self, rig: &Rig, endpoint: &Arc<Endpoint>) {
        match self {
            Self::Silent => {
                endpoint.set_health(Err("no response within 500ms".into()));
                assert!(endpoint.set_silent(true));
                rig.worker().obey(Order::Silent(endpoint.id));
            }
            Self::Cut => {
                endpoint.claims.retire();
                rig.worker().obey(Order::Cut {
                    endpoint: endpoint.id,
                    kind: Kind::Request,
                });
            }
        }
    }
}

impl Case<'_> {
    /// What came of it, and how many requests are counted as cut.
    fn outcome(&self) -> (String, u64) {
        run(async {
            let script = Script::new(self.script, &[]);
            let versions = vec![("1", self.speaks); self.endpoints];
            let rig = Rig::new("", SERVICE, &versions, script).await;
            let mut client = rig.client(self.client).await;
            let began = Instant::now();
            let ((response, _), ()) =
                tokio::join!(client.send(&self.request), self.each_has_it(&rig));
            assert!(began.elapsed() < AT_ONCE, "{:?} {self:?}", began.elapsed());
            rig.settle().await;
            let table = rig.table();
            let endpoints = table.services()[0].endpoints();
            let cut = endpoints.map(|endpoint| endpoint.counts().cut_requests);
            let cut = cut.sum();
            (rig.outcome(vec![response], self.endpoints).line(), cut)
        })
    }

    /// Once an endpoint has the whole request, and is not to respond, the event happens to it.
    async fn each_has_it(&self, rig: &Rig) {
        let freeze = self.script.iter().filter(|steps| **steps != GOOD).count();
        for number in 0..freeze {
            while rig
                .script
                .seen()
                .get(number)
                .is_none_or(|seen| !seen.body.is_whole)
            {
                tokio::time::sleep(LOOK).await;
            }
            // What an endpoint begins after that, its client has by now.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let address = rig.address(rig.script.seen()[number].endpoint);
            let table = rig.table();
            let mut endpoints = table.services()[0].endpoints();
            let endpoint = endpoints.find(|one| one.address.to_string() == address);
            self.event.happens(rig, endpoint.unwrap());
        }
    }

    #[track_caller]
    fn check(&self, want: &str, want_cut: u64) {
        assert_eq!(self.outcome(), (want.to_owned(), want_cut), "{self:?}");
    }
}

fn on_all_wires(request: Request, event: Event, check: impl Fn(Case<'_>)) {
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            check(Case {
                client,
                speaks,
                endpoints: 2,
                request,
                script: &[FREEZES, &GOOD],
                event,
            });
        }
    }
}

#[test]
fn an_idempotent_request_at_an_endpoint_that_goes_silent_is_sent_to_another() {
    for request in [GET, HEAD, PUT, DELETE] {
        on_all_wires(request, Event::Silent, |case| {
            case.check("200; seen 1+1; 2xx 1, timeout 1", 0);
        });
    }
}

#[test]
fn another_request_gets_its_504_when_its_endpoint_goes_silent() {
    for request in [POST, GRPC] {
        on_all_wires(request, Event::Silent, |case| {
            case.check(
                "504 error=http_response_timeout; details=\"down\"; seen 1+0; timeout 1",
                0,
            );
        });
    }
}

#[test]
fn where_there_is_no_other_endpoint_there_is_nothing_to_wait_for() {
    on_all_wires(GET, Event::Silent, |case| {
        let alone = Case {
            endpoints: 1,
            ..case
        };
        alone.check(
            "504 error=http_response_timeout; details=\"down\"; seen 1; timeout 1",
            0,
        );
    });
}

#[test]
fn a_request_that_silenced_two_endpoints_is_not_sent_to_a_third() {
    on_all_wires(GET, Event::Silent, |case| {
        let kills = Case {
            endpoints: 3,
            script: &[FREEZES, FREEZES, &GOOD],
            ..case
        };
        kills.check(
            "504 error=http_response_timeout; details=\"down\"; seen 1+1+0; timeout 2",
            0,
        );
    });
}

#[test]
fn a_response_that_has_begun_is_left_to_its_timeouts() {
    let begins: &[Step] = &[
        Take,
        BeginBody(4, "ok"),
        Wait(Duration::from_secs(2)),
        Say("ok"),
    ];
    for client in [Http::One, Http::Two] {
        let case = Case {
            client,
            speaks: Http1,
            endpoints: 2,
            request: POST,
            script: &[begins],
            event: Event::Silent,
        };
        case.check("200; seen 1+0; 2xx 1", 0);
    }
}

#[test]
fn an_idempotent_request_that_a_drain_cuts_is_sent_to_another_endpoint() {
    on_all_wires(GET, Event::Cut, |case| {
        case.check("200; seen 1+1; 2xx 1", 0);
    });
}

#[test]
fn another_request_that_a_drain_cuts_is_counted_as_cut() {
    on_all_wires(POST, Event::Cut, |case| {
        case.check(
            "504 error=connection_terminated; details=\"drained\"; seen 1+0; timeout 1",
            1,
        );
    });
}
