//! The access log: a line for each request, however it ends, on either wire; and no request that
//! waits for one.

use std::path::PathBuf;

use h2::Reason;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Heard, Running, ScriptedEndpoint, StreamClient, StreamEndpoint, TestCa, TestEndpoint,
    TestProxy, get, raw, send, wait_until, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: web.test\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// Text frames: a server's with the version of the endpoint, and a client's, masked with zeros.
const HELLO: &[u8] = b"\x81\x011";
const MASKED: &[u8] = b"\x81\x82\0\0\0\0hi";

/// A proxy whose access log is a file.
struct Logging {
    proxy: TestProxy,
    folder: TempDir,
}

impl Logging {
    /// With these keys of the access log, and what else the config has.
    async fn with(keys: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        // Keys of the listener end where this table begins.
        let (listener, tables) = more.split_at(more.find('[').unwrap_or(more.len()));
        let more = format!("{listener}\n[access_log]\nto = {file:?}\n{keys}\n{tables}");
        let proxy = TestProxy::with_config(&more).await;
        Self { proxy, folder }
    }

    async fn start() -> Self {
        Self::with("", "").await
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for the line of a request for this target, which is to be the only one.
    async fn entry(&self, uri: &str) -> Value {
        self.entries(uri, 1).await.remove(0)
    }

    /// The same of several.
    async fn entries(&self, uri: &str, count: usize) -> Vec<Value> {
        let of = || -> Vec<Value> {
            let lines = self.lines();
            let entries = lines.iter().map(|line| serde_json::from_str(line).unwrap());
            entries
                .filter(|entry: &Value| entry["uri"] == uri)
                .collect()
        };
        wait_until(&format!("{uri} has {count} lines"), || async {
            of().len() >= count
        })
        .await;
        let entries = of();
        assert_eq!(entries.len(), count, "{entries:#?}");
        entries
    }

    async fn put(&self, endpoints: &[&ScriptedEndpoint]) {
        let endpoint =
            |e: &&ScriptedEndpoint| json!({"address": e.address.to_string(), "version": "1"});
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        let web = json!({ "endpoints": endpoints });
        self.proxy.must("PUT", "/v1/services/web", web).await;
    }

    async fn lost(&self) -> u64 {
        let metrics = self.proxy.call("GET", "/metrics", Value::Null).await.body;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix("crossfade_access_log_lost_total "));
        value.unwrap().parse().unwrap()
    }
}

/// What an entry has of these members.
fn of(entry: &Value, members: &[&str]) -> Value {
    members.iter().map(|name| entry[*name].clone()).collect()
}

#[tokio::test]
async fn a_request_has_a_line_of_what_it_was_and_who_served_it_on_either_wire() {
    let log = Logging::start().await;
    let endpoint = TestEndpoint::start("1.2.3").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    let fields = [
        ("host", "web.test"),
        ("user-agent", "a \"b\"\t\u{e9}"),
        ("x-request-id", "r-1"),
        ("authorization", "Basic c2VjcmV0"),
        ("cookie", "session=c2VjcmV0"),
    ];
    send(log.proxy.address, "POST", "/echo?wire=1", &fields, "hello").await;
    let client = StreamClient::connect(log.proxy.address).await;
    client
        .send("POST", "/echo?wire=2", &fields[1..], "hello")
        .await
        .unwrap();
    for (uri, protocol) in [("/echo?wire=1", "HTTP/1.1"), ("/echo?wire=2", "HTTP/2.0")] {
        let entry = log.entry(uri).await;
        let request = of(
            &entry,
            &["client", "method", "host", "protocol", "request_id"],
        );
        assert_eq!(
            request,
            json!(["127.0.0.1", "POST", "web.test", protocol, "r-1"])
        );
        assert_eq!(entry["user_agent"], "a \"b\"\t\u{e9}");
        let served = of(
            &entry,
            &[
                "status",
                "bytes_in",
                "bytes_out",
                "service",
                "version",
                "attempts",
                "termination",
            ],
        );
        assert_eq!(
            served,
            json!([200, 5, 5, "web", "1.2.3", 1, "--"]),
            "{entry}"
        );
        assert_eq!(entry["endpoint"], endpoint.address.to_string());
        let first_byte = entry["first_byte_us"].as_u64().unwrap();
        assert!(first_byte > 0 && first_byte <= entry["total_us"].as_u64().unwrap());
    }
    assert!(!log.lines().concat().contains("c2VjcmV0"));
    assert!(
        log.entry("/echo?wire=1").await["connect_us"].is_u64(),
        "it made the connection"
    );
}

