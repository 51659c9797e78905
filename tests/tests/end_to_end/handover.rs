//! One process of the proxy takes over from another, and no client notices.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Heard, Load, Running, ScriptedEndpoint, TestEndpoint, TestProxy, get, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The first word of a successor, as the wire has it behind its length.
const HELLO: &[u8] = br#"{"format":1,"release":"0"}"#;

async fn say(stream: &mut UnixStream, message: &[u8]) {
    stream.write_u32(message.len() as u32).await.unwrap();
    stream.write_all(message).await.unwrap();
}

async fn heard(stream: &mut UnixStream) -> String {
    let length = stream.read_u32().await.unwrap();
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap()
}

async fn serving(version: &str) -> (TestProxy, TestEndpoint) {
    let proxy = TestProxy::start().await;
    let endpoint = TestEndpoint::start(version).await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    (proxy, endpoint)
}

#[tokio::test]
async fn upgrades_under_load_cost_no_request_and_the_table_stays() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let generation = proxy.web().await.generation;
    let kept = Load::start(proxy.address, &["--rate", "0", "--connections", "16"]);
    let short = [
        "--rate",
        "0",
        "--connections",
        "4",
        "--header",
        "Connection: close",
    ];
    let short = Load::start(proxy.address, &short);
    // More workers than sockets, fewer, and as many.
    for workers in [2, 3, 1, 2] {
        let old = proxy.upgrade_to(workers).await;
        assert_eq!(proxy.web().await.generation, generation);
        let finished = old.finished().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(
            finished.stderr.contains("all requests are finished"),
            "{finished:?}"
        );
    }
    kept.stop().await.expect_no_failure();
    short.stop().await.expect_no_failure();
}

#[tokio::test]
async fn a_drain_waits_for_the_request_of_the_process_before() {
    let (mut proxy, _one) = serving("1.0.0").await;
    let two = TestEndpoint::start("2.0.0").await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { get(address, "/slow?for=3s").await });
    proxy.wait_in_flight(1).await;
    let first = proxy.upgrade().await;
    let second = proxy.upgrade().await;
    assert_eq!(
        proxy.must("GET", "/v1/status", Value::Null).await["draining_processes"],
        2
    );
    proxy.wait_in_flight(1).await;

    let before = proxy.web().await;
    let old = &before.versions["1.0.0"].endpoints[0];
    let endpoints = json!([
        {"address": old.address, "version": "1.0.0"},
        {"address": two.address.to_string(), "version": "2.0.0"},
    ]);
    let split = json!({"2.0.0": 1});
    let web = json!({"endpoints": endpoints, "split": split});
    proxy.must("PUT", "/v1/services/web", web).await;
    let early = proxy.drain("1.0.0", "100ms").await;
    assert!(!early.drained, "{early:?}");
    assert_eq!(early.endpoints[0].in_flight, 1);
    let age = early.endpoints[0].oldest.requests_ms;
    assert!(age.is_some_and(|ms| ms >= 99), "{early:?}");
    let late = proxy.drain("1.0.0", "20s").await;
    assert!(late.drained && !late.forced, "{late:?}");
    assert!(slow.await.unwrap().body.contains("1.0.0"));
    assert_eq!(first.finished().await.code, Some(0));
    assert_eq!(second.finished().await.code, Some(0));
}

/// A process with a request in flight does not respond at the next upgrade: it was stopped between two
/// messages of the active process, or in the middle of one.
async fn a_process_is_stopped_at_an_upgrade(in_the_middle: bool) {
    let (mut proxy, one) = serving("1.0.0").await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { get(address, "/slow?for=8s").await });
    proxy.wait_in_flight(1).await;
    let first = proxy.upgrade().await;
    first.signal(Signal::STOP);
    if in_the_middle {
        // It is told of each change.
        proxy.put_web(&[&one], Value::Null).await;
    }
    // The second one waits for it, and then goes without it.
    let second = proxy.upgrade().await;
    first.signal(Signal::CONT);
    proxy.must("DELETE", "/v1/services/web", Value::Null).await;
    let early = proxy.drain("1.0.0", "0s").await;
    assert!(!early.drained, "{early:?}");
    let late = proxy.drain("1.0.0", "20s").await;
    assert!(late.drained && !late.forced, "{late:?}");
    assert!(slow.is_finished(), "nothing was in flight any more");
    assert!(slow.await.unwrap().body.contains("1.0.0"));
    for process in [first, second] {
        let finished = process.finished().await;
        assert_eq!(finished.code, Some(0));
        assert!(!finished.stderr.contains("serves again"), "{finished:?}");
    }
}

#[tokio::test]
async fn a_drain_waits_for_a_process_that_did_not_respond_at_the_next_upgrade() {
    a_process_is_stopped_at_an_upgrade(false).await;
}

