//! What the opening of a WebSocket has over HTTP/1.1 (RFC 6455, 4) and has not over HTTP/2
//! (RFC 8441, 5): a key of the client, and what the server makes of it. The proxy stands for the side
//! that has none.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::head::{Known, Message};

/// The protocol, as `Upgrade` and `:protocol` name it.
pub(crate) const PROTOCOL: &str = "websocket";
/// The field with the client's key.
pub(crate) const KEY: &str = "sec-websocket-key";
/// The field with what the server makes of it.
pub(crate) const ACCEPT: &str = "sec-websocket-accept";

/// What a server adds to a key (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept([u8; 28]);

/// A client's key: 16 bytes that no one can guess.
pub(crate) fn new_key() -> [u8; 24] {
    let mut key = [0; 24];
    // It is as long as 16 bytes are.
    let _ = STANDARD.encode_slice(rand::random::<[u8; 16]>(), &mut key);
    key
}

impl Accept {
    pub(crate) fn of(key: &[u8]) -> Self {
        // It has to be this one, and keeps nothing secret.
        let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        digest.update(key);
        digest.update(GUID);
        let mut accept = [0; 28];
        // It is as long as the 20 bytes of a digest are.
        let _ = STANDARD.encode_slice(digest.finish(), &mut accept);
        Self(accept)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a response is that of a server that has read the key.
    pub(crate) fn is_in(&self, response: Message<'_>) -> bool {
        response.status() == 101 && response.named(ACCEPT).eq([&self.0[..]])
    }
}

/// Whether a head asks for a WebSocket, or grants it, and nothing else.
pub(crate) fn is_named(message: Message<'_>) -> bool {
    let mut protocols = message.elements(Known::Upgrade);
    let named = protocols.next();
    named.is_some_and(|name| name.eq_ignore_ascii_case(PROTOCOL.as_bytes()))
        && protocols.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_into_what_the_specification_says() {
        let accept = Accept::of(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_differ_and_are_16_bytes() {
        let keys = [new_key(), new_key()];
        assert_ne!(keys[0], keys[1]);
        assert_eq!(STANDARD.decode(keys[0]).unwrap().len(), 16);
    }
}
