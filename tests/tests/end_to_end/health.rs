//! Health checks, ejection, what happens when nothing is up, and names that are looked up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use admin_api::HealthState;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{
    GrpcHealth, Load, ScriptedEndpoint, TestCa, TestEndpoint, TestProxy, get, send, wait_until,
};
use tokio::task::JoinSet;

use crate::tls_to_endpoints::behind_tls;

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
        view.reason.as_deref() == Some("responded with 503 Service Unavailable")
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
    let said = proxy.logged("endpoint is down").await;
    for what in [
        "service=\"web\"",
        "version=\"2.0.0\"",
        &format!("address={}", two.address),
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    wait_until("the stopped one is down", || async {
        health_of(&proxy, "2.0.0").await == HealthState::Down
    })
    .await;
    for _ in 0..20 {
        assert!(get(proxy.address, "/").await.body.contains("1.0.0"));
    }
    two.signal(Signal::CONT);
    wait_up(&proxy, "2.0.0").await;
}

#[tokio::test]
async fn with_nothing_up_clients_are_told_so() {
    let proxy = TestProxy::start().await;
    let one = TestEndpoint::with("1.0.0", &["--ready-after", "1h"]).await;
    let two = TestEndpoint::with("2.0.0", &["--ready-after", "1h"]).await;
    for (wait, details) in [("0s", ""), ("500ms", "; details=\"waited\"")] {
        let settings = json!({
            "health": {"path": "/healthz", "interval": "100ms"},
            "timeouts": {"wait_for_endpoint": wait},
            "split": {"1.0.0": 1, "2.0.0": 1},
        });
        let endpoints = [("1.0.0", one.address), ("2.0.0", two.address)];
        put(&proxy, settings, &endpoints).await;
        let reply = get(proxy.address, "/").await;
        assert_eq!(reply.status, 503, "{wait}");
        let error = "crossfade; error=destination_unavailable";
        assert_eq!(reply.header("proxy-status"), format!("{error}{details}"));
    }
    let waits = proxy.stats().await.waits;
    assert_eq!((waits.waiting, waits.waited, waits.refused), (0, 1, 1));
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
    assert!(get(proxy.address, "/").await.body.contains("1.0.0"));
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

/// Sets service `web` to these endpoints, with these keys beside.
async fn put(proxy: &TestProxy, keys: Value, endpoints: &[(&str, SocketAddr)]) {
    let mut service = keys;
    service["endpoints"] = endpoints
        .iter()
        .map(|(version, address)| json!({"version": version, "address": address.to_string()}))
        .collect();
    proxy.must("PUT", "/v1/services/web", service).await;
}

async fn wait_reason(proxy: &TestProxy, version: &str, reason: &str) {
    wait_until(&format!("{version} is down: {reason}"), || async {
        let versions = proxy.web().await.versions;
        let given = versions[version].endpoints[0].reason.clone();
        given.is_some_and(|given| given.contains(reason))
    })
    .await;
}

#[tokio::test]
async fn a_check_wants_its_status_and_its_text() {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1.0.0").await;
    let put = async |health: Value| {
        let mut health = health;
        health["interval"] = json!("20ms");
        put(
            &proxy,
            json!({"health": health}),
            &[("1.0.0", endpoint.address)],
        )
        .await;
    };
    put(json!({"path": "/", "status": 204})).await;
    wait_reason(&proxy, "1.0.0", "responded with 200 OK, not 204").await;
    put(json!({"path": "/", "status": "200-204", "body": "Hello Moon"})).await;
    wait_reason(&proxy, "1.0.0", "does not contain `Hello Moon`").await;
    put(json!({"path": "/", "body": "Hello World"})).await;
    wait_up(&proxy, "1.0.0").await;
}

#[tokio::test]
async fn a_tcp_check_needs_a_connection_and_no_more() {
    let proxy = TestProxy::start().await;
    // It reads nothing and says nothing.
    let silent = ScriptedEndpoint::start(|_, heard| async move { drop(heard) }).await;
    let health = json!({"health": {"protocol": "tcp", "interval": "20ms", "fall": 1}});
    put(&proxy, health, &[("1.0.0", silent.address)]).await;
    wait_up(&proxy, "1.0.0").await;
    drop(silent);
    wait_reason(&proxy, "1.0.0", "refused").await;
}

#[tokio::test]
async fn a_grpc_check_names_its_service() {
    let proxy = TestProxy::start().await;
    let server = GrpcHealth::start().await;
    let health = |service: &str| {
        let health = json!({"protocol": "grpc", "service": service, "interval": "20ms", "fall": 1});
        json!({"health": health})
    };
    put(&proxy, health("shop.Nothing"), &[("1.0.0", server.address)]).await;
    wait_reason(&proxy, "1.0.0", "NOT_FOUND").await;
    put(&proxy, health("shop.Cart"), &[("1.0.0", server.address)]).await;
    wait_up(&proxy, "1.0.0").await;
    server.say(2);
    wait_reason(&proxy, "1.0.0", "NOT_SERVING").await;
    server.say(1);
    wait_up(&proxy, "1.0.0").await;
}

#[tokio::test]
async fn one_of_two_endpoints_that_fails_is_ejected_and_tried_again_later() {
    let proxy = TestProxy::start().await;
    let bad = TestEndpoint::with("bad", &["--error-rate", "1"]).await;
    let good = TestEndpoint::start("good").await;
    let ejection = json!({"ejection": {"consecutive": 3, "duration": "1s"}});
    put(
        &proxy,
        ejection,
        &[("1.0.0", bad.address), ("1.0.0", good.address)],
    )
    .await;
    let load = Load::start(proxy.address, &["--rate", "200"]);
    let health = async || proxy.web().await.versions["1.0.0"].endpoints.clone();
    let wait_for = async |state: HealthState| {
        let what = format!("the bad endpoint is {state}");
        wait_until(&what, || async { health().await[0].health == state }).await;
    };
    for _ in 0..2 {
        wait_for(HealthState::Ejected).await;
        let reason = health().await[0].reason.clone().unwrap();
        assert!(reason.contains("failures in a row"), "{reason}");
        for _ in 0..20 {
            assert!(get(proxy.address, "/").await.body.contains("good"));
        }
        wait_for(HealthState::Up).await;
    }
    assert_eq!(health().await[1].health, HealthState::Up);
    load.stop().await;
}

#[tokio::test]
async fn the_share_of_a_version_that_is_down_goes_to_the_others_and_is_counted() {
    let proxy = TestProxy::start().await;
    let (one, two) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    put_checked(&proxy, &[&one, &two]).await;
    wait_up(&proxy, "1.0.0").await;
    wait_up(&proxy, "2.0.0").await;
    two.signal(Signal::KILL);
    wait_until("version 2.0.0 is down", || async {
        let status = proxy.must("GET", "/v1/status", Value::Null).await;
        status["versions_down"] == json!(["web/2.0.0"])
    })
    .await;
    let before = proxy.stats().await.versions["2.0.0"].diverted;
    let load = ["--rate", "0", "--count", "1000"];
    let seen = Load::start(proxy.address, &load).finished().await;
    seen.expect_no_failure();
    assert_eq!(seen.ok("1.0.0"), 1_000);
    let diverted = proxy.stats().await.versions["2.0.0"].diverted - before;
    assert!(diverted.abs_diff(500) <= 10, "{diverted}");
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let line = format!(
        "crossfade_diverted_total{{service=\"web\",version=\"2.0.0\"}} {}",
        before + diverted
    );
    assert!(metrics.contains(&line), "{metrics}");
    proxy.logged("no endpoint of the version is up").await;
}

#[tokio::test]
async fn with_everything_down_what_was_up_before_is_tried_anyway() {
    let proxy = TestProxy::start().await;
    let ill = ["--unhealthy-after", "1s"];
    let one = TestEndpoint::with("1.0.0", &ill).await;
    let two = TestEndpoint::with("2.0.0", &ill).await;
    put_checked(&proxy, &[&one, &two]).await;
    wait_up(&proxy, "1.0.0").await;
    wait_up(&proxy, "2.0.0").await;
    wait_until("nothing is up", || async {
        let status = proxy.must("GET", "/v1/status", Value::Null).await;
        status["in_panic"] == json!(["web"])
    })
    .await;
    let load = ["--rate", "0", "--count", "200"];
    let seen = Load::start(proxy.address, &load).finished().await;
    seen.expect_no_failure();
    assert!(seen.ok("1.0.0").abs_diff(100) <= 10, "{seen:?}");
    assert!(proxy.web().await.panic);
    let versions = proxy.stats().await.versions;
    let panicked: u64 = versions.values().map(|version| version.panicked).sum();
    assert!(panicked >= 200, "{panicked}");
    proxy.logged("panic mode").await;
}

#[tokio::test]
async fn after_a_restart_the_first_request_finds_up_what_is_up() {
    let proxy = TestProxy::start().await;
    let good = TestEndpoint::start("1.0.0").await;
    // Takes connections, and never responds: it is not known to be down for a minute.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let service = json!({
        "health": {"path": "/healthz", "interval": "60s", "timeout": "60s", "rise": 3},
        "endpoints": [
            {"address": good.address.to_string(), "version": "1.0.0"},
            {"address": silent, "version": "1.0.0"},
        ],
    });
    proxy.must("PUT", "/v1/services/web", service).await;
    wait_up(&proxy, "1.0.0").await;
    let restarted = proxy.restart_after_kill("").await;
    for _ in 0..10 {
        assert_eq!(get(restarted.address, "/").await.status, 200);
    }
}

