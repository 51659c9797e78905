//! Requests for a service of which nothing is up, over either wire.

use std::time::Duration;

use tokio::time::Instant;

use crate::table::retry_budget::RetryBudget;
use crate::testing::hot_path::client::{Request, Response};
use crate::testing::hot_path::endpoint::Speaks;
use crate::testing::hot_path::message::field;
use crate::testing::hot_path::waiting::{endpoint, goes_down, on_all_wires, rig, waiting, waits};
use crate::testing::hot_path::{GET, Http, POST, Rig, run, take_out};

/// Its endpoints are down until a test says that they are up.
const CHECKED: &str = r#"{"name":"web","health":{"path":"/"}}"#;
const TWO_VERSIONS: &str = r#"{"name":"web","split":{"1":1,"2":1},"health":{"path":"/"},
    "force":{"header":"x-version","from":["127.0.0.1"]}}"#;
const SHORTLY: &str =
    r#"{"name":"web","health":{"path":"/"},"timeouts":{"wait_for_endpoint":"2s"}}"#;
const NOT_AT_ALL: &str =
    r#"{"name":"web","health":{"path":"/"},"timeouts":{"wait_for_endpoint":"0s"}}"#;
const WAITED: &str = "error=destination_unavailable; details=\"waited\"";

/// Sends a request that has to wait, and does something once it does.
async fn sent(rig: &Rig, client: Http, request: Request, then: impl FnOnce()) -> Response {
    let mut client = rig.client(client).await;
    let then = async {
        waiting(rig, 1).await;
        assert_eq!((rig.script.made(), rig.in_flight()), (0, 0));
        then();
    };
    let ((response, _), ()) = tokio::join!(client.send(&request), then);
    rig.settle().await;
    response
}

#[test]
fn a_request_waits_for_an_endpoint_that_is_about_to_come_up() {
    on_all_wires(async |client, speaks| {
        let rig = rig(CHECKED, &[("1", speaks)]).await;
        let one = endpoint(&rig, 0);
        let response = sent(&rig, client, POST, || one.set_health(Ok(()))).await;
        assert_eq!(response.status, 200, "{client:?} {speaks:?}");
        assert_eq!((waits(&rig), rig.script.seen().len()), ((0, 1, 0), 1));
        assert_eq!(
            (rig.stats("1").attempts(), rig.stats("1").failures()),
            (1, 0)
        );
    });
}

#[test]
fn a_request_waits_for_the_successor_of_an_endpoint_that_is_dead() {
    on_all_wires(async |client, speaks| {
        let rig = rig(CHECKED, &[("1", speaks), ("1", speaks)]).await;
        rig.put(|spec| take_out(spec, 1));
        goes_down(&endpoint(&rig, 0), false);
        let response = sent(&rig, client, POST, || {
            rig.put(|spec| take_out(spec, 0));
            endpoint(&rig, 0).set_health(Ok(()));
        });
        assert_eq!(response.await.status, 200, "{client:?} {speaks:?}");
        assert_eq!((waits(&rig), rig.script.seen()[0].endpoint), ((0, 1, 0), 1));
        assert_eq!((rig.stats("1").attempts(), rig.stats("1").panicked), (1, 0));
    });
}

#[test]
fn a_request_waits_where_the_only_endpoint_was_taken_out_until_there_is_another() {
    on_all_wires(async |client, speaks| {
        let rig = rig(CHECKED, &[("1", speaks), ("1", speaks)]).await;
        rig.put(|spec| {
            take_out(spec, 1);
            take_out(spec, 0);
        });
        let response = sent(&rig, client, POST, || {
            rig.put(|spec| take_out(spec, 0));
            endpoint(&rig, 0).set_health(Ok(()));
        });
        assert_eq!(response.await.status, 200, "{client:?} {speaks:?}");
        assert_eq!((waits(&rig), rig.script.seen().len()), ((0, 1, 0), 1));
    });
}

#[test]
fn a_request_that_names_a_version_waits_for_that_one() {
    on_all_wires(async |client, speaks| {
        let rig = rig(TWO_VERSIONS, &[("1", speaks), ("2", speaks)]).await;
        endpoint(&rig, 0).set_health(Ok(()));
        let second = endpoint(&rig, 1);
        let named = POST.fields(&[("x-version", "2")]);
        let response = sent(&rig, client, named, || second.set_health(Ok(()))).await;
        assert_eq!(response.status, 200, "{client:?} {speaks:?}");
        assert_eq!(rig.script.seen()[0].endpoint, 1);
    });
}

