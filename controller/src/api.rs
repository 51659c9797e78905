//! What the thin client and the controller say to each other: `POST /v1/<verb>` with JSON, on
//! the controller's unix socket. `status`, `history` and `rollout` are also what
//! `--output json` prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use admin_api::{MaintenanceSpec, Period};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;
use crate::error::Error;
use crate::journal::{Event, Phase};
use crate::manifest::RolloutOverrides;
use crate::plan::Step;
use crate::renamed;
use crate::runtime::PullStep;
use crate::verdict::Counts;

/// `up`: make it so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UpRequest {
    /// The manifest's text.
    pub manifest: String,
    /// Where it was read from; programs are meant relative to its folder.
    pub path: PathBuf,
    /// Take services away that the manifest has no more.
    #[serde(default)]
    pub prune: bool,
    /// Take up what runs of the project, and is not known.
    #[serde(default)]
    pub adopt: bool,
}

/// `pull`: bring images to this host that are not here, before an `up` or a `deploy`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PullRequest {
    /// The manifest's text: its images are meant where none is named.
    pub manifest: Option<String>,
    /// The manifest's path.
    pub path: PathBuf,
    /// This image alone.
    pub image: Option<String>,
    /// The service that it is for, which has to be there. Without an image and a manifest, the image
    /// that the manifest in force names for it is meant.
    #[serde(default)]
    pub service: Option<String>,
    /// Also images that are on this host: their names may stand for others by now.
    #[serde(default)]
    pub newer: bool,
}

/// A line of what `pull` tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullLine {
    /// An image is not here.
    Begins {
        /// Which.
        image: String,
    },
    /// How it goes with that one.
    Step(PullStep),
    /// It is here now.
    Here {
        /// Which.
        image: String,
    },
    /// It cannot be brought here; nothing comes after this.
    Failed(Failure),
}

/// `down`: take everything away.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DownRequest {
    /// For a controller that knows of nothing: what to look for.
    pub manifest: Option<String>,
    /// The manifest's path.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// `deploy`: begin a rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeployRequest {
    /// The service.
    pub service: String,
    /// The new version's image, or program; absent: what the manifest names.
    pub image: Option<String>,
    /// Its label; absent: the image's tag, or the manifest's label.
    pub version: Option<String>,
    /// Environment, over the manifest's.
    pub env: BTreeMap<String, String>,
    /// Settings, over the manifest's.
    pub rollout: RolloutOverrides,
    /// The folder from which a relative program is meant.
    pub dir: PathBuf,
    /// Only say what would be done.
    pub dry_run: bool,
    /// End a rollout that runs, and begin this one in its place.
    pub replace: bool,
}

/// `proxy upgrade`: another proxy takes over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProxyUpgradeRequest {
    /// Its image, or program; absent: that of the one which runs, as it is by now.
    pub image: Option<String>,
    /// The folder from which a relative program is meant.
    pub dir: PathBuf,
}

/// `split`: set it by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SplitRequest {
    /// The service.
    pub service: String,
    /// Weights by version.
    pub split: BTreeMap<String, u32>,
}

/// `promote`, `abort`, `pause`, `resume`: about the service's running rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutRequest {
    /// The service; absent: the one that has a running rollout.
    pub service: Option<String>,
    /// `resume`: also where the candidate gets fewer requests by that.
    #[serde(default)]
    pub yes: bool,
}

impl RolloutRequest {
    /// About this service, or the one that has a running rollout.
    pub fn of(service: Option<String>) -> Self {
        Self {
            service,
            yes: false,
        }
    }
}

/// `rollback`: to the version before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The service.
    pub service: String,
    /// Another version than the one before.
    pub to: Option<String>,
}

/// `maintenance`: requests get a 503, or are served again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MaintenanceRequest {
    /// The service.
    pub service: String,
    /// What requests get; absent: they are served.
    pub maintenance: Option<MaintenanceSpec>,
}

/// `scale`: another number of containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScaleRequest {
    /// The service.
    pub service: String,
    /// How many.
    pub replicas: u32,
}

/// `logs`: what containers printed, as plain text, line by line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogsRequest {
    /// The service; absent: the proxy is meant.
    pub service: Option<String>,
    /// Of this version only.
    pub version: Option<String>,
    /// The last so many lines of each container.
    pub tail: Option<usize>,
    /// Only lines of this time or later; milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
    /// Go on with what comes.
    pub follow: bool,
}

/// `history`: what happened.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// Of this service only.
    pub service: Option<String>,
}

/// `events`: what happened since, as soon as there is something.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EventsRequest {
    /// Of this service only.
    pub service: Option<String>,
    /// The newest event that is known already; absent: the newest there is.
    pub after: Option<i64>,
    /// Respond after so long, also without anything new.
    pub wait_ms: u64,
}

/// `explain`: why a rollout went as it went.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Which; absent: the newest.
    pub rollout: Option<i64>,
}

/// `rollout`: how one is doing, as soon as there is something new.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgressRequest {
    /// The rollout.
    pub rollout: i64,
    /// The newest event that is known already.
    pub after: i64,
    /// Respond after so long, also without anything new.
    pub wait_ms: u64,
}

/// What was done, in a sentence or some.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// For people.
    pub text: String,
    /// The rollout that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<i64>,
    /// The rollout that goes back, as was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<i64>,
    /// The rollouts that an `up` has begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<i64>,
    /// Nothing was done: what would happen, which the user has to agree to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs_yes: Option<String>,
    /// The steps that a rollout would have, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Step>,
    /// How long the rollout will take by the traffic that there is, and what would be quicker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<String>,
}

