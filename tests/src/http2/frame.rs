//! Frames as they are on the wire (RFC 9113, section 4), good ones and bad ones.

use std::fmt;

/// What is in front of every frame.
pub const HEAD: usize = 9;
/// The size of payload that everybody takes (`SETTINGS_MAX_FRAME_SIZE`, unless it says more).
pub const PAYLOAD: usize = 1 << 14;
/// The greatest size of a flow-control window.
pub const WINDOW: u32 = (1 << 31) - 1;

/// Types of frames.
#[expect(missing_docs, reason = "the RFC's own names")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    /// One that is not defined.
    pub const UNKNOWN: u8 = 0xbb;
}

/// Flags of frames.
#[expect(missing_docs, reason = "the RFC's own names")]
pub mod flag {
    pub const NONE: u8 = 0;
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Parameters of SETTINGS.
#[expect(missing_docs, reason = "the RFC's own names")]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// RFC 8441.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Error codes of `RST_STREAM` and GOAWAY (RFC 9113, section 7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

#[expect(missing_docs, reason = "the RFC's own names")]
impl Code {
    pub const NO_ERROR: Self = Self(0x0);
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub const STREAM_CLOSED: Self = Self(0x5);
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub const REFUSED_STREAM: Self = Self(0x7);
    pub const CANCEL: Self = Self(0x8);
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {:#x}", self.0),
        }
    }
}

/// One frame.
#[derive(Clone)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What is behind its head.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of any type.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self {
            kind,
            flags,
            stream,
            payload,
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// As bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = head(self.payload.len(), self.kind, self.flags, self.stream);
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// The head of a frame, with whatever length.
pub fn head(length: usize, kind: u8, flags: u8, stream: u32) -> Vec<u8> {
    let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes
}

/// DATA.
pub fn data(flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::DATA, flags, stream, payload)
}

/// HEADERS, with no flags beside these.
pub fn headers(flags: u8, stream: u32, block: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::HEADERS, flags, stream, block)
}

/// CONTINUATION.
pub fn continuation(flags: u8, stream: u32, block: impl Into<Vec<u8>>) -> Frame {
    Frame::new(kind::CONTINUATION, flags, stream, block)
}

/// PRIORITY: `stream` depends on `on`.
pub fn priority(stream: u32, on: u32) -> Frame {
    Frame::new(kind::PRIORITY, flag::NONE, stream, dependency(on))
}

/// The five bytes of a dependency, in PRIORITY and in HEADERS.
pub fn dependency(on: u32) -> Vec<u8> {
    let mut payload = on.to_be_bytes().to_vec();
    payload.push(15);
    payload
}

/// `RST_STREAM`.
pub fn rst_stream(stream: u32, code: Code) -> Frame {
    Frame::new(kind::RST_STREAM, flag::NONE, stream, code.0.to_be_bytes())
}

/// SETTINGS with these parameters.
pub fn settings(parameters: &[(u16, u32)]) -> Frame {
    let payload: Vec<u8> = parameters
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
        .collect();
    Frame::new(kind::SETTINGS, flag::NONE, 0, payload)
}

/// The acknowledgement of SETTINGS.
pub fn settings_ack() -> Frame {
    Frame::new(kind::SETTINGS, flag::ACK, 0, [])
}

/// PING.
pub fn ping(flags: u8, payload: [u8; 8]) -> Frame {
    Frame::new(kind::PING, flags, 0, payload)
}

/// GOAWAY.
pub fn goaway(last_stream: u32, code: Code) -> Frame {
    let payload = [last_stream.to_be_bytes(), code.0.to_be_bytes()].concat();
    Frame::new(kind::GOAWAY, flag::NONE, 0, payload)
}

/// `WINDOW_UPDATE`.
pub fn window_update(stream: u32, by: u32) -> Frame {
    Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, by.to_be_bytes())
}

/// A payload with its pad length in front and so much padding behind.
pub fn padded(payload: &[u8], padding: u8) -> Vec<u8> {
    let mut whole = vec![padding];
    whole.extend_from_slice(payload);
    whole.resize(whole.len() + usize::from(padding), 0);
    whole
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        match NAMES.get(usize::from(self.kind)) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "type {:#x}", self.kind)?,
        }
        if self.stream != 0 {
            write!(f, " on {}", self.stream)?;
        }
        match self.kind {
            kind::SETTINGS | kind::PING if self.has(flag::ACK) => f.write_str(" ACK"),
            kind::DATA => write!(f, " of {}", self.payload.len()),
            kind::RST_STREAM => write!(f, " {}", Code(number(&self.payload, 0))),
            kind::GOAWAY => write!(f, " {}", Code(number(&self.payload, 4))),
            _ => Ok(()),
        }
    }
}

/// Four bytes of a payload; what is not there counts as 0.
pub fn number(payload: &[u8], at: usize) -> u32 {
    let bytes = payload.get(at..at + 4).unwrap_or_default();
    bytes.try_into().map_or(0, u32::from_be_bytes)
}
