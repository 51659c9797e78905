//! Who may use a service: pages of other sites, and users with passwords. And what the others get.

use super::{check, check_with, fields, service};
use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::{GET, HEAD, Http, POST, Row};

use Step::{Close, Say, Take};

const CORS: &str = r#""cors":{"origins":["https://a.test","https://*.b.test"],"methods":["GET","PUT"],
    "headers":["x-key"],"expose":["x-total","x-more"],"credentials":true,"max_age":"90s"}"#;
const PREFLIGHT: Request = Request {
    method: "OPTIONS",
    fields: &[
        ("origin", "https://x.b.test"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-key, x-other"),
    ],
    ..GET
};

#[test]
fn a_preflight_of_an_origin_that_may_gets_leave_without_an_endpoint() {
    check(
        CORS,
        &[PREFLIGHT],
        "204 details=\"preflight\"; seen 0; nothing counted
        < access-control-allow-origin: https://x.b.test
        < access-control-allow-methods: GET, PUT
        < access-control-allow-headers: x-key
        < access-control-allow-credentials: true
        < access-control-max-age: 90
        < vary: origin
        < content-length:
        < content-type:",
    );
    check(
        r#""cors":{"origins":["*"],"headers":["*"]}"#,
        &[PREFLIGHT],
        "204 details=\"preflight\"; seen 0; nothing counted
        < access-control-allow-origin: *
        < access-control-allow-methods: GET, HEAD, POST
        < access-control-allow-headers: x-key, x-other
        < access-control-allow-credentials:
        < access-control-max-age: 600
        < vary:",
    );
}

#[test]
fn a_preflight_of_a_stranger_gets_no_leave_and_other_options_go_on() {
    const STRANGER: Request = Request {
        fields: &[
            ("origin", "https://evil.test"),
            ("access-control-request-method", "PUT"),
        ],
        ..PREFLIGHT
    };
    check(
        CORS,
        &[STRANGER],
        "204 details=\"preflight\"; seen 0; nothing counted
        < access-control-allow-origin:
        < access-control-allow-methods:
        < access-control-max-age:
        < vary: origin",
    );
    const PLAIN: Request = Request {
        fields: &[("origin", "https://a.test")],
        ..PREFLIGHT
    };
    check(
        CORS,
        &[PLAIN],
        "200; seen 1; 2xx 1\n< access-control-allow-origin: https://a.test",
    );
}

#[test]
fn responses_say_which_pages_may_read_them_in_place_of_endpoints() {
    const SAYS: &str = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\n\
        Access-Control-Allow-Credentials: true\r\nvary: accept\r\ncontent-length: 2\r\n\r\nok";
    let from = |origin: &'static [(&'static str, &'static str)], want: &str| {
        let change =
            |row: Row<'static>| row.endpoints(1, Speaks::Http1).sends(&[GET.fields(origin)]);
        check_with(CORS, &[Take, Say(SAYS)], change, want);
    };
    from(
        &[("origin", "https://a.test")],
        "200; seen 1; 2xx 1
        < access-control-allow-origin: https://a.test
        < access-control-allow-credentials: true
        < access-control-expose-headers: x-total, x-more
        < vary: accept | origin",
    );
    for origin in [
        &[("origin", "https://evil.test")][..],
        &[],
        &[("origin", "https://a.test"), ("origin", "https://a.test")],
    ] {
        from(
            origin,
            "200; seen 1; 2xx 1
            < access-control-allow-origin:
            < access-control-allow-credentials:
            < access-control-expose-headers:
            < vary: accept | origin",
        );
    }
}

const USERS: &str = r#""basic_auth":{"realm":"staff",
    "users":"alice:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"}"#;
const WANTED: &str = "401 error=http_request_denied; details=\"password\"; seen 0; nothing counted
    < www-authenticate: Basic realm=\"staff\", charset=\"UTF-8\"";

