//! Where clients reach the proxy, and by which certificates it is who it says it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use admin_api::strict::InputError;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// One address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// Whose `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Who begins each connection with a header of the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
    /// TLS, where it is spoken.
    pub tls: Option<Tls>,
    /// What becomes of a client that ends its half of a connection.
    pub half_close: Option<HalfClose>,
}

/// What becomes of a client that ends its half of a connection while it waits for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HalfClose {
    /// Its request is given up.
    Abort,
    /// It gets its response.
    Serve,
}

/// TLS on a listener. Paths are as seen from the manifest's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificates and their keys; at least one.
    pub pairs: Vec<KeyPair>,
    /// The oldest version that is spoken.
    pub min_version: Option<TlsVersion>,
    /// Who signs clients' own certificates.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without one is refused.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The file of the certificate and those that lead to its root.
    pub cert: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is asked of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// A certificate.
    Required,
    /// A certificate, if they have one.
    Optional,
}

/// An entry of `[[proxy.listeners]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerEntry {
    pub(super) address: SocketAddr,
    #[serde(default)]
    trusted_proxies: Vec<IpNet>,
    #[serde(default)]
    proxy_protocol: Vec<IpNet>,
    tls: Option<Vec<KeyPair>>,
    tls_min_version: Option<TlsVersion>,
    client_ca: Option<PathBuf>,
    client_auth: Option<ClientAuth>,
    half_close: Option<HalfClose>,
}

impl ListenerEntry {
    /// Checks it; the error's field is one of its keys.
    pub(super) fn check(self) -> Result<Listener, InputError> {
        let wrong = |field: &str, message: &str| Err(InputError::of_field(field, message));
        let tls = match self.tls {
            None => {
                let of_tls = [
                    ("tls_min_version", self.tls_min_version.is_some()),
                    ("client_ca", self.client_ca.is_some()),
                    ("client_auth", self.client_auth.is_some()),
                ];
                if let Some((key, _)) = of_tls.into_iter().find(|(_, there)| *there) {
                    return wrong(key, "needs `tls`");
                }
                None
            }
            Some(pairs) if pairs.is_empty() => {
                return wrong(
                    "tls",
                    "at least one certificate is needed, as { cert = \"a.pem\", key = \"a.key\" }",
                );
            }
            Some(_) if self.client_auth.is_some() && self.client_ca.is_none() => {
                return wrong(
                    "client_auth",
                    "needs `client_ca`, the CA of the clients' certificates",
                );
            }
            Some(pairs) => Some(Tls {
                pairs,
                min_version: self.tls_min_version,
                client_ca: self.client_ca,
                client_auth: self.client_auth,
            }),
        };
        Ok(Listener {
            address: self.address,
            trusted_proxies: self.trusted_proxies,
            proxy_protocol: self.proxy_protocol,
            tls,
            half_close: self.half_close,
        })
    }
}

impl Listener {
    /// One for plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            trusted_proxies: Vec::new(),
            proxy_protocol: Vec::new(),
            tls: None,
            half_close: None,
        }
    }

    /// What clients write: `https://127.0.0.1:8443`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

impl Tls {
    /// Every file that it names, seen from `folder`.
    pub(crate) fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let pairs = self.pairs.iter().flat_map(|pair| [&pair.cert, &pair.key]);
        pairs
            .chain(&self.client_ca)
            .map(|file| folder.join(file))
            .collect()
    }
}
