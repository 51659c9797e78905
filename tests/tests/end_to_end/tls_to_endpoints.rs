//! TLS to endpoints: whom the proxy believes, for requests and for health checks.

use serde_json::{Value, json};
use tests::{StreamClient, StreamEndpoint, TestCa, TestEndpoint, TestProxy, get, wait_until};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An endpoint that speaks HTTP/1.1 over TLS: a good one, behind a port that takes TLS off.
pub(crate) async fn behind_tls(endpoint: &TestEndpoint, tls: TlsAcceptor) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = endpoint.address;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut stream = tls.accept(stream).await?;
                let mut plain = tokio::net::TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut plain).await
            });
        }
    });
    address
}

async fn put(proxy: &TestProxy, address: std::net::SocketAddr, settings: Value) {
    let web = json!({
        "versions": {"1": settings},
        "health": {"path": "/healthz", "interval": "50ms", "rise": 1, "fall": 1},
        "endpoints": [{"address": address.to_string(), "version": "1"}],
    });
    proxy.must("PUT", "/v1/services/web", web).await;
}

async fn wait_health(proxy: &TestProxy, want: &str) -> String {
    wait_until(want, || async {
        let health = health(proxy).await;
        health["health"] == want && (want == "up" || health["reason"].is_string())
    })
    .await;
    health(proxy).await["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn health(proxy: &TestProxy) -> Value {
    let view = proxy.must("GET", "/v1/services/web", Value::Null).await;
    view["versions"]["1"]["endpoints"][0].clone()
}

#[tokio::test]
async fn both_wires_go_over_tls_to_an_endpoint_that_is_who_it_should_be() {
    let ca = TestCa::new();
    let proxy = TestProxy::start().await;
    let plain = TestEndpoint::start("1").await;
    let h1 = behind_tls(&plain, ca.server("h1.test", &["http/1.1"])).await;
    let h2 = StreamEndpoint::with_tls("1", ca.server("h2.test", &["h2"])).await;
    let body = "0123456789abcdef".repeat(20_000);
    for (address, protocol, name) in [(h1, "http/1.1", "h1.test"), (h2.address, "h2", "h2.test")] {
        let tls = json!({"ca": ca.path("ca.pem"), "server_name": name});
        put(&proxy, address, json!({"protocol": protocol, "tls": tls})).await;
        wait_health(&proxy, "up").await;
        let client = StreamClient::connect(proxy.address).await;
        for _ in 0..5 {
            assert_eq!(get(proxy.address, "/").await.status, 200, "{protocol}");
            let reply = client.send("POST", "/echo", &[], &body).await.unwrap();
            assert!(reply.body == body, "{protocol}");
        }
        let view = proxy.must("GET", "/v1/services/web", Value::Null).await;
        assert_eq!(view["versions"]["1"]["tls"]["server_name"], name, "{view}");
    }
}

#[tokio::test]
async fn an_endpoint_with_another_name_gets_nothing() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1").await;
    let address = behind_tls(&endpoint, ca.server("h1.test", &["http/1.1"])).await;
    let tls =
        |ca: &TestCa, name: &str| json!({"tls": {"ca": ca.path("ca.pem"), "server_name": name}});
    for (settings, says) in [
        (tls(&ca, "other.test"), "not valid for name"),
        (tls(&other, "h1.test"), "invalid peer certificate"),
        (json!({"protocol": "h2", "tls": {"verify": false}}), "TLS"),
    ] {
        put(&proxy, address, settings.clone()).await;
        let reason = wait_health(&proxy, "down").await;
        assert!(reason.contains(says), "{settings}: {reason}");
        // Without a health check it is tried, and the attempt is counted.
        let web = json!({
            "versions": {"1": settings},
            "endpoints": [{"address": address.to_string(), "version": "1"}],
        });
        proxy.must("PUT", "/v1/services/web", web).await;
        let before = proxy.stats().await.versions["1"].failed_tries.connect;
        let reply = get(proxy.address, "/").await;
        assert_eq!(reply.status, 502, "{settings}");
        let after = proxy.stats().await.versions["1"].failed_tries.connect;
        assert_eq!(after, before + 1, "{settings}");
        proxy.logged("TLS handshake with an endpoint failed").await;
    }
    put(&proxy, address, json!({"tls": {"verify": false}})).await;
    wait_health(&proxy, "up").await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
}
