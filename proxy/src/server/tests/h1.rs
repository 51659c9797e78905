//! A connection of HTTP/1.1: how its requests are read, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::testing::hot_path::client::{End, Say, talk};
use crate::testing::hot_path::endpoint::{Connections, Script, Speaks, Step};
use crate::testing::hot_path::{GOOD, Rig, Row, SERVICE, run};
use crate::worker::order::ShutdownPhase;

use Say::{Bytes, Many, Read, Wait};
use Step::{Respond, Stall, Take, TakeBody, TakeHead};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: Step = Respond(200, "ok");
/// As many requests as these tests send on one connection.
const GOOD_ONES: &[Step] = &[Take, OK, Take, OK, Take, OK, Take, OK];

#[track_caller]
fn check(name: &str, says: &[Say], script: Connections<'_>, want: &str) {
    Row::new(name).says(says).script(script).check(want);
}

#[test]
fn requests_on_one_connection_are_served_in_their_order() {
    let two = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let slow: &[Step] = &[
        Take,
        Step::Wait(Duration::from_secs(1)),
        Respond(201, ""),
        Take,
        Respond(202, ""),
    ];
    check(
        "in one piece",
        &[Bytes(two)],
        &[slow],
        "201, 202, kept; seen 2; 2xx 2",
    );
    check(
        "with a body between them",
        &[Bytes(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /PUT / HTTP/1.1\r\nhost: a\r\n\
             transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        )],
        &[GOOD_ONES],
        "200, 200, 200, kept; seen 3; 2xx 3",
    );
    check(
        "in many pieces",
        &[
            Bytes("\r\n\r\nGET / HT"),
            Wait(Duration::from_secs(1)),
            Bytes("TP/1.1\r\nhost: a\r"),
            Wait(Duration::from_secs(1)),
            Bytes("\n\r\nGET"),
            Read,
            Bytes(" / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ],
        &[GOOD_ONES],
        "200, 200, kept; seen 2; 2xx 2",
    );
}

#[test]
fn the_client_says_whether_its_connection_is_kept() {
    for (head, end) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "kept"),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            "closed",
        ),
        (
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Close\r\n\r\n",
            "closed",
        ),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", "closed"),
        (
            "GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n",
            "kept",
        ),
    ] {
        let want = format!("200, {end}; seen 1; 2xx 1");
        check(head, &[Bytes(head)], &[&GOOD], &want);
    }
}

#[test]
fn a_connection_has_its_time_and_its_number_of_requests() {
    Row::new("time")
        .config("[timeouts]\nkeep_alive = \"1s\"")
        .says(&[Bytes(GET), Read, Wait(Duration::from_secs(2)), Bytes(GET)])
        .script(&[GOOD_ONES])
        .check("200, closed; seen 1; 2xx 1");
    Row::new("number")
        .config("[limits]\nrequests_per_connection = 2")
        .says(&[Bytes(GET), Read, Bytes(GET), Read, Bytes(GET)])
        .script(&[GOOD_ONES])
        .check(
            "200, 200, no response, closed; seen 2; 2xx 2"
                .replace("no response, ", "")
                .as_str(),
        );
}

