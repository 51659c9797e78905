//! Where a request has a value that tells it from others.

use std::sync::Arc;

use http::HeaderName;

/// Where a request has the key that it is balanced by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// The client's IP address.
    Address,
    /// The value of a header field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(Arc<str>),
}
