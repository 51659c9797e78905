//! Redirects, fixed responses, maintenance, and lists of addresses.

use super::{check, check_with, fields, service};
use crate::testing::hot_path::client::{Request, Say};
use crate::testing::hot_path::endpoint::{Script, Speaks};
use crate::testing::hot_path::{GET, GOOD, HEAD, Http, POST, Rig, Row, run};

const TRUSTS: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const DENIED: &str = "403 error=http_request_denied; seen 0; nothing counted";

/// A request of the client with this address, by a trusted proxy.
const fn of(fields: &'static [(&'static str, &'static str)]) -> Request {
    GET.fields(fields)
}

const OFFICE: Request = of(&[("x-forwarded-for", "10.1.2.3")]);
const STRANGER: Request = of(&[("x-forwarded-for", "203.0.113.9")]);
const UNKNOWN: Request = of(&[("x-forwarded-for", "unknown")]);

#[test]
fn a_redirect_needs_no_endpoint_and_is_counted_for_no_version() {
    check(
        r#""redirect":{"to":"https://$host$request_uri","status":308}"#,
        &[GET.to("/a/./b?c=d").at("App.Test:81")],
        "308 details=\"redirect\"; seen 0; nothing counted
        < location: https://app.test/a/b?c=d
        < content-type: text/plain; charset=utf-8",
    );
    run(async {
        let filters = service(r#""redirect":{"to":"https://b.test"}"#);
        let rig = Rig::new("", filters, &[], Script::new(&[&GOOD], &[])).await;
        for http in [Http::One, Http::Two] {
            let mut client = rig.client(http).await;
            let (response, keeps) = client.send(&GET).await;
            assert_eq!((response.status, keeps), (302, true), "{http:?}");
            assert_eq!(fields(&response.head, "location"), "https://b.test");
        }
    });
}

#[test]
fn a_redirect_leads_to_no_other_host_than_it_says() {
    for (to, target, want) in [
        ("$path", "//evil.test/%2e%2e/a", "/a"),
        ("$request_uri", "///evil.test?a", "/evil.test?a"),
        ("$rest", "//evil.test", "/evil.test"),
        (
            "https://b.test$path",
            "/@evil.test",
            "https://b.test/@evil.test",
        ),
        ("https://b.test$path", "http://a", "https://b.test/"),
        ("/new$rest", "//evil.test", "/new/evil.test"),
        (
            "https://b.test/?from=$http_x_own",
            "/",
            "https://b.test/?from=",
        ),
    ] {
        let filters = format!(r#""redirect":{{"to":"{to}"}}"#);
        let request = Request { target, ..GET };
        let row = Row::new(to).service(service(&filters)).sends(&[request]);
        let (line, outcome) = row.outcome();
        assert_eq!(
            line, "302 details=\"redirect\"; seen 0; nothing counted",
            "{target}"
        );
        assert_eq!(
            fields(&outcome.responses[0].head, "location"),
            want,
            "{target}"
        );
    }
}

#[test]
fn the_rest_of_a_path_is_what_comes_after_the_prefix() {
    for (target, want) in [
        ("/old/a?b", "https://b.test/new/a?b"),
        ("/old", "https://b.test/new/?"),
        ("/old//a", "https://b.test/new/a?"),
    ] {
        let service = r#"{"name":"web","path_prefix":"/old","redirect":{"to":"https://b.test/new$rest?$query"}}"#;
        let request = Request { target, ..GET };
        let (_, outcome) = Row::new("rest")
            .service(service)
            .sends(&[request])
            .outcome();
        assert_eq!(fields(&outcome.responses[0].head, "location"), want);
    }
}

#[test]
fn a_redirect_may_be_for_one_scheme_alone() {
    const OVER_TLS: Request = GET.fields(&[("x-forwarded-proto", "HTTPS")]);
    let filters = r#""redirect":{"to":"https://$host$request_uri","scheme":"http"}"#;
    let twice = "302 details=\"redirect\", 200; seen 1; 2xx 1";
    check_with(
        filters,
        &GOOD,
        |row| row.listener(TRUSTS).sends(&[GET, OVER_TLS]),
        twice,
    );
    // A stranger says what it likes.
    check(
        filters,
        &[OVER_TLS],
        "302 details=\"redirect\"; seen 0; nothing counted",
    );
}

#[test]
fn a_fixed_response_is_as_the_service_says() {
    let gone = r#""respond":{"status":410,"body":"<h1>Gone</h1>","content_type":"text/html"}"#;
    check(
        gone,
        &[GET],
        "410 details=\"respond\"; seen 0; nothing counted
        < content-type: text/html
        < content-length: 13",
    );
    check(
        gone,
        &[HEAD],
        "410 details=\"respond\"; seen 0; nothing counted\n< content-length: 13",
    );
    let (_, outcome) = Row::new("body").service(service(gone)).outcome();
    assert_eq!(outcome.responses[0].body.data, b"<h1>Gone</h1>");
    check(
        r#""respond":{"status":204}"#,
        &[GET, GET],
        "204 details=\"respond\", 204 details=\"respond\"; seen 0; nothing counted
        < content-length:
        < content-type:",
    );
    check(
        r#""respond":{}"#,
        &[GET],
        "200 details=\"respond\"; seen 0; nothing counted\n< content-length: 0",
    );
}

#[test]
fn a_connection_goes_on_after_a_response_of_a_filter_unless_a_body_is_left() {
    const UNREAD: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nor";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\norder\r\n";
    const WHOLE: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\norder";
    const CLOSES: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for filters in [
        r#""respond":{}"#,
        r#""redirect":{"to":"/a"}"#,
        r#""access":{"deny":["127.0.0.1"]}"#,
        r#""maintenance":{}"#,
    ] {
        let ended = |says: &[Say]| {
            let (_, outcome) = Row::new("ends")
                .service(service(filters))
                .says(says)
                .outcome();
            assert_eq!(outcome.seen, [0], "{filters}");
            let closes = |one: &crate::testing::hot_path::client::Response| {
                fields(&one.head, "connection") == "close"
            };
            let responses: Vec<bool> = outcome.responses.iter().map(closes).collect();
            (responses, format!("{:?}", outcome.end.unwrap()))
        };
        let kept = (vec![false, false], "Kept".to_owned());
        assert_eq!(
            ended(&[Say::Bytes(WHOLE), Say::Bytes(WHOLE)]),
            kept,
            "{filters}"
        );
        let closed = (vec![true], "Closed".to_owned());
        for says in [UNREAD, CHUNKED, CLOSES] {
            assert_eq!(
                ended(&[Say::Bytes(says), Say::End]),
                closed,
                "{filters}: {says}"
            );
        }
        // Of what an unread body has, nothing is taken for a request.
        let smuggled = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
            28\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n\r\n\r\n0\r\n\r\n";
        let (responses, _) = ended(&[Say::Bytes(smuggled)]);
        assert_eq!(responses, [true], "{filters}");
    }
}

#[test]
fn an_upload_that_gets_a_redirect_leaves_its_other_streams_alone() {
    check(
        r#""redirect":{"to":"/a","status":307}"#,
        &[POST, POST],
        "307 details=\"redirect\", 307 details=\"redirect\"; seen 0; nothing counted",
    );
}

#[test]
fn a_service_under_maintenance_serves_those_that_are_allowed() {
    let closed = r#""maintenance":{"allow":["10.0.0.0/8"],"retry_after":"1500ms"}"#;
    let want = "503 error=destination_unavailable; details=\"maintenance\", 200; seen 1; 2xx 1";
    let requests = [STRANGER, OFFICE];
    check_with(
        closed,
        &GOOD,
        |row| row.listener(TRUSTS).sends(&requests),
        want,
    );
    check(
        closed,
        &[GET],
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted
        < retry-after: 2
        < content-type: text/plain; charset=utf-8",
    );
    check(
        closed,
        &[GET.fields(&[("accept", "application/json")])],
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted
        < content-type: application/json",
    );
    check(
        r#""maintenance":{"body":"<h1>Soon</h1>"}"#,
        &[GET],
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted
        < retry-after: 60
        < content-type: text/html; charset=utf-8
        < content-length: 13",
    );
}

#[test]
fn addresses_that_may_not_are_refused() {
    let some = r#""access":{"allow":["10.0.0.0/8"],"deny":["10.6.6.6"]}"#;
    let evil = of(&[("x-forwarded-for", "10.6.6.6")]);
    for (request, want) in [
        (OFFICE, "200; seen 1; 2xx 1"),
        (evil, DENIED),
        (STRANGER, DENIED),
        (UNKNOWN, DENIED),
    ] {
        check_with(
            some,
            &GOOD,
            |row| row.listener(TRUSTS).sends(&[request]),
            want,
        );
    }
    // What a peer says that is not trusted does not count.
    check(some, &[OFFICE], DENIED);
    check(r#""access":{"deny":["127.0.0.0/8"]}"#, &[GET], DENIED);
    check(
        r#""access":{"deny":["10.0.0.0/8"]}"#,
        &[OFFICE],
        "200; seen 1; 2xx 1",
    );
    let deny = r#""access":{"deny":["10.0.0.0/8"]}"#;
    check_with(
        deny,
        &GOOD,
        |row| row.listener(TRUSTS).sends(&[UNKNOWN]),
        DENIED,
    );
}

#[test]
fn the_first_filter_in_their_order_responds() {
    let all = |access: &str| {
        format!(
            r#""access":{{"deny":["{access}"]}},"maintenance":{{"allow":["10.0.0.0/8"]}},
            "redirect":{{"to":"/a","scheme":"http"}},"respond":{{"status":200}}"#
        )
    };
    check(&all("127.0.0.1"), &[GET], DENIED);
    let closed =
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted";
    check(&all("192.0.2.1"), &[GET], closed);
    const INSIDE: Request = of(&[("x-forwarded-for", "10.1.1.1")]);
    const OVER_TLS: Request = of(&[
        ("x-forwarded-for", "10.1.1.1"),
        ("x-forwarded-proto", "https"),
    ]);
    for (request, want) in [
        (INSIDE, "302 details=\"redirect\"; seen 0; nothing counted"),
        (OVER_TLS, "200 details=\"respond\"; seen 0; nothing counted"),
    ] {
        let change = |row: Row<'static>| row.listener(TRUSTS).sends(&[request]);
        check_with(&all("192.0.2.1"), &GOOD, change, want);
    }
}

#[test]
fn the_rules_of_responses_are_for_those_of_filters_too_and_not_for_errors() {
    let rules = r#""headers":{"response":{"set":{"strict-transport-security":"max-age=60",
        "x-for":"$host$path $version"},"remove":["proxy-status","date"]}}"#;
    check(
        &format!(r#""redirect":{{"to":"/b"}},{rules}"#),
        &[GET.to("/a")],
        "302; seen 0; nothing counted
        < strict-transport-security: max-age=60
        < x-for: a/a
        < location: /b
        < date:",
    );
    for client in [Http::One, Http::Two] {
        let row = Row::new("an error").client(client).service(service(rules));
        let row = row.endpoints(1, Speaks::Nothing);
        let (_, outcome) = row.outcome();
        let head = &outcome.responses[0].head;
        assert_eq!(fields(head, "strict-transport-security"), "", "{head}");
        assert!(!fields(head, "proxy-status").is_empty(), "{head}");
    }
}

#[test]
fn groups_of_expressions_stand_for_their_parts_and_make_no_other_path() {
    let redirect = r#""path":{"regex":"/u/(?<id>[^/]*)(?<rest>/.*)?"},
        "redirect":{"to":"https://b.test/users/$match_id$match_rest?$query","status":301}"#;
    for (target, want) in [
        ("/u/7", "https://b.test/users/7?"),
        ("/u/./7//x%2f?a=b", "https://b.test/users/7/x%2F?a=b"),
        ("/u/", "https://b.test/users/?"),
    ] {
        check(
            redirect,
            &[GET.to(target)],
            &format!("301 details=\"redirect\"; seen 0; nothing counted\n< location: {want}"),
        );
    }
    let rewrite = r#""path":{"regex":"/u/(?<all>[a-z.]+)-(?<more>.*)"},
        "rewrite":{"path":"/$match_all"},"headers":{"request":{"set":{"x-more":"$match_more"}}}"#;
    let rewrite = &rewrite.replace("/$match_all", "/own/$match_all/end");
    check(
        rewrite,
        &[GET.to("/u/abc-%41/x")],
        "200; seen 1; 2xx 1\n> x-more: A/x",
    );
    // Their end would not be below `/own` any more.
    for target in ["/u/..-x", "/u/.-x"] {
        check(
            rewrite,
            &[GET.to(target)],
            "400 error=http_request_error; seen 0; nothing counted",
        );
    }
    check(rewrite, &[GET.to("/u/...-x")], "200; seen 1; 2xx 1");
}
