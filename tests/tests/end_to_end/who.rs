//! Who asks, and for what: what strangers say of it is not believed, and no path leaves its prefix.

use serde_json::json;
use tests::{Reply, ScriptedEndpoint, TestEndpoint, TestProxy, get, raw, send};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An endpoint of HTTP/1.1 that keeps the heads that it gets as they are.
async fn listening() -> ScriptedEndpoint {
    ScriptedEndpoint::start(|_, mut heard| async move {
        while heard.head().await.is_some() {
            heard.say(OK).await;
        }
    })
    .await
}

/// A proxy before it, with these keys of the service.
async fn proxy_before(endpoint: &ScriptedEndpoint, keys: serde_json::Value) -> TestProxy {
    let proxy = TestProxy::start().await;
    let mut service = keys;
    service["endpoints"] = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
    proxy.must("PUT", "/v1/services/web", service).await;
    proxy
}

#[tokio::test]
async fn an_endpoint_sees_none_of_what_a_stranger_says_of_itself() {
    let endpoint = listening().await;
    let proxy = proxy_before(&endpoint, json!({"forwarded": true})).await;
    let forged = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded_Proto", "6.6.6.6"),
        ("X_Real_IP", "6.6.6.6"),
        ("Content_Length", "6666"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Prefix", "/6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
        ("Forwarded", "for=6.6.6.6"),
    ];
    assert_eq!(
        send(proxy.address, "GET", "/", &forged, "").await.status,
        200
    );
    let heads = endpoint.heard();
    let head = heads.first().expect("a request").to_lowercase();
    assert!(!head.contains("6.6.6.6") && !head.contains('_'), "{head}");
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http",
        "forwarded: for=127.0.0.1;proto=http;host=",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
    }
}

#[tokio::test]
async fn a_path_reaches_the_service_that_it_was_routed_to_and_no_other() {
    let (public, admin) = (
        TestEndpoint::start("public").await,
        TestEndpoint::start("admin").await,
    );
    let proxy = TestProxy::start().await;
    for (name, endpoint, strip) in [("public", &public, true), ("admin", &admin, false)] {
        let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1"}]);
        let service = json!({
            "path_prefix": format!("/{name}"), "strip_prefix": strip, "endpoints": endpoints,
        });
        let path = format!("/v1/services/{name}");
        proxy.must("PUT", &path, service).await;
    }
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public//../admin",
        "/admin/../public/x",
        "/..",
        "/public/%zz",
    ] {
        let Reply { status, body, .. } = get(proxy.address, path).await;
        assert_eq!(status, 400, "{path}: {body}");
    }
    for path in [
        "/public/headers",
        "/x/../public/headers",
        "/public/x/../headers",
        "//public//headers",
    ] {
        let got = get(proxy.address, path).await.json();
        assert_eq!(got["path"], "/headers", "{path}");
    }
    for (path, version) in [("/public/a/..", "public"), ("/x/%2e./admin/", "admin")] {
        let got = get(proxy.address, path).await.json();
        assert_eq!(got["version"], version, "{path}");
    }
}

#[tokio::test]
async fn trace_is_refused_and_a_dot_at_the_end_of_a_host_is_not() {
    let endpoint = listening().await;
    let keys = json!({"hosts": ["app.example.com", "münchen.example"]});
    let proxy = proxy_before(&endpoint, keys).await;
    let trace = b"TRACE / HTTP/1.1\r\nhost: app.example.com\r\n\r\n";
    let response = raw(proxy.address, trace).await;
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    assert!(endpoint.heard().is_empty());
    for (host, status) in [
        ("app.example.com", 200),
        ("app.example.com.", 200),
        ("APP.example.com.:8080", 200),
        ("xn--mnchen-3ya.example.", 200),
        ("example.com", 404),
    ] {
        let reply = send(proxy.address, "GET", "/", &[("host", host)], "").await;
        assert_eq!(reply.status, status, "{host}");
    }
}

#[tokio::test]
async fn behind_a_balancer_the_client_is_whom_its_header_names() {
    let keys = "proxy_protocol = [\"127.0.0.0/8\"]\n\
        [timeouts]\nheader = \"500ms\"\n\
        [[services]]\nname = \"web\"\nrespond = {}\n\
        headers.response.set = { x-client = \"is $remote_addr\" }\n";
    let proxy = TestProxy::with_config(keys).await;
    let request =
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9\r\nconnection: close\r\n\r\n";
    for (header, says) in [
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n",
            "x-client: is 192.0.2.1",
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 1234 80\r\n",
            "x-client: is 2001:db8::1",
        ),
        // One that is trusted says whom it is for.
        (
            "PROXY TCP4 127.0.0.2 192.0.2.2 1234 80\r\n",
            "x-client: is 203.0.113.9",
        ),
        ("PROXY UNKNOWN\r\n", "x-client: is 127.0.0.1"),
        (
            "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\0\x51",
            "x-client: is 1.2.3.4",
        ),
    ] {
        let reply = raw(proxy.address, format!("{header}{request}").as_bytes()).await;
        assert!(reply.contains(says), "{header:?}: {reply}");
    }
    for broken in [
        "",
        "PROXY TCP4 192.0.2.1\r\n",
        "PROXY TCP4 a b c d\r\n",
        "PROXY ",
    ] {
        let reply = raw(proxy.address, format!("{broken}{request}").as_bytes()).await;
        assert_eq!(reply, "", "{broken:?}");
    }
    // Who sends nothing is not waited for.
    let begun = std::time::Instant::now();
    assert_eq!(raw(proxy.address, b"PROXY TCP4 192.0").await, "");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}
