//! The proxy is killed (SIGKILL) in the middle of changes and started again: the last table that
//! it has confirmed is there, and the first response is a good one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::Row;
use crate::zero_downtime::admin::{Admin, endpoint, health, milliseconds};
use crate::zero_downtime::client::Client;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::request::Request;
use crate::zero_downtime::test_env::{TestEnv, origin};
use crate::zero_downtime::witness::{Failure, Witness};
use crate::{DEADLINE, Running, free_address, wait_until};

/// What the changes of a round are told apart by: a split of this and something else.
const FIXED: u32 = 1_000_000;

pub(super) async fn run(env: &TestEnv, rounds: usize) -> Outcome {
    let witness = env.new_witness();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (address, admin) = (free_address(), free_address());
    let file = folder.path().join("proxy.toml");
    let state = folder.path().join("state.json");
    let config = format!(
        "[admin]\nlisten = \"{admin}\"\nstate_file = {state:?}\n[[listeners]]\naddress = \"{address}\"\n"
    );
    std::fs::write(&file, config).expect("the folder is ours");

    let (one, two) = (origin(1, &witness).await, origin(2, &witness).await);
    let mut proxy = start(&file);
    proxy.line_with("admin API listening").await;
    let endpoints = json!([endpoint(&one, "1"), endpoint(&two, "2")]);
    let web = json!({"endpoints": endpoints, "health": health(), "split": {"1": 1, "2": FIXED}});
    Admin::new(admin).put_web(&web).await;
    wait_up(admin).await;

    let (mut worst, mut sum) = (Duration::ZERO, Duration::ZERO);
    let mut last = 1;
    for round in 0..rounds {
        let changes = Changes::new(last);
        let changing = tokio::spawn(changes.clone().go_on(admin));
        let enough = last + 5 + (round % 20) as u32;
        let what = "some changes are confirmed";
        wait_until(what, || async { changes.confirmed() >= enough }).await;
        proxy.signal(Signal::KILL);
        proxy.finished().await;
        changing.await.expect("changes end with their proxy");

        let started = Instant::now();
        proxy = start(&file);
        first_response(address, &witness).await;
        let took = started.elapsed();
        (worst, sum) = (worst.max(took), sum + took);
        last = restored(admin).await;
        let (confirmed, sent) = (changes.confirmed(), changes.sent());
        assert!(
            (confirmed..=sent).contains(&last),
            "restored {last}, but {confirmed} was confirmed, and {sent} was the last one sent"
        );
    }
    // A proxy that is not there responds to no one.
    let findings = witness.judge(|finding| finding.failure == Failure::Refused);
    let limit = Limit::AtMost(env.limits.first_response);
    let mean = milliseconds(sum) / rounds as f64;
    Outcome::new(Row::Restarts.title(), witness.requests(), findings)
        .with("restarts", rounds as f64, "", Limit::None)
        .with("first response at worst", milliseconds(worst), "ms", limit)
        .with("first response on average", mean, "ms", Limit::None)
}

fn start(file: &Path) -> Running {
    let file = file.to_str().expect("temporary paths are text");
    let arguments = ["--config", file, "--workers", "2"];
    Running::start("crossfade-proxy", &arguments, &[])
}

/// Sends requests until there is a response, which has to be a good one.
async fn first_response(address: SocketAddr, witness: &Arc<Witness>) {
    let began = Instant::now();
    loop {
        let request = Request::of_mix(witness.next_id());
        let outcome = Client::new(address).exchange(request, true).await;
        witness.ended();
        let Err(finding) = outcome else { return };
        let refused = finding.failure == Failure::Refused;
        witness.found(finding);
        assert!(
            began.elapsed() < DEADLINE,
            "no good response after a restart"
        );
        if refused {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn restored(admin: SocketAddr) -> u32 {
    let web = Admin::new(admin)
        .must("GET", "/v1/services/web", &Value::Null)
        .await;
    let number = web["split"]["1"].as_u64().expect("a number");
    u32::try_from(number).expect("one of ours")
}

async fn wait_up(admin: SocketAddr) {
    wait_until("every endpoint is up", || async {
        let web = Admin::new(admin)
            .must("GET", "/v1/services/web", &Value::Null)
            .await;
        let versions = web["versions"].as_object();
        versions.is_some_and(|versions| {
            versions
                .values()
                .all(|version| version["endpoints"][0]["health"] == "up")
        })
    })
    .await;
}

/// Changes that go on until the proxy is gone, each with a higher number.
struct Changes {
    sent: AtomicU32,
    confirmed: AtomicU32,
}

impl Changes {
    fn new(from: u32) -> Arc<Self> {
        Arc::new(Self {
            sent: AtomicU32::new(from),
            confirmed: AtomicU32::new(from),
        })
    }

    async fn go_on(self: Arc<Self>, admin: SocketAddr) {
        let mut admin = Admin::new(admin);
        loop {
            let number = self.sent.fetch_add(1, Ordering::SeqCst) + 1;
            let split = json!({"split": {"1": number, "2": FIXED}});
            let response = admin.call("PUT", "/v1/services/web/split", &split).await;
            let Some((status, body)) = response else {
                return;
            };
            assert_eq!(status, 200, "{body}");
            self.confirmed.store(number, Ordering::SeqCst);
        }
    }

    fn sent(&self) -> u32 {
        self.sent.load(Ordering::SeqCst)
    }

    fn confirmed(&self) -> u32 {
        self.confirmed.load(Ordering::SeqCst)
    }
}
