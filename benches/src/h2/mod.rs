//! HTTP/2 (RFC 9113) as far as the benchmark needs it: a client that repeats one request, and a
//! server that repeats one response.

mod blocks;
mod client;
mod server;

pub(crate) use blocks::Blocks;
pub(crate) use client::{Ended, Session, stalled};
pub(crate) use server::{GRPC_PATH, Server};

use crate::response::Malformed;

/// RFC 9113, section 3.4.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// The largest frame that is accepted: the initial value of SETTINGS_MAX_FRAME_SIZE.
const MAX_FRAME: usize = 16 * 1024;
/// The initial window of a connection and of a stream.
const FIRST_WINDOW: u32 = 65_535;
/// The largest window. It is restored when half of it is used.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

mod flag {
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// One frame.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Frame<'_> {
    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding: section 6.1.
    fn unpadded(&self) -> Result<&[u8], Malformed> {
        if !self.has(flag::PADDED) {
            return Ok(self.payload);
        }
        let (&padding, rest) = self.payload.split_first().ok_or(Malformed)?;
        let length = rest.len().checked_sub(padding.into());
        length
            .and_then(|length| rest.get(..length))
            .ok_or(Malformed)
    }

    /// The settings of a SETTINGS frame: section 6.5.1.
    fn settings(&self) -> Result<Vec<(u16, u32)>, Malformed> {
        let setting = |bytes: &[u8]| match *bytes {
            [n0, n1, v0, v1, v2, v3] => Ok((
                u16::from_be_bytes([n0, n1]),
                u32::from_be_bytes([v0, v1, v2, v3]),
            )),
            _ => Err(Malformed),
        };
        self.payload.chunks(6).map(setting).collect()
    }

    /// The increment of a WINDOW_UPDATE frame: section 6.9.
    fn increment(&self) -> Result<i64, Malformed> {
        let bytes = self.payload.first_chunk::<4>().ok_or(Malformed)?;
        Ok(i64::from(u32::from_be_bytes(*bytes)))
    }
}

/// Splits bytes into frames. The beginning of a frame that is not complete is kept.
#[derive(Debug, Default)]
struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// Calls `each` with every complete frame.
    fn read(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Frame<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let joined;
        let mut bytes = bytes;
        if !self.partial.is_empty() {
            self.partial.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.partial);
            bytes = &joined;
        }
        while let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) =
            bytes.first_chunk::<FRAME_HEADER>()
        {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MAX_FRAME {
                return Err(Malformed);
            }
            let Some(payload) = bytes.get(FRAME_HEADER..FRAME_HEADER + length) else {
                break;
            };
            bytes = &bytes[FRAME_HEADER + length..];
            each(Frame {
                kind,
                flags,
                stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
                payload,
            })?;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(out, kind::SETTINGS, 0, 0, &payload);
}

/// The receive window of a connection: the largest, restored when half of it is used.
#[derive(Debug)]
struct ReceiveWindow {
    used: usize,
}

impl ReceiveWindow {
    /// Opens the window.
    fn open(out: &mut Vec<u8>) -> Self {
        let more = LARGEST_WINDOW - FIRST_WINDOW;
        frame(out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Self { used: 0 }
    }

    fn receive(&mut self, length: usize, out: &mut Vec<u8>) {
        self.used += length;
        if self.used > LARGEST_WINDOW as usize / 2 {
            let used = self.used as u32;
            frame(out, kind::WINDOW_UPDATE, 0, 0, &used.to_be_bytes());
            self.used = 0;
        }
    }
}

/// A message of gRPC with this many bytes: not compressed, with its length.
fn grpc_message(length: u32) -> Vec<u8> {
    let mut message = vec![0];
    message.extend_from_slice(&length.to_be_bytes());
    message.resize(message.len() + length as usize, b'x');
    message
}
