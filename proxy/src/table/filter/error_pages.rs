//! Pages of a service's own in place of the proxy's errors.

use std::sync::Arc;

use admin_api::{ErrorPagesSpec, ErrorStatus};
use http::StatusCode;

use crate::table::filter::replies::Page;

/// The pages of a service.
#[derive(Debug, Default)]
pub(crate) struct ErrorPages(Vec<(ErrorStatus, Arc<Page>)>);

impl ErrorPages {
    /// Of settings that were checked.
    pub(super) fn of(spec: &ErrorPagesSpec) -> Self {
        let page = |(status, spec): (&String, &admin_api::ErrorPageSpec)| {
            let page = Page::new(&spec.body, spec.content_type());
            ErrorStatus::read(status).map(|status| (status, page))
        };
        Self(spec.0.iter().filter_map(page).collect())
    }

    /// The page for a status: its own before that of its class.
    pub(crate) fn page(&self, status: StatusCode) -> Option<&Arc<Page>> {
        let status = status.as_u16();
        let of = |wanted: ErrorStatus| {
            let found = self.0.iter().find(|(one, _)| *one == wanted);
            found.map(|(_, page)| page)
        };
        of(ErrorStatus::One(status)).or_else(|| of(ErrorStatus::Class(status / 100)))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
