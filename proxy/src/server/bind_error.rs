//! Why there is no socket to listen on.

use std::fmt;
use std::io;

/// An address that could not be bound.
#[derive(Debug)]
pub struct BindError {
    pub(crate) address: String,
    pub(crate) source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(f, "{address} is taken by another program"),
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{address}: not permitted (ports below 1024 need a privilege)"
                )
            }
            _ => write!(f, "{address}: {source}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
