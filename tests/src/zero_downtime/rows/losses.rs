//! Endpoints are lost without a word, one a second of four, and come back at the same address: they
//! are killed, their host is gone, or they freeze.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Row, times_a_second};
use crate::zero_downtime::admin::{Admin, health};
use crate::zero_downtime::client::GoodResponse;
use crate::zero_downtime::killable::Killable;
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::replies;
use crate::zero_downtime::test_env::TestEnv;
use crate::zero_downtime::traffic::{Observer, Plan, Traffic};
use crate::zero_downtime::witness::{Failure, Finding, Witness};
use crate::{Blackhole, TestProxy, free_address};

/// A request that was sent no more than this after a loss may have been under way to a process
/// that still seemed to be there.
const UNDER_WAY: Duration = Duration::from_millis(50);
/// From the return of one to the loss of the next: a request that connects to both of them, one
/// after the other, would be late.
const REST: Duration = Duration::from_millis(500);
/// What a frozen process was sent, it reads when it goes on.
const CATCHES_UP: Duration = Duration::from_secs(1);

/// How an endpoint is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// SIGKILL: its connections break, and new ones are refused.
    Killed,
    /// Its connections break, and new ones are never made, and never refused.
    Blackholed,
    /// SIGSTOP: connections are made, and nothing comes over them.
    Frozen,
}

/// An endpoint was lost for a while.
struct Loss {
    endpoint: u32,
    at: Instant,
    until: Instant,
}

/// The four endpoints.
struct Origins<'e> {
    env: &'e TestEnv,
    witness: Arc<Witness>,
    ports: Vec<u16>,
    processes: Vec<Option<Killable>>,
}

impl How {
    fn row(self) -> Row {
        match self {
            Self::Killed => Row::Kills,
            Self::Blackholed => Row::Blackholes,
            Self::Frozen => Row::Freezes,
        }
    }

    /// How long an endpoint is away.
    fn time(self) -> Duration {
        match self {
            Self::Killed => Duration::from_millis(400),
            // Longer than a client waits for any response before it counts as late.
            Self::Blackholed | Self::Frozen => Duration::from_millis(1_500),
        }
    }

    fn rest(self) -> Duration {
        match self {
            Self::Killed => Duration::ZERO,
            Self::Blackholed | Self::Frozen => REST,
        }
    }

    /// Losses a second.
    fn rate(self) -> f64 {
        match self {
            Self::Killed => 1.0,
            Self::Blackholed | Self::Frozen => 0.3,
        }
    }

    fn health(self) -> Value {
        let mut health = health();
        if self == Self::Frozen {
            // Nothing tells the proxy but this.
            health["timeout"] = json!("200ms");
        }
        health
    }
}

impl<'e> Origins<'e> {
    async fn start(env: &'e TestEnv, witness: &Arc<Witness>) -> Self {
        let mut all = Self {
            env,
            witness: witness.clone(),
            ports: (0..4).map(|_| free_address().port()).collect(),
            processes: vec![None, None, None, None],
        };
        for number in 0..4 {
            all.start_one(number).await;
        }
        all
    }

    async fn start_one(&mut self, number: usize) {
        let (program, port) = (&self.env.origin_program, self.ports[number]);
        let started = Killable::start(program, number as u32, port, &self.witness).await;
        self.processes[number] = Some(started);
    }

    fn endpoints(&self) -> Vec<Value> {
        let endpoint = |port: &u16| json!({"address": format!("127.0.0.1:{port}"), "version": "1"});
        self.ports.iter().map(endpoint).collect()
    }

    /// Has one be away for a while.
    async fn lose(&mut self, number: usize, how: How) {
        if how == How::Frozen {
            if let Some(process) = &self.processes[number] {
                process.signal(Signal::STOP);
                tokio::time::sleep(how.time()).await;
                process.signal(Signal::CONT);
            }
            return;
        }
        if let Some(process) = self.processes[number].take() {
            process.kill().await;
        }
        let silent = (how == How::Blackholed).then(|| Blackhole::at(self.ports[number]));
        tokio::time::sleep(how.time()).await;
        drop(silent);
        self.start_one(number).await;
    }
}

