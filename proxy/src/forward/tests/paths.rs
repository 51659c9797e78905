//! For what a request asks: the path that it is routed by, and the one that goes on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::testing::hot_path::client::{Request, Say};
use crate::testing::hot_path::clock::Watched;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::{GET, GOOD, Http, Rig, Row, SERVICE, run};

use Speaks::{Http1, Http2};
use Step::{Respond, Take};

const PUBLIC: &str = r#"{"name":"web","path_prefix":"/public"}"#;
const STRIPPED: &str = r#"{"name":"web","path_prefix":"/public","strip_prefix":true}"#;
const BAD: &str = "400 error=http_request_error; seen 0; nothing counted";
const NO_ROUTE: &str = "404 error=destination_not_found; seen 0; nothing counted";

/// The target that an endpoint of this service gets of this one, over each of the client's wires.
#[track_caller]
fn check_sent(service: &'static str, target: &'static str, want: &str) {
    for client in [Http::One, Http::Two] {
        let row = Row::new(target).client(client).service(service);
        let (line, outcome) = row.sends(&[GET.to(target)]).outcome();
        assert_eq!(line, "200; seen 1; 2xx 1", "{client:?} {target}");
        let head = &outcome.requests[0].head;
        let got = head.split(' ').nth(1);
        assert_eq!(got, Some(want), "{client:?} {target}");
    }
}

/// What becomes of a request for this target, over all wires.
#[track_caller]
fn check(service: &'static str, target: &'static str, want: &str) {
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            let row = Row::new(target).client(client).endpoints(1, speaks);
            row.service(service).sends(&[GET.to(target)]).check(want);
        }
    }
}

#[test]
fn a_path_does_not_leave_its_prefix() {
    for target in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public//../admin",
        "/public/a/../../admin",
        "/public/./../publicity",
        "/public/..",
        "/public/../..",
        "/..",
        "/../public",
        "/%2e%2e/public",
        "/public/%",
        "/public/%2",
        "/public/%zz",
    ] {
        check(PUBLIC, target, BAD);
        check(STRIPPED, target, BAD);
    }
    for target in [
        "/admin",
        "/publicity",
        "/public%2fa",
        "/public%2f..%2fadmin",
        "/%2e/admin",
    ] {
        check(PUBLIC, target, NO_ROUTE);
    }
}

#[test]
fn utf8_that_is_not_escaped_goes_on_escaped() {
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            let row = Row::new("utf-8").client(client).endpoints(1, speaks);
            let row = row.sends(&[GET.to("/é?é")]);
            row.check("200; seen 1; 2xx 1");
        }
    }
    check_sent(
        SERVICE,
        "/caf\u{e9}/日?q=é&x=%c3%a9",
        "/caf%C3%A9/%E6%97%A5?q=%C3%A9&x=%c3%a9",
    );
    // U+560A, of which a careless reader makes a line feed.
    check_sent(SERVICE, "/\u{560a}", "/%E5%98%8A");
    const CAFE: &str = r#"{"name":"web","path_prefix":"/caf%C3%A9","strip_prefix":true}"#;
    check_sent(CAFE, "/café/ü", "/%C3%BC");
    check(CAFE, "/café/../ü", BAD);
    check(CAFE, "/cafe", NO_ROUTE);
}

#[test]
fn a_path_is_routed_by_its_normal_form_and_goes_on_as_it_came() {
    for (target, want) in [
        ("/public", "/public"),
        ("/public/a?/../b", "/public/a?/../b"),
        ("/%70ublic/a", "/%70ublic/a"),
        ("//public//a", "//public//a"),
        ("/public/%c3%a9%2f%5c", "/public/%c3%a9%2f%5c"),
        ("/public/..%2fadmin", "/public/..%2fadmin"),
        ("/public/.well-known/...", "/public/.well-known/..."),
        ("/public/a/../b?c=%2e", "/public/b?c=%2e"),
        ("/public/./%61//b%2fc", "/public/a/b%2Fc"),
        ("/a/../public/b", "/public/b"),
        ("/public/../public/b/..", "/public/"),
    ] {
        check_sent(PUBLIC, target, want);
    }
}

