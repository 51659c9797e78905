//! TLS to clients: certificates by name, renewed while connections are open.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tests::{Running, TestCa, TestEndpoint, TestProxy, TlsClient, wait_until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A proxy whose listener has these certificates, and what else is given.
async fn proxy_with(certificates: &[String], more: &str) -> TestProxy {
    TestProxy::with_config(&format!("tls = [{}]\n{more}", certificates.join(", "))).await
}

/// Waits until new connections get the certificate that is in this file.
async fn wait_served(proxy: &TestProxy, client: &TlsClient, name: &str, file: &Path) {
    let want = CertificateDer::from_pem_file(file).unwrap();
    wait_until("the new certificate is served", || async {
        let connection = client.open(proxy.address, name).await;
        connection.is_ok_and(|connection| connection.certificate == want)
    })
    .await;
}

async fn wait_metric(proxy: &TestProxy, line: &str) {
    wait_until(line, || async {
        let metrics = proxy.call("GET", "/metrics", Value::Null).await;
        metrics.body.lines().any(|there| there == line)
    })
    .await;
}

#[tokio::test]
async fn requests_over_tls_get_to_endpoints_that_are_told_so() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let pairs = [
        ca.issue("a", "a.test", 2100),
        ca.issue("b", "*.b.test", 2100),
    ];
    let proxy = proxy_with(&pairs, "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = ca.client(&[]);
    for name in ["a.test", "x.b.test"] {
        let mut connection = client.open(proxy.address, name).await.unwrap();
        let reply = connection.send("GET", "/headers", "").await.unwrap();
        assert!(
            reply.body.contains(r#"["x-forwarded-proto","https"]"#),
            "{reply:?}"
        );
        // More than any buffer on the way holds, both ways.
        let body = "0123456789abcdef".repeat(100_000);
        let reply = connection.send("POST", "/echo", &body).await.unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.body == body, "{name}: what was sent comes back");
    }
}

