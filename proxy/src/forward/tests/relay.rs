//! How a response and its request are passed on.

use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::{GOOD, GRPC, Http, POST, Row};

use Speaks::{Http1, Http2};
use Step::{RespondWithTrailers, Take};

#[test]
fn trailers_go_with_the_body_over_every_wire() {
    let script: &[Step] = &[
        Take,
        RespondWithTrailers(200, "reply", ("grpc-status", "0")),
    ];
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            let name = format!("{client:?} to {speaks:?}");
            let row = Row::new(&name).client(client).endpoints(1, speaks);
            let (line, outcome) = row.sends(&[GRPC]).script(&[script]).outcome();
            assert_eq!(line, "200; seen 1; 2xx 1", "{name}");
            let body = &outcome.responses[0].body;
            assert_eq!(body.data, b"reply", "{name}");
            assert_eq!(body.trailers, "grpc-status: 0\r\n", "{name}");
            assert_eq!(outcome.requests[0].body.data, b"order", "{name}");
        }
    }
}

#[test]
fn an_endpoint_sees_where_a_request_came_from() {
    let (line, outcome) = Row::new("a POST").sends(&[POST]).script(&[&GOOD]).outcome();
    assert_eq!(line, "200; seen 1; 2xx 1");
    let head = &outcome.requests[0].head;
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    for line in [
        "host: a",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
}
