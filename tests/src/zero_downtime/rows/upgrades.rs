//! The proxy itself is replaced, again and again, by processes with fewer and with more workers.
//! WebSockets that were open before go on; an endpoint that is drained while two processes may use
//! it has its receipt when neither does.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Row;
use crate::zero_downtime::admin::{Admin, endpoint};
use crate::zero_downtime::client::WITH_THE_RESPONSE;
use crate::zero_downtime::origin::Origin;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::traffic::{Plan, Traffic};
use crate::zero_downtime::witness::Failure;
use crate::{TestProxy, wait_until};

/// Responses that a new process sends before the next one takes over.
const RESPONSES: u64 = 300;

pub(super) async fn run(env: &TestEnv, rounds: usize) -> Outcome {
    let witness = env.new_witness();
    let mut proxy = TestProxy::start().await;
    let one = origin(1, &witness).await;
    let mut two = origin(2, &witness).await;
    let mut admin = Admin::new(proxy.admin);
    admin.put_web(&web(&one, &two, 0)).await;
    let plan = Plan::usual(proxy.address, env.limits.rate);
    let sockets = plan.websockets as u64;
    let traffic = Traffic::start(&plan, &witness, None);
    wait_until("every WebSocket is open", || async {
        proxy.stats().await.versions["1"].upgraded == sockets
    })
    .await;

    let mut before = Vec::new();
    for round in 0..rounds as u32 {
        let next = origin(3 + round, &witness).await;
        admin.put_web(&web(&one, &next, 1)).await;
        before.push(proxy.upgrade_to(1 + round % 3).await);
        let target = json!({"version": "2", "endpoint": two.address.to_string()});
        let receipt = admin.drain(&target).await;
        assert!(receipt.drained && !receipt.forced, "{receipt:?}");
        two.has_its_receipt();
        two.stop();
        two = next;
        let enough = witness.requests() + RESPONSES;
        wait_until("the new process has served some requests", || async {
            witness.requests() >= enough
        })
        .await;
    }
    assert_eq!(proxy.stats().await.versions["1"].upgraded, sockets);
    let seen = traffic.stop().await;
    let upgrades = before.len();
    for process in before {
        // A process with nothing left has ended by itself, or does so before this is heard.
        let finished = process.finished().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.finished().await.code, Some(0));
    // The process that leaves says with a good response that it is the connection's last.
    let findings = witness
        .judge(|finding| finding.failure == Failure::Closed && finding.detail == WITH_THE_RESPONSE);
    Outcome::new(Row::Upgrades.title(), witness.requests(), findings)
        .with_traffic(&seen, env.limits.responses)
        .with(
            "upgrades",
            upgrades as f64,
            "",
            Limit::AtLeast(rounds as f64),
        )
        .with(
            "echoes",
            seen.echoes as f64,
            "",
            Limit::AtLeast(sockets as f64),
        )
}

fn web(one: &Origin, two: &Origin, share: u32) -> Value {
    let endpoints = json!([endpoint(one, "1"), endpoint(two, "2")]);
    json!({"endpoints": endpoints, "split": {"1": 1, "2": share}})
}
