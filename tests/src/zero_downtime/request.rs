//! A request of the harness. Its path says what it is, and its number says what its response has to
//! be, so that clients and origins agree on every byte without a word between them.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

/// One request. No two of a run have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub id: u64,
    /// What is asked for, and how.
    pub kind: Kind,
}

/// What is requested, and the kind of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A short response of known length.
    Small,
    /// A response in chunks.
    Chunked,
    /// 64 KiB.
    Large,
    /// A response that pauses before its head or in the middle of its body, for so many
    /// milliseconds in all; every other one is in chunks.
    Slow(u16),
    /// An upload of known length.
    Post,
    /// An upload in chunks.
    PostChunked,
    /// A WebSocket that echoes.
    WebSocket,
}

const LARGE: usize = 64 * 1024;
/// Different numbers read the filler from different places.
const OFFSETS: u64 = 4096;

static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let length = LARGE as u64 + OFFSETS;
    let letter = |i: u64| b'a' + (i.wrapping_mul(2_654_435_761) >> 16) as u8 % 26;
    (0..length).map(letter).collect()
});

impl Request {
    /// A request of the usual mix.
    pub fn of_mix(id: u64) -> Self {
        let kind = match id % 20 {
            0..=10 => Kind::Small,
            11..=14 => Kind::Chunked,
            15..=17 => Kind::Post,
            18 => Kind::PostChunked,
            _ => Kind::Large,
        };
        Self { id, kind }
    }

    /// What the path of a request says; nothing where it is none of ours.
    pub fn from_path(path: &str) -> Option<Self> {
        let (kind, id) = path.strip_prefix('/')?.split_once('/')?;
        let kind = match kind {
            "small" => Kind::Small,
            "chunked" => Kind::Chunked,
            "large" => Kind::Large,
            "post" => Kind::Post,
            "post-chunked" => Kind::PostChunked,
            "websocket" => Kind::WebSocket,
            slow => Kind::Slow(slow.strip_prefix("slow-")?.parse().ok()?),
        };
        let id = u64::from_str_radix(id, 16).ok()?;
        Some(Self { id, kind })
    }

    /// Its path.
    pub fn path(self) -> String {
        let id = self.id;
        match self.kind {
            Kind::Small => format!("/small/{id:x}"),
            Kind::Chunked => format!("/chunked/{id:x}"),
            Kind::Large => format!("/large/{id:x}"),
            Kind::Slow(milliseconds) => format!("/slow-{milliseconds}/{id:x}"),
            Kind::Post => format!("/post/{id:x}"),
            Kind::PostChunked => format!("/post-chunked/{id:x}"),
            Kind::WebSocket => format!("/websocket/{id:x}"),
        }
    }

    /// The whole request as it is sent. `close`: it is the last on its connection.
    pub(super) fn bytes(self, close: bool) -> Vec<u8> {
        let method = if self.is_post() { "POST" } else { "GET" };
        let mut head = format!(
            "{method} {} HTTP/1.1\r\nHost: soak.example\r\n",
            self.path()
        );
        if close {
            head.push_str("Connection: close\r\n");
        }
        let upload = self.upload();
        match self.kind {
            Kind::Post => {
                // Writing to a string cannot fail.
                let _ = write!(head, "Content-Length: {}\r\n", upload.len());
            }
            Kind::PostChunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if self.kind == Kind::PostChunked {
            chunked(&upload, self.chunk(), &mut bytes);
        } else {
            bytes.extend(upload);
        }
        bytes
    }

    /// What it uploads.
    pub(super) fn upload(self) -> Vec<u8> {
        match self.kind {
            Kind::Post | Kind::PostChunked => filler(self.id, (self.id % 3_000) as usize).to_vec(),
            _ => Vec::new(),
        }
    }

    /// The body that its response has to have.
    pub(super) fn response(self) -> Vec<u8> {
        let length = match self.kind {
            Kind::Large => LARGE,
            Kind::Chunked | Kind::Slow(_) => (self.id % 12_000) as usize,
            _ => (self.id % 1_200) as usize,
        };
        let mut body = format!("{:016x}\n", self.id).into_bytes();
        body.extend(filler(self.id, length));
        body
    }

    /// Whether its response comes in chunks.
    pub(super) fn is_response_chunked(self) -> bool {
        match self.kind {
            Kind::Chunked => true,
            Kind::Slow(_) => self.id % 2 == 1,
            _ => false,
        }
    }

    /// How long the chunks of its bodies are.
    pub(super) fn chunk(self) -> usize {
        1 + (self.id % 3_001) as usize
    }

    /// Whether it must not be sent twice.
    pub fn is_post(self) -> bool {
        matches!(self.kind, Kind::Post | Kind::PostChunked)
    }

    /// Whether a part of its response may come long before the rest.
    pub(super) fn may_pause_in_its_response(self) -> bool {
        self.kind == Kind::Large || matches!(self.kind, Kind::Slow(_)) && !self.id.is_multiple_of(3)
    }

    /// Whether it is one of the fifth of all POSTs that have no response where POSTs break.
    pub(super) fn is_to_break(self) -> bool {
        self.is_post() && (self.id / 20).is_multiple_of(5)
    }

    /// How long its response takes because that was asked for.
    pub(super) fn pause(self) -> Duration {
        match self.kind {
            Kind::Slow(milliseconds) => Duration::from_millis(milliseconds.into()),
            _ => Duration::ZERO,
        }
    }
}

fn filler(id: u64, length: usize) -> &'static [u8] {
    let start = (id % OFFSETS) as usize;
    &FILLER[start..start + length]
}

/// Appends a whole body in chunks (RFC 9112, 7.1).
pub(super) fn chunked(body: &[u8], size: usize, bytes: &mut Vec<u8>) {
    for chunk in body.chunks(size) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
}
