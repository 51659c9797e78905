//! Endpoints die without a word, one a second of four, and come back at the same address.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Row, times_a_second};
use crate::zero_downtime::admin::{Admin, health};
use crate::zero_downtime::client::GoodResponse;
use crate::zero_downtime::killable::Killable;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::test_env::TestEnv;
use crate::zero_downtime::traffic::{Observer, Plan, Traffic};
use crate::zero_downtime::witness::{Failure, Finding};
use crate::{TestProxy, free_address, wait_until};

/// How long a killed endpoint is away.
const AWAY: Duration = Duration::from_millis(400);
/// A request that was sent no more than this after a kill may have been under way to a process
/// that still seemed to be there.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// An endpoint was killed.
struct Kill {
    endpoint: u32,
    at: Instant,
}

pub(super) async fn run(env: &TestEnv, time: Duration) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let ports: Vec<u16> = (0..4).map(|_| free_address().port()).collect();
    let start = |number: usize| {
        let (program, witness) = (&env.origin_program, &witness);
        let port = ports[number];
        async move { Killable::start(program, number as u32, port, witness).await }
    };
    let mut origins = Vec::new();
    let mut endpoints = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        origins.push(start(number).await);
        endpoints.push(json!({"address": format!("127.0.0.1:{port}"), "version": "1"}));
    }
    let web = json!({"endpoints": endpoints, "health": health()});
    Admin::new(proxy.admin).put_web(&web).await;
    wait_up(&proxy).await;

    let responses = Arc::new(Mutex::new([0u64; 4]));
    let counted = responses.clone();
    let observer: Observer = Arc::new(move |response: GoodResponse| {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted[response.endpoint as usize] += 1;
    });
    let plan = Plan {
        // They end with their endpoints: nothing else can be done.
        websockets: 0,
        ..Plan::usual(proxy.address, limits.rate)
    };
    let traffic = Traffic::start(&plan, &witness, Some(&observer));
    let mut kills = Vec::new();
    let (began, mut clock) = (Instant::now(), times_a_second(1));
    clock.tick().await;
    while began.elapsed() < time {
        clock.tick().await;
        let number = kills.len() % 4;
        kills.push(Kill {
            endpoint: number as u32,
            at: Instant::now(),
        });
        origins.remove(0).kill().await;
        tokio::time::sleep(AWAY).await;
        origins.push(start(number).await);
        wait_up(&proxy).await;
    }
    let elapsed = began.elapsed();
    let seen = traffic.stop().await;
    let failed = proxy.stats().await.versions["1"].failures();
    let findings = witness.judge(|finding| is_excused(finding, &kills));
    let to_fewest = responses.lock().unwrap_or_else(PoisonError::into_inner);
    let to_fewest = to_fewest.iter().min().copied().unwrap_or_default();
    Outcome::new(Row::Kills.title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with(
            "killed",
            kills.len() as f64 / elapsed.as_secs_f64(),
            "/s",
            Limit::AtLeast(limits.changes * 0.8),
        )
        // No client would have noticed anything anyway, if nothing had been under way.
        .with(
            "attempts that failed",
            failed as f64,
            "",
            Limit::AtLeast(1.0),
        )
        // An endpoint that comes back and gets nothing would make all this easy.
        .with(
            "responses of the least used endpoint",
            to_fewest as f64,
            "",
            Limit::AtLeast(1.0),
        )
}

/// What a client has to live with when an endpoint dies: a response that had begun breaks off,
/// and a POST that had been sent gets a 502.
fn is_excused(finding: &Finding, kills: &[Kill]) -> bool {
    let killed = |kill: &Kill| {
        let was_its = finding
            .endpoint
            .is_none_or(|number| number == kill.endpoint);
        was_its && finding.sent < kill.at + UNDER_WAY && kill.at < finding.at
    };
    let had_to_be = match finding.failure {
        Failure::Cut => finding.endpoint.is_some(),
        Failure::Status => {
            finding.request.is_some_and(|request| request.is_post())
                && finding.detail.starts_with("502")
                && finding.detail.contains("connection_terminated")
        }
        _ => false,
    };
    had_to_be && kills.iter().any(killed)
}

/// Waits until every endpoint is up.
async fn wait_up(proxy: &TestProxy) {
    wait_until("every endpoint is up", || async {
        let web = proxy.must("GET", "/v1/services/web", Value::Null).await;
        let endpoints = web["versions"]["1"]["endpoints"].as_array();
        endpoints.is_some_and(|all| all.iter().all(|endpoint| endpoint["health"] == "up"))
    })
    .await;
}
