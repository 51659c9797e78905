//! How the endpoints of a version are reached: what they speak, and whether over TLS.

use admin_api::strict::InputError;
use admin_api::{Protocol, VersionSpec};

use crate::wire::tls::VersionTls;

/// A checked [`VersionSpec`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<VersionTls>,
}

impl Transport {
    /// Checks the settings of a version, and reads the files that they name. The error's field
    /// is relative to them.
    pub(crate) fn check(spec: &VersionSpec) -> Result<Self, InputError> {
        let tls = spec.tls.as_ref();
        let tls = tls.map(|tls| VersionTls::load(tls, spec.protocol));
        Ok(Self {
            protocol: spec.protocol,
            tls: tls.transpose()?,
        })
    }

    /// As it was asked for.
    pub(crate) fn spec(&self) -> VersionSpec {
        VersionSpec {
            protocol: self.protocol,
            tls: self.tls.as_ref().map(|tls| tls.spec().clone()),
        }
    }
}
