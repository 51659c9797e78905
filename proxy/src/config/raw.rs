//! The config file as it is written.

use std::path::PathBuf;

use admin_api::flat::Flat;
use admin_api::{AccessLogSpec, NonZeroPeriod, ServiceSpec, TimeoutsSpec};
use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};

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

/// `[timeouts]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(super) struct RawTimeouts {
    pub(super) header: Option<NonZeroPeriod>,
    pub(super) keep_alive: Option<NonZeroPeriod>,
    pub(super) resolve: Option<NonZeroPeriod>,
    /// What a service may have of its own. Its keys stand among the others.
    #[serde(skip)]
    pub(super) of_services: TimeoutsSpec,
}

impl<'de> Deserialize<'de> for RawTimeouts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut of_services = TimeoutsSpec::default();
        let timeouts = Self::deserialize(Flat::new(deserializer, &mut of_services))?;
        Ok(Self {
            of_services,
            ..timeouts
        })
    }
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
