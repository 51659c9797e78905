//! The config file: as it is written ([`raw::RawConfig`]), and as it was checked ([`Config`]).

mod check;
mod raw;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use admin_api::strict::InputError;
use admin_api::{AccessLogSpec, ServiceSpec};
use ipnet::IpNet;

use crate::table::cookie_key::CookieKey;
use crate::table::timeouts::Timeouts;
use crate::wire::listener_id::ListenerId;
use crate::wire::socket::HalfClose;
use crate::wire::tls::{ListenerSettings, ListenerTls};

/// A config that was checked: nothing in it can be wrong any more.
#[derive(Debug, Clone)]
pub struct Config {
    /// The admin port; without it there is none.
    pub admin: Option<AdminSettings>,
    /// The unix socket on which a successor takes over; without it there is none.
    pub handover: Option<PathBuf>,
    /// The unix socket behind which another process keeps the sockets of named listeners open.
    pub keeper: Option<PathBuf>,
    /// The key of sticky cookies; without it each proxy has one of its own.
    pub(crate) cookie_key: Option<CookieKey>,
    /// The access log; without it there is none.
    pub(crate) access_log: Option<AccessLogSpec>,
    /// Where clients connect. At least one.
    pub listeners: Vec<Listener>,
    /// Limits on what clients send.
    pub limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) services: Vec<ServiceSpec>,
}

/// Where the admin API is served.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// A TCP address or a unix socket.
    pub listen: AdminAddress,
    /// Where what the admin API has set is kept for the next start.
    pub state_file: Option<PathBuf>,
    pub(crate) token: Option<Token>,
}

/// A TCP address or the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// `127.0.0.1:9900`
    Tcp(SocketAddr),
    /// `unix:/run/crossfade/admin.sock`
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A secret; its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl Token {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address to listen on.
    pub address: SocketAddr,
    /// By which its sockets are known to the process that keeps them; without it they are opened here.
    pub name: Option<Arc<str>>,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Who begins each connection with a header of the PROXY protocol.
    pub proxy_protocol: Arc<[IpNet]>,
    /// TLS, where it is spoken.
    pub tls: Option<ListenerSettings>,
    /// What a client means that ends its half of a connection of HTTP/1.1.
    pub half_close: HalfClose,
}

impl Listener {
    /// Where it is meant to be: port 0 becomes another.
    pub(crate) fn id(&self) -> ListenerId {
        match &self.name {
            Some(name) => ListenerId::Named(name.clone()),
            None => ListenerId::Address(self.address),
        }
    }
}

/// TLS of a config's listeners, ready for handshakes.
#[derive(Debug)]
pub struct ListenersTls(pub(crate) Vec<Option<Arc<ListenerTls>>>);

/// Limits on what clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's target.
    pub request_line: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header fields of a request.
    pub header_count: usize,
    /// Bytes of a request's body; `u64::MAX`: as many as come.
    pub body: u64,
    /// Connections of clients to one listener at once.
    pub connections: usize,
    /// Those of one address, or of one /64 of IPv6; `usize::MAX`: as many as come.
    pub connections_per_address: usize,
    /// Requests of one connection; `u64::MAX`: as many as come.
    pub requests_per_connection: u64,
}

/// Why a config was refused: the file, the line, the field and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it is wrong.
    #[error("{}", error.in_file(path))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: InputError,
    },
}

impl Config {
    /// Whether everything that takes effect at a start only is the same.
    pub(crate) fn same_sockets(&self, other: &Self) -> bool {
        let admin = |config: &Self| {
            let admin = config.admin.as_ref()?;
            let token = admin.token.as_ref().map(|token| token.as_bytes().to_vec());
            Some((admin.listen.clone(), admin.state_file.clone(), token))
        };
        self.listeners == other.listeners
            && self.limits == other.limits
            && self.handover == other.handover
            && self.keeper == other.keeper
            && self.cookie_key == other.cookie_key
            && self.access_log == other.access_log
            && admin(self) == admin(other)
    }
}