#[tokio::test]
async fn a_process_that_was_let_go_in_the_middle_of_a_message_does_not_serve_again() {
    a_process_is_stopped_at_an_upgrade(true).await;
}

#[tokio::test]
async fn what_the_process_before_counted_stays_counted() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    for _ in 0..5 {
        get(proxy.address, "/").await;
    }
    let success = |stats: admin_api::ServiceStats| stats.versions["1.0.0"].responses.success;
    let old = proxy.upgrade().await;
    assert_eq!(success(proxy.stats().await), 5);
    get(proxy.address, "/").await;
    assert_eq!(old.finished().await.code, Some(0));
    wait_until("the process before has had its last word", || async {
        proxy.must("GET", "/v1/status", Value::Null).await["draining_processes"] == 0
    })
    .await;
    assert_eq!(success(proxy.stats().await), 6);
    let view = proxy.web().await;
    assert_eq!(view.versions["1.0.0"].endpoints[0].requests, 6);
    let metrics = proxy.call("GET", "/metrics", Value::Null).await.body;
    let line = "crossfade_responses_total{class=\"2xx\",service=\"web\",version=\"1.0.0\"} 6";
    assert!(metrics.contains(line), "{metrics}");
}

/// Requests that wait, and those that were refused, while the service is held.
async fn held(proxy: &TestProxy) -> Option<(u64, u64)> {
    let held = proxy.web().await.held?;
    Some((held.waiting, held.refused))
}

#[tokio::test]
async fn requests_that_wait_in_the_process_before_are_counted_and_go_on_at_the_release() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let hold = json!({"max_hold": "60s", "max_waiting": 3});
    proxy.must("POST", "/v1/services/web/hold", hold).await;
    let address = proxy.address;
    let send_three =
        move || (0..3).map(move |_| tokio::spawn(async move { get(address, "/").await }));
    let mut waiting: Vec<_> = send_three().collect();
    wait_until("three wait", || async {
        held(&proxy).await == Some((3, 0))
    })
    .await;
    assert_eq!(get(address, "/").await.status, 503);
    let old = proxy.upgrade().await;
    assert_eq!(held(&proxy).await, Some((3, 1)));
    waiting.extend(send_three());
    wait_until("six wait", || async { held(&proxy).await == Some((6, 1)) }).await;
    proxy
        .must("POST", "/v1/services/web/release", Value::Null)
        .await;
    for reply in waiting {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    assert_eq!(old.finished().await.code, Some(0));
}

/// Requests go to 1.0.0, and copies of them to `to`, at most one at a time of each worker.
async fn put_mirrored(proxy: &TestProxy, stable: &TestEndpoint, to: std::net::SocketAddr) {
    let web = json!({
        "split": {"1.0.0": 1, "2.0.0": 0},
        "mirror": {"version": "2.0.0", "max_in_flight": 1},
        "endpoints": [
            {"address": stable.address.to_string(), "version": "1.0.0"},
            {"address": to.to_string(), "version": "2.0.0"},
        ],
    });
    proxy.must("PUT", "/v1/services/web", web).await;
}

/// Responses to copies, and to the requests that were copied.
async fn copied(proxy: &TestProxy) -> (u64, u64) {
    let mirror = proxy.stats().await.mirror.unwrap();
    let success = |copies: admin_api::CopyStats| copies.responses.success;
    (success(mirror.copies), success(mirror.originals))
}

#[tokio::test]
async fn copies_that_the_process_before_has_made_stay_counted() {
    let (mut proxy, stable) = serving("1.0.0").await;
    let mirrored = TestEndpoint::start("2.0.0").await;
    put_mirrored(&proxy, &stable, mirrored.address).await;
    let mut sent = 0;
    let mut send_five = async |proxy: &TestProxy| {
        for _ in 0..5 {
            assert_eq!(get(proxy.address, "/").await.status, 200);
            sent += 1;
            let all = (sent, sent);
            wait_until("it was copied", || async { copied(proxy).await == all }).await;
        }
    };
    send_five(&proxy).await;
    let old = proxy.upgrade().await;
    send_five(&proxy).await;
    assert_eq!(old.finished().await.code, Some(0));
    wait_until("the process before has had its last word", || async {
        proxy.must("GET", "/v1/status", Value::Null).await["draining_processes"] == 0
    })
    .await;
    assert_eq!(copied(&proxy).await, (10, 10));
}

