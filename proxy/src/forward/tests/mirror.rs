//! Copies of requests, for a version that has to prove itself.

use crate::table::counts::claim::Kind;
use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Connections, Script, Speaks, Step};
use crate::testing::hot_path::{DELETE, GET, GOOD, HEAD, Http, POST, PUT, Rig, Row, run};

use Speaks::{Http1, Http2, Nothing};
use Step::{BeginBody, Close, GoAway, Reset, Respond, Say, Stall, Take};

const OK: Step = Respond(200, "ok");
/// All traffic goes to version 1, and a copy of it to version 2.
const COPIED: &str =
    r#"{"name":"web","split":{"1":1,"2":0},"mirror":{"version":"2","percent":100}}"#;
const COPY: usize = 1;

/// What is sent to version 1, which responds well, while version 2 does this with its copies.
fn row<'r>(name: &'r str, speaks: Speaks, copies: Connections<'r>) -> Row<'r> {
    Row::new(name)
        .service(COPIED)
        .versions(&[("1", Http1), ("2", speaks)])
        .script(&[&[Take, OK, Take, OK, Take, OK]])
        .script_of(COPY, copies)
}

#[test]
fn safe_requests_are_copied_and_counted_apart() {
    for request in [GET, HEAD] {
        for speaks in [Http1, Http2] {
            row(request.method, speaks, &[&GOOD])
                .sends(&[request])
                .check("200; seen 1+1; of 1: 2xx 1; copies: 2xx 1; originals: 2xx 1");
        }
    }
}

#[test]
fn what_is_not_safe_or_has_a_body_or_requests_another_protocol_is_not_copied() {
    let upgrade = GET.fields(&[("connection", "upgrade"), ("upgrade", "websocket")]);
    let expects = GET.fields(&[("expect", "100-continue")]);
    let requests = [
        PUT,
        POST,
        DELETE,
        Request::with("OPTIONS", ""),
        Request::with("GET", "body"),
        Request::with("GET", "body").streaming(),
        upgrade,
        expects,
    ];
    for request in requests {
        row(request.method, Http1, &[&GOOD])
            .sends(&[request])
            .check("200; seen 1+0; of 1: 2xx 1; copies: ; originals: ");
    }
}

#[test]
fn whatever_becomes_of_a_copy_the_client_has_its_response() {
    for (breaks, counted) in [
        (&[Take, Close][..], "reset 1"),
        (&[Take, Reset], "reset 1"),
        (&[Take, BeginBody(100, "half"), Close], "body 1"),
        (&[Take, Stall], "timeout 1"),
        (&[Take, BeginBody(100, "half"), Stall], "body 1"),
        (&[Take, Respond(500, "no")], "5xx 1"),
        (&[Take, Say("nonsense\r\n\r\n")], "protocol 1"),
    ] {
        row(&format!("{breaks:?}"), Http1, &[breaks]).check(&format!(
            "200; seen 1+1; of 1: 2xx 1; copies: {counted}; originals: 2xx 1"
        ));
    }
    row("refused", Nothing, &[])
        .check("200; seen 1+0; of 1: 2xx 1; copies: connect 1; originals: 2xx 1");
}

#[test]
fn a_copy_that_breaks_on_a_kept_connection_is_counted_and_sent_again() {
    for speaks in [Http1, Http2] {
        for breaks in [Close, Reset] {
            let broken = [Take, OK, Take, breaks];
            row(&format!("{speaks:?} {broken:?}"), speaks, &[&broken, &GOOD])
                .sends(&[GET, GET])
                .check("200, 200; seen 3+2; of 1: 2xx 2; copies: 2xx 2, reset 1; originals: 2xx 2");
        }
        row(
            &format!("{speaks:?} that never responds"),
            speaks,
            &[&[Take, OK, Take, Close], &[Take, Close]],
        )
        .sends(&[GET, GET])
        .check("200, 200; seen 3+2; of 1: 2xx 2; copies: 2xx 1, reset 2; originals: 2xx 2");
    }
}

#[test]
fn a_copy_that_was_not_looked_at_is_sent_again_and_no_failure() {
    for (speaks, ends) in [(Http1, Close), (Http2, Close), (Http2, GoAway(true))] {
        row(
            &format!("{speaks:?} {ends:?}"),
            speaks,
            &[&[Take, OK, ends.clone()], &GOOD],
        )
        .sends(&[GET, GET])
        .check("200, 200; seen 2+2; of 1: 2xx 2; copies: 2xx 2; originals: 2xx 2");
    }
    row("went away", Http2, &[&[Take, GoAway(false), Close], &GOOD])
        .check("200; seen 2+1; of 1: 2xx 1; copies: 2xx 1; originals: 2xx 1");
    row("always goes away", Http2, &[&[Take, GoAway(false), Close]])
        .check("200; seen 3+1; of 1: 2xx 1; copies: reset 1; originals: 2xx 1");
}

#[test]
fn what_a_client_got_in_place_of_a_response_is_counted_of_the_original() {
    row("broken", Http1, &[&GOOD])
        .script(&[&[Take, Close]])
        .check("502 error=connection_terminated; seen 1+1; of 1: reset 1; copies: 2xx 1; originals: reset 1");
}

#[test]
fn copies_that_are_too_many_are_dropped() {
    let half = r#"{"name":"web","split":{"1":1,"2":0},"mirror":{"version":"2","percent":50}}"#;
    row("half of them", Http1, &[&[Take, OK, Take, OK]])
        .service(half)
        .sends(&[GET; 3])
        .check("200, 200, 200; seen 3+1; of 1: 2xx 3; copies: 2xx 1; originals: 2xx 1");
    let one = r#"{"name":"web","split":{"1":1,"2":0},"mirror":{"version":"2","percent":100,"max_in_flight":1}}"#;
    row("one at a time", Http1, &[&[Take, Stall]])
        .service(one)
        .sends(&[GET; 3])
        .check(
            "200, 200, 200; seen 3+1; of 1: 2xx 3; copies: timeout 1; originals: 2xx 1; dropped 2",
        );
}

#[test]
fn a_copy_that_a_drain_cuts_is_no_failure() {
    let line = run(async {
        let silent: &[Step] = &[Take, Stall];
        let script = Script::new(&[&GOOD], &[(COPY, &[silent])]);
        let rig = Rig::new("", COPIED, &[("1", Http1), ("2", Http1)], script).await;
        let (response, _) = rig.client(Http::One).await.send(&GET).await;
        let table = rig.table();
        let endpoint = &table.services()[0].versions[COPY].endpoints.list[0];
        rig.worker().upstream(endpoint).cut(Kind::Request);
        rig.settle().await;
        rig.outcome(vec![response], 2).line()
    });
    assert_eq!(
        line,
        "200; seen 1+1; of 1: 2xx 1; copies: ; originals: 2xx 1"
    );
}
