//! For what a service has its requests sent again, and how often.

use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::{GET, GOOD, Http, POST, PUT, Row};

use Speaks::{Http1, Http2, Nothing};
use Step::{Close, Reset, Respond, Stall, Take};

const SILENT: &[Step] = &[Take, Stall];
const BUSY: &[Step] = &[Take, Respond(503, "busy"), Stall];
const BAD: &[Step] = &[Take, Respond(502, "bad"), Stall];
const SECONDS: &str = "[timeouts]\nfirst_byte = \"5s\"";

const ALL: &str = r#"{"name":"web","retry":{"on":["connect","reset","timeout","502","503"]}}"#;

/// Four endpoints, on every wire: from the client, and to the endpoint.
#[track_caller]
fn check_each(name: &str, want: &str, row: impl Fn(Row<'_>) -> Row<'_>) {
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            let name = format!("{name} {client:?} {speaks:?}");
            row(Row::new(&name).client(client).endpoints(4, speaks)).check(want);
        }
    }
}

#[test]
fn a_response_timeout_is_the_end_of_a_request() {
    let late = "504 error=http_response_timeout; seen 1+0+0+0; timeout 1";
    for request in [GET, PUT, POST] {
        check_each(request.method, late, |row| {
            row.config(SECONDS).sends(&[request]).script(&[SILENT])
        });
    }
}

#[test]
fn a_response_timeout_is_tried_elsewhere_where_the_service_says_so() {
    check_each("all", "200; seen 1+1+0+0; 2xx 1, timeout 1", |row| {
        row.config(SECONDS).service(ALL).script(&[SILENT, &GOOD])
    });
    let late = "504 error=http_response_timeout; seen 1+1+1+0; timeout 3";
    check_each("three", late, |row| {
        row.config(SECONDS).service(ALL).script(&[SILENT])
    });
    let once = "504 error=http_response_timeout; seen 1+0+0+0; timeout 1";
    check_each("POST", once, |row| {
        let row = row.config(SECONDS).service(ALL);
        row.sends(&[POST]).script(&[SILENT])
    });
}

#[test]
fn a_response_that_the_service_does_not_want_is_tried_elsewhere() {
    for bad in [BUSY, BAD] {
        check_each("one of them", "200; seen 1+1+0+0; 2xx 1, 5xx 1", |row| {
            row.service(ALL).script(&[bad, &GOOD])
        });
        check_each("PUT", "200; seen 1+1+0+0; 2xx 1, 5xx 1", |row| {
            row.service(ALL).sends(&[PUT]).script(&[bad, &GOOD])
        });
    }
    check_each("POST", "503; seen 1+0+0+0; 5xx 1", |row| {
        row.service(ALL).sends(&[POST]).script(&[BUSY, &GOOD])
    });
    check_each("all of them", "503; seen 1+1+1+0; 5xx 3", |row| {
        row.service(ALL).script(&[BUSY])
    });
    check_each("not asked for", "503; seen 1+0+0+0; 5xx 1", |row| {
        row.script(&[BUSY, &GOOD])
    });
    let other: &[Step] = &[Take, Respond(500, "no"), Stall];
    check_each("another status", "500; seen 1+0+0+0; 5xx 1", |row| {
        row.service(ALL).script(&[other, &GOOD])
    });
    check_each("no budget", "503; seen 1+0+0+0; 5xx 1", |row| {
        row.service(ALL).script(&[BUSY, &GOOD]).without_retries()
    });
}

#[test]
fn a_response_is_passed_on_where_no_other_endpoint_can_be_claimed() {
    for speaks in [Http1, Http2] {
        let row = Row::new("one endpoint").endpoints(1, speaks).service(ALL);
        let row = row.sends(&[PUT]).script(&[BUSY]);
        let (line, outcome) = row.outcome();
        assert_eq!(line, "503; seen 1; 5xx 1");
        assert_eq!(outcome.responses[0].body.data, b"busy");
    }
}

#[test]
fn a_request_has_so_many_attempts_as_its_service_says() {
    for (attempts, seen) in [
        (1, "1+0+0+0; 5xx 1"),
        (2, "1+1+0+0; 5xx 2"),
        (4, "1+1+1+1; 5xx 4"),
        (5, "1+1+1+1; 5xx 4"),
    ] {
        let service = format!(r#"{{"name":"web","retry":{{"on":["503"],"attempts":{attempts}}}}}"#);
        let service: &'static str = service.leak();
        check_each(service, &format!("503; seen {seen}"), |row| {
            row.service(service).script(&[BUSY])
        });
    }
    let never = r#"{"name":"web","retry":{"on":[]}}"#;
    Row::new("no connection")
        .endpoints(2, Nothing)
        .service(never)
        .check("502 error=connection_refused; seen 0+0; connect 1");
    let broken = "502 error=connection_terminated; seen 1+0+0+0; reset 1";
    check_each("no reset", broken, |row| {
        row.service(never).script(&[&[Take, Close], &GOOD])
    });
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request_whatever_the_policy() {
    let never = r#"{"name":"web","retry":{"on":[],"attempts":1}}"#;
    for speaks in [Http1, Http2] {
        for request in [GET, PUT, POST] {
            Row::new(&format!("{} {speaks:?}", request.method))
                .endpoints(1, speaks)
                .service(never)
                .sends(&[GET, request])
                .script(&[&[Take, Respond(200, "ok"), Close], &GOOD])
                .check("200, 200; seen 2; 2xx 2");
        }
    }
}

#[test]
fn a_request_that_kills_takes_two_endpoints_at_most() {
    let five = r#"{"name":"web","retry":{"attempts":5}}"#;
    let dead = "502 error=connection_terminated; seen 1+1+0+0; reset 2";
    for service in [ALL, five] {
        for death in [&[Take, Close], &[Take, Reset]] {
            for request in [GET, PUT] {
                check_each(&format!("{} {death:?}", request.method), dead, |row| {
                    row.service(service).sends(&[request]).script(&[death])
                });
            }
        }
    }
}

/// It cannot be known whether an endpoint dies of a request on a kept connection, or had closed
/// that before.
#[test]
fn a_request_that_kills_on_kept_connections_takes_two_endpoints_at_most() {
    let dies: &[Step] = &[Take, Respond(200, "ok"), Take, Close];
    for death in [Close, Reset] {
        let script: &[Step] = &[Take, Respond(200, "ok"), Take, death.clone()];
        let row = Row::new("kept by each").endpoints(4, Http1);
        let row = row.sends(&[GET; 5]);
        let (line, outcome) = row
            .script(&[script, script, script, script, &dies[2..]])
            .outcome();
        let last = outcome.responses.last().unwrap();
        assert_eq!(last.status, 502, "{line}");
        // One request each, then the last one on two of them.
        assert_eq!(outcome.seen, [2, 2, 1, 1], "{line}");
    }
}

#[test]
fn an_endpoint_that_refuses_after_one_that_may_have_died_has_another_after_it() {
    Row::new("the second one refuses, the third one is well")
        .versions(&[("1", Nothing), ("1", Http1), ("1", Http1)])
        .sends(&[GET; 3])
        .script(&[&[Take, Close], &GOOD])
        .outcome()
        .1
        .responses
        .iter()
        .for_each(|response| assert_eq!(response.status, 200));
}