#[test]
fn a_request_without_a_password_gets_a_401_that_says_what_is_needed() {
    const NONE: Request = GET.fields(&[("authorization", "Bearer abc")]);
    const BROKEN: Request = GET.fields(&[("authorization", "Basic YWxpY2U=")]);
    const TWO: Request = POST.fields(&[
        ("authorization", "Basic YTpi"),
        ("authorization", "Basic YTpi"),
    ]);
    for request in [GET, HEAD, NONE, BROKEN, TWO] {
        check(USERS, &[request], WANTED);
    }
    check(
        &format!(r#"{USERS},"cors":{{"origins":["https://*.b.test"]}}"#),
        &[PREFLIGHT],
        "204 details=\"preflight\"; seen 0; nothing counted",
    );
    // No password is asked for where it could be read on the way.
    check(
        &format!(r#"{USERS},"redirect":{{"to":"https://$host$request_uri","scheme":"http"}}"#),
        &[GET],
        "302 details=\"redirect\"; seen 0; nothing counted",
    );
    check(&format!(r#"{USERS},"respond":{{}}"#), &[GET], WANTED);
}

#[test]
fn the_right_password_is_served_and_its_user_is_known() {
    // alice:secret
    const RIGHT: Request = GET.fields(&[("authorization", "Basic YWxpY2U6c2VjcmV0")]);
    const WRONG: Request = GET.fields(&[("authorization", "Basic YWxpY2U6U2VjcmV0")]);
    const UNKNOWN_USER: Request = GET.fields(&[("authorization", "Basic Ym9iOnNlY3JldA==")]);
    let filters = format!(
        r#"{USERS},"headers":{{"request":{{"set":{{"x-user":"$remote_user"}}}},
            "response":{{"set":{{"x-user":"$remote_user"}}}}}}"#
    );
    check(
        &filters,
        &[RIGHT],
        "200; seen 1; 2xx 1\n> x-user: alice\n< x-user: alice",
    );
    for request in [WRONG, UNKNOWN_USER] {
        check(&filters, &[request], &format!("{WANTED}\n< x-user:"));
    }
    check(
        &format!(r#"{USERS},"respond":{{"body":"in"}}"#),
        &[RIGHT, RIGHT],
        "200 details=\"respond\", 200 details=\"respond\"; seen 0; nothing counted",
    );
}

#[test]
fn errors_have_pages_of_the_services_own() {
    let pages = r#""error_pages":{"503":{"body":"<h1>Soon</h1>"},"4xx":{"body":"no","content_type":"text/plain"},
        "403":{"body":"{}","content_type":"application/json"}}"#;
    let with = |more: &str| format!("{pages},{more}");
    const JSON: Request = GET.fields(&[("accept", "application/json")]);
    check(
        &with(r#""maintenance":{}"#),
        &[GET],
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted
        < content-type: text/html; charset=utf-8
        < content-length: 13
        < retry-after: 60",
    );
    check(
        &with(r#""maintenance":{"body":"own"}"#),
        &[GET],
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted
        < content-length: 3",
    );
    check(
        &with(r#""maintenance":{}"#),
        &[JSON],
        "503 error=destination_unavailable; details=\"maintenance\"; seen 0; nothing counted
        < content-type: application/json",
    );
    for request in [GET, JSON] {
        check(
            &with(r#""access":{"deny":["127.0.0.0/8"]}"#),
            &[request],
            "403 error=http_request_denied; seen 0; nothing counted
            < content-type: application/json
            < content-length: 2",
        );
    }
    check(
        &with(USERS),
        &[GET],
        &format!("{WANTED}\n< content-type: text/plain\n< content-length: 2"),
    );
    check(
        &with(r#""limits":{"body":"1B"}"#),
        &[POST],
        "413 error=http_request_error; seen 0; nothing counted\n< content-length: 2",
    );
    // What an endpoint says is its own.
    const SAYS: &str = "HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\nagain";
    check_with(
        pages,
        &[Take, Say(SAYS)],
        |row| row.endpoints(1, Speaks::Http1),
        "503; seen 1; 5xx 1\n< content-length: 5",
    );
}

#[test]
fn an_error_after_an_endpoint_was_taken_has_its_page_too() {
    let pages = r#""error_pages":{"5xx":{"body":"<h1>Broken</h1>"}}"#;
    for client in [Http::One, Http::Two] {
        let row = Row::new("a page").client(client).service(service(pages));
        let (line, outcome) = row.script(&[&[Take, Close]]).sends(&[POST]).outcome();
        assert!(line.starts_with("502 "), "{line}");
        assert_eq!(outcome.responses[0].body.data, b"<h1>Broken</h1>");
        let head = &outcome.responses[0].head;
        assert_eq!(fields(head, "content-type"), "text/html; charset=utf-8");
        assert!(
            fields(head, "proxy-status").contains("connection_terminated"),
            "{head}"
        );
    }
}
