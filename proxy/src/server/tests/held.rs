//! Requests for a service that is held, over either wire.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use admin_api::HoldSpec;
use tokio::io::AsyncWriteExt;

use crate::table::hold::Hold;
use crate::testing::hot_path::client::Response;
use crate::testing::hot_path::endpoint::{Script, Speaks};
use crate::testing::hot_path::message::field;
use crate::testing::hot_path::{GOOD, Http, POST, Rig, SERVICE, run};

/// A rig whose service is held in this way.
async fn held(spec: HoldSpec) -> (Rc<Rig>, Arc<Hold>) {
    let script = Script::new(&[&GOOD], &[]);
    let rig = Rig::new("", SERVICE, &[("1", Speaks::Http1)], script).await;
    let hold = Hold::new(spec);
    rig.hold(Some(hold.clone()));
    (Rc::new(rig), hold)
}

/// Sends a request that has to wait, and does something meanwhile.
async fn sent(rig: &Rig, client: Http, meanwhile: impl Future<Output = ()>) -> Response {
    let mut client = rig.client(client).await;
    let ((response, _), ()) = tokio::join!(client.send(&POST), meanwhile);
    response
}

/// Waits until so many requests wait.
async fn waiting(hold: &Hold, count: u64) {
    while hold.counts().waiting != count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_request_waits_for_the_release_and_is_served_then() {
    for client in [Http::One, Http::Two] {
        run(async {
            let (rig, hold) = held(HoldSpec::default()).await;
            let release = async {
                waiting(&hold, 1).await;
                assert!(rig.script.seen().is_empty(), "nothing was sent yet");
                rig.hold(None);
                hold.release();
            };
            let response = sent(&rig, client, release).await;
            assert_eq!(response.status, 200, "{client:?}");
            let seen = rig.script.seen();
            assert_eq!(
                (seen.len(), &*seen[0].body.data),
                (1, &b"order"[..]),
                "{client:?}"
            );
        });
    }
}

#[test]
fn a_service_that_is_held_again_before_the_request_goes_on_lets_it_wait_again() {
    for client in [Http::One, Http::Two] {
        run(async {
            let (rig, hold) = held(HoldSpec::default()).await;
            let again = async {
                waiting(&hold, 1).await;
                let next = Hold::new(HoldSpec::default());
                rig.hold(Some(next.clone()));
                hold.release();
                waiting(&next, 1).await;
                rig.hold(None);
                next.release();
            };
            let response = sent(&rig, client, again).await;
            assert_eq!(
                (response.status, rig.script.seen().len()),
                (200, 1),
                "{client:?}"
            );
        });
    }
}

#[test]
fn a_request_that_waits_too_long_or_finds_no_place_is_told_to_come_again() {
    let short = HoldSpec {
        max_hold: admin_api::Period::from_secs(2),
        ..HoldSpec::default()
    };
    let full = HoldSpec {
        max_waiting: 0,
        ..HoldSpec::default()
    };
    for spec in [short, full] {
        for client in [Http::One, Http::Two] {
            run(async {
                let (rig, hold) = held(spec.clone()).await;
                let response = sent(&rig, client, async {}).await;
                let error = "error=destination_unavailable; details=\"held\"";
                assert_eq!((response.status, response.error()), (503, Some(error)));
                assert_eq!(field(&response.head, "retry-after"), Some("1"));
                assert_eq!((hold.counts().waiting, hold.counts().refused), (0, 1));
                assert_eq!((rig.script.made(), rig.stats("1").attempts()), (0, 0));
            });
        }
    }
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    for client in [Http::One, Http::Two] {
        run(async {
            let (rig, hold) = held(HoldSpec::default()).await;
            let mut sender = rig.client(client).await;
            tokio::select! {
                _ = sender.send(&POST) => panic!("it is held: {client:?}"),
                () = waiting(&hold, 1) => {}
            }
            sender.leave();
            waiting(&hold, 0).await;
            assert_eq!(
                (hold.counts().refused, rig.script.made()),
                (0, 0),
                "{client:?}"
            );
        });
    }
}

#[test]
fn a_client_that_ends_its_half_gives_its_place_back_whatever_is_unread() {
    run(async {
        let (rig, hold) = held(HoldSpec::default()).await;
        let mut stream = rig.connect().await;
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head).await.unwrap();
        waiting(&hold, 1).await;
        stream.write_all(b"order").await.unwrap();
        stream.shutdown().await.unwrap();
        waiting(&hold, 0).await;
        assert_eq!((hold.counts().refused, rig.script.made()), (0, 0));
    });
}
