//! SIGTERM with 50 slow requests in flight: all of them get a response, and the exit code is 0.

use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use super::Row;
use crate::TestProxy;
use crate::zero_downtime::admin::{Admin, endpoint};
use crate::zero_downtime::client::Client;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::request::{Kind, Request};
use crate::zero_downtime::test_env::{TestEnv, origin};

const IN_FLIGHT: u64 = 50;
/// How long their responses take.
const SLOW: Kind = Kind::Slow(700);

pub(super) async fn run(env: &TestEnv, rounds: usize) -> Outcome {
    let witness = env.new_witness();
    let one = origin(1, &witness).await;
    let mut responses = 0;
    for _ in 0..rounds {
        let proxy = TestProxy::start().await;
        let web = json!({"endpoints": [endpoint(&one, "1")]});
        Admin::new(proxy.admin).put_web(&web).await;
        let mut clients = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let id = witness.next_id();
            let mut client = Client::new(proxy.address);
            let request = Request { id, kind: SLOW };
            // They ask for their connection to be closed, so that it is no finding that it is.
            clients.spawn(async move { client.exchange(request, true).await });
        }
        proxy.wait_in_flight(IN_FLIGHT).await;
        proxy.signal(Signal::TERM);
        while let Some(outcome) = clients.join_next().await {
            witness.ended();
            match outcome.expect("a client does not panic") {
                Ok(_) => responses += 1,
                Err(finding) => witness.found(finding),
            }
        }
        let finished = proxy.finished().await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    let findings = witness.judge(|_| false);
    let want = IN_FLIGHT * rounds as u64;
    Outcome::new(Row::Stops.title(), witness.requests(), findings)
        .with("stops", rounds as f64, "", Limit::None)
        .with(
            "finished",
            f64::from(responses),
            "",
            Limit::AtLeast(want as f64),
        )
}
