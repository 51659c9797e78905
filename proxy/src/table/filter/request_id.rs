//! Where requests have their ids, and whose are passed on.

use admin_api::{AcceptId, RequestIdSpec};
use http::HeaderName;

/// How each request gets its id.
#[derive(Debug)]
pub(crate) struct RequestId {
    /// The field that has it. Without one, it is for variables alone.
    pub(crate) header: Option<HeaderName>,
    pub(crate) accept: AcceptId,
}

impl RequestId {
    /// For a service that says nothing of it, but has the variable.
    pub(super) const FOR_VARIABLES: Self = Self {
        header: None,
        accept: AcceptId::Never,
    };

    /// Of a setting that was checked.
    pub(super) fn of(spec: &RequestIdSpec) -> Self {
        Self {
            header: HeaderName::try_from(&spec.header).ok(),
            accept: spec.accept,
        }
    }
}
