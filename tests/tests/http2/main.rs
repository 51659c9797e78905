//! HTTP/2 by the book: that the cases of `tests::http2` can fail, and that what they decode with
//! is right.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod hpack;
mod suite;