#[tokio::test]
async fn a_session_is_resumed_with_the_process_that_has_taken_over() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let mut proxy = proxy_with(&[ca.issue("a", "a.test", 2100)], "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = ca.client(&[]);
    let address = proxy.address;
    let is_resumed = || async {
        let mut connection = client.open(address, "a.test").await.unwrap();
        // Session tickets come with the first response.
        assert_eq!(connection.send("GET", "/", "").await.unwrap().status, 200);
        connection.is_resumed
    };
    assert!(!is_resumed().await, "the first one has no session");
    for upgrades in 1..=2 {
        let before = proxy.upgrade().await;
        assert!(is_resumed().await, "after {upgrades} upgrades");
        before.finished().await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_open_connections_stay() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_with(&[ca.issue("a", "a.test", 2100)], "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = ca.client(&[]);
    let mut open = client.open(proxy.address, "a.test").await.unwrap();
    let (cert, _) = ca.files("a");
    for year in [2101, 2102] {
        ca.issue("a", "a.test", year);
        wait_served(&proxy, &client, "a.test", &cert).await;
        assert_eq!(open.send("GET", "/", "").await.unwrap().status, 200);
    }
    let line = format!(
        "crossfade_certificate_expiry_timestamp_seconds{{file={cert:?},listener=\"{}\"}} 4165516800",
        proxy.address
    );
    wait_metric(&proxy, &line).await;
}

#[tokio::test]
async fn certificates_behind_a_symlink_that_is_swapped_are_served() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    ca.issue("a", "a.test", 2100);
    // As container volumes do it: tls.pem → ..data/tls.pem, ..data → a folder.
    let link = |to: &str, from: &str| {
        std::os::unix::fs::symlink(to, ca.path("tmp")).unwrap();
        std::fs::rename(ca.path("tmp"), ca.path(from)).unwrap();
    };
    let keep = |folder: &str| {
        std::fs::create_dir(ca.path(folder)).unwrap();
        for end in ["pem", "key"] {
            let to = ca.path(&format!("{folder}/tls.{end}"));
            std::fs::rename(ca.path(&format!("a.{end}")), to).unwrap();
        }
    };
    keep("v1");
    link("v1", "..data");
    link("..data/tls.pem", "tls.pem");
    link("..data/tls.key", "tls.key");
    let (cert, key) = ca.files("tls");
    let pair = format!("{{ cert = {cert:?}, key = {key:?} }}");
    let proxy = proxy_with(&[pair], "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    ca.issue("a", "a.test", 2101);
    keep("v2");
    link("v2", "..data");
    wait_served(&proxy, &ca.client(&[]), "a.test", &cert).await;
}

#[tokio::test]
async fn a_wrong_certificate_file_leaves_the_one_before_and_says_so() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_with(&[ca.issue("a", "a.test", 2100)], "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = ca.client(&[]);
    let (cert, _) = ca.files("a");
    let before = std::fs::read(&cert).unwrap();
    let valid = |valid: u8| {
        format!(
            "crossfade_certificate_valid{{file={cert:?},listener=\"{}\"}} {valid}",
            proxy.address
        )
    };
    wait_metric(&proxy, &valid(1)).await;

    ca.issue("a", "a.test", 2021);
    proxy.logged("expired").await;
    wait_metric(&proxy, &valid(0)).await;
    client.open(proxy.address, "a.test").await.unwrap();

    let mut half = std::fs::File::create(&cert).unwrap();
    half.write_all(&before[..before.len() / 2]).unwrap();
    proxy.logged("the previous certificate stays in use").await;
    client.open(proxy.address, "a.test").await.unwrap();

    ca.issue("a", "a.test", 2101);
    wait_served(&proxy, &client, "a.test", &cert).await;
    wait_metric(&proxy, &valid(1)).await;
}

#[tokio::test]
async fn check_names_the_file_and_the_field_of_a_certificate_that_is_wrong() {
    let ca = TestCa::new();
    let good = ca.issue("a", "a.test", 2100);
    let old = ca.issue("old", "old.test", 2021);
    let crossed = format!(
        "{{ cert = {:?}, key = {:?} }}",
        ca.files("a").0,
        ca.files("old").1
    );
    let config = ca.path("proxy.toml");
    let path = config.to_str().unwrap();
    for (keys, says) in [
        (
            format!("tls = [{good}, {crossed}]"),
            ":3: listeners[0].tls[1].key: ",
        ),
        (
            format!("tls = [{good}, {crossed}]"),
            "is not the key of the certificate in",
        ),
        (
            format!("tls = [{good}, {old}]"),
            ":3: listeners[0].tls[1].cert: ",
        ),
        (format!("tls = [{old}]"), "expired"),
        (
            format!("tls = [{good}]\nclient_ca = \"/no/such\""),
            ":4: listeners[0].client_ca: `/no/such` cannot be read",
        ),
        (
            format!("tls = [{good}]\ntls_min_version = \"1.1\""),
            ":4: listeners[0].tls_min_version: `1.1` is neither `1.2` nor `1.3`",
        ),
        (
            format!("tls = [{good}]\nclient_auth = \"optional\""),
            ":4: listeners[0].client_auth: needs `client_ca`",
        ),
        (
            "tls = []".into(),
            ":3: listeners[0].tls: has no certificate",
        ),
        (
            "client_ca = \"x\"".into(),
            ":3: listeners[0].client_ca: has no effect without `tls`",
        ),
    ] {
        let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{keys}\n");
        std::fs::write(&config, &text).unwrap();
        let finished = Running::run("crossfade-proxy", &["--config", path, "--check"]).await;
        assert_eq!(finished.code, Some(64), "{text}: {finished:?}");
        assert!(finished.stderr.contains(says), "{says}: {finished:?}");
    }
}

#[tokio::test]
async fn an_expired_certificate_does_not_keep_the_other_names_from_being_served() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let pairs = [
        ca.issue("old", "old.test", 2021),
        ca.issue("a", "a.test", 2100),
    ];
    let (_, key) = ca.files("a");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o604)).unwrap();
    let proxy = proxy_with(&pairs, "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    proxy.logged("clients refuse it").await;
    proxy.logged("can read this private key (mode 604)").await;
    let client = ca.client(&[]);
    let error = client.connect(proxy.address, "old.test").await.unwrap_err();
    assert!(error.to_string().contains("xpired"), "{error}");
    let mut connection = client.open(proxy.address, "a.test").await.unwrap();
    assert_eq!(connection.send("GET", "/", "").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_an_alert_and_not_cut() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let more = "[timeouts]\nkeep_alive = \"300ms\"";
    let proxy = proxy_with(&[ca.issue("a", "a.test", 2100)], more).await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let mut client = ca
        .client(&[])
        .connect(proxy.address, "a.test")
        .await
        .unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        .await
        .unwrap();
    let mut response = Vec::new();
    // An end without the alert of RFC 8446, 6.1 would be an error.
    let read = within("the end", client.read_to_end(&mut response)).await;
    read.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_request_without_tls_is_told_that_the_port_has_tls() {
    let ca = TestCa::new();
    let endpoint = TestEndpoint::start("1.0.0").await;
    let proxy = proxy_with(&[ca.issue("a", "a.test", 2100)], "").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let body = "x".repeat(100_000);
    for request in [
        "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100000\r\n\r\n{body}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut response = String::new();
        let read = stream.read_to_string(&mut response);
        within("the connection is closed", read).await.unwrap();
        assert!(
            response.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{response}"
        );
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "a plain HTTP request was sent to an HTTPS port\n");
    }
    wait_metric(
        &proxy,
        "crossfade_local_replies_total{reason=\"plain_http\"} 3",
    )
    .await;
    let mut connection = ca.client(&[]).open(proxy.address, "a.test").await.unwrap();
    assert_eq!(connection.send("GET", "/", "").await.unwrap().status, 200);
}
