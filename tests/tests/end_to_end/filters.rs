//! Filters of services: by the config file, by the admin API, over swaps and over an upgrade.

use serde_json::{Value, json};
use tests::{Running, TestEndpoint, TestProxy, get, send, wait_until};

#[tokio::test]
async fn a_service_of_the_file_needs_no_endpoint_to_send_requests_elsewhere() {
    let proxy = TestProxy::with_config(
        r#"
        [[services]]
        name = "old"
        hosts = ["old.test"]
        redirect = { to = "https://new.test$request_uri", status = 308 }
        headers = { response = { set = { strict-transport-security = "max-age=60" } } }

        [[services]]
        name = "robots"
        path_prefix = "/robots.txt"
        respond = { body = "User-agent: *\nDisallow: /\n" }
        "#,
    )
    .await;
    let moved = send(proxy.address, "GET", "/a?b=c", &[("host", "old.test")], "").await;
    assert_eq!(moved.status, 308, "{moved:?}");
    assert_eq!(moved.header("location"), "https://new.test/a?b=c");
    assert_eq!(moved.header("strict-transport-security"), "max-age=60");
    let robots = get(proxy.address, "/robots.txt").await;
    assert_eq!(
        (robots.status.as_u16(), &*robots.body),
        (200, "User-agent: *\nDisallow: /\n")
    );
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    for line in [
        "crossfade_local_replies_total{reason=\"redirected\"} 1",
        "crossfade_local_replies_total{reason=\"responded\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_filter_in_the_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let path = file.to_str().unwrap();
    let begins = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[services]]\nname = \"web\"\n";
    for (text, says) in [
        (
            "headers = { request = { set = { x-a = \"$remote_adr\" } } }",
            ":5: services[0].headers.request.set.x-a: unknown variable `$remote_adr`: did you mean `$remote_addr`?",
        ),
        (
            "headers = { request = { remove = [\"Connection\"] } }",
            ":5: services[0].headers.request.remove[0]: `Connection` is about one connection alone",
        ),
        (
            "redirct = { to = \"/a\" }",
            ":5: services[0].redirct: unknown field `redirct`",
        ),
        ("redirct = { to = \"/a\" }", "did you mean `redirect`?"),
        (
            "[services.limits.requests]\nrate = \"100 per second\"",
            ":6: services[0].limits.requests.rate: `100 per second` is not a rate",
        ),
        (
            "access = { deny = [\"10.0.0.0/33\"] }",
            ":5: services[0].access.deny[0]: `10.0.0.0/33` is not a network",
        ),
    ] {
        std::fs::write(&file, format!("{begins}{text}\n")).unwrap();
        let checked = Running::run("crossfade-proxy", &["--config", path, "--check"]).await;
        assert_eq!(checked.code, Some(64), "{checked:?}");
        assert!(checked.stderr.contains(says), "{says}: {}", checked.stderr);
    }
}

/// Service `web` with these filters.
async fn put(proxy: &TestProxy, endpoint: &TestEndpoint, filters: Value) {
    let mut service = json!({
        "endpoints": [{"address": endpoint.address.to_string(), "version": endpoint.version}],
    });
    for (key, value) in filters.as_object().unwrap() {
        service[key] = value.clone();
    }
    proxy.must("PUT", "/v1/services/web", service).await;
}

#[tokio::test]
async fn filters_are_set_by_the_admin_api_shown_and_kept() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let mut proxy = TestProxy::start().await;
    let filters = json!({
        "headers": {"response": {"set": {"X-From": "$service/$version"}, "remove": ["server"]}},
        "request_id": {"accept": "always"},
        "access": {"deny": ["127.0.0.2"]},
        "limits": {"requests": {"rate": "100/s", "by": {"header": "x-key"}}, "in_flight": 10},
    });
    put(&proxy, &endpoint, filters.clone()).await;
    let served = get(proxy.address, "/").await;
    assert_eq!(
        (served.status.as_u16(), served.header("x-from")),
        (200, "web/1.0.0")
    );
    let view = proxy.must("GET", "/v1/services/web", Value::Null).await;
    assert_eq!(view["headers"], filters["headers"]);
    assert_eq!(view["access"], filters["access"]);
    assert_eq!(view["limits"], filters["limits"]);
    assert_eq!(view["request_id"]["accept"], "always");

    // A split changes no filter.
    proxy.split(json!({"1.0.0": 5})).await;
    assert_eq!(get(proxy.address, "/").await.header("x-from"), "web/1.0.0");
    let before = proxy.upgrade().await;
    assert_eq!(get(proxy.address, "/").await.header("x-from"), "web/1.0.0");
    assert_eq!(before.finished().await.code, Some(0));
    let proxy = proxy.restart_after_kill("").await;
    assert_eq!(get(proxy.address, "/").await.header("x-from"), "web/1.0.0");

    let wrong = json!({"headers": {"response": {"set": {"x-a": "$verson"}}}});
    let refused = proxy.call("PUT", "/v1/services/web", wrong).await;
    let error = &refused.json()["error"];
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(error["field"], "headers.response.set.x-a");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("did you mean `$version`?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_limit_counts_over_all_workers_and_over_swaps_and_for_no_version() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::start().await;
    let limits = json!({"requests": {"rate": "5/h"}});
    put(&proxy, &endpoint, json!({"limits": limits})).await;
    let mut taken = 0;
    for round in 0..20 {
        if round == 10 {
            // The same limit goes on in the next table.
            put(&proxy, &endpoint, json!({"limits": limits, "via": false})).await;
        }
        // Each is a connection of its own, to either worker.
        let reply = get(proxy.address, "/").await;
        match reply.status.as_u16() {
            200 => taken += 1,
            429 => assert!(!reply.header("retry-after").is_empty(), "{reply:?}"),
            _ => panic!("{reply:?}"),
        }
    }
    assert_eq!(taken, 5);
    let stats = proxy.stats().await;
    let responses = &stats.versions["1.0.0"].responses;
    assert_eq!(
        (responses.success, responses.client_error),
        (5, 0),
        "{responses:?}"
    );
    put(&proxy, &endpoint, json!({})).await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    wait_until("the count of those refused", || async {
        let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
        metrics.contains("crossfade_local_replies_total{reason=\"too_many_requests\"} 15")
    })
    .await;
}