#[tokio::test]
async fn lines_go_to_standard_output_in_combined_too_and_over_tls() {
    let ca = TestCa::new();
    let pair = ca.issue("a", "a.test", 2100);
    let config = format!(
        "tls = [{pair}]\n[access_log]\nformat = '$ssl_protocol $scheme \"$request\" $status $termination'"
    );
    let proxy = TestProxy::with_config(&config).await;
    let endpoint = TestEndpoint::start("1").await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let client = ca.client(&[]);
    let mut connection = client.open(proxy.address, "a.test").await.unwrap();
    connection.send("GET", "/a", "").await.unwrap();
    proxy
        .logged("TLSv1.3 https \"GET /a HTTP/1.1\" 200 --")
        .await;
    // Plain HTTP, where TLS is spoken.
    raw(proxy.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    proxy.logged("- https \"-\" 400 PR").await;

    let proxy = TestProxy::with_config("[access_log]\nformat = \"combined\"").await;
    raw(
        proxy.address,
        b"GET /b HTTP/1.0\r\nuser-agent: x\"y\r\n\r\n",
    )
    .await;
    let line = proxy.logged("\"GET /b HTTP/1.0\" 404 ").await;
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.ends_with(" \"-\" \"x\\x22y\""),
        "{line}"
    );
}

