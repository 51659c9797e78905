//! The only endpoint of a service is gone, and its health check has not seen it: what was not
//! processed waits for it, or for its successor, and goes on.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::table::endpoint::Endpoint;
use crate::table::probes::Suspicion;
use crate::testing::hot_path::client::{Request, Response};
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::waiting::{endpoint, on_all_wires, rig, scripted, waiting, waits};
use crate::testing::hot_path::{
    DELETE, GET, GOOD, GRPC, Http, POST, PUT, Rig, SERVICE, run, take_out,
};

use Speaks::{Http1, Http2, Nothing, Silence};
use Step::{Close, Reset, Take};

const CHECKED: &str = r#"{"name":"web","health":{"path":"/"}}"#;
const SHORTLY: &str =
    r#"{"name":"web","health":{"path":"/"},"timeouts":{"wait_for_endpoint":"2s"}}"#;
/// Nothing but what these tests are about ends a connection that is not made.
const PATIENT: &str = r#"{"name":"web","health":{"path":"/"},
    "timeouts":{"connect":"48h","connect_failover":"48h","connect_hedge":"48h"}}"#;
/// One attempt at an endpoint that is gone, and one at an endpoint that is there.
const SAVED: &str = "200; seen 1+0; 2xx 1, connect 1";
const LOST: &[Step] = &[Take, Close];

/// A probe that begins now finds it there.
fn is_probed(endpoint: &Endpoint) {
    endpoint.probes.was_good(endpoint.probes.begin());
}

/// A rig whose one endpoint is up, as far as is known. It speaks `first`; its successor `speaks`.
async fn alone(service: &str, first: Speaks, speaks: Speaks) -> Rc<Rig> {
    let rig = rig(service, &[("1", first), ("1", speaks)]).await;
    rig.put(|spec| take_out(spec, 1));
    endpoint(&rig, 0).set_health(Ok(()));
    rig
}

/// The successor is there in its place, and is up.
fn is_succeeded(rig: &Rig) {
    rig.put(|spec| take_out(spec, 0));
    endpoint(rig, 0).set_health(Ok(()));
}

/// Sends a request that waits without a claim, and does something once it does.
async fn sent(rig: &Rig, client: Http, request: Request, then: impl AsyncFnOnce()) -> Response {
    let mut client = rig.client(client).await;
    let then = async {
        waiting(rig, 1).await;
        assert_eq!(rig.in_flight(), 0, "it holds a claim");
        then().await;
    };
    let ((response, _), ()) = tokio::join!(client.send(&request), then);
    rig.settle().await;
    response
}

/// What came of it, in a line.
fn line(rig: &Rig, response: Response) -> String {
    rig.outcome(vec![response], 2).line()
}

#[test]
fn a_request_that_was_refused_waits_for_the_successor() {
    on_all_wires(async |client, speaks| {
        for request in [GET, POST, GRPC] {
            let rig = alone(CHECKED, Nothing, speaks).await;
            let response = sent(&rig, client, request, async || is_succeeded(&rig)).await;
            let got = line(&rig, response);
            assert_eq!(got, SAVED, "{client:?} {speaks:?}");
            assert_eq!(waits(&rig), (0, 1, 0));
        }
    });
}

#[test]
fn a_request_that_was_refused_waits_for_the_endpoint_to_come_back() {
    on_all_wires(async |client, speaks| {
        let rig = alone(CHECKED, Nothing, speaks).await;
        let one = endpoint(&rig, 0);
        let under_way = one.probes.begin();
        let response = sent(&rig, client, POST, async || {
            rig.begins(0, speaks);
            // It says nothing of what has been since.
            one.probes.was_good(under_way);
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!((waits(&rig).0, rig.script.made()), (1, 0));
            is_probed(&one);
        });
        let got = line(&rig, response.await);
        assert_eq!(got, SAVED, "{client:?} {speaks:?}");
    });
}

#[test]
fn a_request_that_was_refused_waits_for_the_endpoint_to_come_up_anew() {
    on_all_wires(async |client, speaks| {
        let rig = alone(CHECKED, Nothing, speaks).await;
        let one = endpoint(&rig, 0);
        let response = sent(&rig, client, POST, async || {
            one.set_health(Err("refused".into()));
            rig.begins(0, speaks);
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!((waits(&rig).0, rig.script.made()), (1, 0));
            one.set_health(Ok(()));
        });
        let got = line(&rig, response.await);
        assert_eq!(got, SAVED, "{client:?} {speaks:?}");
    });
}

