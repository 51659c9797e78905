//! A fifth of all POSTs have no response: the endpoint closes the connection once it has read them.
//! Each of them is a failure that its client sees, and that is counted.

use std::time::Duration;

use super::{Row, two_origins};
use crate::TestProxy;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::replies;
use crate::zero_downtime::test_env::TestEnv;
use crate::zero_downtime::traffic::{Plan, Traffic};
use crate::zero_downtime::witness::{Failure, Finding};

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let origins = two_origins(&proxy, &witness).await;
    for origin in &origins {
        origin.breaks_posts();
    }

    let plan = Plan::usual(proxy.address, limits.rate);
    let traffic = Traffic::start(&plan, &witness, None);
    tokio::time::sleep(time).await;
    let seen = traffic.stop().await;
    let counted = proxy.stats().await.versions["1"].failures();
    let made = replies::made(&proxy).await;
    let seen_5xx = witness.count(replies::is_5xx);
    let findings = witness.judge(had_to_be);
    Outcome::new(Row::BrokenPosts.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with("failures seen", seen_5xx as f64, "", Limit::AtLeast(1.0))
        .with(
            "failures counted and not seen",
            counted as f64 - seen_5xx as f64,
            "",
            Limit::Is(0.0),
        )
        .with_5xx(made, seen_5xx)
}

fn had_to_be(finding: &Finding) -> bool {
    finding.failure == Failure::Status
        && finding.request.is_some_and(|request| request.is_to_break())
        && finding.detail.starts_with("502")
        && finding.detail.contains("connection_terminated")
}
