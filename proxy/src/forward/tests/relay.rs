//! How a request and its response are passed on.

use std::time::Duration;

use crate::testing::hot_path::client::{End, Say};
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::message::field;
use crate::testing::hot_path::{GET, GOOD, GRPC, HEAD, Http, Outcome, POST, Row, SERVICE};

use Speaks::{Http1, Http2};
use Step::{
    BeginBody, Close, RefuseWithMany, Reset, Respond, RespondMany, RespondWithTrailers, Stall,
    Take, TakeHead,
};

const OK: Step = Respond(200, "ok");
const CHUNKS: Step = Step::Say(
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;ext=1\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
);
const NO_LENGTH: Step = Step::Say("HTTP/1.1 200 OK\r\n\r\nabcde");
/// So that what came before is passed on.
const SHORTLY: Step = Step::Wait(Duration::from_millis(5));
const MEGABYTE: usize = 1 << 20;
const READ_AHEAD: &str = r#"{"name":"web","buffer":{"response":"1MiB"}}"#;

/// What the client got of one response.
fn only(outcome: &Outcome) -> (&str, &[u8]) {
    let [response] = &outcome.responses[..] else {
        panic!("one response: {outcome:?}");
    };
    (&response.head, &response.body.data)
}

#[test]
fn a_body_comes_as_it_was_sent_however_it_is_framed() {
    for client in [Http::One, Http::Two] {
        for (response, framing) in [
            (Respond(200, "abcde"), ("content-length", "5")),
            (CHUNKS, ("transfer-encoding", "chunked")),
            (NO_LENGTH, ("transfer-encoding", "chunked")),
        ] {
            let name = format!("{client:?} {response:?}");
            let row = Row::new(&name).client(client);
            let (line, outcome) = row.script(&[&[Take, response, Close]]).outcome();
            assert_eq!(line, "200; seen 1; 2xx 1", "{name}");
            let (head, body) = only(&outcome);
            assert_eq!(body, b"abcde", "{name}");
            if client == Http::One || framing.0 == "content-length" {
                assert_eq!(field(head, framing.0), Some(framing.1), "{name}: {head}");
            }
        }
    }
}

/// As Python's `CGIHTTPRequestHandler`, busybox and others pass it on.
#[test]
fn a_response_whose_lines_end_with_a_bare_lf_is_passed_on_with_crlf() {
    const CGI: &str = "HTTP/1.0 200 OK\nServer: cgi\nContent-Type: text/plain\n\nab\ncd\n";
    const KEPT: &str = "HTTP/1.1 200 OK\r\nServer: cgi\nContent-Length: 6\n\r\nab\ncd\n";
    for client in [Http::One, Http::Two] {
        for response in [CGI, KEPT] {
            let row = Row::new(response).client(client);
            let script: &[Step] = &[Take, Step::Say(response), Close];
            let (line, outcome) = row.script(&[script]).outcome();
            assert_eq!(line, "200; seen 1; 2xx 1", "{client:?}");
            let (head, body) = only(&outcome);
            assert_eq!(body, b"ab\ncd\n", "{client:?} {response}");
            assert_eq!(field(head, "server"), Some("cgi"), "{head}");
            assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
        }
    }
}

#[test]
fn a_large_body_goes_both_ways() {
    let upload = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1048576\r\n\r\n";
    let (line, outcome) = Row::new("a megabyte")
        .says(&[Say::Bytes(upload), Say::Many(MEGABYTE)])
        .script(&[&[Take, RespondMany(MEGABYTE)]])
        .outcome();
    assert_eq!(line, "200, kept; seen 1; 2xx 1");
    assert_eq!(only(&outcome).1.len(), MEGABYTE);
    assert_eq!(outcome.requests[0].body.data.len(), MEGABYTE);
}

