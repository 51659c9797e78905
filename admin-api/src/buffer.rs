//! How much of a body waits in the proxy, so that a slow client holds no endpoint.

use serde::{Deserialize, Serialize};

use crate::Size;
use crate::strict::InputError;
use crate::traffic::Setting;

/// How much of a request's and of a response's body the proxy takes up for the other side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferSpec {
    /// A request's body is read before an endpoint is chosen for it, up to so many bytes. One that
    /// fits goes on with its length, and can be sent again; a longer one goes on as it comes.
    /// Default: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Size>,
    /// So many bytes of a response are read from its endpoint while its client takes them more slowly.
    /// Default: as much as is being written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Size>,
}

impl BufferSpec {
    /// The most that either may be.
    pub const MOST: Size = Size(8 << 20);

    /// Whether nothing is buffered.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Setting for BufferSpec {
    fn check(&self) -> Result<(), InputError> {
        for (field, size) in [("request", self.request), ("response", self.response)] {
            if let Some(size) = size.filter(|size| !(Size(1)..=Self::MOST).contains(size)) {
                let message = format!("{size} is out of range: from 1B to {}", Self::MOST);
                return Err(InputError::of_field(field, message));
            }
        }
        Ok(())
    }
}
