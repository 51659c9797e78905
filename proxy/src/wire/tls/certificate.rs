//! Certificates and keys, from PEM files to what a handshake needs.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use admin_api::strict::InputError;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::settings::{KeyPair, provider};

/// Of a file. The largest bundles of CAs have a tenth of it.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Users other than its owner and its group may read or write it.
const OTHERS: u32 = 0o007;

/// A certificate with its key, ready for handshakes.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// Host names, in lower case: `app.example.com`, `*.example.com`.
    pub(crate) names: Vec<Box<str>>,
    not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// What is wrong with a file, and which of the settings names it.
#[derive(Debug)]
pub(crate) struct FileError {
    pub(crate) field: &'static str,
    file: PathBuf,
    message: String,
}

impl FileError {
    pub(crate) fn new(field: &'static str, file: &Path, message: impl Into<String>) -> Self {
        Self {
            field,
            file: file.to_owned(),
            message: message.into(),
        }
    }

    /// The same as an error about a config in which the settings are at `place`.
    pub(crate) fn at(&self, place: &str) -> InputError {
        InputError::of_field(format!("{place}.{}", self.field), self.to_string())
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.file.display(), self.message)
    }
}

impl std::error::Error for FileError {}

impl Certificate {
    /// Reads and checks a certificate and its key.
    pub(crate) fn load(files: &KeyPair) -> Result<Self, FileError> {
        let chain = read_certificates("cert", &files.cert)?;
        let wrong = |message: String| FileError::new("cert", &files.cert, message);
        let first = chain
            .first()
            .ok_or_else(|| wrong("contains no certificate".into()))?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| wrong(format!("is not a certificate: {error}")))?;
        let names = names(&parsed);
        let (not_before, not_after) = (
            time(parsed.validity().not_before.timestamp()),
            time(parsed.validity().not_after.timestamp()),
        );

        let bad_key = |message: String| FileError::new("key", &files.key, message);
        let key = read_key(&files.key).map_err(bad_key)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| bad_key(format!("is not a key that can be used: {error}")))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            // Some kinds of keys do not say what their public half is.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(bad_key(format!(
                    "is not the key of the certificate in `{}`",
                    files.cert.display()
                )));
            }
        }
        Ok(Self {
            key: Arc::new(key),
            names,
            not_before,
            not_after,
        })
    }

    /// Why clients would refuse it at this time, as the rest of a sentence about its file.
    pub(crate) fn outdated(&self, now: SystemTime) -> Option<String> {
        if now > self.not_after {
            let ago = now.duration_since(self.not_after).unwrap_or_default();
            return Some(format!("expired {} ago", rough(ago)));
        }
        let early = self.not_before.duration_since(now).ok()?;
        (!early.is_zero()).then(|| format!("is not valid before {} from now", rough(early)))
    }

    /// The same as an error about its file.
    pub(crate) fn valid_at(self, now: SystemTime, files: &KeyPair) -> Result<Self, FileError> {
        match self.outdated(now) {
            Some(message) => Err(FileError::new("cert", &files.cert, message)),
            None => Ok(self),
        }
    }
}

/// Reads the certificates of those whose signatures are trusted.
pub(crate) fn read_roots(field: &'static str, file: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(field, file)? {
        roots.add(certificate).map_err(|error| {
            FileError::new(
                field,
                file,
                format!("has a certificate that cannot be used: {error}"),
            )
        })?;
    }
    if roots.is_empty() {
        return Err(FileError::new(field, file, "contains no certificate"));
    }
    Ok(roots)
}

/// Says so where others may read a key. It is used all the same.
pub(crate) fn warn_if_open(file: &Path) {
    let Ok(metadata) = std::fs::metadata(file) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        tracing::warn!(
            file = %file.display(),
            "every user of this machine can read this private key (mode {mode:03o}): make it 0600 or 0640"
        );
    }
}

fn read_certificates(
    field: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let wrong = |message: String| FileError::new(field, file, message);
    let pem = read(file).map_err(wrong)?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("is not PEM: {error}")))
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = read(file)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            "contains no private key (keys with a passphrase are not supported)".into()
        }
        error => format!("is not PEM: {error}"),
    })
}

/// What is in a file, or the rest of a sentence about why it cannot be read.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, String> {
    crate::file::read_file(file, MAX_FILE).map_err(|error| format!("cannot be read: {error}"))
}

/// The host names that a certificate is for. Its common name counts only where it has no list
/// of alternative names, as for those who have not moved on.
fn names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let of_list = alternative
        .iter()
        .flat_map(|list| &list.value.general_names);
    let mut names: Vec<Box<str>> = of_list
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        })
        .collect();
    if alternative.is_none() {
        let common = certificate.subject().iter_common_name();
        names.extend(
            common
                .filter_map(|name| name.as_str().ok())
                .map(|name| name.to_ascii_lowercase().into()),
        );
    }
    names
}

fn time(seconds: i64) -> SystemTime {
    let after = u64::try_from(seconds).map(Duration::from_secs);
    after.map_or(UNIX_EPOCH, |after| {
        // Year 9999 is far below what a SystemTime holds.
        UNIX_EPOCH.checked_add(after).unwrap_or(UNIX_EPOCH)
    })
}

/// A span of time as people say it.
fn rough(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes / 1440, minutes / 60) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h"),
        (days, _) => format!("{days} d"),
    }
}
