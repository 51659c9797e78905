use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::clock::Clock;
use super::super::record::Wanted;
use super::super::termination::{Phase, Termination, Who};
use super::*;
use crate::testing::with_request;
use crate::wire::peer::Peer;
use crate::wire::reply::LocalReply;
use crate::wire::tls;

/// What is known of a request with these fields from this peer, for lines of this format.
fn record(format: &str, peer: &Peer, fields: &str, query: bool) -> Record {
    let (line, names) = Line::of(&LogFormat::try_from(format.to_owned()).unwrap());
    let names = &*names;
    let mut record = Record::new();
    record.begin(peer, line.is_json());
    with_request(fields, |request| {
        let wanted = Wanted {
            query,
            fields: names,
        };
        record.read(peer, request, &wanted);
    });
    record.has_head(fields.len());
    record
}

fn stranger() -> Peer {
    Peer::new(IpAddr::from([192, 0, 2, 1]), None, false)
}

/// The line of a request that ended 12.345 ms after it began.
fn line(format: &str, record: &Record) -> String {
    let spec = LogFormat::try_from(format.to_owned()).unwrap();
    let (line, _) = Line::of(&spec);
    let mut clock = Clock::new();
    let (now, mut to) = (record.began + Duration::from_micros(12_345), Vec::new());
    let moment = Moment {
        iso: b"2026-11-30T10:04:05",
        local: b"30/Nov/2026:10:04:05 +0000",
        second: 1_796_033_045,
        millis: 67,
        ..clock.at(now)
    };
    line.write(record, now, moment, &mut to);
    let text = String::from_utf8(to).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    text.trim_end().to_owned()
}

/// A request that went well.
fn served(format: &str) -> Record {
    let fields = "host: app.test\r\nuser-agent: curl/8 \"x\"\r\nreferer: http://a.test/?q=1\r\n\
        x-request-id: r-1\r\ncookie: secret=1\r\nauthorization: Basic secret\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let mut record = record(format, &stranger(), fields, true);
    record.is_for("web");
    record.was_tried(2, Duration::from_micros(700));
    record.went_to("2.0.0", "10.0.0.5:8080");
    record.has_response(200);
    record.responded = Some(record.began + Duration::from_micros(9_999));
    record.has_moved(7, 512);
    record.ended(Termination::NORMAL);
    record
}

#[test]
fn a_line_of_json_has_what_is_known_and_leaves_out_what_is_not() {
    let want = r#"{"time":"2026-11-30T10:04:05.067Z","client":"192.0.2.1","method":"GET","host":"app.test","uri":"/","user_agent":"curl/8 \"x\"","referer":"http://a.test/?q=1","request_id":"r-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","service":"web","version":"2.0.0","endpoint":"10.0.0.5:8080","protocol":"HTTP/1.1","status":200,"bytes_in":7,"bytes_out":512,"attempts":2,"connect_us":700,"first_byte_us":9999,"total_us":12345,"termination":"--"}"#;
    assert_eq!(line("json", &served("json")), want);
    let mut refused = record("json", &stranger(), "host: app.test\r\n", true);
    refused.was_refused(LocalReply::NoRoute, Phase::Queue);
    let want = r#"{"time":"2026-11-30T10:04:05.067Z","client":"192.0.2.1","method":"GET","host":"app.test","uri":"/","protocol":"HTTP/1.1","status":404,"bytes_in":0,"bytes_out":0,"attempts":0,"total_us":12345,"termination":"PR"}"#;
    assert_eq!(line("json", &refused), want);
}

#[test]
fn combined_is_what_those_who_read_logs_of_nginx_expect() {
    let want = r#"192.0.2.1 - - [30/Nov/2026:10:04:05 +0000] "GET / HTTP/1.1" 200 512 "http://a.test/?q=1" "curl/8 \x22x\x22""#;
    assert_eq!(line("combined", &served("combined")), want);
}

#[test]
fn every_variable_has_its_value() {
    #[track_caller]
    fn check(record: &Record, template: &str, want: &str) {
        assert_eq!(line(template, record), want, "{template}");
    }
    let record = served("$status");
    check(
        &record,
        "$remote_addr $realip_remote_addr",
        "192.0.2.1 192.0.2.1",
    );
    check(
        &record,
        "$request_method $request_uri $uri $args",
        "GET / / -",
    );
    check(&record, "$request_time $msec", "0.012 1796033045.067");
    check(
        &record,
        "$upstream_addr $upstream_status",
        "10.0.0.5:8080 200",
    );
    check(
        &record,
        "$upstream_connect_time $upstream_header_time $upstream_response_time",
        "0.000 0.009 0.012",
    );
    check(&record, "$service/$version $attempts", "web/2.0.0 2");
    check(&record, "$bytes_in $body_bytes_sent", "7 512");
    check(&record, "$scheme $ssl_protocol", "http -");
    check(
        &record,
        "$request_id $trace_id",
        "r-1 4bf92f3577b34da6a3ce929d0e0e4736",
    );
    check(&record, "${host}x $termination", "app.testx --");
    check(&record, "$time_iso8601", "2026-11-30T10:04:05.067Z");
    check(&record, "$wait_time $remote_user", "0.000 -");

    let mut tls = Peer::new(IpAddr::from([192, 0, 2, 1]), None, true);
    tls.tls_version = Some(tls::Version::Tls13);
    let mut unsent = self::record("$status", &tls, "host: h\r\n", true);
    unsent.was_refused(LocalReply::ClientGone, Phase::Queue);
    check(&unsent, "$scheme $ssl_protocol", "https TLSv1.3");
    check(
        &unsent,
        "$status $upstream_addr $upstream_status $upstream_header_time $upstream_connect_time",
        "499 - - - -",
    );
    // Each has an arm of its own, and none is forgotten above without having a text.
    for (_, name) in Variable::ALL {
        assert!(!line(&format!("${name}"), &record).is_empty(), "{name}");
    }
}

