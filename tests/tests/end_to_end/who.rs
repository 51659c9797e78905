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
