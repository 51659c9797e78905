//! The time, as the `Date` field says it.

use std::io::Write;
use std::time::SystemTime;

use httpdate::HttpDate;

/// The length of a date in its only format (RFC 9110, 5.6.7).
const DATE: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// A second, as `Date` says it.
#[derive(Clone, Copy)]
pub(crate) struct Date([u8; DATE]);

impl Date {
    /// None yet.
    pub(crate) const NONE: Self = Self([0; DATE]);

    pub(crate) fn of(time: SystemTime) -> Self {
        let mut text = [0; DATE];
        // It fits: until the year 9999 there is no other length.
        let _ = write!(&mut text[..], "{}", HttpDate::from(time));
        Self(text)
    }
}

impl std::ops::Deref for Date {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
