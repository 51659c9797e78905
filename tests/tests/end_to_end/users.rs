//! Who may use a service: by a password, by a certificate, and from pages of other sites.

use serde_json::{Value, json};
use tests::{Reply, Running, TestCa, TestEndpoint, TestProxy, get, send, wait_until};

/// The password is `secret`.
const ALICE: &str = "alice:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// `alice:secret` and `alice:wrong`.
const RIGHT: &str = "Basic YWxpY2U6c2VjcmV0";
const WRONG: &str = "Basic YWxpY2U6d3Jvbmc=";

async fn request(proxy: &TestProxy, authorization: &str) -> Reply {
    let fields = [("authorization", authorization)];
    send(proxy.address, "GET", "/", &fields, "").await
}

#[tokio::test]
async fn users_of_a_file_are_served_with_their_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, format!("# staff\n{ALICE}\n")).unwrap();
    let proxy = TestProxy::with_config(&format!(
        "[[services]]\nname = \"web\"\nrespond = {{ body = \"in\" }}\n\
         basic_auth = {{ file = {file:?}, realm = \"staff\" }}\n\
         headers = {{ response = {{ set = {{ x-user = \"$remote_user\" }} }} }}\n"
    ))
    .await;
    let stranger = get(proxy.address, "/").await;
    assert_eq!(stranger.status, 401, "{stranger:?}");
    assert_eq!(
        stranger.header("www-authenticate"),
        "Basic realm=\"staff\", charset=\"UTF-8\""
    );
    // Twice: by the hash, and by what is known then.
    for _ in 0..2 {
        let alice = request(&proxy, RIGHT).await;
        assert_eq!(
            (&*alice.body, alice.header("x-user")),
            ("in", "alice"),
            "{alice:?}"
        );
        assert_eq!(request(&proxy, WRONG).await.status, 401);
    }
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let refused = "crossfade_local_replies_total{reason=\"unauthorized\"} 3";
    assert!(metrics.contains(refused), "{metrics}");
}

#[tokio::test]
async fn a_bad_line_of_users_is_named_and_changes_nothing() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::start().await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1.0.0"}]);
    let with = |users: &str| json!({"endpoints": endpoints, "basic_auth": {"users": users}});
    proxy.must("PUT", "/v1/services/web", with(ALICE)).await;
    assert_eq!(request(&proxy, RIGHT).await.status, 200);
    let bad = format!("{ALICE}\nbob:$apr1$secret$hash");
    let refused = proxy.call("PUT", "/v1/services/web", with(&bad)).await;
    let error = &refused.json()["error"];
    assert_eq!(
        (refused.status.as_u16(), &error["field"]),
        (400, &json!("basic_auth.users"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("line 2: `bob`: the hash is not one of bcrypt"),
        "{message}"
    );
    assert!(!message.contains("secret"), "{message}");
    assert_eq!(request(&proxy, RIGHT).await.status, 200);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("htpasswd");
    std::fs::write(&file, "bob\n").unwrap();
    let config = folder.path().join("proxy.toml");
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[services]]\nname = \"web\"\nbasic_auth.file = {file:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let checked = Running::run("crossfade-proxy", &["--config", config, "--check"]).await;
    assert_eq!(checked.code, Some(64), "{checked:?}");
    let says = "services[0].basic_auth.file: line 1: has no `:`";
    assert!(checked.stderr.contains(says), "{}", checked.stderr);
}

#[tokio::test]
async fn many_passwords_at_once_hold_up_no_other_request() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = TestProxy::start().await;
    let endpoints = json!([{"address": endpoint.address.to_string(), "version": "1.0.0"}]);
    // Each takes a good part of a second.
    let slow = ALICE.replace("$04$", "$11$");
    let closed =
        json!({"endpoints": endpoints, "hosts": ["closed.test"], "basic_auth": {"users": slow}});
    proxy.must("PUT", "/v1/services/closed", closed).await;
    let open = json!({"endpoints": endpoints, "hosts": ["open.test"]});
    proxy.must("PUT", "/v1/services/open", open).await;
    let address = proxy.address;
    let tries: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn(async move {
                let fields = [("host", "closed.test"), ("authorization", WRONG)];
                send(address, "GET", "/", &fields, "").await.status.as_u16()
            })
        })
        .collect();
    wait_until("some have to wait", async || {
        let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
        metrics.contains("reason=\"passwords_wait\"} ")
            && !metrics.contains("reason=\"passwords_wait\"} 0")
    })
    .await;
    let begun = std::time::Instant::now();
    for _ in 0..50 {
        let reply = send(address, "GET", "/", &[("host", "open.test")], "").await;
        assert_eq!(reply.status, 200);
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    for one in tries {
        one.abort();
    }
}

#[tokio::test]
async fn endpoints_are_told_who_a_client_is_by_its_certificate() {
    let ca = TestCa::new();
    let pair = ca.issue("web.test", "web.test", 2100);
    let proxy = TestProxy::with_config(&format!(
        "tls = [{pair}]\nclient_ca = {:?}\nclient_auth = \"optional\"\n\
         [[services]]\nname = \"web\"\nrespond = {{ body = \"in\" }}\n\
         headers.response.set = {{ x-subject = \"$client_cert_subject\", x-san = \"$client_cert_san\", x-sha = \"$client_cert_sha256\" }}\n",
        ca.path("ca.pem")
    ))
    .await;
    let request = async |client: tests::TlsClient| {
        let mut connection = client.open(proxy.address, "web.test").await.unwrap();
        connection.send("GET", "/", "").await.unwrap()
    };
    let known = request(ca.client_as("alice.test", &[])).await;
    assert_eq!(known.header("x-san"), "DNS:alice.test", "{known:?}");
    assert!(known.header("x-subject").starts_with("CN="), "{known:?}");
    assert_eq!(known.header("x-sha").len(), 64);
    let stranger = request(ca.client(&[])).await;
    for field in ["x-san", "x-subject", "x-sha"] {
        assert_eq!(stranger.header(field), "", "{stranger:?}");
    }
}
