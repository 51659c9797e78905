//! Limits on requests, in a time and at once.

use std::rc::Rc;
use std::time::Duration;

use admin_api::HoldSpec;

use super::{check, check_with, fields, service};
use crate::table::hold::Hold;
use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::waiting::on_all_wires;
use crate::testing::hot_path::{GET, GOOD, Http, Rig, Row, run};

use Step::{Respond, Take, Wait};

const TRUSTS: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const TWICE: &[Step] = &[Take, Respond(200, "ok"), Take, Respond(200, "ok")];
const TOO_MANY: &str = "429 error=http_request_denied; details=\"rate\"";

const fn from(fields: &'static [(&'static str, &'static str)]) -> Request {
    GET.fields(fields)
}

const ONE: Request = from(&[
    ("x-forwarded-for", "203.0.113.1"),
    ("x-key", "1"),
    ("cookie", "seat=1"),
]);
const OTHER: Request = from(&[
    ("x-forwarded-for", "203.0.113.2"),
    ("x-key", "2"),
    ("cookie", "seat=2"),
]);

#[test]
fn requests_beyond_the_burst_get_a_429_that_says_when_to_come_again() {
    check_with(
        r#""limits":{"requests":{"rate":"2/h"}}"#,
        TWICE,
        |row| row.sends(&[GET, GET, GET]),
        "200, 200, 429 error=http_request_denied; details=\"rate\"; seen 2; 2xx 2
        < retry-after: 1800
        < ratelimit: \"default\";r=0;t=1800
        < ratelimit-policy: \"default\";q=2;w=3600
        < content-type: text/plain; charset=utf-8",
    );
}

