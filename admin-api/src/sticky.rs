//! Which version a client gets, where the client has a say in it.

use http::HeaderName;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Period;
use crate::names::{check_cookie_name, header_name, networks};
use crate::strict::InputError;
use crate::traffic::Setting;

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

/// By what a request says which client it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientKey<'s> {
    /// The value of the cookie of this name.
    Cookie(&'s str),
    /// The value of this header field.
    Header(HeaderName),
}

impl StickySpec {
    /// By what clients are told apart. The error's field is relative to the setting.
    pub fn key(&self) -> Result<ClientKey<'_>, InputError> {
        match (&self.cookie, &self.header) {
            (Some(cookie), None) => {
                check_cookie_name(cookie).map_err(|m| InputError::of_field("cookie", m))?;
                Ok(ClientKey::Cookie(cookie))
            }
            (None, Some(header)) => {
                let header = header_name(header).map_err(|m| InputError::of_field("header", m))?;
                Ok(ClientKey::Header(header))
            }
            (Some(_), Some(_)) | (None, None) => Err(InputError::of_whole(
                "needs either `cookie` or `header` to tell clients apart",
            )),
        }
    }
}

impl Setting for StickySpec {
    fn check(&self) -> Result<(), InputError> {
        let of_cookie = [("max_age", self.max_age.is_some()), ("secure", self.secure)];
        let of_cookie = of_cookie.into_iter().find(|(_, is_set)| *is_set);
        if let (ClientKey::Header(_), Some((field, _))) = (self.key()?, of_cookie) {
            let message = "belongs to a cookie, not to a header";
            return Err(InputError::of_field(field, message));
        }
        Ok(())
    }
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

impl ForceSpec {
    /// The header field that has the version. The error's field is relative to the setting.
    pub fn header_name(&self) -> Result<Option<HeaderName>, InputError> {
        let name = self.header.as_deref().map(header_name).transpose();
        name.map_err(|message| InputError::of_field("header", message))
    }

    /// The networks whose clients may do so. The error's field is relative to the setting.
    pub fn networks(&self) -> Result<Vec<IpNet>, InputError> {
        networks(&self.from).map_err(|error| error.inside("from"))
    }
}

impl Setting for ForceSpec {
    fn check(&self) -> Result<(), InputError> {
        if self.header.is_none() && self.cookie.is_none() {
            let message = "needs `header`, `cookie` or both, by which a request names its version";
            return Err(InputError::of_whole(message));
        }
        self.header_name()?;
        if let Some(name) = &self.cookie {
            check_cookie_name(name).map_err(|message| InputError::of_field("cookie", message))?;
        }
        if self.from.is_empty() {
            let message = "is empty: list the networks of these clients, such as [\"10.0.0.0/8\"]";
            return Err(InputError::of_field("from", message));
        }
        self.networks().map(drop)
    }
}