#[test]
fn a_request_that_waited_in_vain_is_told_to_come_again() {
    on_all_wires(async |client, speaks| {
        let rig = rig(SHORTLY, &[("1", speaks)]).await;
        goes_down(&endpoint(&rig, 0), false);
        let began = Instant::now();
        let response = sent(&rig, client, POST, || {}).await;
        let took = began.elapsed();
        assert_eq!((response.status, response.error()), (503, Some(WAITED)));
        assert_eq!(field(&response.head, "retry-after"), Some("1"));
        assert!(
            (2_000..2_300).contains(&took.as_millis()),
            "{client:?}: {took:?}"
        );
        assert_eq!((waits(&rig), rig.script.made()), ((0, 1, 1), 0));
        let stats = rig.stats("1");
        assert_eq!(
            (stats.attempts(), stats.panicked, stats.client_gone),
            (0, 0, 0)
        );
    });
}

#[test]
fn a_request_that_finds_no_place_to_wait_is_refused_at_once() {
    for client in [Http::One, Http::Two] {
        run(async {
            let rig = rig(CHECKED, &[("1", Speaks::Http1)]).await;
            let room = rig.table().services()[0].waiting_room.clone();
            let seats: Vec<_> = std::iter::from_fn(|| room.seat()).collect();
            let (_, _, refused) = waits(&rig);
            let began = Instant::now();
            let (response, _) = rig.client(client).await.send(&GET).await;
            assert!(began.elapsed() < Duration::from_secs(1), "{client:?}");
            assert_eq!((response.status, response.error()), (503, Some(WAITED)));
            assert_eq!(waits(&rig).2, refused + 1);
            drop(seats);
        });
    }
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    for client in [Http::One, Http::Two] {
        run(async {
            let rig = rig(CHECKED, &[("1", Speaks::Http1)]).await;
            let mut sender = rig.client(client).await;
            tokio::select! {
                _ = sender.send(&POST) => panic!("nothing is up: {client:?}"),
                () = waiting(&rig, 1) => {}
            }
            sender.leave();
            waiting(&rig, 0).await;
            assert_eq!((waits(&rig), rig.script.made()), ((0, 1, 0), 0));
        });
    }
}

/// The response to a request that must not wait, and how many attempts are counted as panicked.
async fn at_once(rig: &Rig, client: Http) -> (String, u64) {
    let began = Instant::now();
    let (response, _) = rig.client(client).await.send(&POST).await;
    rig.settle().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{client:?}");
    assert_eq!(waits(rig), (0, 0, 0), "{client:?}");
    let error = response.error().unwrap_or("none").to_owned();
    (
        format!("{} {error}", response.status),
        rig.stats("1").panicked,
    )
}

#[test]
fn endpoints_that_respond_to_their_probes_if_badly_are_tried() {
    on_all_wires(async |client, speaks| {
        let rig = rig(CHECKED, &[("1", speaks), ("1", speaks)]).await;
        // Where one of them is dead, the other gets all of it.
        goes_down(&endpoint(&rig, 0), false);
        goes_down(&endpoint(&rig, 1), true);
        for count in 1..=4 {
            let got = at_once(&rig, client).await;
            assert_eq!(got, ("200 none".into(), count), "{client:?} {speaks:?}");
        }
        let seen = rig.script.seen();
        assert!(seen.iter().all(|request| request.endpoint == 1));
    });
}

#[test]
fn where_requests_do_not_wait_what_was_up_before_is_tried_even_if_it_is_dead() {
    on_all_wires(async |client, speaks| {
        let rig = rig(NOT_AT_ALL, &[("1", speaks)]).await;
        let never_up = at_once(&rig, client).await;
        assert_eq!(never_up, ("503 error=destination_unavailable".into(), 0));
        goes_down(&endpoint(&rig, 0), false);
        assert_eq!(at_once(&rig, client).await, ("200 none".into(), 1));
    });
}

#[test]
fn what_was_drained_is_not_waited_for() {
    for client in [Http::One, Http::Two] {
        run(async {
            let rig = rig(CHECKED, &[("1", Speaks::Http1)]).await;
            endpoint(&rig, 0).set_health(Ok(()));
            endpoint(&rig, 0).claims.retire();
            let got = at_once(&rig, client).await;
            assert_eq!(got, ("503 error=destination_unavailable".into(), 0));
        });
    }
}

#[test]
fn a_request_adds_to_the_retries_once_however_long_it_waits() {
    run(async {
        let rig = rig(CHECKED, &[("1", Speaks::Http1)]).await;
        let budget = rig.table().services()[0].budget.clone();
        while budget.withdraw(0) {}
        let one = endpoint(&rig, 0);
        let mut client = rig.client(Http::One).await;
        let comes_up = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            one.set_health(Ok(()));
        };
        let ((response, _), ()) = tokio::join!(client.send(&GET), comes_up);
        assert_eq!(response.status, 200);
        // Half a retry.
        let more = RetryBudget::new(1);
        while more.withdraw(0) {}
        more.deposit(0);
        assert_eq!(format!("{budget:?}"), format!("{more:?}"));
    });
}
