//! What holds for one version of a service, whichever of its endpoints gets a request.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The settings of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSpec {
    /// What its endpoints speak. Default `"http/1.1"`.
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// That its endpoints are spoken to over TLS. Without it, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "http/1.1")]
    Http1,
    /// HTTP/2: over TLS by ALPN, and without by prior knowledge. gRPC needs it.
    #[serde(rename = "h2")]
    H2,
}

impl Protocol {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// TLS to endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSpec {
    /// A PEM file with the certificates of those who sign the endpoints'. Default: those that
    /// the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name that endpoints have to show a certificate for. Default: the name, or the IP
    /// address, in their address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Whether the endpoints' certificates are verified. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub verify: bool,
}

const fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_yes(verify: &bool) -> bool {
    *verify
}
