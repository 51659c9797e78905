//! What a service has of its own holds for its requests, in place of what is everyone's.

use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::{GOOD, Http, POST, Row};

use Step::{BeginBody, Stall, Take};

/// Longer than any test may take.
const GLOBAL: &str = "[timeouts]\nfirst_byte = \"48h\"\nbody_idle = \"48h\"";

/// On every wire: from the client, and to the endpoint.
fn rows(service: &'static str, says: impl Fn(Row<'static>, Http)) {
    for client in [Http::One, Http::Two] {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let row = Row::new(service).client(client).endpoints(1, speaks);
            says(row.service(service), client);
        }
    }
}

#[test]
fn a_response_has_the_time_of_its_service() {
    let silent: &[Step] = &[Take, Stall];
    let late = "504 error=http_response_timeout; seen 1; timeout 1";
    let own = r#"{"name":"web","timeouts":{"first_byte":"5s"}}"#;
    rows(own, |row, _| {
        let row = row.sends(&[POST]).script(&[silent]);
        row.config(GLOBAL).check(late);
    });
    let whole = r#"{"name":"web","timeouts":{"request":"5s"}}"#;
    rows(whole, |row, _| {
        row.script(&[silent])
            .config(GLOBAL)
            .check("504 error=http_response_timeout; details=\"request\"; seen 1; timeout 1");
    });
}

#[test]
fn a_body_may_stand_still_as_long_as_its_service_says() {
    let half: &[Step] = &[Take, BeginBody(100, "half"), Stall];
    let own = r#"{"name":"web","timeouts":{"body_idle":"5s"}}"#;
    rows(own, |row, client| {
        let cut = match client {
            Http::One => "200 cut; seen 1; body 1",
            Http::Two => "200 INTERNAL_ERROR; seen 1; body 1",
        };
        row.script(&[half]).config(GLOBAL).check(cut);
    });
}

#[test]
fn endpoints_see_the_proxy_on_the_way_unless_their_service_says_otherwise() {
    const VIA: Request = Request::with("GET", "").fields(&[("via", "1.1 edge")]);
    for (service, want) in [
        (r#"{"name":"web"}"#, 2),
        (r#"{"name":"web","via":true}"#, 2),
        (r#"{"name":"web","via":false}"#, 1),
    ] {
        for client in [Http::One, Http::Two] {
            let row = Row::new(service).client(client).service(service);
            let (line, outcome) = row.sends(&[VIA]).outcome();
            assert_eq!(line, "200; seen 1; 2xx 1", "{service}");
            let head = &outcome.requests[0].head;
            let vias = head.matches("\r\nvia: ").count();
            assert_eq!(vias, want, "{service} {client:?}: {head}");
            let response = &outcome.responses[0].head;
            assert!(response.contains("via: 1.1 crossfade"), "{response}");
        }
    }
}

#[test]
fn a_body_may_be_as_long_as_its_service_says() {
    const LONG: Request = Request::with("POST", "more than ten bytes");
    let short = r#"{"name":"web","limits":{"body":"10B"}}"#;
    rows(short, |row, _| {
        let row = row.sends(&[LONG]);
        row.check("413 error=http_request_error; seen 0; nothing counted");
    });
    rows(short, |row, _| {
        let (line, outcome) = row.sends(&[LONG.streaming()]).outcome();
        assert_eq!(outcome.responses[0].status, 413, "{line}");
    });
    let long = r#"{"name":"web","limits":{"body":"1KiB"}}"#;
    for request in [LONG, LONG.streaming()] {
        rows(long, |row, _| {
            let row = row.sends(&[request]).script(&[&GOOD]);
            row.config("[limits]\nbody = \"10B\"")
                .check("200; seen 1; 2xx 1");
        });
    }
}