#[tokio::test]
async fn what_the_proxy_responds_itself_has_a_line() {
    let log = Logging::with("", "[limits]\nbody = \"10B\"").await;
    let address = log.proxy.address;
    let client = StreamClient::connect(address).await;
    get(address, "/none").await;
    client.send("GET", "/none", &[], "").await.unwrap();
    for entry in log.entries("/none", 2).await {
        assert_eq!(
            of(&entry, &["status", "termination", "service", "attempts"]),
            json!([404, "PR", null, 0])
        );
        assert!(entry["bytes_out"].as_u64().unwrap() > 10, "{entry}");
    }
    let empty = json!({"endpoints": []});
    log.proxy.must("PUT", "/v1/services/web", empty).await;
    get(address, "/empty").await;
    client.send("GET", "/empty", &[], "").await.unwrap();
    for entry in log.entries("/empty", 2).await {
        assert_eq!(
            of(&entry, &["status", "termination", "service", "endpoint"]),
            json!([503, "SC", "web", null])
        );
    }
    send(address, "POST", "/long", &[], "longer than that").await;
    client
        .send(
            "POST",
            "/long",
            &[("content-length", "16")],
            "longer than that",
        )
        .await
        .unwrap();
    for entry in log.entries("/long", 2).await {
        assert_eq!(
            of(&entry, &["status", "termination", "bytes_in"]),
            json!([413, "PR", 0])
        );
    }
    raw(address, b"GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    wait_until("a head that cannot be read has a line", || async {
        log.lines()
            .iter()
            .any(|line| line.contains(r#""request":"GET /\u0001 HTTP/1.1""#))
    })
    .await;
}

#[tokio::test]
async fn what_filters_respond_is_in_its_line_with_the_id_that_they_gave() {
    let log = Logging::start().await;
    let endpoint = TestEndpoint::start("1").await;
    let served = json!({
        "endpoints": [{"address": endpoint.address.to_string(), "version": "1"}],
        "request_id": {"accept": "never"},
    });
    let moved = json!({
        "path_prefix": "/old",
        "redirect": {"to": "https://web.test/new", "status": 308},
        "request_id": {"accept": "never"},
    });
    log.proxy.must("PUT", "/v1/services/web", served).await;
    log.proxy.must("PUT", "/v1/services/old", moved).await;
    let client = StreamClient::connect(log.proxy.address).await;
    let fields = [("x-request-id", "mine"), ("user-agent", "after the id")];
    for uri in ["/served", "/old"] {
        send(log.proxy.address, "GET", uri, &fields, "").await;
        client.send("GET", uri, &fields, "").await.unwrap();
    }
    for (uri, want) in [
        ("/served", json!([200, "--", "web", "after the id"])),
        ("/old", json!([308, "LR", "old", "after the id"])),
    ] {
        for entry in log.entries(uri, 2).await {
            let seen = of(&entry, &["status", "termination", "service", "user_agent"]);
            assert_eq!(seen, want, "{entry}");
            let id = entry["request_id"].as_str().unwrap_or_default();
            assert_eq!(id.len(), 32, "the proxy's own: {entry}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_response_has_499() {
    let log = Logging::start().await;
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    let mut stream = TcpStream::connect(log.proxy.address).await.unwrap();
    let request = b"GET /slow?for=30s HTTP/1.1\r\nhost: web.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let client = StreamClient::connect(log.proxy.address).await;
    let (response, mut send) = client
        .begin("GET", "/slow?for=30s", &[], true)
        .await
        .unwrap();
    log.proxy.wait_in_flight(2).await;
    drop(stream);
    send.send_reset(Reason::CANCEL);
    drop(response);
    for entry in log.entries("/slow?for=30s", 2).await {
        assert_eq!(
            of(&entry, &["status", "termination", "version"]),
            json!([499, "CH", "1"])
        );
    }
}

#[tokio::test]
async fn who_breaks_a_body_off_is_in_its_line() {
    let log = Logging::start().await;
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let endpoint = ScriptedEndpoint::start(move |_, mut heard: Heard| async move {
        let head = heard.head().await.unwrap_or_default();
        heard.say(endless).await;
        if head.contains("/left") {
            let _ = heard.stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    log.put(&[&endpoint]).await;
    for (path, want) in [("/left", "CD"), ("/broken", "SD")] {
        let mut stream = TcpStream::connect(log.proxy.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: web.test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"first\r\n") {
            got.push(within("a byte", stream.read_u8()).await.unwrap());
        }
        let client = StreamClient::connect(log.proxy.address).await;
        let (response, mut send) = client.begin("GET", path, &[], true).await.unwrap();
        let response = within("a response", response).await;
        if path == "/left" {
            assert_eq!(response.as_ref().unwrap().status(), 200);
            drop(stream);
            send.send_reset(Reason::CANCEL);
        }
        for entry in log.entries(path, 2).await {
            assert_eq!(
                of(&entry, &["status", "termination"]),
                json!([200, want]),
                "{entry}"
            );
            assert!(entry["bytes_out"].as_u64() >= Some(5), "{entry}");
        }
        drop(response);
    }
}

#[tokio::test]
async fn attempts_are_counted_and_the_last_endpoint_is_named() {
    let log = Logging::start().await;
    let dead = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
    })
    .await;
    log.put(&[&dead]).await;
    send(log.proxy.address, "POST", "/broken", &[], "a").await;
    let entry = log.entry("/broken").await;
    assert_eq!(
        of(&entry, &["status", "termination", "attempts"]),
        json!([502, "SH", 1])
    );
    assert_eq!(entry["endpoint"], dead.address.to_string());
    let good = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        while heard.head().await.is_some() {
            heard
                .say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    log.put(&[&dead, &good]).await;
    // Some of them begin at the one that is dead.
    let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    let mut attempts = Vec::new();
    for path in &paths {
        get(log.proxy.address, path).await;
        let entry = log.entry(path).await;
        assert_eq!(of(&entry, &["status", "termination"]), json!([200, "--"]));
        assert_eq!(entry["endpoint"], good.address.to_string());
        attempts.push(entry["attempts"].as_u64().unwrap());
    }
    assert!(attempts.contains(&2), "{attempts:?}");
}

#[tokio::test]
async fn a_websocket_has_its_line_at_its_end_on_either_wire() {
    let log = Logging::start().await;
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    let mut stream = TcpStream::connect(log.proxy.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(HELLO) {
        got.push(within("a byte", stream.read_u8()).await.unwrap());
    }
    let client = StreamClient::connect(log.proxy.address).await;
    let (response, mut send) = client.connect_to("websocket", "/ws").await.unwrap();
    let mut body = within("a response", response).await.unwrap().into_body();
    within("a frame", body.data()).await.unwrap().unwrap();
    stream.write_all(MASKED).await.unwrap();
    send.send_data(MASKED.into(), false).unwrap();
    assert_eq!(
        within("an echo", stream.read_u8()).await.unwrap(),
        MASKED[0]
    );
    within("an echo", body.data()).await.unwrap().unwrap();
    assert_eq!(log.lines().len(), 0, "both are open");
    drop(stream);
    send.send_reset(Reason::CANCEL);
    let entries = log.entries("/ws", 2).await;
    for entry in &entries {
        let members = ["status", "bytes_in", "bytes_out", "termination"];
        assert_eq!(of(entry, &members), json!([101, 8, 7, "CD"]), "{entry}");
    }
    assert_ne!(entries[0]["protocol"], entries[1]["protocol"]);
}

#[tokio::test]
async fn a_wait_is_in_the_line_and_a_copy_has_none() {
    let log = Logging::start().await;
    let (stable, new) = (
        TestEndpoint::start("1").await,
        StreamEndpoint::start("2").await,
    );
    let web = json!({
        "split": {"1": 1, "2": 0},
        "mirror": {"version": "2"},
        "versions": {"2": {"protocol": "h2"}},
        "endpoints": [
            {"address": stable.address.to_string(), "version": "1"},
            {"address": new.address.to_string(), "version": "2"},
        ],
    });
    log.proxy.must("PUT", "/v1/services/web", web).await;
    log.proxy
        .must("POST", "/v1/services/web/hold", json!({}))
        .await;
    let address = log.proxy.address;
    let held = tokio::spawn(async move { get(address, "/held").await });
    let client = StreamClient::connect(address).await;
    let (left, mut send) = client.begin("GET", "/left", &[], true).await.unwrap();
    let waiting = |count: u64| {
        let log = &log;
        move || async move {
            log.proxy
                .web()
                .await
                .held
                .is_some_and(|hold| hold.waiting == count)
        }
    };
    wait_until("both wait", waiting(2)).await;
    send.send_reset(Reason::CANCEL);
    drop(left);
    wait_until("one has left", waiting(1)).await;
    let entry = log.entry("/left").await;
    assert_eq!(
        of(&entry, &["status", "termination", "service"]),
        json!([499, "CQ", "web"])
    );
    log.proxy
        .must("POST", "/v1/services/web/release", Value::Null)
        .await;
    assert_eq!(held.await.unwrap().status, 200);
    let entry = log.entry("/held").await;
    assert!(entry["wait_us"].as_u64().unwrap() > 0, "{entry}");
    assert!(
        entry["wait_us"].as_u64() <= entry["first_byte_us"].as_u64(),
        "{entry}"
    );
    wait_until("it was copied", || async {
        log.proxy
            .stats()
            .await
            .mirror
            .unwrap()
            .copies
            .responses
            .total()
            == 1
    })
    .await;
    get(address, "/last").await;
    log.entry("/last").await;
    assert_eq!(log.lines().len(), 3);
}

#[tokio::test]
async fn a_file_that_was_moved_is_made_again_at_sighup_and_without() {
    let log = Logging::start().await;
    let moved = |number: u32| log.folder.path().join(format!("access.log.{number}"));
    get(log.proxy.address, "/one").await;
    log.entry("/one").await;
    std::fs::rename(log.file(), moved(1)).unwrap();
    log.proxy.signal(Signal::HUP);
    wait_until("the file is there again", || async { log.file().exists() }).await;
    get(log.proxy.address, "/two").await;
    log.entry("/two").await;
    std::fs::rename(log.file(), moved(2)).unwrap();
    wait_until("the file is there again", || async {
        get(log.proxy.address, "/three").await;
        log.file().exists()
    })
    .await;
    let read = |number| std::fs::read_to_string(moved(number)).unwrap();
    assert!(read(1).contains("/one") && !read(1).contains("/two"));
    assert!(read(2).contains("/two"));
    std::fs::remove_file(log.file()).unwrap();
    wait_until("one that was deleted is there again", || async {
        get(log.proxy.address, "/four").await;
        log.file().exists()
    })
    .await;
}

/// Requests are served, lines are lost, and that is counted and said.
async fn serves_and_loses(log: &Logging, path: &str, why: &str) {
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    wait_until("lines are lost", || async {
        for _ in 0..50 {
            assert_eq!(get(log.proxy.address, path).await.status, 200);
        }
        log.lost().await > 0
    })
    .await;
    let line = log.proxy.logged("lines of the access log are lost").await;
    assert!(line.contains(why), "{line}");
    assert_eq!(get(log.proxy.address, path).await.status, 200);
}

#[tokio::test]
async fn a_full_disk_costs_lines_and_no_requests() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = TestProxy::with_config("[access_log]\nto = \"/dev/full\"").await;
    serves_and_loses(&Logging { proxy, folder }, "/", "No space left").await;
}

#[tokio::test]
async fn a_missing_folder_costs_lines_until_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logs/access.log");
    let proxy = TestProxy::with_config(&format!("[access_log]\nto = {file:?}")).await;
    let log = Logging { proxy, folder };
    serves_and_loses(&log, "/", "logs/access.log: No such file").await;
    std::fs::create_dir(log.folder.path().join("logs")).unwrap();
    wait_until("lines are written again", || async {
        get(log.proxy.address, "/again").await;
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("/again"))
    })
    .await;
}

#[tokio::test]
async fn a_pipe_that_is_not_read_costs_lines_and_no_requests_and_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("access.log");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Held open, and not read.
    let _reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let proxy = TestProxy::with_config(&format!("[access_log]\nto = {pipe:?}")).await;
    let log = Logging { proxy, folder };
    // A line each, of more than 4 KiB.
    let path = format!("/{}", "a".repeat(5_000));
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: web.test\r\n\r\n");
    wait_until("lines are lost", || async {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let request = request.clone().repeat(200);
            let last = request.replacen("HTTP/1.1\r\n", "HTTP/1.1\r\nconnection: close\r\n", 1);
            let all = format!("{request}{}", &last[..last.find("\r\n\r\n").unwrap() + 4]);
            let address = log.proxy.address;
            clients.push(tokio::spawn(
                async move { raw(address, all.as_bytes()).await },
            ));
        }
        for client in clients {
            let responses = client.await.unwrap();
            assert_eq!(responses.matches("HTTP/1.1 200 ").count(), 201);
        }
        log.lost().await > 0
    })
    .await;
    let line = log.proxy.logged("lines of the access log are lost").await;
    assert!(line.contains("not taken as fast"), "{line}");
    log.proxy.signal(Signal::TERM);
    let finished = log.proxy.finished().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("the last lines of the access log are lost"),
        "{}",
        finished.stderr
    );
}

#[tokio::test]
async fn no_line_is_lost_by_an_upgrade_or_at_the_end() {
    let mut log = Logging::start().await;
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    let address = log.proxy.address;
    let slow = tokio::spawn(async move { get(address, "/slow?for=1s").await });
    log.proxy.wait_in_flight(1).await;
    for number in 0..20 {
        get(address, &format!("/before/{number}")).await;
    }
    let old = log.proxy.upgrade().await;
    for number in 0..20 {
        get(address, &format!("/after/{number}")).await;
    }
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(old.finished().await.code, Some(0));
    log.proxy.signal(Signal::TERM);
    let (file, folder) = (log.file(), log.folder);
    assert_eq!(log.proxy.finished().await.code, Some(0));
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().count(), 41, "{text}");
    assert!(text.contains("\"/slow?for=1s\""));
    drop(folder);
}

