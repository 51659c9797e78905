//! The id of a request, by which logs of several programs can be put together.

use serde::{Deserialize, Serialize};

use crate::filter::headers::{Direction, check_name};
use crate::strict::InputError;
use crate::traffic::Setting;

/// Endpoints get an id of each request: the one that came with it, or a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestIdSpec {
    /// The field that has the id. Default `x-request-id`.
    pub header: String,
    /// Whose ids are passed on. Default `trusted`.
    pub accept: AcceptId,
}

/// Whose ids of requests are passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceptId {
    /// Those of proxies that the listener trusts.
    #[default]
    Trusted,
    /// Those of every client.
    Always,
    /// None: each request gets a new one.
    Never,
}

impl Default for RequestIdSpec {
    fn default() -> Self {
        Self {
            header: "x-request-id".into(),
            accept: AcceptId::default(),
        }
    }
}

impl Setting for RequestIdSpec {
    fn check(&self) -> Result<(), InputError> {
        let checked = check_name(&self.header, Direction::Request);
        checked.map(drop).map_err(|error| error.inside("header"))
    }
}
