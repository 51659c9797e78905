//! Who a client is by its certificate, in words that a header field can have.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longer texts are cut off: no header field is to be too long for an endpoint.
const MAX_TEXT: usize = 2_048;

/// What a client's certificate says of it, after it was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    /// Its subject: `CN=alice, O=Example`.
    pub(crate) subject: String,
    /// Its alternative names: `DNS:a.test, URI:spiffe://a/b`.
    pub(crate) san: String,
    /// Its serial number, in hexadecimal digits.
    pub(crate) serial: String,
    /// The SHA-256 of it, in hexadecimal digits.
    pub(crate) sha256: String,
}

impl ClientIdentity {
    /// Of a certificate; one that cannot be read has no more than its hash.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut identity = Self {
            sha256: hex(digest(&SHA256, certificate).as_ref()),
            ..Self::default()
        };
        let Ok((_, read)) = X509Certificate::from_der(certificate) else {
            return identity;
        };
        identity.subject = subject(&read);
        identity.serial = hex(read.raw_serial());
        if let Ok(Some(names)) = read.subject_alternative_name() {
            let names = names.value.general_names.iter().filter_map(text);
            identity.san = joined(names);
        }
        identity
    }
}

/// `CN=alice, O=Example`, in the certificate's order.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let names = certificate.subject().iter_attributes();
    joined(names.map(|name| {
        let kind = name.attr_type();
        let kind = match oid2abbrev(kind, oid_registry()) {
            Ok(short) => short.to_owned(),
            Err(_) => kind.to_id_string(),
        };
        let value = name.as_str().map_or_else(
            // As RFC 4514, 2.4 has what is no text.
            |_| format!("#{}", hex(name.as_slice())),
            plain,
        );
        format!("{kind}={value}")
    }))
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{}", plain(name))),
        GeneralName::URI(uri) => Some(format!("URI:{}", plain(uri))),
        GeneralName::RFC822Name(mail) => Some(format!("email:{}", plain(mail))),
        _ => None,
    }
}

/// With commas between them, as many as fit.
fn joined(names: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for name in names {
        if text.len() + name.len() > MAX_TEXT {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&name);
    }
    text
}

/// A text with escapes in place of whatever no header field has, or what would end a value or begin
/// another one (RFC 4514, 2.4): who has a certificate signed may have chosen it.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for byte in text.bytes() {
        if plain.len() >= MAX_TEXT {
            break;
        }
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'#' | b'=' => {
                // Text takes whatever is written.
                let _ = write!(plain, "\\{byte:02X}");
            }
            b' '..=b'~' => plain.push(char::from(byte)),
            // Text takes whatever is written.
            _ => drop(write!(plain, "\\{byte:02X}")),
        }
    }
    plain
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // As above.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(name: &str, sans: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = sans;
        params.serial_number = Some(0x1f_u64.into());
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_says_who_its_client_is_in_plain_words() {
        let sans = vec![
            SanType::DnsName("a.test".try_into().unwrap()),
            SanType::URI("spiffe://a/b".try_into().unwrap()),
        ];
        let certificate = certificate("alice", sans);
        let identity = ClientIdentity::of(&certificate);
        assert!(identity.subject.contains("CN=alice"), "{identity:?}");
        assert_eq!(identity.san, "DNS:a.test, URI:spiffe://a/b");
        assert_eq!(identity.serial, "1f");
        assert_eq!(identity.sha256.len(), 64);
    }

    #[test]
    fn a_name_cannot_end_a_line() {
        let evil = certificate("a\r\nx-admin: 1\u{e9}", Vec::new());
        let subject = ClientIdentity::of(&evil).subject;
        assert!(subject.contains("a\\0D\\0Ax-admin: 1\\C3\\A9"), "{subject}");
        let long = certificate(&"x".repeat(60_000), Vec::new());
        assert!(ClientIdentity::of(&long).subject.len() <= MAX_TEXT + 3);
        // Nor can it be another one's.
        let sans = vec![SanType::URI(
            "spiffe://x/, DNS:admin.test".try_into().unwrap(),
        )];
        let forged = ClientIdentity::of(&certificate("alice, O=Admins", sans));
        assert!(
            forged.subject.contains("CN=alice\\2C O\\3DAdmins"),
            "{forged:?}"
        );
        assert_eq!(forged.san, "URI:spiffe://x/\\2C DNS:admin.test");
        let none = ClientIdentity::of(&CertificateDer::from(vec![1, 2, 3]));
        assert_eq!((none.subject.len(), none.sha256.len()), (0, 64));
    }
}