impl Done {
    /// Only a sentence.
    pub fn say(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            rollout: None,
            undone: None,
            rollouts: Vec::new(),
            needs_yes: None,
            plan: Vec::new(),
            forecast: None,
        }
    }

    /// All of it, for people.
    pub(crate) fn lines(&self) -> String {
        match &self.forecast {
            Some(forecast) => format!("{}\n{forecast}", self.text),
            None => self.text.clone(),
        }
    }
}

/// Why it was not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// What the program is to end with.
    pub exit: u8,
    /// One clear message.
    pub message: String,
}

/// What the controller says of an error.
impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            exit: error.exit().code(),
            message: error.to_string(),
        }
    }
}

/// What its client makes of that.
impl From<Failure> for Error {
    fn from(Failure { exit, message }: Failure) -> Self {
        Self::verb(exit.into(), message)
    }
}

/// The controller itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    /// Its release.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

/// What is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusReply {
    /// The project.
    pub project: String,
    /// `podman` or `process`.
    pub runtime: String,
    /// Where clients reach the proxy.
    pub listen: Vec<String>,
    /// The same as clients write it.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Why the engine publishes the proxy's ports, where it does: then clients' addresses may be
    /// hidden, and a proxy that dies refuses clients until the next one listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// Why the proxy's figures are missing, where they are.
    #[serde(flatten, with = "renamed::last_error")]
    pub last_error: Option<String>,
    /// By name.
    pub services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Grows with every change; for `--if-generation`.
    pub generation: i64,
    /// The version that carries it.
    pub stable: String,
    /// The version that `rollback` goes to once nothing is warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// How many containers stable has to have.
    pub replicas: u32,
    /// What went wrong last: what cannot be done now, else what happened within the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When that was, where it is over; milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Millis>,
    /// What the controller waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Waiting>,
    /// How what runs differs from what the manifest has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Its versions that run.
    pub versions: Vec<VersionStatus>,
    /// The rollout that runs, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// Something that the controller waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// In words.
    pub what: String,
    /// Until when at most, where that is known; milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
}

/// What came of a version's requests in the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LastMinute {
    /// How long it is that this is about: a minute, and less where less is known.
    pub seconds: f64,
    /// Requests that ended.
    pub requests: u64,
    /// The same, each second.
    pub per_second: f64,
    /// In percent; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// Half of the responses took at most this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99 of 100 did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// One version that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Its label.
    pub version: String,
    /// `stable`, `candidate`, `warm` or `draining`.
    pub role: String,
    /// Its weight in the split.
    pub weight: u32,
    /// Its share of new requests, in percent.
    pub share: f64,
    /// Endpoints that get requests.
    pub healthy: usize,
    /// Endpoints there are.
    pub endpoints: usize,
    /// Requests in flight.
    pub in_flight: u64,
    /// Attempts since the version came into the proxy's table.
    pub requests: u64,
    /// Those that count against it.
    pub failures: u64,
    /// In percent; absent without attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// When it was deployed; milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
    /// Containers that were started in the place of others in the last hour.
    #[serde(default)]
    pub restarts: u64,
    /// When that was last; milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<Millis>,
    /// What came of its requests in the last minute; absent before that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_minute: Option<LastMinute>,
}

/// One rollout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Counts up.
    pub id: i64,
    /// The service.
    pub service: String,
    /// The version that was stable when it began.
    pub from: String,
    /// The candidate.
    pub to: String,
    /// How it goes.
    pub strategy: String,
    /// Where it stands.
    pub phase: Phase,
    /// The step, from 1 on.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The candidate's share of the requests by its step, in percent.
    pub share: u8,
    /// Why it does not go on by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Why it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the last look said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// What cannot be done now, for reasons that say nothing about the candidate.
    #[serde(flatten, with = "renamed::last_error")]
    pub last_error: Option<String>,
    /// The candidate's figures since the step began.
    pub candidate: Counts,
    /// Stable's, in the same window.
    pub stable: Counts,
    /// Milliseconds since 1970.
    pub created: Millis,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Millis>,
}

/// How a rollout is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    /// Now.
    pub rollout: RolloutStatus,
    /// What is new.
    pub events: Vec<Event>,
}

/// What happened since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventsReply {
    /// Oldest first.
    pub events: Vec<Event>,
    /// What to ask for next: younger ones than this.
    pub last: i64,
}

/// Why a rollout went as it went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// How it stands.
    pub rollout: RolloutStatus,
    /// What its steps ended without, each by its number: `step 1: failures (12 of 50 requests)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_judged: Vec<String>,
    /// What happened before the first step.
    pub before: Vec<Event>,
    /// Every step of the plan.
    pub steps: Vec<StepExplained>,
    /// What happened after the last step that was reached.
    pub after: Vec<Event>,
}

/// One step, as it was planned and as it went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepExplained {
    /// From 1 on.
    pub step: usize,
    /// How many there are.
    pub of: usize,
    /// The candidate's share, in percent.
    pub share: u8,
    /// How many of a hundred requests were copied to it, where it had no share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<u8>,
    /// The candidate's containers.
    pub replicas: u32,
    /// Stable's, where it gives some up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<u32>,
    /// How long it was to last, where not as long as the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Period>,
    /// Whether it had a gate.
    pub gate: bool,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Millis>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Millis>,
    /// `good`, `rolled back`, `promoted by hand`, `running` or `not reached`.
    pub outcome: String,
    /// What the verdict said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The figures, limits and tests behind it.
    #[serde(flatten, with = "renamed::stats")]
    pub stats: Option<serde_json::Value>,
    /// What happened meanwhile.
    pub events: Vec<Event>,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryReply {
    /// Newest first.
    pub rollouts: Vec<RolloutStatus>,
    /// Oldest first.
    pub events: Vec<Event>,
}
