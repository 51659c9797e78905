//! The admin API: what it refuses, and whom.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{DEADLINE, Running, TestEndpoint, TestProxy, get, send, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WEB: &str = "/v1/services/web";
const SPLIT: &str = "/v1/services/web/split";
const DRAIN: &str = "/v1/services/web/drain";

/// A proxy with two versions of `web`, whose table stays as it is.
struct Unchanged {
    proxy: TestProxy,
    generation: u64,
    _endpoints: [TestEndpoint; 2],
}

impl Unchanged {
    async fn start() -> Self {
        let proxy = TestProxy::start().await;
        let endpoints = [
            TestEndpoint::start("1.0.0").await,
            TestEndpoint::start("2.0.0").await,
        ];
        let [old, new] = &endpoints;
        proxy
            .put_web(&[old, new], json!({"1.0.0": 1, "2.0.0": 0}))
            .await;
        Self {
            generation: proxy.web().await.generation,
            proxy,
            _endpoints: endpoints,
        }
    }

    /// Makes a call that is refused with status 400.
    async fn refuses_input(&self, method: &str, path: &str, body: Value, field: &str, says: &str) {
        let error = (400, "bad_request");
        self.refuses((method, path, body), error, json!(field), says)
            .await;
    }

    async fn refuses(
        &self,
        (method, path, body): (&str, &str, Value),
        (status, code): (u16, &str),
        field: Value,
        says: &str,
    ) {
        let call = format!("{method} {path} {body}");
        let reply = self.proxy.call(method, path, body).await;
        let error = &reply.json()["error"];
        assert_eq!(reply.status.as_u16(), status, "{call}: {reply:?}");
        assert_eq!(error["code"], code, "{call}: {reply:?}");
        assert_eq!(error["field"], field, "{call}: {reply:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says), "{call}: {message}");
    }

    async fn expect_unchanged(self) {
        assert_eq!(
            self.proxy.web().await.generation,
            self.generation,
            "nothing was swapped"
        );
        assert!(get(self.proxy.address, "/").await.body.contains("1.0.0"));
    }
}

#[tokio::test]
async fn a_bad_split_is_named_and_leaves_the_running_one_alone() {
    let test = Unchanged::start().await;
    for (body, field, says) in [
        (
            json!({"split": {"1.0.0": -1}}),
            "split.\"1.0.0\"",
            "from 0 to 1000000",
        ),
        (
            json!({"split": {"1.0.0": 0.5}}),
            "split.\"1.0.0\"",
            "a whole number",
        ),
        (
            json!({"split": {"1.0.0": "all"}}),
            "split.\"1.0.0\"",
            "a whole number",
        ),
        (
            json!({"split": {"1.0.0": 0, "2.0.0": 0}}),
            "split",
            "every weight is 0",
        ),
        (json!({"split": {}}), "split", "names no version"),
        (
            json!({"split": {"2.0.1": 1}}),
            "split.\"2.0.1\"",
            "there is no version `2.0.1`, only 1.0.0, 2.0.0",
        ),
        (json!({"spilt": {}}), "spilt", "did you mean `split`?"),
    ] {
        test.refuses_input("PUT", SPLIT, body, field, says).await;
    }
    let broken = send(test.proxy.admin, "PUT", SPLIT, &[], "{\"split\": {").await;
    assert_eq!(broken.status, 400, "{broken:?}");
    test.expect_unchanged().await;
}

#[tokio::test]
async fn a_bad_service_is_named_and_leaves_the_table_alone() {
    let test = Unchanged::start().await;
    let address = json!({"endpoints": [{"address": "x", "version": "1"}]});
    test.refuses_input("PUT", WEB, address, "endpoints[0].address", "`ip:port`")
        .await;
    let name = json!({"name": "other"});
    test.refuses_input("PUT", WEB, name, "name", "the path says `web`")
        .await;
    let second = ("PUT", "/v1/services/second", json!({}));
    let says = "same requests as service `web`";
    test.refuses(second, (409, "conflict"), Value::Null, says)
        .await;
    test.expect_unchanged().await;
}

#[tokio::test]
async fn a_bad_drain_is_named_and_leaves_the_table_alone() {
    let test = Unchanged::start().await;
    let unknown = ("POST", DRAIN, json!({"version": "9"}));
    let error = (404, "unknown_version");
    test.refuses(unknown, error, json!("version"), "only 1.0.0, 2.0.0")
        .await;
    let empty = ("POST", DRAIN, json!({}));
    let says = "give a `version`, an `endpoint`, or both";
    test.refuses(empty, (400, "bad_request"), Value::Null, says)
        .await;
    let path = format!("{DRAIN}?wait=5");
    let body = json!({"version": "2.0.0"});
    test.refuses_input("POST", &path, body, "wait", "500ms or 30s")
        .await;
    test.expect_unchanged().await;
}

#[tokio::test]
async fn a_call_to_nothing_is_refused_and_leaves_the_table_alone() {
    let test = Unchanged::start().await;
    let split = json!({"split": {"1": 1}});
    for (call, error, says) in [
        (
            ("PUT", "/v1/services/nope/split", split),
            (404, "unknown_service"),
            "`nope`",
        ),
        (
            ("DELETE", "/v1/services/nope", Value::Null),
            (404, "unknown_service"),
            "`nope`",
        ),
        (("GET", "/v2", Value::Null), (404, "not_found"), "/v2"),
        (
            ("POST", WEB, json!({})),
            (405, "method_not_allowed"),
            "GET, PUT, DELETE",
        ),
    ] {
        test.refuses(call, error, Value::Null, says).await;
    }
    test.expect_unchanged().await;
}

#[tokio::test]
async fn a_change_can_be_made_conditional_on_what_was_seen() {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1.0.0").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let seen = get(proxy.admin, "/v1/services/web").await;
    let tag = seen.header("etag").to_owned();
    let split = r#"{"split":{"1.0.0":7}}"#;
    let put = |tag: String| {
        let admin = proxy.admin;
        async move {
            let headers = [("if-match", tag.as_str())];
            send(admin, "PUT", "/v1/services/web/split", &headers, split).await
        }
    };
    assert_eq!(put(tag.clone()).await.status, 200);
    let late = put(tag).await;
    assert_eq!(late.status, 412, "{late:?}");
    assert_eq!(late.json()["error"]["code"], "generation_mismatch");
    assert_eq!(put("\"x\"".into()).await.status, 400);
}

#[tokio::test]
async fn every_call_can_be_repeated() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    for _ in 0..2 {
        proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
        proxy.split(json!({"2.0.0": 1})).await;
    }
    for _ in 0..2 {
        assert!(proxy.drain("1.0.0", "10s").await.drained);
    }
    proxy.must("DELETE", "/v1/services/web", Value::Null).await;
    assert_eq!(
        proxy
            .call("DELETE", "/v1/services/web", Value::Null)
            .await
            .status,
        404
    );
    assert_eq!(get(proxy.address, "/").await.status, 404);
}

