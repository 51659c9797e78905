//! Responses that a service has without an endpoint: redirects, fixed ones, and its maintenance.

use std::sync::Arc;

use admin_api::names::networks;
use admin_api::{MaintenanceSpec, RedirectSpec, RespondSpec, Scheme, Template};
use bytes::Bytes;
use http::StatusCode;

use crate::table::filter::networks::Networks;

/// Requests are sent to another address.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) to: Template,
    pub(crate) status: StatusCode,
    /// Only those that came by this one.
    pub(crate) scheme: Option<Scheme>,
}

/// Requests get a fixed response.
#[derive(Debug)]
pub(crate) struct Respond {
    pub(crate) status: StatusCode,
    pub(crate) page: Arc<Page>,
}

/// Requests get a 503, but for those of some clients.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) allow: Networks,
    /// In seconds.
    pub(crate) retry_after: u64,
    pub(crate) page: Option<Arc<Page>>,
}

/// A body, and its `Content-Type`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Redirect {
    /// Of a setting that was checked.
    pub(super) fn of(spec: &RedirectSpec) -> Self {
        Self {
            to: spec.to.clone(),
            status: StatusCode::from_u16(spec.status).unwrap_or(StatusCode::FOUND),
            scheme: spec.scheme,
        }
    }
}

impl Respond {
    /// Of a setting that was checked.
    pub(super) fn of(spec: &RespondSpec) -> Self {
        Self {
            status: StatusCode::from_u16(spec.status).unwrap_or(StatusCode::OK),
            page: Page::new(&spec.body, spec.content_type()),
        }
    }
}

impl Maintenance {
    /// Of a setting that was checked.
    pub(super) fn of(spec: &MaintenanceSpec) -> Self {
        let page = |body: &String| Page::new(body, spec.content_type());
        let allow = networks(&spec.allow).unwrap_or_default();
        Self {
            allow: Networks::new(&allow),
            // At least a second.
            retry_after: spec.retry_after().get().as_millis().div_ceil(1000) as u64,
            page: spec.body.as_ref().map(page),
        }
    }
}

impl Page {
    /// Whether it is what those get who would like JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.content_type.contains("json")
    }

    pub(super) fn new(body: &str, content_type: &str) -> Arc<Self> {
        Arc::new(Self {
            content_type: content_type.to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }
}
