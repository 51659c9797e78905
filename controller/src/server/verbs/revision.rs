//! The label of a version whose own label is taken by another one: a revision, such as `1.0.0+2`.
//! So a tag that was built again is another version, and both can be told apart. Decisions only.

use crate::error::Result;
use crate::journal::{Journal, NewVersion, ServiceRecord, VersionRecord};
use crate::manifest::without_revision;

/// The labels that a service has ever had.
#[derive(Debug, Default)]
pub(super) struct Labels {
    /// All of them.
    pub(super) all: Vec<String>,
    /// The newest version that has had the label which is asked for.
    pub(super) earlier: Option<VersionRecord>,
}

impl Labels {
    /// Those of the service, where `label` is asked for.
    pub(super) fn of(journal: &Journal, service: &str, label: &str) -> Result<Self> {
        Ok(Self {
            all: journal.labels(service)?,
            earlier: journal.version_named(service, label)?,
        })
    }
}

/// The version under a label of its own: `1.0.0+2`, `1.0.0+3` where stable is called that, or another
/// image was.
pub(super) fn with_a_free_label(
    mut version: NewVersion,
    service: &ServiceRecord,
    labels: &Labels,
) -> NewVersion {
    let base = without_revision(&version.version).to_owned();
    let is_stables = base == without_revision(&service.stable.version);
    let was_another = labels
        .earlier
        .as_ref()
        .is_some_and(|earlier| earlier.resolved != version.resolved);
    let is_known = labels.all.contains(&version.version);
    if version.version != service.stable.version && !(is_known && is_stables) && !was_another {
        return version;
    }
    let free = (2_u32..)
        .map(|n| format!("{base}+{n}"))
        .find(|label| !labels.all.contains(label));
    if let Some(free) = free {
        version.version = free;
    }
    version
}