#[test]
fn a_response_without_a_body_ends_with_its_head() {
    let not_modified = Step::Say("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n");
    let no_content = Step::Say("HTTP/1.1 204 No Content\r\n\r\n");
    let of_head = Step::Say("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
    for client in [Http::One, Http::Two] {
        for (request, response, status, length) in [
            (HEAD, of_head.clone(), 200, Some("7")),
            (GET, no_content.clone(), 204, None),
            (GET, not_modified.clone(), 304, Some("7")),
            (GET, Respond(200, ""), 200, Some("0")),
        ] {
            let name = format!("{client:?} {response:?}");
            // The connection is kept, so both know where the response ends.
            let script = [Take, response.clone(), Take, response];
            let row = Row::new(&name).client(client).sends(&[request; 2]);
            let (_, outcome) = row.script(&[&script]).outcome();
            for response in &outcome.responses {
                assert_eq!(response.status, status, "{name}");
                assert_eq!(field(&response.head, "content-length"), length, "{name}");
                assert_eq!(response.body.data, b"", "{name}");
                assert!(response.body.is_whole, "{name}");
            }
            assert_eq!(outcome.connections, 1, "{name}");
            assert_eq!((outcome.failures(), outcome.in_flight), (0, 0), "{name}");
        }
    }
}

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

#[test]
fn a_response_that_breaks_in_the_middle_is_cut_for_the_client_and_counted() {
    let chunk = Step::Say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc");
    let wrong = Step::Say("de\r\nnonsense\r\n");
    for (client, cut) in [(Http::One, "200 cut"), (Http::Two, "200 INTERNAL_ERROR")] {
        for script in [
            &[Take, BeginBody(100, "half"), SHORTLY, Close][..],
            &[Take, chunk.clone(), SHORTLY, Close],
            &[Take, chunk.clone(), SHORTLY, Reset],
            &[Take, NO_LENGTH, SHORTLY, Reset],
            &[Take, chunk.clone(), SHORTLY, wrong.clone(), Stall],
            &[Take, BeginBody(100, "half"), Stall],
        ] {
            Row::new(&format!("{client:?} {script:?}"))
                .client(client)
                .script(&[script])
                .check(&format!("{cut}; seen 1; body 1"));
        }
    }
}

#[test]
fn a_client_that_knows_no_chunks_learns_of_a_cut_by_a_reset() {
    let old = [Say::Bytes("GET / HTTP/1.0\r\nhost: a\r\n\r\n")];
    let chunk = Step::Say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc");
    Row::new("whole")
        .says(&old)
        .script(&[&[Take, CHUNKS, Close]])
        .check("200, closed; seen 1; 2xx 1");
    Row::new("cut")
        .says(&old)
        .script(&[&[Take, chunk, Close]])
        .check("200 cut, reset; seen 1; body 1");
}

#[test]
fn a_connection_is_used_again_only_after_a_response_that_ended_as_it_should() {
    let closes = Step::Say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
    let old = Step::Say("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let more = Step::Say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n");
    for (first, connections) in [(OK, 1), (CHUNKS, 1), (closes, 2), (old, 2), (more, 2)] {
        let name = format!("{first:?}");
        let row = Row::new(&name).sends(&[GET; 2]);
        let (line, outcome) = row.script(&[&[Take, first, Take, OK], &GOOD]).outcome();
        assert_eq!(line, "200, 200; seen 2; 2xx 2", "{name}");
        assert_eq!(outcome.connections, connections, "{name}");
    }
}

#[test]
fn interim_responses_get_to_clients_that_know_them() {
    let early = Step::Say("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    let go_on = Step::Say("HTTP/1.1 100 Continue\r\n\r\n");
    let script: &[Step] = &[Take, go_on, early.clone(), OK];
    let get = |version| match version {
        0 => Say::Bytes("GET / HTTP/1.0\r\nhost: a\r\n\r\n"),
        _ => Say::Bytes("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    };
    Row::new("HTTP/1.1")
        .says(&[get(1)])
        .script(&[script])
        .check("103, 200, kept; seen 1; 2xx 1");
    Row::new("HTTP/1.0")
        .says(&[get(0)])
        .script(&[script])
        .check("200, closed; seen 1; 2xx 1");
    let many = vec![early; 40];
    let (line, outcome) = Row::new("many")
        .says(&[get(1)])
        .script(&[&[&[Take][..], &many, &[OK]].concat()])
        .outcome();
    assert_eq!(outcome.responses.len(), 41, "{line}");
    assert!(line.ends_with("103, 200, kept; seen 1; 2xx 1"), "{line}");
}

#[test]
fn interim_responses_have_an_end() {
    let large = format!(
        "HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n",
        "a".repeat(64 * 1024)
    );
    let large = vec![Step::Say(large.leak()); 5];
    let late = Step::Say("HTTP/1.1 102 Processing\r\n\r\n");
    let late = vec![[late, Step::Wait(Duration::from_secs(50))]; 100].concat();
    for (name, endless) in [("by their bytes", large), ("by their time", late)] {
        let row = Row::new(name).says(&[Say::Bytes("GET / HTTP/1.1\r\nhost: a\r\n\r\n")]);
        let script = [&[Take][..], &endless, &[Stall]].concat();
        let (line, outcome) = row.script(&[&script]).outcome();
        let last = outcome.responses.last().unwrap();
        assert_eq!(
            last.error(),
            Some("error=http_protocol_error"),
            "{name}: {line}"
        );
        assert_eq!(last.status, 502, "{name}: {line}");
    }
}

#[test]
fn a_status_without_a_meaning_is_passed_on() {
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            for status in [299, 499, 599, 600, 799, 999] {
                let name = format!("{client:?} to {speaks:?}");
                let row = Row::new(&name).client(client).endpoints(1, speaks);
                let (line, _) = row.script(&[&[Take, Respond(status, "ok")]]).outcome();
                assert!(
                    line.starts_with(&format!("{status}; seen 1")),
                    "{name}: {line}"
                );
            }
        }
    }
}

#[test]
fn a_response_may_come_before_the_request_was_read() {
    let begins = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly this";
    let early: &[Step] = &[TakeHead, Respond(413, "no"), Stall];
    Row::new("and the client goes on")
        .says(&[Say::Bytes(begins), Say::Read, Say::Many(91)])
        .script(&[early])
        .check("413, closed; seen 1; 4xx 1");
}

#[test]
fn a_client_that_sends_first_and_reads_later_gets_its_early_response() {
    let begins = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 16777216\r\n\r\n";
    let says = [Say::Bytes(begins), Say::Many(16 * MEGABYTE)];
    let row = |name| Row::new(name).says(&says);
    for (name, ends) in [("the endpoint stays", Stall), ("it closes", Close)] {
        let early: &[Step] = &[TakeHead, Respond(413, "no"), ends];
        row(name)
            .script(&[early])
            .check("413, closed; seen 1; 4xx 1");
    }
    // More than what the system's buffers hold on the way: while it is sent, each side waits for
    // another, unless the proxy takes the rest of the request.
    let large = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 33554432\r\n\r\n";
    let says = [Say::Bytes(large), Say::Many(32 * MEGABYTE)];
    for (name, service) in [
        ("a large response", SERVICE),
        ("one that is read ahead", READ_AHEAD),
    ] {
        let early: &[Step] = &[TakeHead, RefuseWithMany(16 * MEGABYTE), Stall];
        let row = Row::new(name).service(service).says(&says);
        let (line, outcome) = row.script(&[early]).outcome();
        assert_eq!(line, "413, closed; seen 1; 4xx 1", "{name}");
        assert_eq!(only(&outcome).1.len(), 16 * MEGABYTE, "{name}");
    }
    row("the proxy itself refuses it")
        .config("[limits]\nbody = \"1MiB\"")
        .check("413 error=http_request_error, closed; seen 0; nothing counted");
}

#[test]
fn a_side_that_stands_still_ends_the_exchange() {
    let begins = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly this";
    Row::new("the client, before there is a response")
        .says(&[Say::Bytes(begins)])
        .script(&[&[Take]])
        .check("408 error=http_request_error, closed; seen 1; client gone 1");
    Row::new("the client, while there is one")
        .says(&[Say::Bytes(begins)])
        .script(&[&[TakeHead, BeginBody(100, "half"), Stall]])
        .check("200 cut, closed; seen 1; client gone 1");
    Row::new("the endpoint")
        .config("[timeouts]\nbody_idle = \"5s\"")
        .script(&[&[
            Take,
            BeginBody(100, "half"),
            Step::Wait(Duration::from_secs(9)),
            Stall,
        ]])
        .check("200 cut; seen 1; body 1");
}

#[test]
fn a_client_that_leaves_is_no_failure_of_the_version() {
    let get = Say::Bytes("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let wait = Say::Wait(Duration::from_secs(1));
    Row::new("before there is a response")
        .says(&[get.clone(), wait.clone(), Say::Reset])
        .script(&[&[Take, Stall]])
        .check("left; seen 1; client gone 1");
    Row::new("in the middle of it")
        .says(&[get, wait, Say::Reset])
        .script(&[&[
            Take,
            BeginBody(MEGABYTE, "half"),
            Step::Wait(Duration::from_secs(2)),
            Step::Say("more"),
            Stall,
        ]])
        .check("left; seen 1; client gone 1");
}

#[test]
fn another_protocol_goes_both_ways_until_one_side_ends() {
    let sends = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let switches = Step::Say(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    );
    let (line, outcome) = Row::new("accepted")
        .says(&[
            Say::Bytes(sends),
            Say::Read,
            Say::Bytes("GET / HTTP/1.1\r\n\r\n"),
            Say::End,
        ])
        .script(&[&[Take, switches.clone(), Take, OK, Close]])
        .outcome();
    assert_eq!(outcome.end, Some(End::Closed), "{line}");
    assert_eq!(line, "101, 200, closed; seen 2; 1xx 1");
    assert_eq!(
        outcome.requests[1].head, "GET / HTTP/1.1\r\n\r\n",
        "as it was sent"
    );
    Row::new("declined")
        .says(&[Say::Bytes(sends)])
        .check("200, kept; seen 1; 2xx 1");
    Row::new("not asked for")
        .script(&[&[Take, switches, Stall]])
        .check("502 error=http_protocol_error; seen 1; protocol 1");
}

#[test]
fn an_endpoint_of_http2_is_as_good() {
    for client in [Http::One, Http::Two] {
        for request in [GET, HEAD, POST, GRPC] {
            let name = format!("{client:?} {}", request.method);
            let row = Row::new(&name).client(client).endpoints(1, Http2);
            let script: &[Step] = &[Take, OK, Take, OK, Take, OK];
            let (line, outcome) = row.sends(&[request; 3]).script(&[script]).outcome();
            assert_eq!(line, "200, 200, 200; seen 3; 2xx 3", "{name}");
            assert_eq!(outcome.connections, 1, "{name}");
        }
    }
}
