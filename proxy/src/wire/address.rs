//! The address of an endpoint, as it is written, and what it stands for.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What comes before the path of a unix socket.
const UNIX: &str = "unix:";
/// The kernel's limit for the path of a unix socket is 108 bytes, the final zero included.
const MAX_PATH: usize = 107;
/// The host of an endpoint that has none: one behind a unix socket.
pub(crate) const LOCALHOST: &str = "localhost";

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    /// `ip:port`
    Ip(SocketAddr),
    /// `name:port`
    Name(Arc<str>, u16),
    /// `unix:/path`
    Unix(Arc<Path>),
}

/// Where a connection to an endpoint goes. As text, it is an [`Address`] without a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum SocketAddress {
    /// `ip:port`
    Ip(SocketAddr),
    /// `unix:/path`
    Unix(Arc<Path>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl SocketAddress {
    /// What a request that names no host is for.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Ip(address) => address.to_string(),
            Self::Unix(_) => LOCALHOST.to_owned(),
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Address::from(self.clone()).fmt(f)
    }
}

impl From<SocketAddress> for Address {
    fn from(target: SocketAddress) -> Self {
        match target {
            SocketAddress::Ip(address) => Self::Ip(address),
            SocketAddress::Unix(path) => Self::Unix(path),
        }
    }
}

impl From<SocketAddress> for String {
    fn from(target: SocketAddress) -> Self {
        target.to_string()
    }
}

impl TryFrom<String> for SocketAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match check_address(&text)? {
            Address::Ip(address) => Ok(Self::Ip(address)),
            Address::Unix(path) => Ok(Self::Unix(path)),
            Address::Name(..) => Err(format!("`{text}` is a name and not an address")),
        }
    }
}

/// Reads an address. The error is a sentence.
pub(crate) fn check_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix(UNIX) {
        return check_path(path).map(Address::Unix);
    }
    let wrong = || {
        format!(
            "`{text}` is not an address: write `ip:port`, `[ipv6]:port`, `name:port` or `unix:/path`, such as `10.89.0.7:8080`"
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

/// Reads the path of a unix socket.
fn check_path(path: &str) -> Result<Arc<Path>, String> {
    if !path.starts_with('/') || path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(format!(
            "`{UNIX}{path}` is not the path of a socket: write an absolute one, such as `unix:/run/app/app.sock`"
        ));
    }
    if path.len() > MAX_PATH {
        return Err(format!(
            "`{UNIX}{path}` is too long for a socket: its path has {} bytes, and {MAX_PATH} are allowed",
            path.len()
        ));
    }
    Ok(Path::new(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_socket_is_absolute_and_fits() {
        for good in ["unix:/run/app/app.sock", "unix:/a"] {
            assert_eq!(check_address(good).expect("good").to_string(), good);
        }
        let longest = format!("unix:/{}", "a".repeat(MAX_PATH - 1));
        assert!(check_address(&longest).is_ok());
        for (bad, says) in [
            ("unix:", "absolute"),
            ("unix:run/app.sock", "absolute"),
            ("unix:/run/", "absolute"),
            ("unix:/run/a\nb", "absolute"),
            ("unix:/run/a\0b", "absolute"),
            (&format!("{longest}a"), "108 bytes, and 107"),
        ] {
            let error = check_address(bad).expect_err(bad);
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_target_is_read_as_it_was_written() {
        for text in ["10.0.0.1:80", "[::1]:80", "unix:/run/app.sock"] {
            let json = format!("{text:?}");
            let target: SocketAddress = serde_json::from_str(&json).expect(text);
            assert_eq!(serde_json::to_string(&target).expect(text), json);
        }
        let name = serde_json::from_str::<SocketAddress>(r#""app:80""#);
        assert!(name.expect_err("a name").to_string().contains("a name"));
    }
}