pub(super) async fn run(env: &TestEnv, time: Duration, how: How) -> Outcome {
    let limits = env.limits;
    let proxy = TestProxy::start().await;
    let witness = env.new_witness();
    let mut origins = Origins::start(env, &witness).await;
    let web = json!({"endpoints": origins.endpoints(), "health": how.health()});
    Admin::new(proxy.admin).put_web(&web).await;
    proxy.wait_up("1").await;

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
    let mut losses = Vec::new();
    let (began, mut clock) = (Instant::now(), times_a_second(1));
    clock.tick().await;
    while began.elapsed() < time {
        clock.tick().await;
        tokio::time::sleep(how.rest()).await;
        let (number, at) = (losses.len() % 4, Instant::now());
        origins.lose(number, how).await;
        losses.push(Loss {
            endpoint: number as u32,
            at,
            until: Instant::now(),
        });
        proxy.wait_up("1").await;
    }
    let elapsed = began.elapsed();
    let seen = traffic.stop().await;
    let failed = proxy.stats().await.versions["1"].failures();
    let made = replies::made(&proxy).await;
    let seen_5xx = witness.count(replies::is_5xx);
    let findings = witness.judge(|finding| how.is_excused(finding, &losses));
    let to_fewest = responses.lock().unwrap_or_else(PoisonError::into_inner);
    let to_fewest = to_fewest.iter().min().copied().unwrap_or_default();
    Outcome::new(how.row().title(), witness.requests(), findings)
        .with_traffic(&seen, limits.responses)
        .with(
            "lost",
            losses.len() as f64 / elapsed.as_secs_f64(),
            "/s",
            Limit::AtLeast(how.rate() * limits.changes * 0.8),
        )
        // No client would have noticed anything anyway, if nothing had been under way.
        .with(
            "attempts that failed",
            failed as f64,
            "",
            Limit::AtLeast((seen_5xx as f64).max(1.0)),
        )
        .with_5xx(made, seen_5xx)
        // An endpoint that comes back and gets nothing would make all this easy.
        .with(
            "responses of the least used endpoint",
            to_fewest as f64,
            "",
            Limit::AtLeast(1.0),
        )
}

impl How {
    fn is_excused(self, finding: &Finding, losses: &[Loss]) -> bool {
        let is_of = |loss: &Loss| self.had_to_be(finding) && loss.explains(finding);
        losses.iter().any(is_of)
    }

    /// What a client has to live with when an endpoint is lost: a response that had begun breaks
    /// off, or goes on when the endpoint does; a POST that had been sent gets a 502, or a 504 once it
    /// is known that no response will come.
    fn had_to_be(self, finding: &Finding) -> bool {
        let is_post = finding.request.is_some_and(|request| request.is_post());
        let has = |text| finding.detail.contains(text);
        match (finding.failure, self) {
            (Failure::Stalled, Self::Frozen) => finding
                .request
                .is_some_and(|request| request.may_pause_in_its_response()),
            (Failure::Cut, Self::Killed | Self::Blackholed)
            // By an endpoint that went on after its client had had the 504.
            | (Failure::BadUpload, Self::Frozen) => finding.endpoint.is_some(),
            (Failure::Status, Self::Killed | Self::Blackholed) => {
                is_post && finding.detail.starts_with("502") && has("connection_terminated")
            }
            (Failure::Status, Self::Frozen) => {
                is_post && finding.detail.starts_with("504") && has("details=\"down\"")
            }
            _ => false,
        }
    }
}

impl Loss {
    /// Whether it was under way at the endpoint, as far as that is known, when that was lost.
    fn explains(&self, finding: &Finding) -> bool {
        let was_its = finding
            .endpoint
            .is_none_or(|number| number == self.endpoint);
        let sent_by = match finding.failure {
            Failure::BadUpload => self.until + CATCHES_UP,
            // It is sent to until it is known to be silent.
            Failure::Stalled => self.until,
            _ if finding.detail.starts_with("504") => self.until,
            _ => self.at + UNDER_WAY,
        };
        was_its && finding.sent < sent_by && self.at < finding.at
    }
}