#[test]
fn an_idempotent_request_whose_endpoint_died_waits_and_no_other() {
    on_all_wires(async |client, speaks| {
        for request in [GET, PUT, DELETE] {
            let rig = scripted(CHECKED, &[("1", speaks)], &[LOST, &GOOD]).await;
            let one = endpoint(&rig, 0);
            one.set_health(Ok(()));
            let response = sent(&rig, client, request, async || is_probed(&one)).await;
            let got = rig.outcome(vec![response], 1).line();
            assert_eq!(got, "200; seen 2; 2xx 1, reset 1", "{client:?} {speaks:?}");
        }
        for request in [POST, GRPC] {
            let rig = scripted(CHECKED, &[("1", speaks)], &[LOST, &GOOD]).await;
            endpoint(&rig, 0).set_health(Ok(()));
            let (response, _) = rig.client(client).await.send(&request).await;
            rig.settle().await;
            let got = rig.outcome(vec![response], 1).line();
            let want = "502 error=connection_terminated; seen 1; reset 1";
            assert_eq!(got, want, "{client:?} {speaks:?}");
            assert_eq!(waits(&rig), (0, 0, 0));
        }
    });
}

#[test]
fn a_request_that_may_kill_is_repeated_once() {
    on_all_wires(async |client, speaks| {
        let rig = scripted(CHECKED, &[("1", speaks)], &[LOST]).await;
        let one = endpoint(&rig, 0);
        one.set_health(Ok(()));
        let response = sent(&rig, client, GET, async || is_probed(&one)).await;
        let got = rig.outcome(vec![response], 1).line();
        let want = "502 error=connection_terminated; seen 2; reset 2";
        assert_eq!(got, want, "{client:?} {speaks:?}");
        assert_eq!(waits(&rig), (0, 1, 0));
    });
}

#[test]
fn a_request_that_waited_in_vain_gets_what_its_attempt_came_to() {
    on_all_wires(async |client, speaks| {
        let rig = alone(SHORTLY, Nothing, speaks).await;
        let began = Instant::now();
        let response = sent(&rig, client, POST, async || ()).await;
        let took = began.elapsed();
        let got = line(&rig, response);
        let want = "502 error=connection_refused; seen 0+0; connect 1";
        assert_eq!(got, want, "{client:?} {speaks:?}");
        assert_eq!(waits(&rig), (0, 1, 1));
        assert!((2_000..2_300).contains(&took.as_millis()), "{took:?}");
    });
}

#[test]
fn all_waits_of_a_request_have_one_time_together() {
    on_all_wires(async |client, speaks| {
        let rig = alone(SHORTLY, Nothing, speaks).await;
        let one = endpoint(&rig, 0);
        one.set_unreachable(true);
        one.set_health(Err("refused".into()));
        let began = Instant::now();
        let response = sent(&rig, client, POST, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            // It is refused, waits, and is refused.
            one.set_health(Ok(()));
            tokio::time::sleep(Duration::from_millis(100)).await;
            is_probed(&one);
        });
        let got = line(&rig, response.await);
        let took = began.elapsed();
        let want = "502 error=connection_refused; seen 0+0; connect 2";
        assert_eq!(got, want, "{client:?} {speaks:?}");
        assert!((2_000..2_300).contains(&took.as_millis()), "{took:?}");
    });
}

#[test]
fn a_request_that_has_no_more_time_waits_no_longer() {
    const HURRIED: &str = r#"{"name":"web","health":{"path":"/"},"timeouts":{"request":"1s"}}"#;
    on_all_wires(async |client, speaks| {
        let rig = alone(HURRIED, Nothing, speaks).await;
        let response = sent(&rig, client, GET, async || ()).await;
        let got = line(&rig, response);
        let want = "504 error=http_response_timeout; details=\"request\"; seen 0+0; connect 1";
        assert_eq!(got, want, "{client:?} {speaks:?}");
        assert_eq!(waits(&rig), (0, 1, 1));
    });
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    for client in [Http::One, Http::Two] {
        run(async {
            let rig = alone(CHECKED, Nothing, Http1).await;
            let mut sender = rig.client(client).await;
            tokio::select! {
                _ = sender.send(&POST) => panic!("nothing is there: {client:?}"),
                () = waiting(&rig, 1) => {}
            }
            sender.leave();
            waiting(&rig, 0).await;
            assert_eq!((waits(&rig), rig.script.made()), ((0, 1, 0), 0));
        });
    }
}

#[test]
fn what_was_not_sent_needs_no_retry_of_the_budget_and_what_was_sent_does() {
    on_all_wires(async |client, speaks| {
        let rig = alone(CHECKED, Nothing, speaks).await;
        let budget = rig.table().services()[0].budget.clone();
        while budget.withdraw(0) {}
        let response = sent(&rig, client, POST, async || is_succeeded(&rig)).await;
        assert_eq!(response.status, 200, "{client:?} {speaks:?}");

        let rig = scripted(CHECKED, &[("1", speaks)], &[LOST, &GOOD]).await;
        let budget = rig.table().services()[0].budget.clone();
        while budget.withdraw(0) {}
        endpoint(&rig, 0).set_health(Ok(()));
        let (response, _) = rig.client(client).await.send(&GET).await;
        assert_eq!(response.status, 502, "{client:?} {speaks:?}");
        assert_eq!(waits(&rig), (0, 0, 0));
    });
}

