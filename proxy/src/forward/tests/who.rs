//! Who asks: what a client may say about that, and what is believed of it.

use crate::testing::hot_path::client::{Request, Say};
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::message::field;
use crate::testing::hot_path::{GET, GOOD, Http, POST, Row};

use Speaks::{Http1, Http2};
use Step::{Respond, Take};

/// The tests' clients are proxies that are trusted.
const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
/// Version 2 is for testers from inside.
const FORCED: &str = r#"{"name":"web","split":{"1":1,"2":0},"force":{"header":"x-version","from":["127.0.0.0/8","10.0.0.0/8"]}}"#;

/// Over each of the client's wires: the head that the endpoint got of this request.
#[track_caller]
fn heads(listener: &'static str, request: Request, check: impl Fn(&str)) {
    for client in [Http::One, Http::Two] {
        let row = Row::new("a head").client(client).listener(listener);
        let (line, outcome) = row.sends(&[request]).outcome();
        assert_eq!(line, "200; seen 1; 2xx 1", "{client:?} {request:?}");
        check(&outcome.requests[0].head);
    }
}

#[test]
fn a_stranger_is_told_from_a_trusted_proxy() {
    const FORGED: Request = GET.fields(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/admin"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
    ]);
    heads("", FORGED, |head| {
        for (name, want) in [
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-real-ip", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-port", Some("80")),
            ("x-forwarded-host", Some("a")),
            ("x-forwarded-prefix", None),
            ("forwarded", None),
        ] {
            assert_eq!(field(head, name), want, "{head}");
        }
        assert_eq!(head.matches("6.6.6.6").count(), 0, "{head}");
    });
    heads(TRUSTED, FORGED, |head| {
        for (name, want) in [
            ("x-forwarded-for", Some("6.6.6.6, 127.0.0.1")),
            ("x-real-ip", Some("6.6.6.6")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-port", Some("443")),
            ("x-forwarded-prefix", Some("/admin")),
            ("forwarded", Some("for=6.6.6.6")),
        ] {
            assert_eq!(field(head, name), want, "{head}");
        }
    });
}

#[test]
fn a_name_with_underscores_never_stands_for_another_one() {
    const FORGED: Request = POST.fields(&[
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_proto", "6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
        ("content_length", "6"),
        ("transfer_encoding", "chunked"),
        ("x_own", "1"),
    ]);
    for listener in ["", TRUSTED] {
        heads(listener, FORGED, |head| {
            assert_eq!(field(head, "x_own"), Some("1"), "{head}");
            assert_eq!(head.matches('_').count(), 1, "{head}");
            assert_eq!(head.matches("6.6.6.6").count(), 0, "{head}");
        });
    }
    // Nor does it in trailer fields, or in a response.
    let sent = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        0\r\nx_real_ip: 6.6.6.6\r\nx-sum: 1\r\n\r\n";
    let row = Row::new("trailers").says(&[Say::Bytes(sent)]);
    let (_, outcome) = row.outcome();
    assert_eq!(outcome.requests[0].body.trailers, "x-sum: 1\r\n");
    let response = Step::Say("HTTP/1.1 200 OK\r\ncontent_length: 9\r\ncontent-length: 2\r\n\r\nok");
    for client in [Http::One, Http::Two] {
        let row = Row::new("a response").client(client);
        let script: &[Step] = &[Take, response.clone()];
        let (_, outcome) = row.script(&[script]).outcome();
        assert_eq!(field(&outcome.responses[0].head, "content_length"), None);
    }
}

#[test]
fn forwarded_is_written_where_the_service_has_it() {
    const FORWARDED: &str = r#"{"name":"web","forwarded":true}"#;
    for client in [Http::One, Http::Two] {
        for (listener, want) in [
            ("", "for=127.0.0.1;proto=http;host=\"a:8080\""),
            (
                TRUSTED,
                "for=6.6.6.6, for=127.0.0.1;proto=http;host=\"a:8080\"",
            ),
        ] {
            let request = GET.at("a:8080").fields(&[("forwarded", "for=6.6.6.6")]);
            let row = Row::new(want).client(client).listener(listener);
            let (_, outcome) = row.service(FORWARDED).sends(&[request]).outcome();
            let head = &outcome.requests[0].head;
            assert_eq!(field(head, "forwarded"), Some(want), "{head}");
            assert_eq!(field(head, "x-forwarded-port"), Some("8080"), "{head}");
        }
    }
}

/// Which version a request gets that names version 2, and comes from a trusted proxy with this list.
#[track_caller]
fn check_forced(fields: &'static [(&'static str, &'static str)], version: &str) {
    let counted = match version {
        "2" => "2: forced: 2xx 1",
        _ => "1: 2xx 1",
    };
    for client in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            Row::new(&format!("{fields:?}"))
                .client(client)
                .listener(TRUSTED)
                .versions(&[("1", speaks), ("2", speaks)])
                .service(FORCED)
                .sends(&[GET.fields(fields)])
                .check(&format!("200; seen 1+0; of {counted}"));
        }
    }
}