#[test]
fn a_client_behind_a_trusted_proxy_is_the_one_that_it_names() {
    let trusted: Arc<[_]> = ["10.0.0.0/8".parse().unwrap()].into();
    let proxy = Peer::new(IpAddr::from([10, 0, 0, 1]), Some(trusted), false);
    let template = "$remote_addr $realip_remote_addr";
    let of = |fields: &str| line(template, &record(template, &proxy, fields, true));
    assert_eq!(
        of("host: h\r\nx-forwarded-for: 203.0.113.9\r\n"),
        "203.0.113.9 10.0.0.1"
    );
    assert_eq!(of("host: h\r\nx-forwarded-for: unknown\r\n"), "- 10.0.0.1");
    let fields = "host: h\r\nx-forwarded-for: 203.0.113.9\r\n";
    let other = line(template, &record(template, &stranger(), fields, true));
    assert_eq!(other, "192.0.2.1 192.0.2.1");
}

#[test]
fn queries_are_left_out_where_they_are_not_wanted() {
    let fields = "host: h\r\nreferer: http://a.test/p?token=1\r\n";
    let template = "$http_referer $request_uri";
    let text = line(template, &record(template, &stranger(), fields, false));
    assert_eq!(text, "http://a.test/p /");
    let text = line("json", &record("json", &stranger(), fields, false));
    assert!(
        text.contains("\"referer\":\"http://a.test/p\"") && !text.contains("token"),
        "{text}"
    );
    let mut unread = Record::new();
    unread.begin(&stranger(), false);
    let wanted = Wanted {
        query: false,
        fields: &[],
    };
    unread.read_line(&stranger(), b"GET /a?token=1 HTTP/1.1 x\r\nb", &wanted);
    assert_eq!(line("$request", &unread), "GET /a");
}

#[test]
fn a_head_that_cannot_be_read_is_logged_by_its_first_line() {
    let of = |format: &str| {
        let mut record = Record::new();
        record.begin(&stranger(), format == "json");
        let wanted = Wanted {
            query: true,
            fields: &[],
        };
        let head = b"GET /\x00\"a\xff HTTP/1.1\r\nhost: b";
        record.read_line(&stranger(), head, &wanted);
        record.was_refused(LocalReply::BadSyntax, Phase::Head);
        line(format, &record)
    };
    assert_eq!(
        of("$remote_addr $request $status $termination"),
        r"192.0.2.1 GET /\x00\x22a\xFF HTTP/1.1 400 PR"
    );
    let json = of("json");
    let part = "\"request\":\"GET /\\u0000\\\"a\u{fffd} HTTP/1.1\"";
    assert!(json.contains(part), "{json}");
    assert!(
        !json.contains("\"method\"") && !json.contains("\"uri\""),
        "{json}"
    );
}

#[test]
fn any_other_field_can_be_named_in_a_template() {
    let template = "$http_x_tenant|$http_accept|$http_x_tenant";
    let (_, names) = Line::of(&LogFormat::try_from(template.to_owned()).unwrap());
    assert_eq!(*names, ["x-tenant", "accept"]);
    let fields = "host: h\r\nX-Tenant: a\"b\r\n";
    let text = line(template, &record(template, &stranger(), fields, true));
    assert_eq!(text, r"a\x22b|-|a\x22b");
}

#[test]
fn what_is_long_is_cut_and_what_was_dropped_on_its_way_was_killed() {
    let fields = format!("host: h\r\nuser-agent: {}\r\n", "a".repeat(10_000));
    let mut record = record("json", &stranger(), &fields, true);
    let json: serde_json::Value = serde_json::from_str(&line("json", &record)).unwrap();
    assert_eq!(json["user_agent"].as_str().unwrap().len(), 4_096);
    assert_eq!(json["termination"], "KQ");
    assert_eq!(json["status"], 0);
    record.has_response(200);
    record.ended(Termination::new(Who::EndpointTimeout, Phase::Body));
    assert_eq!(line("$status $termination", &record), "200 sD");
}