#[tokio::test]
async fn requests_that_the_process_before_has_not_copied_stay_counted() {
    let (mut proxy, stable) = serving("1.0.0").await;
    let silent = ScriptedEndpoint::start(|_, mut heard: Heard| async move {
        heard.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    put_mirrored(&proxy, &stable, silent.address).await;
    for _ in 0..20 {
        assert_eq!(get(proxy.address, "/").await.status, 200);
    }
    let dropped = async |proxy: &TestProxy| proxy.stats().await.mirror.unwrap().dropped;
    let before = dropped(&proxy).await;
    assert!(before >= 18, "{before} with two workers");
    let old = proxy.upgrade().await;
    assert_eq!(dropped(&proxy).await, before);
    drop(old);
}

#[tokio::test]
async fn websockets_stay_open_across_upgrades() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let url = format!("http://{}/ws", proxy.address);
    let socket = Load::at(&url, &["--websocket", "--rate", "100"]);
    wait_until("the WebSocket is open", || async {
        proxy.stats().await.versions["1.0.0"].upgraded == 1
    })
    .await;
    let old = proxy.upgrade().await;
    let newer = proxy.upgrade().await;
    assert_eq!(newer.finished().await.code, Some(0));
    assert_eq!(proxy.stats().await.versions["1.0.0"].upgraded, 1);
    socket.stop().await.expect_no_failure();
    assert_eq!(old.finished().await.code, Some(0));
}

#[tokio::test]
async fn a_successor_that_cannot_start_changes_nothing() {
    let (proxy, _endpoint) = serving("1.0.0").await;
    let load = Load::start(proxy.address, &["--rate", "0", "--connections", "4"]);
    let config = std::fs::read_to_string(proxy.config_file()).unwrap();
    std::fs::write(proxy.config_file(), "listeners = 7").unwrap();
    let broken = proxy.begin_successor(2).finished().await;
    assert_eq!(broken.code, Some(64), "{broken:?}");
    std::fs::write(proxy.config_file(), config).unwrap();
    // One that has the sockets and the table, and is gone before it says that it is ready.
    for _ in 0..3 {
        let mut stream = UnixStream::connect(proxy.handover_socket()).await.unwrap();
        say(&mut stream, HELLO).await;
        heard(&mut stream).await;
        // What comes beside the sockets, which is not taken here.
        stream.read_u8().await.unwrap();
        say(&mut stream, b"null").await;
        let snapshot = heard(&mut stream).await;
        assert!(snapshot.contains("1.0.0"), "{snapshot}");
        drop(stream);
        let again = proxy.web().await.split;
        proxy.split(json!(again)).await;
    }
    load.stop().await.expect_no_failure();
}

#[tokio::test]
async fn whenever_a_successor_is_killed_another_process_serves() {
    let (proxy, _endpoint) = serving("1.0.0").await;
    for delay in 0..20 {
        let successor = proxy.begin_successor(2);
        tokio::time::sleep(Duration::from_millis(delay * 2)).await;
        successor.signal(Signal::KILL);
        successor.finished().await;
        assert_eq!(get(proxy.address, "/").await.status, 200);
        wait_until("changes are taken again", || async {
            let split = json!({"split": {"1.0.0": 1 + delay}});
            let reply = proxy.call("PUT", "/v1/services/web/split", split).await;
            reply.status == 200
        })
        .await;
    }
}

#[tokio::test]
async fn when_the_new_process_dies_the_old_one_serves_again() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let address = proxy.address;
    let slow = tokio::spawn(async move { get(address, "/slow?for=2s").await });
    proxy.wait_in_flight(1).await;
    let old = proxy.upgrade().await;
    proxy.signal(Signal::KILL);
    old.line_with("this one serves again").await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let again = proxy.web().await.split;
    proxy.split(json!(again)).await;
    let next = proxy.begin_successor(2);
    next.line_with("admin API listening").await;
    assert!(slow.await.unwrap().body.contains("1.0.0"));
    assert_eq!(old.finished().await.code, Some(0));
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn when_the_old_process_dies_the_new_one_serves_on() {
    let (mut proxy, endpoint) = serving("1.0.0").await;
    let address = proxy.address;
    let slow = tokio::spawn(async move {
        tests::raw(address, b"GET /slow?for=60s HTTP/1.1\r\nHost: a\r\n\r\n").await
    });
    proxy.wait_in_flight(1).await;
    let old = proxy.upgrade().await;
    old.signal(Signal::KILL);
    old.finished().await;
    slow.await.unwrap();
    proxy.wait_in_flight(0).await;
    let two = TestEndpoint::start("2.0.0").await;
    proxy.put_web(&[&endpoint, &two], json!({"2.0.0": 1})).await;
    assert!(proxy.drain("1.0.0", "20s").await.drained);
    assert!(get(proxy.address, "/").await.body.contains("2.0.0"));
}

#[tokio::test]
async fn nonsense_on_the_handover_socket_stops_nothing() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let long = vec![b'x'; 100_000];
    let mut hello_and_nonsense = (HELLO.len() as u32).to_be_bytes().to_vec();
    hello_and_nonsense.extend(HELLO);
    hello_and_nonsense.extend(&long);
    let other_format = br#"{"format":99,"release":"9.9.9"}"#;
    let mut other = (other_format.len() as u32).to_be_bytes().to_vec();
    other.extend(other_format);
    for bytes in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 8],
        &[0; 4],
        &long,
        &hello_and_nonsense,
        &other,
    ] {
        let mut stream = UnixStream::connect(proxy.handover_socket()).await.unwrap();
        // It may be closed before everything was said.
        let _ = stream.write_all(bytes).await;
    }
    let silent = UnixStream::connect(proxy.handover_socket()).await.unwrap();
    assert_eq!(get(proxy.address, "/").await.status, 200);
    let old = proxy.upgrade().await;
    drop(silent);
    assert_eq!(old.finished().await.code, Some(0));
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn a_socket_that_a_killed_process_left_behind_is_nobodys() {
    let (proxy, _endpoint) = serving("1.0.0").await;
    let proxy = proxy.restart_after_kill("").await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
}

