//! Clients that keep their version, and testers that name one.

use std::collections::HashMap;

use serde_json::{Value, json};
use tests::{TestEndpoint, TestProxy, send};

/// A proxy before two versions, with these keys beside and this split.
async fn proxy_with(keys: Value, endpoints: &[TestEndpoint], split: Value) -> TestProxy {
    let proxy = TestProxy::start().await;
    let mut service = keys;
    service["split"] = split;
    service["endpoints"] = endpoints
        .iter()
        .map(|e| json!({"address": e.address.to_string(), "version": e.version}))
        .collect();
    proxy.must("PUT", "/v1/services/web", service).await;
    proxy
}

async fn two() -> [TestEndpoint; 2] {
    [
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    ]
}

/// The version that responds, and the cookie that it comes with.
async fn get_as(proxy: &TestProxy, fields: &[(&str, &str)]) -> (String, Option<String>) {
    let reply = send(proxy.address, "GET", "/", fields, "").await;
    let version = reply.json()["version"].as_str().unwrap().to_owned();
    let cookie = reply.header("set-cookie");
    let cookie = (!cookie.is_empty()).then(|| cookie.to_owned());
    (version, cookie)
}

#[tokio::test]
async fn a_client_keeps_its_version_by_the_cookie_and_a_raised_share_moves_no_client_back() {
    let endpoints = two().await;
    let split = |weight: u32| json!({"1.0.0": 100 - weight, "2.0.0": weight});
    let sticky = json!({"sticky": {"cookie": "seat", "max_age": "1h"}});
    let proxy = proxy_with(sticky, &endpoints, split(30)).await;
    let mut clients: HashMap<String, String> = HashMap::new();
    for _ in 0..60 {
        let (version, set_cookie) = get_as(&proxy, &[]).await;
        let set_cookie = set_cookie.expect("a newcomer is told its value");
        assert!(set_cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"));
        let cookie = set_cookie.split(';').next().unwrap().to_owned();
        let (again, more) = get_as(&proxy, &[("cookie", &cookie)]).await;
        assert_eq!((&again, more), (&version, None));
        clients.insert(cookie, version);
    }
    assert_eq!(clients.len(), 60, "everybody has a value of its own");
    let stats = proxy.stats().await.versions;
    let in_canary = clients.values().filter(|version| **version == "2.0.0");
    let in_canary = in_canary.count();
    assert_eq!(stats["2.0.0"].responses.success, 2 * in_canary as u64);
    assert!((3..40).contains(&in_canary), "{in_canary}");
    for weight in [50, 80, 100] {
        proxy.split(split(weight)).await;
        for (cookie, version) in &mut clients {
            let (now, _) = get_as(&proxy, &[("cookie", cookie)]).await;
            assert!(now == *version || now == "2.0.0", "{cookie} at {weight}");
            *version = now;
        }
    }
    assert!(clients.values().all(|version| version == "2.0.0"));
}

/// A client's cookie, and the version that it came from.
async fn newcomer(proxy: &TestProxy) -> (String, String) {
    let (version, cookie) = get_as(proxy, &[]).await;
    let cookie = cookie.unwrap();
    (cookie.split(';').next().unwrap().to_owned(), version)
}

#[tokio::test]
async fn a_cookie_is_known_after_upgrades_and_restarts_and_one_that_was_made_up_is_not() {
    let endpoints = two().await;
    let split = json!({"1.0.0": 1, "2.0.0": 1});
    let sticky = json!({"sticky": {"cookie": "seat"}});
    let mut proxy = proxy_with(sticky, &endpoints, split).await;
    let (cookie, version) = newcomer(&proxy).await;
    let known = (version.clone(), None);
    for id in 0..8 {
        let (_, code) = cookie.split_once('.').unwrap();
        for made_up in [format!("seat={id:016x}.{code}"), "seat=2.0.0".to_owned()] {
            let (_, set_cookie) = get_as(&proxy, &[("cookie", &made_up)]).await;
            let set_cookie = set_cookie.expect("it is a newcomer");
            assert!(!set_cookie.starts_with(&made_up), "{set_cookie}");
        }
    }
    // As the release before gave them.
    let (_, set_cookie) = get_as(&proxy, &[("cookie", "seat=0000000000000abc")]).await;
    let set_cookie = set_cookie.expect("it is replaced");
    assert!(
        set_cookie.starts_with("seat=0000000000000abc."),
        "{set_cookie}"
    );

    let old = proxy.upgrade().await;
    assert_eq!(get_as(&proxy, &[("cookie", &cookie)]).await, known);
    old.finished().await;
    let proxy = proxy.restart_after_kill("").await;
    assert_eq!(get_as(&proxy, &[("cookie", &cookie)]).await, known);
}

#[tokio::test]
async fn proxies_with_the_same_key_file_know_each_others_cookies() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, [7; 32]).unwrap();
    let config = format!("[sticky]\nkey_file = {file:?}");
    let one = TestProxy::with_config(&config).await;
    let other = TestProxy::with_config(&config).await;
    let endpoints = two().await;
    for proxy in [&one, &other] {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|e| json!({"address": e.address.to_string(), "version": e.version}))
            .collect();
        let service = json!({"sticky": {"cookie": "seat"}, "endpoints": endpoints,
            "split": {"1.0.0": 1, "2.0.0": 1}});
        proxy.must("PUT", "/v1/services/web", service).await;
    }
    let (cookie, version) = newcomer(&one).await;
    assert_eq!(
        get_as(&other, &[("cookie", &cookie)]).await,
        (version, None)
    );
}

#[tokio::test]
async fn a_header_tells_clients_apart_and_without_it_requests_are_split() {
    let endpoints = two().await;
    let split = json!({"1.0.0": 1, "2.0.0": 1});
    let proxy = proxy_with(json!({"sticky": {"header": "X-User"}}), &endpoints, split).await;
    let mut without: HashMap<String, usize> = HashMap::new();
    for number in 0..20 {
        let user = format!("user-{number}");
        let (first, cookie) = get_as(&proxy, &[("x-user", &user)]).await;
        assert_eq!(cookie, None);
        assert_eq!(get_as(&proxy, &[("x-user", &user)]).await.0, first);
        *without.entry(get_as(&proxy, &[]).await.0).or_default() += 1;
    }
    assert!(without["1.0.0"].abs_diff(10) <= 8, "{without:?}");
}

#[tokio::test]
async fn testers_name_their_version_and_other_clients_do_not() {
    let endpoints = two().await;
    let split = json!({"1.0.0": 1, "2.0.0": 0});
    // 127.0.0.2 is a proxy that is trusted here; the tests themselves come from 127.0.0.1.
    for (from, want) in [("127.0.0.0/8", "2.0.0"), ("10.0.0.0/8", "1.0.0")] {
        let force = json!({"header": "x-version", "cookie": "version", "from": [from]});
        let keys = json!({"force": force});
        let proxy = proxy_with(keys, &endpoints, split.clone()).await;
        for field in [("x-version", "2.0.0"), ("cookie", "version=2.0.0")] {
            assert_eq!(
                get_as(&proxy, &[field]).await.0,
                want,
                "{field:?} from {from}"
            );
        }
        assert_eq!(get_as(&proxy, &[("x-version", "9.9.9")]).await.0, "1.0.0");
        let stats = proxy.stats().await.versions;
        let named = if want == "2.0.0" { 2 } else { 0 };
        assert_eq!(stats["2.0.0"].forced.responses.success, named);
        assert_eq!(stats["2.0.0"].attempts(), 0);
    }
}
