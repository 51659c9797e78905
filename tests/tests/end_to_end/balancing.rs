//! Which endpoint of a version gets a request.

use std::collections::HashMap;

use serde_json::{Value, json};
use tests::{Load, TestEndpoint, TestProxy, send};

/// A proxy before three endpoints of one version, whose responses tell them apart.
async fn proxy_with(balance: Value, endpoints: &[TestEndpoint]) -> TestProxy {
    let proxy = TestProxy::start().await;
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|endpoint| json!({"address": endpoint.address.to_string(), "version": "1"}))
        .collect();
    let service = json!({"balance": balance, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", service).await;
    proxy
}

async fn three() -> [TestEndpoint; 3] {
    [
        TestEndpoint::start("a").await,
        TestEndpoint::start("b").await,
        TestEndpoint::start("c").await,
    ]
}

/// The version that serves a request with this header field.
async fn version_from(proxy: &TestProxy, field: (&str, &str)) -> String {
    let reply = send(proxy.address, "GET", "/", &[field], "").await;
    reply.json()["version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn requests_with_the_same_key_have_the_same_endpoint_on_every_worker() {
    let endpoints = three().await;
    for (balance, field) in [
        (json!({"hash": {"header": "X-User"}}), "x-user"),
        (json!({"hash": {"cookie": "session"}}), "cookie"),
        // Of 127.0.0.1, where the tests are, the proxy believes nothing; but it is one client.
        (json!({"hash": "address"}), "x-forwarded-for"),
    ] {
        let proxy = proxy_with(balance.clone(), &endpoints).await;
        let mut users: HashMap<String, String> = HashMap::new();
        for number in 0..60 {
            let user = format!("session=u{}", number % 20);
            let by = version_from(&proxy, (field, &user)).await;
            let before = users.insert(user.clone(), by.clone());
            assert!(
                before.is_none_or(|before| before == by),
                "{balance}: {user}"
            );
        }
        let distinct: std::collections::HashSet<&String> = users.values().collect();
        let want = if field == "x-forwarded-for" { 1 } else { 3 };
        assert_eq!(distinct.len(), want, "{balance}: {users:?}");
        let view = proxy.must("GET", "/v1/services/web", Value::Null).await;
        assert!(view["balance"]["hash"].is_string() || view["balance"]["hash"].is_object());
    }
}

#[tokio::test]
async fn with_least_in_flight_a_slow_endpoint_gets_less() {
    let endpoints = [
        TestEndpoint::with("slow", &["--latency", "300ms"]).await,
        TestEndpoint::start("b").await,
        TestEndpoint::start("c").await,
    ];
    let proxy = proxy_with(json!("least_in_flight"), &endpoints).await;
    let flags = ["--rate", "0", "--connections", "8", "--count", "3000"];
    let seen = Load::start(proxy.address, &flags).finished().await;
    seen.expect_no_failure();
    // In turn, it would have 1,000.
    assert!(seen.ok("slow") < 300, "{seen:?}");
    assert!(seen.ok("b") > 500 && seen.ok("c") > 500, "{seen:?}");
}