#[tokio::test]
async fn changes_that_come_while_another_process_takes_over_are_all_made() {
    let (mut proxy, endpoint) = serving("1.0.0").await;
    let two = TestEndpoint::start("2.0.0").await;
    proxy.put_web(&[&endpoint, &two], json!({"1.0.0": 1})).await;
    let before = proxy.web().await.generation;
    let admin = proxy.admin;
    let changes = tokio::spawn(async move {
        for weight in 1..=300 {
            let body = json!({"split": {"1.0.0": weight, "2.0.0": 300}}).to_string();
            let reply = tests::send(admin, "PUT", "/v1/services/web/split", &[], &body).await;
            assert_eq!(reply.status, 200, "{reply:?}");
        }
    });
    for _ in 0..3 {
        let old = proxy.upgrade().await;
        assert_eq!(old.finished().await.code, Some(0));
    }
    changes.await.unwrap();
    let web = proxy.web().await;
    assert_eq!(web.generation, before + 300);
    assert_eq!(web.split["1.0.0"], 300);
    let proxy = proxy.restart_after_kill("").await;
    assert_eq!(proxy.web().await.split["1.0.0"], 300, "and they are kept");
}

#[tokio::test]
async fn a_socket_that_systemd_has_opened_is_used_by_every_worker() {
    let endpoint = TestEndpoint::start("1.0.0").await;
    // As long as it is open here, no other process could bind its port.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let config = format!(
        "[[listeners]]\naddress = \"{address}\"\n[[services]]\nname = \"web\"\n\
         endpoints = [{{ address = \"{}\", version = \"1.0.0\" }}]\n",
        endpoint.address
    );
    std::fs::write(&file, config).unwrap();
    let arguments = ["--config", file.to_str().unwrap(), "--workers", "3"];
    let passed = std::os::fd::OwnedFd::from(socket.try_clone().unwrap());
    let proxy = Running::start_with_socket("crossfade-proxy", &arguments, passed);
    proxy.line_with(" listening address=").await;
    for _ in 0..20 {
        assert_eq!(get(address, "/").await.status, 200);
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.finished().await.code, Some(0));
}

#[tokio::test]
async fn a_listener_that_the_new_config_has_no_more_is_closed_and_a_new_one_is_opened() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let config = std::fs::read_to_string(proxy.config_file()).unwrap();
    let more = tests::free_address();
    let with_more = format!("{config}\n[[listeners]]\naddress = \"{more}\"\n");
    std::fs::write(proxy.config_file(), with_more).unwrap();
    let first = proxy.upgrade().await;
    assert_eq!(get(more, "/").await.status, 200);
    std::fs::write(proxy.config_file(), config).unwrap();
    let second = proxy.upgrade().await;
    assert_eq!(get(proxy.address, "/").await.status, 200);
    for old in [first, second] {
        assert_eq!(old.finished().await.code, Some(0));
    }
    assert!(tokio::net::TcpStream::connect(more).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_its_next_response_and_not_before() {
    let (mut proxy, _endpoint) = serving("1.0.0").await;
    let mut kept = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut response = vec![0; 4096];
    kept.write_all(request).await.unwrap();
    let length = kept.read(&mut response).await.unwrap();
    let text = String::from_utf8_lossy(&response[..length]).to_lowercase();
    assert!(!text.contains("connection: close"), "{text}");
    let old = proxy.upgrade().await;
    kept.write_all(request).await.unwrap();
    let mut last = String::new();
    kept.read_to_string(&mut last).await.unwrap();
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    assert!(last.to_lowercase().contains("connection: close"), "{last}");
    assert_eq!(old.finished().await.code, Some(0));
}
