//! Header rules and ids of requests.

use super::{check, check_with, fields, service};
use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::waiting::on_all_wires;
use crate::testing::hot_path::{GET, HEAD, Http, LISTENER, POST, Rig, Row, run};

use Step::{Close, Respond, Say, Take};

const ONCE: &str = "200; seen 1; 2xx 1";
const OWN: Request = GET.fields(&[("x-own", "1"), ("x-twice", "1"), ("x-twice", "2")]);

#[test]
fn fields_are_set_added_and_removed_on_the_way_to_the_endpoint() {
    check(
        r#""headers":{"request":{"set":{"X-Own":"new","x-other":"a $$"},"add":{"x-twice":"3"}}}"#,
        &[OWN],
        "200; seen 1; 2xx 1
        > x-own: new
        > x-other: a $
        > x-twice: 1 | 2 | 3
        > host: a
        < x-own:",
    );
    check(
        r#""headers":{"request":{"remove":["x-twice","via","X-Forwarded-For"]}}"#,
        &[OWN],
        "200; seen 1; 2xx 1
        > x-own: 1
        > x-twice:
        > via:
        > x-forwarded-for:
        > x-real-ip: 127.0.0.1",
    );
}

#[test]
fn fields_are_set_added_and_removed_on_the_way_to_the_client() {
    const SAYS: &str = "HTTP/1.1 200 OK\r\nserver: old\r\nX-Own: 1\r\nset-cookie: a=1\r\n\
        content-length: 2\r\n\r\nok";
    check_with(
        r#""headers":{"response":{"set":{"x-frame-options":"DENY","x-own":"2"},
            "add":{"set-cookie":"b=2"},"remove":["server","via"]}}"#,
        &[Take, Say(SAYS)],
        |row| row.endpoints(1, Speaks::Http1),
        "200; seen 1; 2xx 1
        < x-frame-options: DENY
        < x-own: 2
        < set-cookie: a=1 | b=2
        < server:
        < via:
        < content-length: 2
        > x-frame-options:",
    );
}

#[test]
fn variables_stand_for_what_the_request_has() {
    let request = GET.to("/a/./b//c?d=e&f").at("App.Test:81").fields(&[
        ("cookie", "seat=12; other=3"),
        ("x-tenant-id", "t1"),
        ("x-tenant-id", "t2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "10.9.9.9"),
    ]);
    check(
        r#""headers":{"request":{"set":{
            "x-all":"$remote_addr $host $scheme $service $request_method",
            "x-target":"$path|$query|$request_uri|$rest",
            "x-said":"${cookie_seat}-$cookie_none-$http_x_tenant_id",
            "x-empty":"$cookie_none","x-spaces":"$cookie_none $http_none",
            "x-trimmed":"a $cookie_none"}}}"#,
        &[request],
        "200; seen 1; 2xx 1
        > x-all: 127.0.0.1 app.test http web GET
        > x-target: /a/b/c|d=e&f|/a/b/c?d=e&f|/a/b/c
        > x-said: 12--t1, t2
        > x-empty:
        > x-spaces:
        > x-trimmed: a",
    );
    let trusts = "trusted_proxies = [\"127.0.0.0/8\"]";
    check_with(
        r#""headers":{"request":{"set":{"x-all":"$remote_addr $scheme"}},
            "response":{"set":{"x-all":"$remote_addr $scheme"}}}"#,
        &[Take, Respond(200, "ok")],
        |row| row.listener(trusts).sends(&[request]),
        "200; seen 1; 2xx 1
        > x-all: 10.9.9.9 https
        < x-all: 10.9.9.9 https",
    );
}

#[test]
fn a_response_says_which_version_and_endpoint_it_is_from_and_what_it_is_for() {
    on_all_wires(async |client, speaks| {
        let filters = r#""headers":{"response":{"set":{
            "x-from":"$service $version $endpoint","x-for":"$request_method $host$request_uri"}}}"#;
        let script = Script::new(&[&[Take, Respond(200, "ok")]], &[]);
        let rig = Rig::new("", service(filters), &[("1", speaks)], script).await;
        let mut sender = rig.client(client).await;
        let (response, _) = sender.send(&POST.to("/cart?id=5")).await;
        let want = format!("web 1 {}", rig.address(0));
        assert_eq!(
            fields(&response.head, "x-from"),
            want,
            "{client:?} {speaks:?}"
        );
        assert_eq!(fields(&response.head, "x-for"), "POST a/cart?id=5");
        drop(sender);
        rig.settle().await;
    });
}

#[test]
fn a_retried_request_says_the_same_and_its_response_the_endpoint_that_responded() {
    let filters = r#""request_id":{},"headers":{"request":{"set":{"x-path":"$path"}},
        "response":{"set":{"x-from":"$version","x-id":"$request_id"}}}"#;
    for client in [Http::One, Http::Two] {
        let row = Row::new("again").client(client).service(service(filters));
        let row = row.endpoints(2, Speaks::Http1);
        let (line, outcome) = row
            .script(&[&[Take, Close], &[Take, Respond(200, "ok")]])
            .outcome();
        assert_eq!(line, "200; seen 1+1; 2xx 1, reset 1", "{client:?}");
        let ids = outcome.requests.iter();
        let ids: Vec<_> = ids.map(|one| fields(&one.head, "x-request-id")).collect();
        let response = &outcome.responses[0].head;
        assert!(ids[0] == ids[1] && ids[0].len() == 32, "{ids:?}");
        assert_eq!(
            (fields(response, "x-id"), fields(response, "x-from")),
            (ids[0].clone(), "1".into())
        );
    }
}