#[test]
fn what_is_not_strictly_http_is_refused_and_ends_the_connection() {
    for (status, request) in [
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost : a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n"),
        (400, "GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\nhost: a\n\n"),
        (400, "nonsense\r\n\r\n"),
        (400, "GET noslash HTTP/1.1\r\nhost: a\r\n\r\n"),
        (
            400,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        ),
        (
            400,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            501,
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        ),
        (505, "GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
        (405, "CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ] {
        let want = format!("{status} error=http_request_error, closed; seen 0; nothing counted");
        // What comes behind is not taken for a request.
        check(request, &[Bytes(request), Bytes(GET)], &[&GOOD], &want);
    }
}

#[test]
fn a_request_that_turns_out_wrong_in_its_body_is_the_clients_doing() {
    let chunks = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    check(
        "a chunk that is none",
        &[
            Bytes(chunks),
            Wait(Duration::from_secs(1)),
            Bytes("nonsense\r\n"),
        ],
        &[&[Take]],
        "400 error=http_request_error, closed; seen 1; client gone 1",
    );
    check(
        "it ends too early",
        &[
            Bytes(chunks),
            Wait(Duration::from_secs(1)),
            Bytes("5\r\nab"),
            Say::End,
        ],
        &[&[Take]],
        "closed; seen 1; client gone 1",
    );
}

#[test]
fn what_is_too_long_is_refused() {
    let limits = "[limits]\nrequest_line = \"1KiB\"\nheader_bytes = \"8KiB\"\nheader_count = 3\nbody = \"10B\"";
    let refused =
        |status| format!("{status} error=http_request_error, closed; seen 0; nothing counted");
    let row = |name| Row::new(name).config(limits).script(&[&[Take, OK]]);
    row("the target")
        .says(&[
            Bytes("GET /"),
            Many(2_000),
            Bytes(" HTTP/1.1\r\nhost: a\r\n\r\n"),
        ])
        .check(&refused(414));
    row("a target without an end")
        .says(&[Bytes("GET /"), Many(20_000)])
        .check(&refused(414));
    row("the head")
        .says(&[Bytes("GET / HTTP/1.1\r\nhost: a\r\nx: "), Many(20_000)])
        .check(&refused(431));
    row("the fields")
        .says(&[Bytes(
            "GET / HTTP/1.1\r\nhost: a\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n",
        )])
        .check(&refused(431));
    row("the body, as announced")
        .says(&[Bytes(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n",
        )])
        .check(&refused(413));
    row("the body, as it turns out")
        .says(&[
            Bytes(
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabcdef\r\n",
            ),
            Bytes("6\r\nabcdef\r\n0\r\n\r\n"),
        ])
        .check("413 error=http_request_error, closed; seen 1; client gone 1");
    row("nothing")
        .says(&[Bytes(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n0123456789",
        )])
        .check("200, kept; seen 1; 2xx 1");
}

#[test]
fn a_head_has_its_time() {
    let begins = Bytes("GET / HTTP/1.1\r\nhost:");
    let wait = || Wait(Duration::from_secs(11));
    check(
        "it stands still",
        &[begins.clone(), wait()],
        &[&GOOD],
        "408 error=http_request_error, closed; seen 0; nothing counted",
    );
    check(
        "it was not begun",
        &[wait(), Bytes(GET)],
        &[&GOOD],
        "closed; seen 0; nothing counted",
    );
    check(
        "the next one was not begun",
        &[Bytes(GET), Read, wait(), Bytes(GET), Read],
        &[&[Take, OK, Take, OK]],
        "200, 200, kept; seen 2; 2xx 2",
    );
    check(
        "its client ends",
        &[begins, Say::End],
        &[&GOOD],
        "closed; seen 0; nothing counted",
    );
}

const EXPECTS: &str =
    "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
const GO_ON: Step = Step::Say("HTTP/1.1 100 Continue\r\n\r\n");

#[test]
fn the_endpoint_decides_whether_a_client_that_waits_sends_its_body() {
    let waits = [Bytes(EXPECTS), Read, Bytes("order")];
    let endpoint: Connections<'_> = &[&[TakeHead, GO_ON, TakeBody, OK]];
    for protocol in [Speaks::Http1, Speaks::Http2] {
        let row = Row::new("it does not want it").endpoints(1, protocol);
        row.says(&[Bytes(EXPECTS)])
            .script(&[&[TakeHead, Respond(401, "who?"), Stall]])
            .check("401, closed; seen 1; 4xx 1");
    }
    let row = Row::new("it wants it").says(&waits).script(endpoint);
    let (line, outcome) = row.outcome();
    assert_eq!(line, "100, 200, kept; seen 1; 2xx 1");
    let [request] = &outcome.requests[..] else {
        panic!("{outcome:?}");
    };
    assert!(request.head.contains("expect: 100-continue"), "{request:?}");
    assert_eq!(request.body.data, b"order");
    check(
        "it says so twice",
        &waits,
        &[&[TakeHead, GO_ON, GO_ON, TakeBody, OK]],
        "100, 200, kept; seen 1; 2xx 1",
    );
}

#[test]
fn a_client_that_waits_in_vain_is_told_to_go_on_by_the_proxy() {
    let waits = [Bytes(EXPECTS), Read, Bytes("order")];
    for protocol in [Speaks::Http1, Speaks::Http2] {
        Row::new("the endpoint waits for the body")
            .endpoints(1, protocol)
            .says(&waits)
            .check("100, 200, kept; seen 1; 2xx 1");
    }
    check(
        "the endpoint is late",
        &waits,
        &[&[
            TakeHead,
            Step::Wait(Duration::from_secs(3)),
            GO_ON,
            TakeBody,
            OK,
        ]],
        "100, 200, kept; seen 1; 2xx 1",
    );
    check(
        "it is old",
        &waits,
        &[&[
            Take,
            Step::Say("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ]],
        "100, 200, kept; seen 1; 2xx 1",
    );
}

#[test]
fn a_client_that_does_not_wait_is_told_nothing() {
    let expects = |fields: &str, body: &str| {
        let text = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}");
        Bytes(text.leak())
    };
    let length = "content-length: 5\r\n";
    check(
        "its body is here",
        &[Bytes(EXPECTS), Bytes("order")],
        &[&GOOD],
        "200, kept; seen 1; 2xx 1",
    );
    check(
        "its body comes without a 100",
        &[
            Bytes(EXPECTS),
            Wait(Duration::from_millis(300)),
            Bytes("or"),
            Wait(Duration::from_secs(3)),
            Bytes("der"),
        ],
        &[&GOOD],
        "200, kept; seen 1; 2xx 1",
    );
    for (name, says) in [
        ("there is no body", expects("expect: 100-continue\r\n", "")),
        (
            "it expects something else",
            expects(&format!("{length}expect: more\r\n"), "order"),
        ),
        (
            "it is old",
            Bytes(
                "POST / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\
                 expect: 100-continue\r\ncontent-length: 5\r\n\r\norder",
            ),
        ),
    ] {
        let row = Row::new(name).says(&[says]);
        let (line, outcome) = row.script(&[&[Take, GO_ON, OK]]).outcome();
        assert_eq!(line, "200, kept; seen 1; 2xx 1", "{name}");
        let head = &outcome.requests[0].head;
        assert!(!head.contains("expect"), "{name}: {head}");
    }
    Row::new("it is refused")
        .service(r#"{"name":"web","hosts":["b"]}"#)
        .says(&[Bytes(EXPECTS)])
        .check("404 error=destination_not_found, closed; seen 0; nothing counted");
}

#[test]
fn a_response_of_the_proxys_own_keeps_the_connection_where_the_request_was_read() {
    let elsewhere = r#"{"name":"web","hosts":["b"]}"#;
    let row = |name| Row::new(name).service(elsewhere);
    row("no body")
        .says(&[Bytes(GET), Read, Bytes(GET)])
        .check("404 error=destination_not_found, 404 error=destination_not_found, kept; seen 0; nothing counted");
    row("a body that is here")
        .says(&[
            Bytes("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\norder"),
            Read,
            Bytes("GET / HTTP/1.1\r\nhost: b\r\n\r\n"),
        ])
        .check("404 error=destination_not_found, 200, kept; seen 1; 2xx 1");
    row("a body that is not")
        .says(&[
            Bytes("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\norder"),
            Read,
            Bytes("GET / HTTP/1.1\r\nhost: b\r\n\r\n"),
        ])
        .check("404 error=destination_not_found, closed; seen 0; nothing counted");
    check(
        "a broken endpoint",
        &[
            Bytes("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\norder"),
            Read,
            Bytes(GET),
        ],
        &[&[Take], &GOOD],
        "502 error=connection_terminated, 200, kept; seen 2; 2xx 1, reset 1",
    );
}

#[test]
fn a_service_without_an_endpoint_is_unavailable() {
    Row::new("none")
        .versions(&[])
        .says(&[Bytes(GET)])
        .check("503 error=destination_unavailable, kept; seen ");
}

/// What becomes of a connection on which a request came, and then another one when the process
/// was at this phase.
fn at(phase: ShutdownPhase, second: &'static str) -> (String, End) {
    run(async {
        let script = Script::new(&[GOOD_ONES], &[]);
        let rig = Rig::new("", SERVICE, &[("1", Speaks::Http1)], script).await;
        let stream = rig.connect().await;
        let says = [
            Bytes(GET),
            Read,
            Wait(Duration::from_secs(1)),
            Bytes(second),
        ];
        let enters = async {
            while rig.stats("1").responses.success == 0 {
                tokio::task::yield_now().await;
            }
            rig.enter(phase);
        };
        let ((responses, end), ()) = tokio::join!(talk(stream, &says), enters);
        let said = responses.iter().map(|response| {
            let connection = crate::testing::hot_path::message::field(&response.head, "connection");
            format!("{} {}", response.status, connection.unwrap_or("-"))
        });
        (said.collect::<Vec<_>>().join(", "), end)
    })
}

#[test]
fn a_process_that_leaves_ends_its_connections_with_their_next_response() {
    assert_eq!(
        at(ShutdownPhase::Serving, GET),
        ("200 -, 200 -".into(), End::Kept)
    );
    let leaving = ShutdownPhase::Leaving(Arc::new([]));
    assert_eq!(
        at(leaving.clone(), GET),
        ("200 -, 200 close".into(), End::Closed)
    );
    assert_eq!(at(leaving, ""), ("200 -".into(), End::Kept));
    assert_eq!(
        at(ShutdownPhase::Stopping, GET),
        ("200 -".into(), End::Closed)
    );
}
