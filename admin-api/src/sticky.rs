//! Which version a client gets, where the client has a say in it.

use serde::{Deserialize, Serialize};

use crate::Period;

/// A split by client: a client that got a version gets it again. Raising a version's share in
/// relation to all others takes no client away from it.
///
/// Clients are told apart by a cookie, which the proxy sets, or by a header field; one of the
/// two has to be there. A request without the field is split as if there were no such setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickySpec {
    /// The name of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The name of the header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// How long the cookie lasts. Default: until the browser is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
    /// The cookie is sent over TLS only. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secure: bool,
    /// With another salt, clients are drawn anew. Each service and each version label draws
    /// for itself anyway, so a rollout needs one only to repeat a label with other clients.
    /// Default empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub salt: String,
}

/// Requests that name the version they want: for testers. A version at 0 can be had in this way
/// too. A version that does not exist is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceSpec {
    /// The name of the header field that has the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The name of the cookie that has the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Networks whose clients may do so, such as `10.0.0.0/8`.
    pub from: Vec<String>,
}