#[test]
fn an_id_is_passed_on_from_those_that_are_believed_and_made_else() {
    const CAME: Request = GET.fields(&[("X-Request-Id", "abc-1")]);
    const BAD: Request = GET.fields(&[("x-request-id", "a b")]);
    const TWO: Request = GET.fields(&[("x-request-id", "1"), ("x-request-id", "2")]);
    let trusts = "trusted_proxies = [\"127.0.0.0/8\"]";
    for (setting, listener, request, is_passed_on) in [
        (r#"{}"#, "", CAME, false),
        (r#"{}"#, trusts, CAME, true),
        (r#"{"accept":"always"}"#, "", CAME, true),
        (r#"{"accept":"never"}"#, trusts, CAME, false),
        (r#"{"accept":"always"}"#, "", BAD, false),
        (r#"{"accept":"always"}"#, "", TWO, false),
        (r#"{"accept":"always"}"#, "", GET, false),
    ] {
        let filters = format!(r#""request_id":{setting}"#);
        for client in [Http::One, Http::Two] {
            let row = Row::new("id").client(client).service(service(&filters));
            let (line, outcome) = row.listener(listener).sends(&[request]).outcome();
            assert_eq!(line, ONCE);
            let id = fields(&outcome.requests[0].head, "x-request-id");
            match is_passed_on {
                true => assert_eq!(id, "abc-1", "{setting}"),
                false => assert!(
                    id.len() == 32 && !id.contains(['|', ' ', '-']),
                    "{setting}: {id}"
                ),
            }
        }
    }
    check(
        r#""request_id":{"header":"x-trace","accept":"always"}"#,
        &[GET.fields(&[("x-trace", "t-1"), ("x-request-id", "mine")])],
        "200; seen 1; 2xx 1
        > x-trace: t-1
        > x-request-id: mine",
    );
    // A variable needs no setting, and has no field then.
    check(
        r#""headers":{"response":{"set":{"x-method":"$request_method"}}}"#,
        &[CAME],
        "200; seen 1; 2xx 1
        > x-request-id: abc-1",
    );
}

#[test]
fn each_request_has_an_id_of_its_own() {
    let filters = r#""headers":{"request":{"set":{"x-id":"$request_id"}}}"#;
    let row = Row::new("ids").service(service(filters)).sends(&[GET, GET]);
    let steps: &[Step] = &[Take, Respond(200, "ok"), Take, Respond(200, "ok")];
    let (_, outcome) = row.script(&[steps]).outcome();
    let ids: Vec<_> = outcome
        .requests
        .iter()
        .map(|one| fields(&one.head, "x-id"))
        .collect();
    assert!(
        ids.len() == 2 && ids[0] != ids[1] && ids[0].len() == 32,
        "{ids:?}"
    );
}

#[test]
fn rules_leave_the_framing_as_it_is() {
    let rules = r#""headers":{"request":{"set":{"x-a":"1"},"remove":["x-own"]},
        "response":{"set":{"x-b":"2"},"remove":["date"]}}"#;
    check(
        rules,
        &[POST, POST.streaming(), HEAD, OWN],
        "200, 200, 200, 200; seen 4; 2xx 4\n> x-own:",
    );
    check(
        rules,
        &[HEAD],
        "200; seen 1; 2xx 1\n< content-length: 2\n< x-b: 2\n> x-a: 1",
    );
}

#[test]
fn a_change_of_the_rules_is_for_the_next_request() {
    run(async {
        let filters = r#""headers":{"response":{"set":{"x-a":"1"}}}"#;
        let steps: &[Step] = &[
            Take,
            Respond(200, ""),
            Take,
            Respond(200, ""),
            Take,
            Respond(200, ""),
        ];
        let script = Script::new(&[steps], &[]);
        let config = format!("\n{LISTENER}");
        let rig = Rig::with(&config, service(filters), &[("1", Speaks::Http1)], script).await;
        let mut client = rig.client(Http::One).await;
        assert_eq!(fields(&client.send(&GET).await.0.head, "x-a"), "1");
        let two = admin_api::Template::new("2").unwrap();
        rig.put(|spec| drop(spec.traffic.headers.response.set.insert("x-a".into(), two)));
        assert_eq!(fields(&client.send(&GET).await.0.head, "x-a"), "2");
        rig.put(|spec| spec.traffic.headers = Default::default());
        assert_eq!(fields(&client.send(&GET).await.0.head, "x-a"), "");
    });
}

#[test]
fn endpoints_get_the_host_and_the_path_that_the_service_has_for_them() {
    let filters =
        r#""rewrite":{"path":"/v2$rest"},"headers":{"request":{"set":{"host":"app.internal:81"}}}"#;
    check(
        filters,
        &[GET.to("/a/./b//c%7e?d=/../e").at("App.Test")],
        "200; seen 1; 2xx 1
        > host: app.internal:81
        > x-forwarded-host: App.Test",
    );
    for (method, target, want) in [
        (
            "GET",
            "/a/./b//c%7e?d=/../e",
            "GET /v2/a/b/c~?d=/../e HTTP/1.1",
        ),
        ("GET", "//evil.test", "GET /v2/evil.test HTTP/1.1"),
        ("GET", "/", "GET /v2/ HTTP/1.1"),
        ("OPTIONS", "*", "OPTIONS * HTTP/1.1"),
    ] {
        let request = Request {
            method,
            target,
            ..GET
        };
        let row = Row::new(target).service(service(filters)).sends(&[request]);
        let (line, outcome) = row.outcome();
        assert_eq!(line, ONCE, "{target}");
        assert_eq!(outcome.requests[0].head.lines().next(), Some(want));
    }
}
