//! 1,000 swaps a second: splits and whole upstream sets, by many callers at once.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Row;
use crate::TestProxy;
use crate::zero_downtime::admin::{Admin, endpoint};
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::traffic::{Plan, Traffic, microseconds};

const CALLERS: u32 = 16;
const RATE: u32 = 1_000;

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let (one, two) = (origin(1, &witness).await, origin(2, &witness).await);
    let endpoints = json!([endpoint(&one, "1"), endpoint(&two, "2")]);
    let mut admin = Admin::new(proxy.admin);
    let web = json!({"endpoints": endpoints, "split": {"1": 1, "2": 1}});
    admin.put_web(&web).await;
    let before = admin.generation().await;

    let plan = Plan::usual(proxy.address, limits.rate);
    let traffic = Traffic::start(&plan, &witness, None);
    let began = Instant::now();
    let mut callers: JoinSet<_> = (0..CALLERS)
        .map(|number| swap(number, Admin::new(proxy.admin), endpoints.clone(), time))
        .collect();
    let mut calls = microseconds();
    while let Some(of_one) = callers.join_next().await {
        calls += of_one.expect("a caller does not panic");
    }
    let elapsed = began.elapsed();
    let seen = traffic.stop().await;
    let swaps = calls.len();
    let generations = admin.generation().await - before;
    assert_eq!(generations, swaps, "every call is a table of its own");
    let milliseconds = |value: u64| value as f64 / 1e3;
    let findings = witness.judge(|_| false);
    Outcome::new(Row::Storm.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with(
            "swaps",
            swaps as f64 / elapsed.as_secs_f64(),
            "/s",
            Limit::AtLeast(f64::from(RATE) * limits.changes),
        )
        .with(
            "call p99",
            milliseconds(calls.value_at_quantile(0.99)),
            "ms",
            Limit::None,
        )
}

/// One caller, with its share of the swaps.
async fn swap(number: u32, mut admin: Admin, endpoints: Value, time: Duration) -> Histogram<u64> {
    let mut calls = microseconds();
    let mut clock = tokio::time::interval(Duration::from_secs(1) * CALLERS / RATE);
    // It makes up for what it missed: the rate is what matters here.
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (began, mut weight) = (Instant::now(), number);
    while began.elapsed() < time {
        clock.tick().await;
        weight = (weight + 37) % 100;
        let sent = Instant::now();
        if weight % 8 == 0 {
            let split = json!({"1": weight + 1, "2": 100 - weight});
            admin
                .put_web(&json!({"endpoints": endpoints, "split": split}))
                .await;
        } else {
            admin.split(weight + 1, 100 - weight).await;
        }
        calls.saturating_record(sent.elapsed().as_micros() as u64);
    }
    calls
}