#[tokio::test]
async fn without_a_token_a_web_page_cannot_get_in() {
    let proxy = TestProxy::start().await;
    for headers in [
        &[("host", "evil.example.com")][..],
        &[("origin", "http://evil.example.com")],
    ] {
        let reply = send(proxy.admin, "GET", "/v1/services", headers, "").await;
        assert_eq!(reply.status, 403, "{headers:?}: {reply:?}");
    }
    assert_eq!(
        send(proxy.admin, "GET", "/healthz", &[("host", "x")], "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn with_a_token_only_who_knows_it_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (
        folder.path().join("proxy.toml"),
        folder.path().join("token"),
    );
    std::fs::write(&token, "a-secret-of-good-length\n").unwrap();
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n"
    );
    std::fs::write(&file, config).unwrap();
    let proxy = Running::start(
        "crossfade-proxy",
        &["--config", file.to_str().unwrap()],
        &[],
    );
    let line = proxy.line_with("admin API listening").await;
    let admin = line.split('"').nth(1).unwrap().parse().unwrap();
    for (headers, status) in [
        (&[][..], 401),
        (
            &[("authorization", "Bearer a-secret-of-good-lengtx")][..],
            401,
        ),
        (&[("authorization", "Bearer ")], 401),
        (&[("authorization", "Basic a-secret-of-good-length")], 401),
        (&[("authorization", "Bearer a-secret-of-good-length")], 200),
    ] {
        let reply = send(admin, "GET", "/v1/services", headers, "").await;
        assert_eq!(reply.status.as_u16(), status, "{headers:?}: {reply:?}");
    }
    assert!(
        !proxy.stderr().contains("a-secret"),
        "a secret never reaches a log"
    );
}

