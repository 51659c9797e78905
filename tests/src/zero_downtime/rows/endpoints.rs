//! Endpoints come, are drained and are stopped, 5 a second, as in rolling updates without end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Row, times_a_second};
use crate::zero_downtime::admin::{Admin, endpoint, health, milliseconds};
use crate::zero_downtime::origin::Origin;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::traffic::{Plan, Traffic};
use crate::zero_downtime::witness::{Failure, Finding, Witness};
use crate::{TestProxy, wait_until};

/// Endpoints that are there at any time.
const ENDPOINTS: usize = 4;
/// How long connections to an endpoint may be open after its receipt.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// How long a stopped endpoint goes on looking for what should not come.
const LOOK_FOR: Duration = Duration::from_secs(3);

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let mut live = VecDeque::new();
    let mut next = 0;
    let mut admin = Admin::new(proxy.admin);
    for _ in 0..ENDPOINTS {
        next += 1;
        live.push_back(origin(next, &witness).await);
    }
    put(&mut admin, &live).await;
    for origin in &live {
        wait_up(&proxy, origin).await;
    }

    let plan = Plan {
        // An upgraded connection keeps its endpoint for as long as it likes, by design.
        websockets: 0,
        ..Plan::usual(proxy.address, limits.rate)
    };
    let traffic = Traffic::start(&plan, &witness, None);
    let mut stopped = JoinSet::new();
    let (began, mut clock) = (Instant::now(), times_a_second(5));
    while began.elapsed() < time {
        clock.tick().await;
        next += 1;
        let new = origin(next, &witness).await;
        live.push_back(new);
        put(&mut admin, &live).await;
        wait_up(&proxy, &live[live.len() - 1]).await;
        let Some(old) = live.pop_front() else { break };
        // Taken out and then asked after, or drained and then taken out: both are right.
        if next % 2 == 0 {
            put(&mut admin, &live).await;
            stopped.spawn(stop(proxy.admin, old, witness.clone()));
        } else {
            let admin_address = proxy.admin;
            let drained = stop(admin_address, old, witness.clone());
            let drained = tokio::spawn(drained);
            wait_draining(&proxy).await;
            put(&mut admin, &live).await;
            stopped.spawn(async move { drained.await.expect("a receipt") });
        }
    }
    let elapsed = began.elapsed();
    let mut waits = Vec::new();
    while let Some(waited) = stopped.join_next().await {
        waits.push(waited.expect("a receipt"));
    }
    let seen = traffic.stop().await;
    let rate = waits.len() as f64 / elapsed.as_secs_f64();
    let worst = waits.into_iter().max().unwrap_or_default();
    let findings = witness.judge(|_| false);
    Outcome::new(Row::Endpoints.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with("replaced", rate, "/s", Limit::AtLeast(5.0 * limits.changes))
        .with("receipt at worst", milliseconds(worst), "ms", Limit::None)
}

async fn put(admin: &mut Admin, live: &VecDeque<Origin>) {
    let endpoints: Vec<Value> = live.iter().map(|origin| endpoint(origin, "1")).collect();
    let web = json!({"endpoints": endpoints, "health": health()});
    admin.put_web(&web).await;
}

/// Waits until the proxy has seen it healthy.
async fn wait_up(proxy: &TestProxy, origin: &Origin) {
    let address = origin.address.to_string();
    wait_until(&format!("endpoint {} is up", origin.number), || async {
        let web = proxy.web().await;
        let mut endpoints = web.versions["1"].endpoints.iter();
        endpoints.any(|endpoint| {
            endpoint.address == address && endpoint.health == admin_api::HealthState::Up
        })
    })
    .await;
}

async fn wait_draining(proxy: &TestProxy) {
    wait_until("an endpoint drains", || async {
        let web = proxy.web().await;
        let mut endpoints = web.versions["1"].endpoints.iter();
        endpoints.any(|endpoint| endpoint.health == admin_api::HealthState::Draining)
    })
    .await;
}

/// Gets an endpoint's receipt, stops it, and looks at it for some time more. Gives how long the
/// receipt took.
async fn stop(admin: SocketAddr, origin: Origin, witness: Arc<Witness>) -> Duration {
    let sent = Instant::now();
    let target = json!({"version": "1", "endpoint": origin.address.to_string()});
    let receipt = Admin::new(admin).drain(&target).await;
    origin.has_its_receipt();
    let waited = sent.elapsed();
    assert!(receipt.drained && !receipt.forced, "{receipt:?}");
    // Half of them are stopped at once. The others see whether the proxy lets go by itself.
    if origin.number % 4 < 2 {
        let until = Instant::now() + CLOSED_WITHIN;
        while origin.open() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if origin.open() > 0 {
            witness.found(Finding {
                failure: Failure::LeftOpen,
                request: None,
                endpoint: Some(origin.number),
                sent,
                at: Instant::now(),
                detail: format!("{} connections", origin.open()),
            });
        }
    }
    origin.stop();
    // What still comes is told by the origin itself.
    tokio::time::sleep(LOOK_FOR).await;
    waited
}