#[tokio::test]
async fn a_request_that_the_end_of_the_process_cuts_has_a_line() {
    let log = Logging::with("", "[timeouts]\ndrain = \"100ms\"").await;
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    let mut stream = TcpStream::connect(log.proxy.address).await.unwrap();
    stream
        .write_all(b"GET /slow?for=60s HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    log.proxy.wait_in_flight(1).await;
    log.proxy.signal(Signal::TERM);
    let (file, folder) = (log.file(), log.folder);
    log.proxy.finished().await;
    let text = std::fs::read_to_string(file).unwrap();
    let entry: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(
        of(&entry, &["status", "service"]),
        json!([0, "web"]),
        "{entry}"
    );
    assert!(
        entry["termination"].as_str().unwrap().starts_with('K'),
        "{entry}"
    );
    drop(folder);
}

#[tokio::test]
async fn syslog_gets_a_datagram_for_each_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let syslog = tokio::net::UnixDatagram::bind(&path).unwrap();
    let config = format!(
        "[access_log]\nto = \"unix:{}\"\nformat = \"$request $status\"",
        path.display()
    );
    let proxy = TestProxy::with_config(&config).await;
    get(proxy.address, "/one").await;
    get(proxy.address, "/two").await;
    // Each connection may have had a worker of its own, whose lines have an order among themselves.
    let mut wanted = vec!["]: GET /one HTTP/1.1 404", "]: GET /two HTTP/1.1 404"];
    while !wanted.is_empty() {
        let mut bytes = [0; 1024];
        let count = within("a datagram", syslog.recv(&mut bytes)).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let found = wanted.iter().position(|want| text.ends_with(want));
        wanted.remove(found.unwrap_or_else(|| panic!("{text}: not one of {wanted:?}")));
        assert!(text.starts_with("<190>"), "{text}");
    }
}

