//! Checks of one's own around the steps of a rollout: a command, a call by HTTP, or a query of
//! Prometheus.
//!
//! A hook that passed is written down, and is not run again by a controller that was killed. One
//! that was running then is: a hook runs at least once.

mod command;
mod prometheus;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use admin_api::Period;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::http::one_shot::Target;
use crate::verdict::Counts;

pub use prometheus::Query;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Before the candidate gets the share of a step, the first included. Failing pauses the
    /// rollout where it is; `crossfade resume` runs it again.
    BeforeStep,
    /// When the figures of a step are good: whether it may end well. Failing rolls back.
    Confirm,
    /// When the candidate has become stable. Failing is written down, and changes nothing.
    After,
    /// When stable has every request again. Failing is written down, and changes nothing.
    OnRollback,
}

/// Something of the user's that is run around a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// When.
    pub on: On,
    /// What.
    pub action: Action,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Runs a program in the manifest's folder; it passes by exit code 0.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// How long it may run before it is killed.
        timeout: Period,
    },
    /// Posts to an address; a response of class 2xx passes. What cannot be reached, or says 429
    /// or 502 to 504, is asked again every second until the time is over.
    Post(Target),
    /// Asks Prometheus; passes by numbers within bounds. Where there is no number, nothing is
    /// known: the rollout is paused, and `crossfade resume` asks again.
    Query(Query),
}

/// Why a hook did not pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotPassed {
    /// It said no, or did not do what it was to do.
    Failed(String),
    /// What it was to find out cannot be known now.
    Unknown(String),
}

/// What a hook is told: as JSON by HTTP, as `CROSSFADE_…` in the environment of a command.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct About {
    pub(crate) hook: On,
    pub(crate) project: String,
    pub(crate) service: String,
    pub(crate) rollout: i64,
    pub(crate) from: String,
    pub(crate) to: String,
    /// From 1 on.
    pub(crate) step: usize,
    pub(crate) steps: usize,
    /// The candidate's share in this step, in percent.
    pub(crate) share: u8,
    pub(crate) candidate: Counts,
    pub(crate) stable: Counts,
    /// Why it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl Hook {
    /// Runs it to its end. Both ways it says what happened, in half a sentence.
    pub(crate) async fn run(&self, about: &About, folder: &Path) -> Result<String, NotPassed> {
        match &self.action {
            Action::Command { command, timeout } => {
                let ran = command::run(command, about.environment(), *timeout, folder);
                ran.await.map_err(NotPassed::Failed)
            }
            Action::Post(target) => {
                let failed = |why: String| NotPassed::Failed(why);
                let body = serde_json::to_vec(about).map_err(|error| failed(error.to_string()))?;
                target
                    .post_until_success(folder, Bytes::from(body))
                    .await
                    .map_err(|error| failed(error.to_string()))
            }
            Action::Query(query) => query.run(about, folder).await,
        }
    }
}

/// `confirm ./smoke.sh`, `after http://127.0.0.1:9000`: no arguments, no path, for these may be
/// secrets.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Command { command, .. } => {
                let program = command.first().map_or("", String::as_str);
                write!(f, "{} {program}", self.on)
            }
            Action::Post(target) => write!(f, "{} {}", self.on, target.url),
            Action::Query(query) => write!(f, "{} query of {}", self.on, query.server.url),
        }
    }
}

/// As it is written in the manifest.
impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeStep => "before_step",
            Self::Confirm => "confirm",
            Self::After => "after",
            Self::OnRollback => "on_rollback",
        })
    }
}

impl About {
    fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("CROSSFADE_HOOK", self.hook.to_string()),
            ("CROSSFADE_PROJECT", self.project.clone()),
            ("CROSSFADE_SERVICE", self.service.clone()),
            ("CROSSFADE_ROLLOUT", self.rollout.to_string()),
            ("CROSSFADE_FROM", self.from.clone()),
            ("CROSSFADE_TO", self.to.clone()),
            ("CROSSFADE_STEP", self.step.to_string()),
            ("CROSSFADE_STEPS", self.steps.to_string()),
            ("CROSSFADE_SHARE", self.share.to_string()),
            ("CROSSFADE_WHY", self.why.clone().unwrap_or_default()),
        ])
    }
}
