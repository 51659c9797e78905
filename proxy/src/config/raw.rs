//! The config file as it is written.

use std::path::PathBuf;

use admin_api::{Period, ServiceSpec};
use bytesize::ByteSize;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) admin: Option<RawAdmin>,
    pub(super) handover: Option<RawHandover>,
    #[serde(default)]
    pub(super) listeners: Vec<RawListener>,
    #[serde(default)]
    pub(super) timeouts: RawTimeouts,
    #[serde(default)]
    pub(super) limits: RawLimits,
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
}

/// One of `[[listeners]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListener {
    pub(super) address: String,
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    pub(super) tls: Option<Vec<RawKeyPair>>,
    pub(super) tls_min_version: Option<String>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_auth: Option<String>,
}

/// One of `tls`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeyPair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// `[timeouts]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTimeouts {
    pub(super) header: Option<Period>,
    pub(super) keep_alive: Option<Period>,
    pub(super) connect: Option<Period>,
    pub(super) first_byte: Option<Period>,
    pub(super) request: Option<Period>,
    pub(super) body_idle: Option<Period>,
    pub(super) drain: Option<Period>,
    pub(super) stream: Option<Period>,
    pub(super) upgraded: Option<Period>,
    pub(super) resolve: Option<Period>,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) request_line: Option<ByteSize>,
    pub(super) header_bytes: Option<ByteSize>,
    pub(super) header_count: Option<usize>,
    pub(super) body: Option<ByteSize>,
    pub(super) connections: Option<usize>,
    pub(super) connections_per_address: Option<usize>,
    pub(super) requests_per_connection: Option<u64>,
}