#[test]
fn what_counts_together_is_as_the_service_says() {
    for (by, first, second, counts_together) in [
        (r#""address""#, ONE, OTHER, false),
        (r#""address""#, ONE, ONE, true),
        (r#"{"header":"X-Key"}"#, ONE, OTHER, false),
        (r#"{"header":"X-Key"}"#, ONE, ONE, true),
        (r#"{"cookie":"seat"}"#, ONE, OTHER, false),
        (r#"{"cookie":"seat"}"#, ONE, ONE, true),
        (r#""host""#, ONE, OTHER, true),
        (r#""host""#, GET.at("B.test:1"), GET.at("b.test"), true),
        (r#""host""#, GET.at("a.test"), GET.at("b.test"), false),
        // Without the value it is by address.
        (r#"{"header":"x-none"}"#, ONE, ONE, true),
        (r#"{"header":"x-none"}"#, ONE, OTHER, false),
        (r#"{"cookie":"none"}"#, ONE, ONE, true),
    ] {
        let filters = format!(r#""limits":{{"requests":{{"rate":"1/h","by":{by}}}}}"#);
        let want = match counts_together {
            true => format!("200, {TOO_MANY}; seen 1; 2xx 1"),
            false => "200, 200; seen 2; 2xx 2".to_owned(),
        };
        let change = |row: Row<'static>| row.listener(TRUSTS).sends(&[first, second]);
        check_with(&filters, TWICE, change, &want);
    }
}

#[test]
fn an_address_of_ipv6_is_its_network_and_an_unknown_client_its_peer() {
    let of = |address: &'static str| {
        let fields: &'static [_] = Box::leak(Box::new([("x-forwarded-for", address)]));
        GET.fields(fields)
    };
    for (first, second, counts_together) in [
        ("2001:db8::1", "2001:db8::2", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("unknown", "_hidden", true),
    ] {
        let filters = r#""limits":{"requests":{"rate":"1/h"}}"#;
        let row = Row::new(first).service(service(filters)).listener(TRUSTS);
        let (line, _) = row
            .script(&[TWICE])
            .sends(&[of(first), of(second)])
            .outcome();
        assert_eq!(
            line.contains("429"),
            counts_together,
            "{first} {second}: {line}"
        );
    }
}

#[test]
fn those_that_may_not_come_do_not_count() {
    let filters =
        r#""access":{"deny":["203.0.113.2"]},"limits":{"requests":{"rate":"1/h","by":"host"}}"#;
    let want = "403 error=http_request_denied, 200; seen 1; 2xx 1";
    check_with(
        filters,
        &GOOD,
        |row| row.listener(TRUSTS).sends(&[OTHER, ONE]),
        want,
    );
    let redirect = r#""redirect":{"to":"/a"},"limits":{"requests":{"rate":"1/h"}}"#;
    let want = format!("302 details=\"redirect\", {TOO_MANY}; seen 0; nothing counted");
    check(redirect, &[GET, GET], &want);
}

#[test]
fn a_request_that_waits_counts_once() {
    let filters =
        r#""limits":{"requests":{"rate":"2/h"},"in_flight":1},"buffer":{"request":"1KiB"}"#;
    for client in [Http::One, Http::Two] {
        run(async {
            let script = Script::new(&[TWICE], &[]);
            let rig = Rig::new("", service(filters), &[("1", Speaks::Http1)], script).await;
            let hold = Hold::new(HoldSpec::default());
            rig.hold(Some(hold.clone()));
            let mut sender = rig.client(client).await;
            let release = async {
                while hold.counts().waiting != 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                rig.hold(None);
                hold.release();
            };
            let post = crate::testing::hot_path::POST.streaming();
            let ((response, _), ()) = tokio::join!(sender.send(&post), release);
            assert_eq!(response.status, 200, "{client:?}");
            assert_eq!(sender.send(&post).await.0.status, 200, "{client:?}");
            assert_eq!(sender.send(&post).await.0.status, 429, "{client:?}");
        });
    }
}

#[test]
fn no_more_requests_are_under_way_than_the_service_has() {
    on_all_wires(async |client, speaks| {
        let filters = r#""limits":{"in_flight":2}"#;
        let slow: &[Step] = &[
            Take,
            Wait(Duration::from_secs(5)),
            Respond(200, "ok"),
            Take,
            Respond(200, "ok"),
        ];
        let script = Script::new(&[slow], &[]);
        let rig = Rc::new(Rig::new("", service(filters), &[("1", speaks)], script).await);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(rig.client(client).await);
        }
        let [first, second, third] = &mut clients[..] else {
            return;
        };
        let late = async {
            while rig.in_flight() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let (refused, keeps) = third.send(&GET).await;
            assert!(keeps);
            refused
        };
        let ((one, _), (two, _), refused) = tokio::join!(first.send(&GET), second.send(&GET), late);
        assert_eq!(
            (one.status, two.status),
            (200, 200),
            "{client:?} {speaks:?}"
        );
        assert_eq!(refused.status, 503, "{client:?} {speaks:?}");
        assert_eq!(fields(&refused.head, "retry-after"), "1");
        assert_eq!(
            refused.error(),
            Some("error=destination_unavailable; details=\"in-flight\"")
        );
        rig.settle().await;
        // Both have ended.
        assert_eq!(
            third.send(&GET).await.0.status,
            200,
            "{client:?} {speaks:?}"
        );
    });
}

#[test]
fn a_client_that_leaves_is_under_way_no_more() {
    for client in [Http::One, Http::Two] {
        run(async {
            let filters = r#""limits":{"in_flight":1}"#;
            let script = Script::new(&[&[Take, Step::Stall], &GOOD], &[]);
            let rig = Rig::new("", service(filters), &[("1", Speaks::Http1)], script).await;
            let mut leaves = rig.client(client).await;
            let sent = tokio::time::timeout(Duration::from_secs(2), leaves.send(&GET)).await;
            assert!(sent.is_err());
            leaves.leave();
            rig.settle().await;
            let mut next = rig.client(client).await;
            assert_eq!(next.send(&GET).await.0.status, 200, "{client:?}");
        });
    }
}
