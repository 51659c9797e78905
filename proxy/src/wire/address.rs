//! The address of an endpoint, as it is written.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    /// `ip:port`
    Ip(SocketAddr),
    /// `name:port`
    Name(Arc<str>, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Reads an address. The error is a sentence.
pub(crate) fn check_address(text: &str) -> Result<Address, String> {
    let wrong = || {
        format!(
            "`{text}` is not an address: write `ip:port`, `[ipv6]:port` or `name:port`, such as `10.89.0.7:8080`"
        )
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(wrong())
        } else {
            Ok(Address::Ip(address))
        };
    }
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // A name of digits and dots alone is an IP with a slip in it.
    let is_name = name.chars().all(allowed) && name.chars().any(|c| c.is_ascii_alphabetic());
    if port == 0 || !is_name || name.len() > 253 {
        return Err(wrong());
    }
    Ok(Address::Name(name.to_ascii_lowercase().into(), port))
}