#[test]
fn a_stripped_path_begins_with_one_slash() {
    for (target, want) in [
        ("/public", "/"),
        ("/public/", "/"),
        ("/public//evil.test/a", "/evil.test/a"),
        ("/public///evil.test//a?b", "/evil.test//a?b"),
        ("//public//evil.test", "/evil.test"),
        ("/%70ublic//evil.test", "/evil.test"),
        ("/public/.//evil.test", "/evil.test"),
        ("/public/%2Fevil.test", "/%2Fevil.test"),
        ("/public/../public//evil.test", "/evil.test"),
    ] {
        check_sent(STRIPPED, target, want);
    }
    const ROOT: &str = r#"{"name":"web","strip_prefix":true}"#;
    check_sent(ROOT, "//evil.test/a", "/evil.test/a");
}

#[test]
fn which_path_goes_on_is_the_services_choice() {
    const ORIGINAL: &str = r#"{"name":"web","send_path":"original"}"#;
    const NORMALISED: &str = r#"{"name":"web","send_path":"normalised"}"#;
    const STRIPPED_ORIGINAL: &str =
        r#"{"name":"web","path_prefix":"/api","strip_prefix":true,"send_path":"original"}"#;
    for (target, original, normalised) in [
        ("/a/../b?c=//", "/a/../b?c=//", "/b?c=//"),
        ("//a/%7e%2f", "//a/%7e%2f", "/a/~%2F"),
        ("/a", "/a", "/a"),
    ] {
        check_sent(ORIGINAL, target, original);
        check_sent(NORMALISED, target, normalised);
    }
    check_sent(STRIPPED_ORIGINAL, "/api/%7e", "/%7e");
    check_sent(STRIPPED_ORIGINAL, "/api/a/../../api/b", "/b");
}

#[test]
fn a_copy_gets_the_path_and_the_fields_that_the_original_gets() {
    const COPIED: &str = r#"{"name":"web","path_prefix":"/api","strip_prefix":true,"split":{"1":1,"2":0},"mirror":{"version":"2","percent":100}}"#;
    const FORGED: Request = GET
        .to("/api/a/..//evil.test")
        .fields(&[("x_forwarded_for", "6.6.6.6"), ("x-real-ip", "6.6.6.6")]);
    for client in [Http::One, Http::Two] {
        let row = Row::new("a copy").client(client).service(COPIED);
        let row = row.versions(&[("1", Http1), ("2", Http1)]);
        let script: &[Step] = &[Take, Respond(200, "ok")];
        let (line, outcome) = row.sends(&[FORGED]).script(&[script]).outcome();
        assert_eq!(
            line,
            "200; seen 1+1; of 1: 2xx 1; copies: 2xx 1; originals: 2xx 1"
        );
        for request in &outcome.requests {
            let head = &request.head;
            assert!(head.starts_with("GET /evil.test HTTP/1.1\r\n"), "{head}");
            assert!(!head.contains("6.6.6.6"), "{head}");
        }
    }
}

#[test]
fn trace_is_refused_unless_the_service_allows_it() {
    const ALLOWED: &str = r#"{"name":"web","allow_trace":true}"#;
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            let row = Row::new("TRACE").client(client).endpoints(1, speaks);
            let row = row.sends(&[Request::with("TRACE", "")]);
            row.check("405 error=http_request_error; seen 0; nothing counted");
            let row = row.service(ALLOWED).script(&[&GOOD]);
            row.check("200; seen 1; 2xx 1");
        }
    }
}

#[test]
fn no_endpoint_gets_a_fragment() {
    Row::new("over HTTP/1.1")
        .says(&[Say::Bytes("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n")])
        .check("400 error=http_request_error, closed; seen 0; nothing counted");
    // Over HTTP/2 the `http` crate takes it off before it can be refused.
    let frames = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\0\x04\0\0\0\0\0\
        \0\0\x35\x01\x05\0\0\0\x01\
        \0\x07:method\x03GET\0\x05:path\x04/a#b\
        \0\x07:scheme\x04http\0\x0a:authority\x01a";
    let head = run(async {
        let script = Script::new(&[&GOOD], &[]);
        let rig = Rig::new("", SERVICE, &[("1", Http1)], script).await;
        let mut client = Watched(rig.connect().await);
        client.write_all(frames.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"ok") {
            assert!(client.read_buf(&mut got).await.unwrap() > 0, "{got:?}");
        }
        rig.script.seen().remove(0).head
    });
    assert!(head.starts_with("GET /a HTTP/1.1\r\n"), "{head}");
}
