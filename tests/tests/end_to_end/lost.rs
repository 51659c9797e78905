//! The only replica of a service is killed under load, and another one is there two seconds later.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Load, Reply, TestEndpoint, TestProxy, free_address, send, wait_until};
use tokio::task::{JoinHandle, JoinSet};

/// POSTs that come while no replica is there, and how often.
const POSTS: usize = 20;
const OFTEN: Duration = Duration::from_millis(100);

/// A service with one replica, and clients that send GETs.
struct Shop {
    proxy: TestProxy,
    replica: TestEndpoint,
    load: Load,
    /// Both are under way at the replica.
    get: JoinHandle<Reply>,
    post: JoinHandle<Reply>,
}

async fn put(proxy: &TestProxy, health: &Value, address: SocketAddr) {
    let endpoint = json!({"address": address.to_string(), "version": "1.0.0"});
    let service = json!({"health": health, "endpoints": [endpoint]});
    proxy.must("PUT", "/v1/services/web", service).await;
}

fn slow(address: SocketAddr, method: &'static str) -> JoinHandle<Reply> {
    tokio::spawn(async move { send(address, method, "/slow?for=5s", &[], "").await })
}

impl Shop {
    async fn open(health: &Value) -> Self {
        let proxy = TestProxy::start().await;
        let replica = TestEndpoint::at(free_address(), "1.0.0", &[]).await;
        put(&proxy, health, replica.address).await;
        proxy.wait_up("1.0.0").await;
        let (get, post) = (slow(proxy.address, "GET"), slow(proxy.address, "POST"));
        proxy.wait_in_flight(2).await;
        let load = Load::start(proxy.address, &["--rate", "200", "--connections", "8"]);
        wait_until("the load runs", || async {
            proxy.stats().await.versions["1.0.0"].responses.success > 50
        })
        .await;
        Self {
            proxy,
            replica,
            load,
            get,
            post,
        }
    }

    /// The replica is killed, and `comes` is called two seconds later.
    async fn lose_replica(self, comes: impl AsyncFnOnce(&TestProxy, SocketAddr) -> TestEndpoint) {
        let Self {
            proxy,
            replica,
            load,
            get,
            post,
        } = self;
        let address = replica.address;
        replica.signal(Signal::KILL);
        replica.finished().await;
        let mut posts = JoinSet::new();
        let mut clock = tokio::time::interval(OFTEN);
        for _ in 0..POSTS {
            clock.tick().await;
            let to = proxy.address;
            posts.spawn(async move { send(to, "POST", "/echo", &[], "order").await });
        }
        let _successor = comes(&proxy, address).await;
        for reply in posts.join_all().await {
            assert_eq!((reply.status.as_u16(), &*reply.body), (200, "order"));
        }
        assert_eq!(get.await.unwrap().status, 200);
        let lost = post.await.unwrap();
        let error = "crossfade; error=connection_terminated";
        assert_eq!(
            (lost.status.as_u16(), lost.header("proxy-status")),
            (502, error)
        );
        load.stop().await.expect_no_failure();
        let stats = proxy.stats().await;
        let failed = &stats.versions["1.0.0"].failed_tries;
        assert!(failed.reset >= 2 && failed.connect > 0, "{failed:?}");
        let waits = stats.waits;
        assert!(waits.waited >= POSTS as u64, "{waits:?}");
        assert_eq!((waits.waiting, waits.refused), (0, 0));
    }
}

#[tokio::test]
async fn a_killed_replica_costs_no_request_if_its_successor_comes() {
    let health = json!({"path": "/healthz"});
    let shop = Shop::open(&health).await;
    let comes = async |proxy: &TestProxy, _| {
        let successor = TestEndpoint::start("1.0.0").await;
        put(proxy, &health, successor.address).await;
        successor
    };
    shop.lose_replica(comes).await;
}

#[tokio::test]
async fn a_killed_replica_costs_no_request_if_it_is_back_at_its_address() {
    // The check would not see it in time by itself, neither that it is gone nor that it is back.
    let health = json!({"path": "/healthz", "interval": "1m"});
    let shop = Shop::open(&health).await;
    let comes = async |_: &TestProxy, address| TestEndpoint::at(address, "1.0.0", &[]).await;
    shop.lose_replica(comes).await;
}
