//! The config file as it is written.

use std::path::PathBuf;

use admin_api::{AccessLogSpec, ProxyLimits, ProxyTimeouts, ServiceSpec};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) admin: Option<RawAdmin>,
    pub(super) handover: Option<RawHandover>,
    pub(super) sticky: Option<RawSticky>,
    pub(super) access_log: Option<AccessLogSpec>,
    #[serde(default)]
    pub(super) listeners: Vec<RawListener>,
    #[serde(default)]
    pub(super) timeouts: ProxyTimeouts,
    #[serde(default)]
    pub(super) limits: ProxyLimits,
    #[serde(default)]
    pub(super) services: Vec<ServiceSpec>,
}

/// `[admin]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) listen: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) state_file: Option<PathBuf>,
}

/// `[handover]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHandover {
    pub(super) socket: PathBuf,
    pub(super) keeper: Option<PathBuf>,
}

/// `[sticky]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSticky {
    pub(super) key_file: PathBuf,
}

/// One of `[[listeners]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    pub(super) address: String,
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    #[serde(default)]
    pub(super) proxy_protocol: Vec<String>,
    pub(super) tls: Option<Vec<RawKeyPair>>,
    pub(super) tls_min_version: Option<String>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_auth: Option<String>,
    pub(super) half_close: Option<String>,
}

/// One of `tls`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeyPair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}
