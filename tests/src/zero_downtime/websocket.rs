//! WebSockets as bytes (RFC 6455): an upgrade, then short text frames that are echoed.

use std::io;

use super::wire::Wire;

/// The key of RFC 6455's example (1.3), and what a server makes of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A whole text frame: what a client sends is masked, if only with zeros.
const TEXT: u8 = 0x81;
const MASKED: u8 = 0x80;
const MASK: [u8; 4] = [0; 4];
/// Longer payloads have longer heads, which are not needed here.
const MAX_PAYLOAD: usize = 125;

/// The request that asks for the upgrade.
pub(super) fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: soak.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// The response that grants it.
pub(super) fn granted(endpoint: u32) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\nX-Endpoint: {endpoint}\r\n\r\n"
    )
    .into_bytes()
}

/// A frame of text as a client sends it.
pub(super) fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![TEXT, MASKED | length_of(text.as_bytes())];
    frame.extend(MASK);
    frame.extend(text.as_bytes());
    frame
}

/// A frame as a server sends it.
pub(super) fn plain(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![TEXT, length_of(payload)];
    frame.extend(payload);
    frame
}

/// The payload of the next frame.
pub(super) async fn payload(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let head = wire.exactly(2).await?;
    let length = usize::from(head[1] & !MASKED);
    if head[0] != TEXT || length > MAX_PAYLOAD {
        let what = format!("a frame that begins with {head:02x?}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    if head[1] & MASKED != 0 {
        wire.exactly(MASK.len()).await?;
    }
    Ok(wire.exactly(length).await?.to_vec())
}

fn length_of(payload: &[u8]) -> u8 {
    assert!(payload.len() <= MAX_PAYLOAD, "{} bytes", payload.len());
    payload.len() as u8
}
