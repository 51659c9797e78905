//! Another path for endpoints than the one that clients request.

use admin_api::{RewriteSpec, Template, Variable};

/// The path that endpoints get.
#[derive(Debug)]
pub(crate) struct Rewrite {
    pub(crate) path: Template,
    /// It has parts of what the client wrote, which could make another path of it.
    pub(crate) has_groups: bool,
}

impl Rewrite {
    /// Of a setting that was checked.
    pub(super) fn of(spec: &RewriteSpec) -> Self {
        let is_group = |variable: &Variable| matches!(variable, Variable::Match(_));
        Self {
            path: spec.path.clone(),
            has_groups: spec.path.variables().any(is_group),
        }
    }
}
