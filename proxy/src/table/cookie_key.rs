//! The key of sticky cookies: a value that carries its code was given by a proxy with this key.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of HMAC-SHA256 that are left of it: 128 bits (RFC 2104, 5).
const CODE: usize = 16;
/// Characters of a code.
pub(crate) const CODE_TEXT: usize = 22;
/// What the key of a file is made with, so that the file can serve another purpose beside.
const PURPOSE: &[u8] = b"crossfade sticky cookies";

/// A key. Its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct CookieKey(Arc<Prepared>);

struct Prepared {
    bytes: [u8; KEY],
    /// The same, ready for use.
    key: Key,
}

/// A code, as it is in a cookie.
pub(crate) type Code = [u8; CODE_TEXT];

impl CookieKey {
    fn new(bytes: [u8; KEY]) -> Self {
        let key = Key::new(HMAC_SHA256, &bytes);
        Self(Arc::new(Prepared { bytes, key }))
    }

    /// A key that no other process has.
    pub(crate) fn random() -> Self {
        Self::new(rand::random())
    }

    /// The key of everyone who has the same file.
    pub(crate) fn of_file(content: &[u8]) -> Self {
        let tag = sign(&Key::new(HMAC_SHA256, content), PURPOSE);
        let mut bytes = [0; KEY];
        bytes.copy_from_slice(tag.as_ref());
        Self::new(bytes)
    }

    /// The code of these pieces, of which none can be mistaken for a part of another.
    pub(crate) fn code(&self, pieces: &[&[u8]]) -> Code {
        let mut context = Context::with_key(&self.0.key);
        for piece in pieces {
            context.update(&(piece.len() as u64).to_be_bytes());
            context.update(piece);
        }
        text(&context.sign().as_ref()[..CODE])
    }

    /// Whether this is the code of these pieces.
    pub(crate) fn proves(&self, pieces: &[&[u8]], code: &[u8]) -> bool {
        self.code(pieces).ct_eq(code).into()
    }
}

impl PartialEq for CookieKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes.ct_eq(&other.0.bytes).into()
    }
}

impl Eq for CookieKey {}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey(…)")
    }
}

impl Serialize for CookieKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CookieKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; KEY]>::deserialize(deserializer).map(Self::new)
    }
}

/// In base64url without padding (RFC 4648, 5), whose characters are all allowed in a cookie.
fn text(code: &[u8]) -> Code {
    let mut text = [0; CODE_TEXT];
    // It is as long as a code is.
    let _ = URL_SAFE_NO_PAD.encode_slice(code, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_hmac_sha256_in_base64url() {
        // RFC 4231, 4.3, without the pieces' lengths: the key `Jefe`.
        let key = Key::new(HMAC_SHA256, b"Jefe");
        let tag = sign(&key, b"what do ya want for nothing?");
        assert_eq!(&text(&tag.as_ref()[..CODE]), b"W9zBRr9gdU5qBCQmCJV1xw");
        assert_eq!(&text(&[0xff; CODE]), b"_____________________w");
    }

    #[test]
    fn a_code_is_of_its_key_and_of_its_pieces() {
        let key = CookieKey::random();
        let code = key.code(&[b"web", b"1"]);
        assert!(key.proves(&[b"web", b"1"], &code));
        for other in [["we", "b1"], ["web", "2"], ["api", "1"]] {
            let pieces = other.map(str::as_bytes);
            assert!(!key.proves(&pieces, &code), "{other:?}");
        }
        for wrong in [&b""[..], &code[1..], &[code[0] ^ 1; CODE_TEXT]] {
            assert!(!key.proves(&[b"web", b"1"], wrong), "{wrong:?}");
        }
        assert!(!CookieKey::random().proves(&[b"web", b"1"], &code));
    }

    #[test]
    fn a_key_is_handed_over_whole_and_a_file_gives_everyone_the_same() {
        let key = CookieKey::random();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<CookieKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<CookieKey>("[1,2,3]").is_err());
        let of_file = |content: &[u8]| CookieKey::of_file(content);
        assert_eq!(of_file(&[7; 40]), of_file(&[7; 40]));
        assert_ne!(of_file(&[7; 40]), of_file(&[7; 41]));
        assert_eq!(format!("{key:?}"), "CookieKey(…)");
    }
}
