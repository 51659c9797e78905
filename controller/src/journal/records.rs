//! What the journal's rows are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use admin_api::strict::InputError;
use admin_api::{MaintenanceSpec, MirrorSpec};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::{from_json, optional};
use crate::clock::Millis;
use crate::journal::Phase;
use crate::manifest::{ContainerTemplate, Manifest, RuntimeChoice, ServiceSettings};
use crate::plan::{RolloutSettings, Step};

/// Weights by version.
pub type Split = BTreeMap<String, u32>;

/// The manifest that `up` was given last.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Its text.
    pub text: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// What it runs on, once chosen: never `Auto`.
    pub runtime: RuntimeChoice,
    /// The start of the machine that its containers were seen in last.
    pub boot: String,
    /// Services that it has no more and that run on.
    pub kept: Vec<ServiceSettings>,
    /// What its project is called, also where it names none.
    pub project: String,
}

impl Applied {
    /// The manifest, without the services that it has no more.
    pub fn manifest(&self) -> Result<Manifest, InputError> {
        Manifest::parse_as(&self.text, &self.project)
    }
}

/// A version to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The service.
    pub service: String,
    /// The label.
    pub version: String,
    /// The image as it was asked for.
    pub image: String,
    /// What that was when it was asked for: podman's id of it.
    pub resolved: String,
    /// By which name that very image can be pulled again, where it can.
    pub pull_name: Option<String>,
    /// How its containers are made.
    pub template: ContainerTemplate,
    /// What `deploy --env` has set of that; `None` where an older release has not written it down.
    pub by_hand: Option<BTreeMap<String, String>>,
}

/// A version as it was recorded: enough to start it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// Unique, also where two images had one label.
    pub id: i64,
    /// The service.
    pub service: String,
    /// The label.
    pub version: String,
    /// The image as it was asked for.
    pub image: String,
    /// What that was then.
    pub resolved: String,
    /// By which name that very image can be pulled again, where it can.
    pub pull_name: Option<String>,
    /// How its containers are made.
    pub template: ContainerTemplate,
    /// What `deploy --env` has set of that; `None` where an older release has not written it down.
    pub by_hand: Option<BTreeMap<String, String>>,
}

impl VersionRecord {
    pub(super) const COLUMNS: &'static str =
        "id, service, version, image, resolved, pull_name, recipe, by_hand";

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            service: row.get(1)?,
            version: row.get(2)?,
            image: row.get(3)?,
            resolved: row.get(4)?,
            pull_name: row.get(5)?,
            template: from_json(&row.get::<_, String>(6)?)?,
            by_hand: optional(row, 7)?,
        })
    }
}

/// What is wanted of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Its name.
    pub name: String,
    /// The version that carries it.
    pub stable: VersionRecord,
    /// The version before, which `rollback` starts again.
    pub previous: Option<VersionRecord>,
    /// How many containers the stable version has.
    pub replicas: u32,
    /// How new requests divide.
    pub split: Split,
    /// What the manifest asked for when an `up` last did it; `None` where an older release did.
    pub requested: Option<RequestedService>,
    /// What its requests get while it is under maintenance, by `crossfade maintenance`.
    pub maintenance: Option<MaintenanceSpec>,
}

/// What a manifest asks for of a service, as far as it makes containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedService {
    /// The image, as it is written there.
    pub image: String,
    /// The version's label.
    pub version: String,
    /// How many containers.
    pub replicas: u32,
    /// How they are made.
    #[serde(rename = "recipe")]
    pub template: ContainerTemplate,
    /// What the image was then: the same name may stand for another one by now. `None` where an
    /// older release has not written it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
}

/// A rollout as it was recorded last.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRecord {
    /// Counts up.
    pub id: i64,
    /// The service.
    pub service: String,
    /// The version that was stable when it began.
    pub from: VersionRecord,
    /// The candidate.
    pub to: VersionRecord,
    /// How it was asked to go.
    pub settings: RolloutSettings,
    /// The steps worked out from that.
    pub steps: Vec<Step>,
    /// Where it stands.
    pub phase: Phase,
    /// Index of the step, from the first on.
    pub step: usize,
    /// Why it does not go on by itself, where it does not.
    pub paused: Option<String>,
    /// The split that was set by hand.
    pub hand_split: Option<Split>,
    /// Why it was rolled back, where it was.
    pub why: Option<String>,
    /// When it began.
    pub created: Millis,
    /// When it came into its phase and step.
    pub phase_since: Millis,
    /// When it ended.
    pub ended: Option<Millis>,
    /// What the `up` asked for that began it: done once the candidate is stable and alone.
    pub requested: Option<RequestedService>,
    /// What its steps have behind them.
    pub checkpoints: BTreeSet<(usize, Checkpoint)>,
}

/// Something that a step has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// Its figures were good for long enough.
    Watched,
    /// The `confirm` hooks passed.
    Confirmed,
    /// The `before_step` hooks passed.
    Prepared,
    /// The `after` hooks have run.
    ToldPromoted,
    /// The `on_rollback` hooks have run.
    ToldRolledBack,
    /// It waits at its gate.
    AtGate,
    /// A user let it through.
    Agreed,
}

impl RolloutRecord {
    /// Whether its present step has that behind it.
    pub fn has(&self, mark: Checkpoint) -> bool {
        self.checkpoints.contains(&(self.step, mark))
    }

    /// Where requests are copied to in its present step, and how many.
    pub fn mirrors(&self) -> Option<MirrorSpec> {
        let step = self.steps.get(self.step)?;
        let percent = step.mirror.filter(|_| {
            // With a split that was set by hand, nothing is compared any more.
            self.phase == Phase::Shifting && self.hand_split.is_none()
        })?;
        Some(MirrorSpec {
            percent,
            ..MirrorSpec::of(&self.to.version)
        })
    }

    /// `rollout 3 (web 1.0.0 → 2.0.0)`.
    pub fn title(&self) -> String {
        format!(
            "rollout {} ({} {} → {})",
            self.id, self.service, self.from.version, self.to.version
        )
    }
}
