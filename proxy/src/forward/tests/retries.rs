//! When a request is sent again, and when it must not be.

use std::time::Duration;

use admin_api::VersionStats;

use crate::testing::hot_path::client::{self, Request};
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::{DELETE, GET, GOOD, GRPC, HEAD, Http, POST, PUT, Row};

use Speaks::{Http1, Http2, Nothing, Silence};
use Step::{
    BeginBody, BeginHead, Close, GoAway, Reset, ResetStream, Respond, Say, Stall, Take, TakeHead,
    Wait,
};

/// The stream was not looked at (RFC 9113, 8.7).
const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;

const OK: Step = Respond(200, "ok");
/// Reads a request whole, and closes the connection.
const BREAKS: &[Step] = &[Take, Close];
const IDEMPOTENT: [Request; 6] = [
    GET,
    HEAD,
    PUT,
    DELETE,
    Request::with("OPTIONS", ""),
    Request::with("TRACE", ""),
];
const NOT_IDEMPOTENT: [Request; 4] = [
    POST,
    GRPC,
    Request::with("PATCH", "order"),
    Request::with("MKCOL", ""),
];

#[test]
fn an_idempotent_request_that_broke_is_sent_to_another_endpoint() {
    for request in IDEMPOTENT {
        for break_off in [Close, Reset] {
            for speak in [Http1, Http2] {
                Row::new(&format!("{} {break_off:?} {speak:?}", request.method))
                    .service(r#"{"name":"web","allow_trace":true}"#)
                    .endpoints(2, speak)
                    .sends(&[request])
                    .script(&[&[Take, break_off.clone()], &GOOD])
                    .check("200; seen 1+1; 2xx 1, reset 1");
            }
        }
    }
}

#[test]
fn a_request_that_is_not_idempotent_is_never_sent_twice() {
    for request in NOT_IDEMPOTENT {
        for break_off in [Close, Reset] {
            for speak in [Http1, Http2] {
                Row::new(&format!("{} {break_off:?} {speak:?}", request.method))
                    .endpoints(2, speak)
                    .sends(&[request])
                    .script(&[&[Take, break_off.clone()], &GOOD])
                    .check("502 error=connection_terminated; seen 1+0; reset 1");
            }
        }
    }
}

#[test]
fn connections_are_tried_to_three_endpoints_at_most() {
    for (endpoints, seen, attempts) in [(2, "0+0", 2), (3, "0+0+0", 3), (4, "0+0+0+0", 3)] {
        Row::new(&format!("{endpoints} endpoints"))
            .endpoints(endpoints, Nothing)
            .check(&format!(
                "502 error=connection_refused; seen {seen}; connect {attempts}"
            ));
    }
}

#[test]
fn an_endpoint_that_failed_a_request_does_not_get_it_again() {
    Row::new("there is no other one")
        .script(&[BREAKS, &GOOD])
        .check("502 error=connection_terminated; seen 1; reset 1");
    Row::new("the other one is of another version")
        .service(r#"{"name":"web","split":{"1":1,"2":1},"balance":"least_in_flight"}"#)
        .versions(&[("1", Http1), ("2", Http1)])
        .script(&[BREAKS])
        .check("502 error=connection_terminated; seen 1+1; of 1: reset 1; of 2: reset 1");
}

#[test]
fn for_a_verdict_a_request_counts_once_whatever_its_attempts() {
    let judged = |row: Row<'_>| {
        let (_, outcome) = row.outcome();
        let sum = |of: fn(&VersionStats) -> u64| -> u64 {
            outcome.stats.iter().map(|(_, stats)| of(stats)).sum()
        };
        (
            (sum(VersionStats::attempts), sum(VersionStats::failures)),
            (
                sum(VersionStats::requests),
                sum(VersionStats::failed_requests),
            ),
        )
    };
    let fails = Row::new("at three endpoints").endpoints(3, Nothing);
    assert_eq!(judged(fails), ((3, 3), (1, 1)));
    let saved = Row::new("a retry saves it").endpoints(2, Http1);
    assert_eq!(judged(saved.script(&[BREAKS, &GOOD])), ((2, 1), (1, 1)));
    let both = Row::new("at both versions")
        .service(r#"{"name":"web","split":{"1":1,"2":1},"balance":"least_in_flight"}"#)
        .versions(&[("1", Http1), ("2", Http1)]);
    assert_eq!(judged(both.script(&[BREAKS])), ((2, 2), (1, 1)));
}

#[test]
fn retries_end_with_their_budget() {
    Row::new("nothing is left of it")
        .endpoints(2, Http1)
        .script(&[BREAKS, &GOOD])
        .without_retries()
        .check("502 error=connection_terminated; seen 1+0; reset 1");
    // Each request adds half a retry.
    Row::new("every second one is sent again")
        .endpoints(2, Http1)
        .sends(&[GET; 4])
        .script(&[BREAKS])
        .without_retries()
        .check(
            "502 error=connection_terminated, 502 error=connection_terminated, \
             502 error=connection_terminated, 502 error=connection_terminated; seen 3+3; reset 6",
        );
}

#[test]
fn nothing_was_sent_to_an_endpoint_that_refuses_connections() {
    for request in [GET, POST, GRPC] {
        Row::new(request.method)
            .endpoints(2, Nothing)
            .sends(&[request])
            .check("502 error=connection_refused; seen 0+0; connect 2");
    }
    let (_, outcome) = Row::new("one of two")
        .versions(&[("1", Nothing), ("1", Http1)])
        .sends(&[POST; 4])
        .outcome();
    let statuses = outcome.responses.iter().map(|response| response.status);
    assert_eq!(statuses.collect::<Vec<_>>(), [200; 4]);
    assert_eq!(outcome.seen, [4, 0]);
    assert!(outcome.failures() > 0, "{outcome:?}");
}

#[test]
fn a_connection_that_is_not_made_in_time_is_tried_elsewhere() {
    Row::new("no host is there")
        .endpoints(2, Silence)
        .sends(&[POST])
        .check("504 error=connection_timeout; seen 0+0; connect 2");
}

#[test]
fn a_request_that_was_sent_in_part_is_repeated_only_while_all_of_it_is_here() {
    let client = |name| {
        Row::new(name)
            .endpoints(2, Http1)
            .script(&[&[TakeHead, Reset], &GOOD])
    };
    client("a PUT whose body came along with its head")
        .sends(&[PUT])
        .check("200; seen 1+1; 2xx 1, reset 1");
    client("a POST of which a part was read")
        .sends(&[POST])
        .check("502 error=connection_terminated; seen 1+0; reset 1");
}

#[test]
fn a_response_that_has_begun_is_never_replaced() {
    for request in [GET, POST] {
        for break_off in [Close, Reset] {
            Row::new(&format!("{} {break_off:?}", request.method))
                .endpoints(2, Http1)
                .sends(&[request])
                .script(&[&[Take, BeginBody(100, "half"), break_off.clone()], &GOOD])
                .check("200 cut; seen 1+0; body 1");
        }
    }
    Row::new("in its head")
        .endpoints(2, Http1)
        .script(&[&[Take, BeginHead, Close], &GOOD])
        .check("200; seen 1+1; 2xx 1, reset 1");
}

#[test]
fn what_is_not_http_is_tried_elsewhere_where_that_is_safe() {
    let garbage: &[Step] = &[Take, Say("220 smtp.example.com ESMTP\r\n\r\n"), Stall];
    let row = |name| Row::new(name).endpoints(2, Http1).script(&[garbage, &GOOD]);
    row("GET").check("200; seen 1+1; 2xx 1, protocol 1");
    row("POST")
        .sends(&[POST])
        .check("502 error=http_protocol_error; seen 1+0; protocol 1");
}

#[test]
fn an_endpoint_that_is_silent_is_given_up_after_its_time() {
    let silent: &[Step] = &[Take, Stall];
    let row = |name| {
        Row::new(name)
            .endpoints(2, Http1)
            .script(&[silent, &GOOD])
            .config("[timeouts]\nfirst_byte = \"5s\"")
    };
    row("GET").check("504 error=http_response_timeout; seen 1+0; timeout 1");
    row("POST")
        .sends(&[POST])
        .check("504 error=http_response_timeout; seen 1+0; timeout 1");
    let slow: &[Step] = &[Take, Wait(Duration::from_secs(4)), OK];
    row("a POST to one that is not quite so slow")
        .sends(&[POST])
        .script(&[slow])
        .check("200; seen 1+0; 2xx 1");
    row("the time of the whole request is over, too")
        .config("[timeouts]\nfirst_byte = \"5s\"\nrequest = \"4s\"")
        .check("504 error=http_response_timeout; details=\"request\"; seen 1+0; timeout 1");
}

#[test]
fn a_kept_connection_that_was_closed_costs_no_request() {
    for speak in [Http1, Http2] {
        for request in [GET, PUT, POST, GRPC] {
            Row::new(&format!("{} {speak:?}", request.method))
                .endpoints(1, speak)
                .sends(&[GET, request])
                .script(&[&[Take, OK, Close], &GOOD])
                .check("200, 200; seen 2; 2xx 2");
        }
    }
}

#[test]
fn a_request_that_broke_on_a_kept_connection_goes_to_the_same_endpoint_where_it_is_the_only_one() {
    for request in [GET, PUT, DELETE] {
        for break_off in [Close, Reset] {
            let name = format!("{} {break_off:?}", request.method);
            let (_, outcome) = Row::new(&name)
                .sends(&[GET, request])
                .script(&[&[Take, OK, Take, break_off.clone()], &GOOD])
                .outcome();
            let statuses = outcome.responses.iter().map(|response| response.status);
            assert_eq!(statuses.collect::<Vec<_>>(), [200, 200], "{name}");
            assert_eq!(outcome.seen, [3], "{name}");
            assert_eq!(outcome.connections, 2, "{name}");
        }
    }
}

/// Over which connections of its endpoint the requests of a row go that all get a 200.
#[track_caller]
fn connections(row: Row<'_>) -> Vec<usize> {
    let (line, outcome) = row.script(&[&[Take, OK, Take, OK], &GOOD]).outcome();
    let statuses = outcome.responses.iter().map(|response| response.status);
    assert_eq!(statuses.collect::<Vec<_>>(), [200, 200], "{line}");
    let requests = outcome.requests.iter();
    requests.map(|seen| seen.connection).collect()
}

#[test]
fn a_request_that_is_not_idempotent_uses_a_kept_connection_only_within_a_second() {
    let connections = |requests: &[Request], rests| {
        connections(Row::new("two requests").sends(requests).rests(rests))
    };
    let (at_once, later) = (Duration::ZERO, Duration::from_secs(2));
    assert_eq!(connections(&[GET, POST], at_once), [0, 0]);
    assert_eq!(connections(&[GET, POST], later), [0, 1]);
    assert_eq!(connections(&[GET, GRPC], later), [0, 1]);
    assert_eq!(connections(&[GET, PUT], later), [0, 0]);
}

#[test]
fn so_does_one_whose_body_is_not_here_yet_whatever_its_method() {
    const FIRST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let later = Duration::from_secs(2);
    for (rest, want) in [(later, [0, 1]), (Duration::ZERO, [0, 0])] {
        for beginning in [
            "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n12",
            "DELETE / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n",
        ] {
            let says = [
                client::Say::Bytes(FIRST),
                client::Say::Read,
                client::Say::Wait(rest),
                client::Say::Bytes(beginning),
                client::Say::Wait(Duration::from_millis(100)),
                client::Say::Bytes("34"),
                client::Say::Read,
            ];
            let row = Row::new("in two pieces").says(&says);
            assert_eq!(connections(row), want, "after {rest:?}: {beginning}");
        }
        for (method, request) in [("PUT", PUT), ("DELETE", Request::with("DELETE", "order"))] {
            let row = Row::new("over HTTP/2").client(Http::Two).rests(rest);
            assert_eq!(connections(row.sends(&[GET, request])), want, "{method}");
        }
        let row = Row::new("no body").client(Http::Two).rests(rest);
        assert_eq!(connections(row.sends(&[GET, DELETE])), [0, 0]);
    }
}

#[test]
fn a_stream_that_was_not_looked_at_is_sent_again_whatever_its_method() {
    let refused: &[Step] = &[Take, ResetStream(REFUSED_STREAM), Stall];
    let went_away: &[Step] = &[Take, GoAway(false), Close];
    for request in [GET, POST, GRPC] {
        for client in [Http::One, Http::Two] {
            for (script, want) in [
                (refused, "200; seen 1+1; 2xx 1, reset 1"),
                (went_away, "200; seen 1+1; 2xx 1"),
            ] {
                Row::new(&format!("{} {client:?} {script:?}", request.method))
                    .client(client)
                    .endpoints(2, Http2)
                    .sends(&[request])
                    .script(&[script, &GOOD])
                    .check(want);
            }
        }
    }
}

#[test]
fn a_stream_that_was_looked_at_is_sent_again_only_if_it_is_idempotent() {
    for break_off in [ResetStream(INTERNAL_ERROR), GoAway(true)] {
        let script: &[Step] = &[Take, break_off.clone(), Close];
        for (request, want) in [
            (GET, "200; seen 1+1; 2xx 1, reset 1"),
            (POST, "502 error=connection_terminated; seen 1+0; reset 1"),
            (GRPC, "502 error=connection_terminated; seen 1+0; reset 1"),
        ] {
            Row::new(&format!("{} {break_off:?}", request.method))
                .client(Http::Two)
                .endpoints(2, Http2)
                .sends(&[request])
                .script(&[script, &GOOD])
                .check(want);
        }
    }
}