#[tokio::test]
async fn what_goes_well_can_be_sampled_and_what_does_not_is_there() {
    let keys = "sample = { \"2xx\" = 0.0 }\nquery = false";
    let log = Logging::with(keys, "").await;
    let endpoint = TestEndpoint::start("1").await;
    log.proxy.put_web(&[&endpoint], Value::Null).await;
    for _ in 0..20 {
        get(log.proxy.address, "/well").await;
    }
    log.proxy
        .must("DELETE", "/v1/services/web", Value::Null)
        .await;
    get(log.proxy.address, "/gone?token=secret").await;
    assert_eq!(log.entry("/gone").await["status"], 404);
    assert_eq!(log.lines().len(), 1);
}

#[tokio::test]
async fn a_wrong_key_is_named_with_its_line() {
    for (keys, part) in [
        (
            "format = \"$remote_adr\"",
            "access_log.format: `$remote_adr` is no variable of the access log; did you mean `$remote_addr`?",
        ),
        ("format = \"$http_cookie\"", "is never logged"),
        (
            "to = \"stdot\"",
            "access_log.to: `stdot` is neither `stdout` nor a path",
        ),
        ("sample = { \"5xx\" = 0.1 }", "errors are logged always"),
        ("fromat = \"json\"", "did you mean `format`?"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy.toml");
        let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n[access_log]\n{keys}\n");
        std::fs::write(&file, text).unwrap();
        let flags = ["--check", "--config", file.to_str().unwrap()];
        let finished = Running::run("crossfade-proxy", &flags).await;
        assert_eq!(finished.code, Some(64), "{finished:?}");
        assert!(
            finished.stderr.contains("proxy.toml:4: "),
            "{}",
            finished.stderr
        );
        assert!(
            finished.stderr.contains(part),
            "{keys}: {}",
            finished.stderr
        );
    }
}
