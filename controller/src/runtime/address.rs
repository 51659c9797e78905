//! Where the proxy reaches a container.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The variable that tells a container where its unix socket is.
pub(super) const SOCKET: &str = "SOCKET";
/// What comes before the path of a unix socket.
const UNIX: &str = "unix:";

/// Where the proxy reaches a container. As text it is what the proxy has in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointAddress {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A unix socket, by the path that the proxy sees.
    Unix(PathBuf),
}

impl EndpointAddress {
    /// The IP address and the port, if that is what it is.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of the unix socket, if that is what it is.
    pub(crate) fn socket(&self) -> Option<&PathBuf> {
        match self {
            Self::Ip(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for EndpointAddress {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX) {
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Ip),
        }
    }
}

/// A unix socket on which a container serves, in a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSocket {
    /// The folder on the host. No other container has it.
    pub folder: PathBuf,
    /// The socket as the container sees it; its name is the same in `folder`. A process sees it in
    /// `folder`.
    pub path: PathBuf,
    /// The socket as the proxy sees it.
    pub seen_as: PathBuf,
}

impl EndpointSocket {
    /// Where the socket is on the host.
    pub(crate) fn on_host(&self) -> PathBuf {
        self.path
            .file_name()
            .map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }

    /// Its address.
    pub(crate) fn address(&self) -> EndpointAddress {
        EndpointAddress::Unix(self.seen_as.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["10.0.0.1:80", "[::1]:80", "unix:/run/app/app.sock"] {
            let address: EndpointAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        assert!("8080".parse::<EndpointAddress>().is_err());
    }
}
