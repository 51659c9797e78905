//! What a request itself says about where it goes.

use crate::table::counts::kept::Keeper;
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
        client: StickyClient::Unknown,
        key: None,
    };

    /// By whom the version is chosen.
    pub(crate) fn chosen_by(&self) -> ChosenBy {
        match (self.version, self.client) {
            (Some(_), _) | (None, StickyClient::Unproven { .. }) => ChosenBy::Client,
            (None, StickyClient::Known { user }) => ChosenBy::Kept(Keeper::of(user)),
            (None, StickyClient::Unknown | StickyClient::Newcomer { .. }) => ChosenBy::Split,
        }
    }
}
