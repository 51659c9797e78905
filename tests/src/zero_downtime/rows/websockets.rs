//! WebSockets that are open through 1,000 swaps and the drain of another version.

use serde_json::json;

use super::Row;
use crate::zero_downtime::admin::{Admin, endpoint};
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::traffic::{Plan, Traffic};
use crate::{TestProxy, wait_until};

const SOCKETS: u64 = 16;
const SWAPS: u32 = 1_000;

pub(super) async fn run(env: &TestEnv, rounds: usize) -> Outcome {
    let witness = env.new_witness();
    let (mut requests, mut echoes) = (0, 0);
    for _ in 0..rounds {
        let proxy = TestProxy::start().await;
        let (one, two) = (origin(1, &witness).await, origin(2, &witness).await);
        let endpoints = json!([endpoint(&one, "1"), endpoint(&two, "2")]);
        let mut admin = Admin::new(proxy.admin);
        let web = json!({"endpoints": endpoints, "split": {"1": 1, "2": 0}});
        admin.put_web(&web).await;
        let plan = Plan {
            websockets: SOCKETS as usize,
            ..Plan::usual(proxy.address, env.limits.rate / 4.0)
        };
        let traffic = Traffic::start(&plan, &witness, None);
        let what = "every WebSocket is open";
        wait_until(what, || async {
            proxy.stats().await.versions["1"].upgraded == SOCKETS
        })
        .await;
        for number in 1..=SWAPS {
            admin.split(number, SWAPS - number).await;
        }
        let receipt = admin.drain(&json!({"version": "2"})).await;
        assert!(receipt.drained && !receipt.forced, "{receipt:?}");
        two.has_its_receipt();
        two.stop();
        assert_eq!(proxy.stats().await.versions["1"].upgraded, SOCKETS);
        let seen = traffic.stop().await;
        requests += seen.responses;
        echoes += seen.echoes;
    }
    let findings = witness.judge(|_| false);
    let want = (SOCKETS * rounds as u64) as f64;
    Outcome::new(Row::WebSockets.title(), witness.requests(), findings)
        .with("rounds", rounds as f64, "", Limit::None)
        .with("responses", requests as f64, "", Limit::AtLeast(want))
        .with("echoes", echoes as f64, "", Limit::AtLeast(want))
}
