//! 50 swaps a second: all traffic goes from one version to the other and back, so that every
//! request shows by its response which table it has read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Row, times_a_second};
use crate::TestProxy;
use crate::zero_downtime::admin::{Admin, endpoint};
use crate::zero_downtime::client::GoodResponse;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::traffic::{Observer, Plan, Traffic, microseconds};

/// Swaps that a request that gets its response now can still be about.
const REMEMBER: usize = 250;

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let (one, two) = (origin(1, &witness).await, origin(2, &witness).await);
    let endpoints = json!([endpoint(&one, "1"), endpoint(&two, "2")]);
    let mut admin = Admin::new(proxy.admin);
    let web = json!({"endpoints": endpoints, "split": {"1": 1, "2": 0}});
    admin.put_web(&web).await;

    let swaps = Arc::new(Mutex::new(Swaps::default()));
    let observed = swaps.clone();
    let observer: Observer =
        Arc::new(move |response: GoodResponse| lock(&observed).judge(response));
    let traffic = Traffic::start(
        &Plan::usual(proxy.address, limits.rate),
        &witness,
        Some(&observer),
    );
    let mut calls = microseconds();
    let (began, mut clock) = (Instant::now(), times_a_second(50));
    let mut number = 0;
    while began.elapsed() < time {
        clock.tick().await;
        number += 1;
        let version = 1 + number % 2;
        let (first, second) = if version == 1 { (1, 0) } else { (0, 1) };
        let sent = Instant::now();
        lock(&swaps).begin(sent, version);
        if number % 10 == 0 {
            let split = json!({"1": first, "2": second});
            admin
                .put_web(&json!({"endpoints": endpoints, "split": split}))
                .await;
        } else {
            admin.split(first, second).await;
        }
        calls.saturating_record(sent.elapsed().as_micros() as u64);
    }
    let rate = f64::from(number) / began.elapsed().as_secs_f64();
    let seen = traffic.stop().await;
    let lag = lock(&swaps).lag();
    let milliseconds = |value: u64| value as f64 / 1e3;
    let findings = witness.judge(|_| false);
    Outcome::new(Row::Swaps.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with("swaps", rate, "/s", Limit::AtLeast(50.0 * limits.changes))
        .with(
            "lag of a swap p99",
            milliseconds(lag.value_at_quantile(0.99)),
            "ms",
            Limit::AtMost(limits.lag),
        )
        .with(
            "lag of a swap at worst",
            milliseconds(lag.max()),
            "ms",
            Limit::None,
        )
        .with(
            "call p99",
            milliseconds(calls.value_at_quantile(0.99)),
            "ms",
            Limit::None,
        )
}

/// The last swaps, and how late their last requests were.
#[derive(Default)]
struct Swaps {
    /// In the order in which they were sent.
    last: VecDeque<Swap>,
    /// Of those that are forgotten, in microseconds.
    lags: Vec<u64>,
}

struct Swap {
    sent: Instant,
    /// Where all requests go from now on.
    version: u32,
    /// From its sending until the last request was sent that still went the other way.
    lag: Duration,
}

impl Swaps {
    fn begin(&mut self, sent: Instant, version: u32) {
        self.last.push_back(Swap {
            sent,
            version,
            lag: Duration::ZERO,
        });
        if self.last.len() > REMEMBER {
            let swap = self.last.pop_front();
            self.lags
                .extend(swap.map(|swap| swap.lag.as_micros() as u64));
        }
    }

    /// Takes in a response. It has the number of its version.
    fn judge(&mut self, response: GoodResponse) {
        let GoodResponse {
            endpoint,
            sent,
            done,
            ..
        } = response;
        let after = self.last.partition_point(|swap| swap.sent <= sent);
        let Some(at) = after.checked_sub(1) else {
            return;
        };
        let went_there = |swap: &Swap| swap.version == endpoint && swap.sent < done;
        if self.last[at].version == endpoint || self.last.range(after..).any(went_there) {
            return;
        }
        let swap = &mut self.last[at];
        swap.lag = swap.lag.max(sent.duration_since(swap.sent));
    }

    /// Of all swaps, in microseconds.
    fn lag(&self) -> Histogram<u64> {
        let mut lags = microseconds();
        let last = self.last.iter().map(|swap| swap.lag.as_micros() as u64);
        for lag in self.lags.iter().copied().chain(last) {
            lags.saturating_record(lag);
        }
        lags
    }
}

fn lock(swaps: &Mutex<Swaps>) -> std::sync::MutexGuard<'_, Swaps> {
    swaps.lock().unwrap_or_else(PoisonError::into_inner)
}
