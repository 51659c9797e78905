//! What a request itself says about where it goes.

use crate::table::counts::stats::ChosenBy;
use crate::table::sticky::StickyClient;

/// What a request says about where it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoutingHints {
    /// The place of the version that it names.
    pub(crate) version: Option<usize>,
    /// The client that it is split by.
    pub(crate) client: StickyClient,
    /// The hash of what it is balanced by, inside its version.
    pub(crate) key: Option<u64>,
}

impl RoutingHints {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        version: None,
        client: StickyClient::UNKNOWN,
        key: None,
    };

    /// By whom the version is chosen.
    pub(crate) fn chosen_by(&self) -> ChosenBy {
        match self.version {
            Some(_) => ChosenBy::Client,
            None => ChosenBy::Split,
        }
    }
}