#[tokio::test]
async fn clients_without_the_token_do_not_keep_the_owner_out() {
    let proxy = TestProxy::start().await;
    let mut strangers = Vec::new();
    for i in 0..1_200 {
        let mut stranger = TcpStream::connect(proxy.admin).await.unwrap();
        let text = match i % 3 {
            0 => "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            1 => "GET /v1/status HTTP/1.1\r\nHost: stranger.test\r\n\r\n",
            _ => "GET /heal",
        };
        // It may have had to make room already.
        let _ = stranger.write_all(text.as_bytes()).await;
        strangers.push(stranger);
    }
    let began = Instant::now();
    for _ in 0..10 {
        proxy.must("GET", "/v1/status", Value::Null).await;
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    let mut last = String::new();
    let newest = strangers.len() - 3;
    strangers[newest].read_to_string(&mut last).await.unwrap();
    assert!(last.starts_with("HTTP/1.1 200 "), "{last}");
    assert!(last.contains("connection: close\r\n"), "{last}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_responses_is_cut() {
    let proxy = TestProxy::start().await;
    let mut client = TcpStream::connect(proxy.admin).await.unwrap();
    let began = Instant::now();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let is_cut = async { while client.write_all(&request).await.is_ok() {} };
    let in_time = tokio::time::timeout(DEADLINE, is_cut).await;
    in_time.expect("it is cut");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn an_admin_port_that_is_open_to_others_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let config = "[admin]\nlisten = \"0.0.0.0:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&file, config).unwrap();
    let refused = Running::run("crossfade-proxy", &["--config", file.to_str().unwrap()]).await;
    assert_eq!(refused.code, Some(64));
    assert!(
        refused.stderr.contains("admin.token_file: is missing"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn metrics_are_by_service_and_version() {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start("1.0.0").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    for _ in 0..3 {
        get(proxy.address, "/").await;
    }
    let reply = get(proxy.admin, "/metrics").await;
    for line in [
        "crossfade_responses_total{class=\"2xx\",service=\"web\",version=\"1.0.0\"} 3",
        "crossfade_split_weight{service=\"web\",version=\"1.0.0\"} 1",
        "crossfade_try_duration_seconds_count{service=\"web\",version=\"1.0.0\"} 3",
        "crossfade_try_duration_seconds_bucket{service=\"web\",version=\"1.0.0\",le=\"+Inf\"} 3",
    ] {
        assert!(reply.body.contains(line), "{line} is not in {}", reply.body);
    }
}

#[tokio::test]
async fn a_change_that_is_in_force_is_kept_though_its_caller_hangs_up() {
    let proxy = TestProxy::start().await;
    for number in 0..200 {
        let body = format!("{{\"path_prefix\":\"/{number}\"}}");
        let head = format!(
            "PUT /v1/services/s{number} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut client = TcpStream::connect(proxy.admin).await.unwrap();
        client.write_all((head + &body).as_bytes()).await.unwrap();
    }
    let file = proxy.config_file().with_file_name("state.json");
    wait_until("what is in force is kept", || async {
        let table = proxy.must("GET", "/v1/services", Value::Null).await;
        let in_force = table["services"].as_array().map_or(0, Vec::len);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        in_force > 0 && in_force == kept(&text).len()
    })
    .await;
}

/// The services of a state file: of its snapshot, and of the records behind that.
fn kept(text: &str) -> BTreeSet<String> {
    let (snapshot, records) = text.split_once("\n+").unwrap_or((text, ""));
    let records = records
        .split("\n+")
        .filter_map(|record| record.split_once(' '));
    let mut names = BTreeSet::new();
    for part in std::iter::once(snapshot).chain(records.map(|(_checksum, record)| record)) {
        let part: Value = serde_json::from_str(part).unwrap_or_default();
        let services = part["services"].as_object().into_iter().flatten();
        // What the generation is kept as is no service.
        names.extend(
            services
                .map(|(name, _)| name.clone())
                .filter(|name| !name.contains(' ')),
        );
    }
    names
}
