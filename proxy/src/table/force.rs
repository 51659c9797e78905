//! Requests that name the version they want: for testers, from networks that may.

use std::net::IpAddr;
use std::sync::Arc;

use admin_api::ForceSpec;
use admin_api::strict::InputError;
use http::HeaderName;
use ipnet::IpNet;

/// By what a request names a version, and who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Force {
    pub(crate) header: Option<HeaderName>,
    pub(crate) cookie: Option<Arc<str>>,
    from: Vec<IpNet>,
}

impl Force {
    /// Of a setting that was checked. The error's field is relative to the setting.
    pub(crate) fn new(spec: &ForceSpec) -> Result<Self, InputError> {
        Ok(Self {
            header: spec.header_name()?,
            cookie: spec.cookie.as_deref().map(Arc::from),
            from: spec.networks()?,
        })
    }

    /// Whether a client with this address may name a version.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        self.from.iter().any(|net| net.contains(&address))
    }
}
