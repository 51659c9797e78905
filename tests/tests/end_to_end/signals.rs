//! Starting, stopping, and ports that are taken.

use rustix::process::Signal;
use serde_json::Value;
use tests::{Running, TestEndpoint, TestProxy, get, wait_until};

#[tokio::test]
async fn at_sigterm_50_slow_requests_finish_and_the_exit_code_is_0() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let address = proxy.address;
    let slow: Vec<_> = (0..50)
        .map(|_| tokio::spawn(async move { get(address, "/slow?for=1s").await }))
        .collect();
    proxy.wait_in_flight(50).await;
    proxy.signal(Signal::TERM);
    for reply in slow {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    let finished = proxy.finished().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[tokio::test]
async fn a_second_sigterm_ends_it_at_once() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let mut stream = std::net::TcpStream::connect(proxy.address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /slow?for=60s HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .unwrap();
    proxy.wait_in_flight(1).await;
    proxy.signal(Signal::TERM);
    proxy.logged("stopping: finishing requests in flight").await;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.finished().await.code, Some(143));
}

#[tokio::test]
async fn without_traffic_it_stops_at_once_though_clients_are_connected() {
    let endpoint = TestEndpoint::start("1").await;
    let proxy = TestProxy::start().await;
    proxy.put_web(&[&endpoint], Value::Null).await;
    let idle = std::net::TcpStream::connect(proxy.address).unwrap();
    wait_until("the connection was accepted", || async {
        proxy.must("GET", "/v1/status", Value::Null).await["connections"] == 1
    })
    .await;
    let start = std::time::Instant::now();
    proxy.signal(Signal::INT);
    assert_eq!(proxy.finished().await.code, Some(0));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    drop(idle);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, format!("[[listeners]]\naddress = \"{address}\"\n")).unwrap();
    let finished = Running::run("crossfade-proxy", &["--config", file.to_str().unwrap()]).await;
    assert_eq!(finished.code, Some(1));
    assert_eq!(
        finished.stderr,
        format!("error: {address} is taken by another program")
    );
}

#[tokio::test]
async fn two_proxies_never_share_a_port_by_accident() {
    let proxy = TestProxy::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(
        &file,
        format!("[[listeners]]\naddress = \"{}\"\n", proxy.address),
    )
    .unwrap();
    let second = Running::run("crossfade-proxy", &["--config", file.to_str().unwrap()]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
}

#[tokio::test]
async fn the_holder_waits_for_its_signal() {
    let infra = Running::start("crossfade-proxy", &["--hold"], &[]);
    // It takes no signal handler's default: as PID 1 it would have none.
    let mut started = false;
    wait_until("its signal handlers are in place", || {
        started =
            std::fs::read_to_string(format!("/proc/{}/status", infra.id())).is_ok_and(|status| {
                status.lines().any(|line| {
                    line.strip_prefix("SigCgt:").is_some_and(|mask| {
                        u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << 14) != 0)
                    })
                })
            });
        async move { started }
    })
    .await;
    infra.signal(Signal::TERM);
    assert_eq!(infra.finished().await.code, Some(0));
}

#[tokio::test]
async fn wrong_flags_exit_with_64() {
    for args in [
        &["--confg", "x"][..],
        &[],
        &["--hold", "--check"],
        &["--config", "x", "--workers", "0"],
    ] {
        assert_eq!(
            Running::run("crossfade-proxy", args).await.code,
            Some(64),
            "{args:?}"
        );
    }
    assert_eq!(
        Running::run("crossfade-proxy", &["--help"]).await.code,
        Some(0)
    );
}
