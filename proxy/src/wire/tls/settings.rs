//! TLS as the config and the admin API ask for it: checked, but no file was read yet.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Certificates for clients, on one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Picked by the names in them; the first one is the default. At least one.
    pub certificates: Vec<KeyPair>,
    /// Who signs the clients' own certificates; `None`: they are not asked for any.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: Version,
}

/// A certificate and its private key, each in a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, followed by those that lead from it to the CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What becomes of a client that shows no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// It is refused in the handshake.
    Required,
    /// It may go on. One that shows a wrong certificate may not.
    Optional,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 5246, with ephemeral keys and AEAD ciphers only.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The cryptography: AWS-LC, of which only what we use is linked.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    &PROVIDER
}