/// Sends requests to an endpoint that freezes once it has some of them, and to a good one. Gives
/// their statuses, and how many are counted as timed out.
async fn when_one_freezes(method: &'static str, ca: Option<&TestCa>) -> (Vec<u16>, u64) {
    let proxy = TestProxy::start().await;
    let good = TestEndpoint::start("1.0.0").await;
    let freezes = TestEndpoint::with("1.0.0", &["--latency", "8s"]).await;
    let health = json!({"path": "/healthz", "interval": "50ms", "timeout": "1s", "fall": 2});
    let mut keys = json!({"health": health});
    let mut addresses = [good.address, freezes.address];
    if let Some(ca) = ca {
        let tls = json!({"ca": ca.path("ca.pem"), "server_name": "h1.test"});
        keys["versions"] = json!({"1.0.0": {"tls": tls}});
        addresses = [
            behind_tls(&good, ca.server("h1.test", &["http/1.1"])).await,
            behind_tls(&freezes, ca.server("h1.test", &["http/1.1"])).await,
        ];
    }
    put(&proxy, keys, &addresses.map(|address| ("1.0.0", address))).await;
    let endpoints = async || proxy.web().await.versions["1.0.0"].endpoints.clone();
    wait_until("both are up", || async {
        let mut endpoints = endpoints().await.into_iter();
        endpoints.all(|one| one.health == HealthState::Up)
    })
    .await;
    let mut requests = JoinSet::new();
    for _ in 0..8 {
        let address = proxy.address;
        requests.spawn(async move { send(address, method, "/", &[], "").await.status.as_u16() });
    }
    let slow = addresses[1].to_string();
    wait_until("some wait", || async {
        let mut endpoints = endpoints().await.into_iter();
        endpoints.any(|one| one.address == slow && one.in_flight >= 2)
    })
    .await;
    freezes.signal(Signal::STOP);
    let statuses = requests.join_all().await;
    let stats = proxy.stats().await;
    (statuses, stats.versions["1.0.0"].failed_tries.timeout)
}

#[tokio::test]
async fn idempotent_requests_at_an_endpoint_that_freezes_go_to_another() {
    let (statuses, timed_out) = when_one_freezes("GET", None).await;
    assert_eq!(statuses, [200; 8]);
    assert!(timed_out >= 2, "{timed_out}");
}

#[tokio::test]
async fn idempotent_requests_at_an_endpoint_behind_tls_that_freezes_go_to_another() {
    let (statuses, timed_out) = when_one_freezes("GET", Some(&TestCa::new())).await;
    assert_eq!(statuses, [200; 8]);
    assert!(timed_out >= 2, "{timed_out}");
}

#[tokio::test]
async fn other_requests_at_an_endpoint_that_freezes_get_their_504_at_once() {
    let began = Instant::now();
    let (statuses, timed_out) = when_one_freezes("POST", None).await;
    // timeouts.first_byte is 30 s.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let failed = statuses.iter().filter(|status| **status == 504).count();
    assert!(timed_out >= 2 && failed as u64 == timed_out, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 504].contains(status)));
}