#[test]
fn a_version_is_named_only_by_a_client_that_is_known() {
    const NAMES: (&str, &str) = ("x-version", "2");
    check_forced(&[NAMES], "2");
    check_forced(&[NAMES, ("x-forwarded-for", "10.0.0.7")], "2");
    check_forced(&[NAMES, ("x-forwarded-for", "10.0.0.7:1")], "2");
    check_forced(&[NAMES, ("x-forwarded-for", "10.0.0.7, 10.0.0.8")], "2");
    check_forced(&[NAMES, ("x-forwarded-for", "6.6.6.6")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "6.6.6.6:1")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "[2001:db8::1]:1")], "1");
    check_forced(
        &[NAMES, ("x-forwarded-for", "10.0.0.7, 6.6.6.6:1, 10.0.0.8")],
        "1",
    );
    check_forced(&[NAMES, ("x-forwarded-for", "6.6.6.6, 10.0.0.8")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "unknown")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "10.0.0.7, unknown")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "_hidden")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "10.0.0.7,")], "1");
    check_forced(&[NAMES, ("x-forwarded-for", "\"127.0.0.1\"")], "1");
}

#[test]
fn what_clients_aim_at_a_version_is_no_evidence_of_it_and_is_not_copied() {
    const MIRRORED: &str = r#"{"name":"web","split":{"1":1,"2":0,"3":0},"mirror":{"version":"3","percent":100},"force":{"header":"x-version","from":["127.0.0.1"]}}"#;
    const NAMES: Request = GET.fields(&[("x-version", "2")]);
    const SOME: &[&[Step]] = &[&[Take, Respond(500, "no")], &[Take, Step::Reset]];
    for client in [Http::One, Http::Two] {
        for (steps, counted) in SOME.iter().zip([
            "500; seen 1+0+0; of 2: forced: 5xx 1; copies: ; originals: ",
            "502 error=connection_terminated; seen 1+0+0; of 2: forced: reset 1; copies: ; originals: ",
        ]) {
            Row::new("forced")
                .client(client)
                .versions(&[("1", Http1), ("2", Http1), ("3", Http1)])
                .service(MIRRORED)
                .script(&[steps])
                .sends(&[NAMES])
                .check(counted);
        }
    }
}

#[test]
fn an_unknown_client_has_no_key_to_be_balanced_by() {
    const HASHED: &str = r#"{"name":"web","balance":{"hash":"address"}}"#;
    let seen = |list: &'static str| {
        let fields: &'static [(&str, &str)] = Box::leak(Box::new([("x-forwarded-for", list)]));
        let row = Row::new(list)
            .endpoints(2, Http1)
            .listener(TRUSTED)
            .service(HASHED);
        let script: &[Step] = &[Take, Respond(200, "ok"), Take, Respond(200, "ok")];
        let row = row.sends(&[GET.fields(fields); 2]).script(&[script]);
        row.outcome().1.seen
    };
    assert_eq!(seen("203.0.113.9"), [2, 0], "always the same");
    assert_eq!(seen("203.0.113.9:1, 10.0.0.7"), [2, 0]);
    assert_eq!(seen("unknown"), [1, 1], "in turn");
    assert_eq!(seen("10.0.0.7, _hidden"), [1, 1]);
}

#[test]
fn a_host_is_found_with_a_port_and_with_a_dot_at_its_end() {
    for (service, hosts) in [
        (
            r#"{"name":"web","hosts":["App.example.com."]}"#,
            [
                "app.example.com",
                "app.example.com.",
                "APP.example.com.:80",
                "app.example.com:8080",
            ],
        ),
        (
            r#"{"name":"web","hosts":["*.example.com"]}"#,
            [
                "a.example.com",
                "a.example.com.",
                "a.b.example.com.:80",
                "a.example.com:8080",
            ],
        ),
        (
            r#"{"name":"web","hosts":["münchen.example"]}"#,
            [
                "xn--mnchen-3ya.example",
                "XN--mnchen-3ya.example",
                "xn--mnchen-3ya.example.",
                "xn--mnchen-3ya.example.:443",
            ],
        ),
    ] {
        for client in [Http::One, Http::Two] {
            for host in hosts {
                let row = Row::new(host).client(client).service(service);
                let (line, outcome) = row.sends(&[GET.at(host)]).script(&[&GOOD]).outcome();
                assert_eq!(line, "200; seen 1; 2xx 1", "{host}");
                // As it came: it is the endpoint's to read.
                assert_eq!(field(&outcome.requests[0].head, "host"), Some(host));
            }
            let row = Row::new(service).client(client).service(service);
            for host in ["example.com", "b.example.", "a.example.com.."] {
                row.clone()
                    .sends(&[GET.at(host)])
                    .check("404 error=destination_not_found; seen 0; nothing counted");
            }
        }
    }
}