#[test]
fn nothing_waits_where_the_service_does_not_want_it_or_nothing_would_tell() {
    for service in [
        SERVICE,
        r#"{"name":"web","health":{"path":"/"},"timeouts":{"wait_for_endpoint":"0s"}}"#,
        r#"{"name":"web","health":{"path":"/"},"retry":{"attempts":1}}"#,
        r#"{"name":"web","health":{"path":"/"},"retry":{"on":["reset"]}}"#,
    ] {
        for client in [Http::One, Http::Two] {
            run(async {
                let rig = alone(service, Nothing, Http1).await;
                let began = Instant::now();
                let (response, _) = rig.client(client).await.send(&POST).await;
                let took = began.elapsed();
                let got = line(&rig, response);
                let want = "502 error=connection_refused; seen 0+0; connect 1";
                assert_eq!(got, want, "{service}");
                assert!(took < Duration::from_secs(1), "{service}: {took:?}");
                assert_eq!(waits(&rig), (0, 0, 0), "{service}");
            });
        }
    }
}

#[test]
fn a_connection_to_an_endpoint_that_goes_down_is_given_up_and_the_request_waits() {
    on_all_wires(async |client, speaks| {
        for is_retired in [false, true] {
            let rig = alone(PATIENT, Silence, speaks).await;
            let one = endpoint(&rig, 0);
            let mut sender = rig.client(client).await;
            let then = async {
                while rig.in_flight() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                match is_retired {
                    false => one.set_health(Err("no response".into())),
                    // Its successor is not up.
                    true => rig.put(|spec| take_out(spec, 0)),
                }
                waiting(&rig, 1).await;
                is_succeeded(&rig);
            };
            let ((response, _), ()) = tokio::join!(sender.send(&POST), then);
            rig.settle().await;
            let got = line(&rig, response);
            assert_eq!(got, SAVED, "{client:?} {speaks:?}");
            assert!(one.is_drained());
        }
    });
}

#[test]
fn where_requests_do_not_wait_a_connection_goes_on() {
    run(async {
        let service = r#"{"name":"web","health":{"path":"/"},"timeouts":{"wait_for_endpoint":"0s","connect":"3s"}}"#;
        let rig = alone(service, Silence, Http1).await;
        let one = endpoint(&rig, 0);
        let began = Instant::now();
        let mut sender = rig.client(Http::One).await;
        let then = async {
            while rig.in_flight() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            one.set_health(Err("no response".into()));
        };
        let ((response, _), ()) = tokio::join!(sender.send(&POST), then);
        let want = "504 error=connection_timeout; seen 0+0; connect 1";
        assert_eq!(line(&rig, response), want);
        assert!(began.elapsed() >= Duration::from_secs(3));
    });
}

#[test]
fn the_health_check_hears_of_every_connection_that_failed() {
    let suspicion = |speaks: Speaks, script: &'static [Step]| {
        run(async move {
            let rig = scripted(SERVICE, &[("1", speaks)], &[script]).await;
            let _ = rig.client(Http::One).await.send(&POST).await;
            endpoint(&rig, 0).probes.take_suspicion()
        })
    };
    assert_eq!(suspicion(Nothing, &[]), Some(Suspicion::Refused));
    assert_eq!(suspicion(Silence, &[]), Some(Suspicion::Broken));
    for speaks in [Http1, Http2] {
        assert_eq!(suspicion(speaks, LOST), Some(Suspicion::Broken));
        assert_eq!(suspicion(speaks, &[Take, Reset]), Some(Suspicion::Broken));
        assert_eq!(suspicion(speaks, &GOOD), None);
    }
    let refuses_the_stream = &[Take, Step::ResetStream(7), Step::Stall];
    assert_eq!(suspicion(Http2, refuses_the_stream), None);
}

#[test]
fn a_third_endpoint_is_connected_to_soon_where_two_take_long() {
    // Longer than any test may take: nothing but further connections help.
    const SLOWLY: &str = r#"{"name":"web","timeouts":{"connect":"48h","connect_failover":"48h"}}"#;
    on_all_wires(async |client, speaks| {
        let rig = rig(SLOWLY, &[("1", Silence), ("1", Silence), ("1", speaks)]).await;
        let mut sender = rig.client(client).await;
        for _ in 0..3 {
            let (response, _) = sender.send(&POST).await;
            assert_eq!(response.status, 200, "{client:?} {speaks:?}");
        }
        rig.settle().await;
        let seen = rig.script.seen();
        assert!(seen.iter().all(|request| request.endpoint == 2));
        assert_eq!((seen.len(), rig.in_flight()), (3, 0));
    });
}
