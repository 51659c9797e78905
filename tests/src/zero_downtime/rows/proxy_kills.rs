//! The proxy of a project is killed (SIGKILL) under new connections: they wait for its standby, which
//! serves at once. The controller starts a standby of that one.

use std::time::Duration;

use super::Row;
use crate::zero_downtime::admin::milliseconds;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::TestEnv;
use crate::zero_downtime::witness::{Failure, Findings};
use crate::{On, Settings, TestProject, proxy_kills};

pub(super) async fn run(env: &TestEnv, rounds: usize) -> Outcome {
    let project = TestProject::up(On::Processes, &Settings::default()).await;
    let mut requests = 0;
    let mut findings = Findings::default();
    let (mut worst, mut sum) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        let killed = proxy_kills::kill(&project, proxy_kills::RATE).await;
        requests += killed.requests;
        findings.excused += killed.in_flight;
        findings.failed += killed.refused + killed.failed.len() as u64;
        if killed.refused > 0 {
            *findings.troubles.entry(Failure::Refused).or_default() += killed.refused;
        }
        findings.examples.extend(killed.failed.into_iter().take(3));
        (worst, sum) = (
            worst.max(killed.first_response),
            sum + killed.first_response,
        );
    }
    let limit = Limit::AtMost(env.limits.standby_response);
    let mean = milliseconds(sum) / rounds as f64;
    Outcome::new(Row::ProxyKills.title(), requests, findings)
        .with("kills", rounds as f64, "", Limit::None)
        .with("first response at worst", milliseconds(worst), "ms", limit)
        .with("first response on average", mean, "ms", Limit::None)
}
