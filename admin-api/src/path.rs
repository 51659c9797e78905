//! Which path of a request goes on.

use serde::{Deserialize, Serialize};

use crate::strict::InputError;
use crate::traffic::Setting;

/// Which path an endpoint gets. Routes match the normal form (RFC 3986, 6.2.2), whatever is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SendPath {
    /// As it came, but in its normal form where it has dot segments. The default.
    #[default]
    Auto,
    /// As it came. Where `path_prefix` is stripped, one with dot segments is in its normal form all
    /// the same.
    Original,
    /// In its normal form.
    Normalised,
}

impl SendPath {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Setting for SendPath {
    fn check(&self) -> Result<(), InputError> {
        Ok(())
    }
}
