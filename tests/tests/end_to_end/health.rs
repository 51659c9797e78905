//! Health checks, and names that are looked up.

use admin_api::HealthState;
use rustix::process::Signal;
use serde_json::json;
use tests::{Load, TestEndpoint, TestProxy, ask, wait_until};

async fn put_checked(proxy: &TestProxy, endpoints: &[&TestEndpoint]) {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|e| json!({"address": e.address.to_string(), "version": e.version}))
        .collect();
    let health =
        json!({"path": "/healthz", "interval": "50ms", "timeout": "2s", "rise": 2, "fall": 2});
    let split = json!({"1.0.0": 1, "2.0.0": 1});
    let service = json!({"health": health, "split": split, "endpoints": endpoints});
    proxy.must("PUT", "/v1/services/web", service).await;
}

async fn health_of(proxy: &TestProxy, version: &str) -> HealthState {
    proxy.web().await.versions[version].endpoints[0].health
}

async fn wait_up(proxy: &TestProxy, version: &str) {
    wait_until("the endpoint is up", || async {
        health_of(proxy, version).await == HealthState::Up
    })
    .await;
}

#[tokio::test]
async fn a_new_endpoint_gets_traffic_only_after_its_checks_have_passed() {
    let proxy = TestProxy::start().await;
    let good = TestEndpoint::start("1.0.0").await;
    let never_ready = TestEndpoint::with("2.0.0", &["--ready-after", "1h"]).await;
    put_checked(&proxy, &[&good, &never_ready]).await;
    wait_up(&proxy, "1.0.0").await;
    let load = ["--rate", "0", "--count", "500"];
    let seen = Load::start(proxy.address, &load).finished().await;
    seen.expect_no_failure();
    assert_eq!(seen.ok("1.0.0"), 500);
    wait_until("the probe's failure is shown", || async {
        let view = &proxy.web().await.versions["2.0.0"].endpoints[0];
        view.reason.as_deref() == Some("answered with 503 Service Unavailable")
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_fails_its_checks_goes_down_and_comes_back() {
    let proxy = TestProxy::start().await;
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    put_checked(&proxy, &[&one, &two]).await;
    wait_up(&proxy, "1.0.0").await;
    wait_up(&proxy, "2.0.0").await;
    two.signal(Signal::STOP);
    wait_until("the stopped one is down", || async {
        health_of(&proxy, "2.0.0").await == HealthState::Down
    })
    .await;
    for _ in 0..20 {
        assert!(ask(proxy.address, "/").await.body.contains("1.0.0"));
    }
    two.signal(Signal::CONT);
    wait_up(&proxy, "2.0.0").await;
}

#[tokio::test]
async fn with_nothing_up_clients_are_told_so() {
    let proxy = TestProxy::start().await;
    let one = TestEndpoint::with("1.0.0", &["--ready-after", "1h"]).await;
    let two = TestEndpoint::with("2.0.0", &["--ready-after", "1h"]).await;
    put_checked(&proxy, &[&one, &two]).await;
    let reply = ask(proxy.address, "/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.header("proxy-status"),
        "crossfade; error=destination_unavailable"
    );
}

#[tokio::test]
async fn an_endpoint_can_have_a_name_and_one_without_an_address_is_shown() {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1.0.0").await;
    let by_name = format!("localhost:{}", endpoint.address.port());
    proxy
        .must(
            "PUT",
            "/v1/services/web",
            json!({"split": {"1.0.0": 1}, "endpoints": [
                {"address": by_name, "version": "1.0.0"},
                {"address": "no-such-name.invalid:80", "version": "2.0.0"},
            ]}),
        )
        .await;
    assert!(ask(proxy.address, "/").await.body.contains("1.0.0"));
    let versions = proxy.web().await.versions;
    assert_eq!(versions["1.0.0"].endpoints[0].address, by_name);
    assert_eq!(
        versions["1.0.0"].endpoints[0].resolved,
        Some(endpoint.address.to_string())
    );
    assert_eq!(
        versions["2.0.0"].endpoints[0].health,
        HealthState::Unresolved
    );
}
