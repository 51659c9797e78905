//! Which certificate a client gets: by the name that it asks for (SNI, RFC 6066).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates by name.
#[derive(Debug)]
pub(crate) struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what comes after the `*.`: a wildcard stands for one label (RFC 9525, 6.3).
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For names that no certificate has, and for clients that ask for none.
    default: Arc<CertifiedKey>,
}

impl Names {
    /// The first certificate is the default, and wins where several have the same name.
    pub(crate) fn new<'c>(
        default: Arc<CertifiedKey>,
        certificates: impl Iterator<Item = (&'c [Box<str>], &'c Arc<CertifiedKey>)>,
    ) -> Self {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (names, key) in certificates {
            for name in names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, &**name),
                };
                map.entry(name.into()).or_insert_with(|| key.clone());
            }
        }
        Self {
            exact,
            wildcard,
            default,
        }
    }

    /// The certificate for a name, which is in lower case: rustls sees to that.
    fn find(&self, name: &str) -> &Arc<CertifiedKey> {
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        let found = self.exact.get(name);
        found
            .or_else(|| self.wildcard.get(parent()?))
            .unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = match hello.server_name() {
            Some(name) => self.find(name),
            None => &self.default,
        };
        Some(certificate.clone())
    }
}
