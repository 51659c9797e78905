//! A service as it is asked for ([`ServiceSpec`]) and as it is ([`ServiceView`]).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::flat::Flat;
use crate::{HoldView, MirrorSpec, Protocol, TlsSpec, TrafficSettings, VersionSpec};

/// The highest weight of a version in a split, and of an endpoint in its version.
pub const MAX_WEIGHT: u32 = 1_000_000;

/// A weight: a whole number from 0 to [`MAX_WEIGHT`]. 0 means no new requests.
///
/// Exists for its error message: a negative number, a fraction or a word is refused by a
/// sentence that says what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(pub u32);

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightVisitor;

        impl Visitor<'_> for WeightVisitor {
            type Value = Weight;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 0 to {MAX_WEIGHT}")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Weight, E> {
                match u32::try_from(n) {
                    Ok(n) if n <= MAX_WEIGHT => Ok(Weight(n)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(n), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Weight, E> {
                match u64::try_from(n) {
                    Ok(n) => self.visit_u64(n),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
                }
            }
        }

        deserializer.deserialize_u64(WeightVisitor)
    }
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Weight::deserialize(deserializer).map(|weight| weight.0)
}

fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u32>, D::Error> {
    struct WeightsVisitor;

    impl<'de> Visitor<'de> for WeightsVisitor {
        type Value = BTreeMap<String, u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("weights by version, such as {\"1.0.0\": 90, \"2.0.0\": 10}")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut weights = BTreeMap::new();
            while let Some((version, weight)) = map.next_entry::<String, Weight>()? {
                if weights.insert(version.clone(), weight.0).is_some() {
                    return Err(de::Error::custom(format!("`{version}` is listed twice")));
                }
            }
            Ok(weights)
        }
    }

    deserializer.deserialize_map(WeightsVisitor)
}

/// What `PUT /v1/services/{name}` takes, and `[[services]]` of the config file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ServiceSpec {
    /// Letters, digits, `-`, `_` and `.`; at most 63. May be left out in a `PUT`, where the
    /// path has it.
    #[serde(default)]
    pub name: String,
    /// Host names that this service serves: `app.example.com`, `*.example.com`. Empty: every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The start of the paths that this service serves, at a `/` boundary. Default `/`.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// What the proxy does with its requests and endpoints. These keys stand among the others.
    #[serde(flatten, skip_deserializing)]
    pub traffic: TrafficSettings,
    /// How new requests divide over the versions, as relative whole numbers. A version with
    /// endpoints that is not named here has 0. May be left out where there is one version.
    #[serde(
        default,
        deserialize_with = "weights",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub split: BTreeMap<String, u32>,
    /// To which version copies of the requests go. Without it, none are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSpec>,
    /// How the endpoints of a version are reached, by version. One that is not named here
    /// speaks HTTP/1.1, without TLS.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, VersionSpec>,
    /// The addresses that serve this service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointSpec>,
}

// `remote = "Self"` makes the derived functions its own; the traits follow.
impl<'de> Deserialize<'de> for ServiceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut traffic = TrafficSettings::default();
        let spec = Self::deserialize(Flat::new(deserializer, &mut traffic))?;
        Ok(Self { traffic, ..spec })
    }
}

impl Serialize for ServiceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

fn root() -> String {
    "/".into()
}

/// Every request of every host, and no endpoint yet.
impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            hosts: Vec::new(),
            path_prefix: root(),
            traffic: TrafficSettings::default(),
            split: BTreeMap::new(),
            mirror: None,
            versions: BTreeMap::new(),
            endpoints: Vec::new(),
        }
    }
}

/// One address that serves a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointSpec {
    /// `ip:port`, `[ipv6]:port` or `name:port`. A name is resolved again and again; each of
    /// its addresses is an endpoint.
    pub address: String,
    /// The version it serves, an opaque label.
    pub version: String,
    /// Its share inside its version, relative to the version's other endpoints. Default 1.
    #[serde(
        default = "one",
        deserialize_with = "weight",
        skip_serializing_if = "is_one"
    )]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_one(weight: &u32) -> bool {
    *weight == 1
}

/// What `PUT /v1/services/{name}/split` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// Relative whole numbers by version; at least one above 0. A version of the service that
    /// is not named here gets 0.
    #[serde(deserialize_with = "weights")]
    pub split: BTreeMap<String, u32>,
}

/// The response to every call that changed the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The number of the table that holds the change.
    pub generation: u64,
}

/// The response to `GET /v1/services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceList {
    /// The number of the table that was read.
    pub generation: u64,
    /// Every service, by name.
    pub services: Vec<ServiceView>,
}

/// A service as the table has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The number of the table that was read.
    pub generation: u64,
    /// The hosts that it serves; empty: every host.
    pub hosts: Vec<String>,
    /// The start of the paths that it serves.
    pub path_prefix: String,
    /// What the proxy does with its requests and endpoints. These keys stand among the others.
    #[serde(flatten, serialize_with = "shown")]
    pub traffic: TrafficSettings,
    /// The weight of every version, those at 0 included.
    pub split: BTreeMap<String, u32>,
    /// To which version copies of the requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorSpec>,
    /// Its new requests wait for a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HoldView>,
    /// Nothing of it is up, and requests are tried anyway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub panic: bool,
    /// Every version, with its endpoints.
    pub versions: BTreeMap<String, VersionView>,
}

/// A view shows `strip_prefix` where it is false, too.
fn shown<S: Serializer>(traffic: &TrafficSettings, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'t> {
        #[serde(skip_serializing_if = "Option::is_none")]
        strip_prefix: Option<bool>,
        #[serde(flatten)]
        traffic: &'t TrafficSettings,
    }
    let shown = Shown {
        strip_prefix: (!traffic.strip_prefix).then_some(false),
        traffic,
    };
    shown.serialize(serializer)
}

/// A version of a service as the table has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Its weight in the split.
    pub weight: u32,
    /// What its endpoints speak.
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// TLS to its endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Requests that it has in flight.
    pub in_flight: u64,
    /// Of these, the streams: their responses have begun and go on without a length (server-sent
    /// events, gRPC).
    #[serde(default)]
    pub streams: u64,
    /// Upgraded (WebSocket) connections to it that are open.
    pub upgraded: u64,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint as the table has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// The address as it was given.
    pub address: String,
    /// What a name was resolved to; absent where the address has an IP already, or where the
    /// name could not be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// Its weight inside its version.
    pub weight: u32,
    /// Whether it gets requests.
    pub health: HealthState,
    /// Why its last probe failed, while it is down; why and for how long it is ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Requests that it has in flight.
    pub in_flight: u64,
    /// Of these, the streams: their responses have begun and go on without a length (server-sent
    /// events, gRPC).
    #[serde(default)]
    pub streams: u64,
    /// Upgraded (WebSocket) connections to it that are open.
    pub upgraded: u64,
    /// Claims taken on it since it came into the table.
    pub requests: u64,
}

/// Whether an endpoint gets requests, and if not, why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Its health check passes, or it has none.
    Up,
    /// Its health check has not passed yet, or fails.
    #[default]
    Down,
    /// Its health check passes, or it has none, but its responses failed: it gets nothing for a
    /// while.
    Ejected,
    /// Retired: it finishes what it has and gets nothing new.
    Draining,
    /// Its name has no address.
    Unresolved,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Unresolved => "unresolved",
        })
    }
}
