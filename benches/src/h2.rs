//! A minimal HTTP/2 client (RFC 9113) that sends the same request again and again on many streams,
//! with header blocks encoded beforehand. Of a response's fields it decodes only the status, and
//! only from HPACK's static table.

use crate::response::{Malformed, Response};

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// The largest frame that is accepted: the initial value of SETTINGS_MAX_FRAME_SIZE.
const MAX_FRAME: usize = 16 * 1024;
/// The receive window of a stream. Small responses never fill it.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The receive window of the connection: the maximum. It is restored when half of it is used.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const FIRST_WINDOW: u32 = 65_535;

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

/// A request's header blocks: that of the first request on a connection, which adds its fields to
/// the dynamic table, and that of the later ones, which refer to them. Browsers do the same.
#[derive(Debug)]
pub(crate) struct Blocks {
    first: Vec<u8>,
    again: Vec<u8>,
}

impl Blocks {
    /// The blocks of a GET over TLS.
    pub(crate) fn get(host: &str, path: &str) -> Self {
        // `:method: GET` and `:scheme: https`, RFC 7541, appendix A.
        let fixed = [0x82, 0x87];
        // `:path`, `:authority`, `user-agent`, `accept`, by their index in the static table.
        let fields = [(4, path), (1, host), (58, "crossfade-bench"), (19, "*/*")];
        let mut first = fixed.to_vec();
        let mut again = fixed.to_vec();
        for (place, (name, value)) in fields.iter().enumerate() {
            first.push(0x40 | name);
            integer(&mut first, value.len(), 7);
            first.extend_from_slice(value.as_bytes());
            // The newest entry is 62, the one before it 63.
            again.push(0x80 | (62 + fields.len() - 1 - place) as u8);
        }
        Self { first, again }
    }
}

/// Encodes an integer (RFC 7541, section 5.1). The bits before the prefix are 0.
fn integer(out: &mut Vec<u8>, value: usize, prefix: u32) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(value as u8);
        return;
    }
    out.push(most as u8);
    let mut left = value - most;
    while left >= 128 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    next_stream: u32,
    /// The beginning of a frame that is not complete.
    partial: Vec<u8>,
    /// The responses that are not complete.
    open: Vec<(u32, Response)>,
    /// The stream whose header block continues in the next frame.
    continued: Option<u32>,
    /// Body bytes since the connection's window was last restored.
    used: usize,
}

/// A stream that has ended: with its response, or without one after a reset.
pub(crate) type Ended = (u32, Option<Response>);

impl Session {
    /// A new connection. Writes the preface and SETTINGS to `out`.
    pub(crate) fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        ];
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        frame(out, kind::SETTINGS, 0, 0, &payload);
        let more = CONNECTION_WINDOW - FIRST_WINDOW;
        frame(out, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        Self {
            next_stream: 1,
            partial: Vec::new(),
            open: Vec::new(),
            continued: None,
            used: 0,
        }
    }

    /// Writes one request to `out`, on a new stream. Returns the stream.
    pub(crate) fn request(&mut self, blocks: &Blocks, out: &mut Vec<u8>) -> u32 {
        let stream = self.next_stream;
        let block = match stream {
            1 => &blocks.first,
            _ => &blocks.again,
        };
        frame(
            out,
            kind::HEADERS,
            flag::END_STREAM | flag::END_HEADERS,
            stream,
            block,
        );
        self.next_stream += 2;
        let nothing = Response {
            status: 0,
            length: 0,
            last: false,
            version: b'?',
        };
        self.open.push((stream, nothing));
        stream
    }

    /// Parses bytes. Streams that have ended go to `ended`, frames to send to `out`.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        ended: &mut Vec<Ended>,
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
            let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
            self.frame(kind, flags, stream, payload, out, ended)?;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
        ended: &mut Vec<Ended>,
    ) -> Result<(), Malformed> {
        let has = |flag: u8| flags & flag != 0;
        if self.continued.is_some() != (kind == kind::CONTINUATION) {
            return Err(Malformed);
        }
        match kind {
            kind::DATA => {
                self.used += payload.len();
                if self.used > CONNECTION_WINDOW as usize / 2 {
                    let used = self.used as u32;
                    frame(out, kind::WINDOW_UPDATE, 0, 0, &used.to_be_bytes());
                    self.used = 0;
                }
                let length = unpadded(payload, flags)?.len();
                self.response(stream)?.length += length;
                if has(flag::END_STREAM) {
                    self.end(stream, true, ended);
                }
            }
            kind::HEADERS => {
                let block = unpadded(payload, flags)?;
                let skipped = if has(flag::PRIORITY) { 5 } else { 0 };
                let block = block.get(skipped..).ok_or(Malformed)?;
                let response = self.response(stream)?;
                // A second block is trailers.
                if response.status == 0 {
                    response.status = status(block).ok_or(Malformed)?;
                }
                // The stream cannot end before the block does.
                response.last = has(flag::END_STREAM);
                self.continued = Some(stream);
                if has(flag::END_HEADERS) {
                    self.end_of_block(ended)?;
                }
            }
            // The status was in the first fragment.
            kind::CONTINUATION if has(flag::END_HEADERS) => self.end_of_block(ended)?,
            kind::RST_STREAM => self.end(stream, false, ended),
            kind::SETTINGS if !has(flag::ACK) => {
                check_settings(payload)?;
                frame(out, kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if !has(flag::ACK) => frame(out, kind::PING, flag::ACK, 0, payload),
            // No peer has a reason to close the connection.
            kind::GOAWAY => return Err(Malformed),
            // WINDOW_UPDATE, acknowledgements, and unknown frames: section 5.5.
            _ => {}
        }
        Ok(())
    }

    fn response(&mut self, stream: u32) -> Result<&mut Response, Malformed> {
        let open = self.open.iter_mut().find(|(open, _)| *open == stream);
        open.map(|(_, response)| response).ok_or(Malformed)
    }

    fn end_of_block(&mut self, ended: &mut Vec<Ended>) -> Result<(), Malformed> {
        let stream = self.continued.take().ok_or(Malformed)?;
        let response = self.response(stream)?;
        if std::mem::take(&mut response.last) {
            self.end(stream, true, ended);
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, complete: bool, ended: &mut Vec<Ended>) {
        let index = self.open.iter().position(|(open, _)| *open == stream);
        if let Some(index) = index {
            let (stream, response) = self.open.swap_remove(index);
            ended.push((stream, complete.then_some(response)));
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Removes the padding, if there is any: section 6.1.
fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], Malformed> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Malformed)?;
    let length = rest.len().checked_sub(padding.into());
    length
        .and_then(|length| rest.get(..length))
        .ok_or(Malformed)
}

/// Decodes the status. It has to be the first field and in the static table, as with all peers.
fn status(mut block: &[u8]) -> Option<u16> {
    // Dynamic table size updates may precede it: RFC 7541, section 6.3.
    while let Some((&first, rest)) = block.split_first()
        && first & 0xe0 == 0x20
    {
        block = rest;
        if first & 0x1f == 0x1f {
            let last = block.iter().position(|byte| byte & 0x80 == 0)?;
            block = block.get(last + 1..)?;
        }
    }
    match block.first()? {
        0x88 => Some(200),
        0x89 => Some(204),
        0x8a => Some(206),
        0x8b => Some(304),
        0x8c => Some(400),
        0x8d => Some(404),
        0x8e => Some(500),
        // `:status` with another value, as a literal or from the dynamic table: an error status.
        _ => Some(599),
    }
}

/// The client adds fields to the dynamic table and opens several streams at once. A server that
/// does not allow that cannot be measured.
fn check_settings(payload: &[u8]) -> Result<(), Malformed> {
    for setting in payload.chunks(6) {
        let &[n0, n1, v0, v1, v2, v3] = setting else {
            return Err(Malformed);
        };
        let value = u32::from_be_bytes([v0, v1, v2, v3]);
        match u16::from_be_bytes([n0, n1]) {
            setting::HEADER_TABLE_SIZE if value < 1024 => return Err(Malformed),
            setting::MAX_CONCURRENT_STREAMS if value < 16 => return Err(Malformed),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::rc::Rc;
    use std::sync::atomic::AtomicBool;

    use crate::load::Load;
    use crate::plan::{End, Outcome, Pace, Plan, Requests};

    /// A server that responds on every stream but the seventh, which it resets.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let mut preface = [0; PREFACE.len()];
            socket.read_exact(&mut preface).unwrap();
            assert_eq!(preface, PREFACE);
            let mut header = [0; FRAME_HEADER];
            while socket.read_exact(&mut header).is_ok() {
                let [a, b, c, kind, _, s0, s1, s2, s3] = header;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                socket.read_exact(&mut payload).unwrap();
                let stream = u32::from_be_bytes([s0, s1, s2, s3]);
                let mut out = Vec::new();
                match (kind, stream) {
                    (kind::HEADERS, 13) => {
                        frame(&mut out, kind::RST_STREAM, 0, stream, &[0, 0, 0, 7]);
                    }
                    (kind::HEADERS, _) => {
                        frame(&mut out, kind::HEADERS, flag::END_HEADERS, stream, &[0x88]);
                        frame(&mut out, kind::DATA, flag::END_STREAM, stream, b"ok");
                    }
                    _ => {}
                }
                let _ = socket.write_all(&out);
            }
        });
        address
    }

    #[test]
    fn many_streams_share_a_connection_and_one_that_fails_affects_no_other() {
        let plan = Plan {
            target: server(),
            connections: 1,
            requests: Requests::Http2 {
                blocks: Rc::new(Blocks::get("a", "/")),
                streams: 4,
            },
            tls: None,
            pace: Pace::Closed,
            reconnect: false,
        };
        let interrupted = AtomicBool::new(false);
        let mut load = Load::new(plan, &interrupted).unwrap();
        let (mut succeeded, mut failed) = (0, 0);
        let end = load.run(End::Requests(200), &mut |request| match request.outcome {
            Outcome::Response(response) if response.status == 200 && response.length == 2 => {
                succeeded += 1;
            }
            _ => failed += 1,
        });
        end.unwrap();
        assert!(succeeded >= 199, "{succeeded}");
        assert_eq!(failed, 1);
        assert!(load.outstanding().count() <= 4);
    }

    /// A server's response: SETTINGS, the head in two fragments, a padded body, and a PING.
    fn response_bytes(stream: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        // A dynamic table size update, then `:status: 200`.
        frame(
            &mut bytes,
            kind::HEADERS,
            0,
            stream,
            &[0x3f, 0xe1, 0x1f, 0x88],
        );
        let rest = [0x5c, 1, b'5'];
        frame(
            &mut bytes,
            kind::CONTINUATION,
            flag::END_HEADERS,
            stream,
            &rest,
        );
        frame(&mut bytes, kind::PING, 0, 0, b"12345678");
        let flags = flag::END_STREAM | flag::PADDED;
        frame(&mut bytes, kind::DATA, flags, stream, b"\x02hello..");
        bytes
    }

    fn client() -> (Session, Vec<u8>) {
        let mut out = Vec::new();
        let mut session = Session::new(&mut out);
        session.request(&Blocks::get("a", "/"), &mut out);
        (session, out)
    }

    #[test]
    fn a_response_is_the_same_for_every_split_of_its_bytes() {
        let bytes = response_bytes(1);
        for cut in 0..=bytes.len() {
            let (mut session, mut out) = client();
            out.clear();
            let mut ended = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                session.read(piece, &mut out, &mut ended).unwrap();
            }
            let response = Response {
                status: 200,
                length: 5,
                last: false,
                version: b'?',
            };
            assert_eq!(ended, [(1, Some(response))], "cut at {cut}");
            let mut replies = Vec::new();
            frame(&mut replies, kind::SETTINGS, flag::ACK, 0, &[]);
            frame(&mut replies, kind::PING, flag::ACK, 0, b"12345678");
            assert_eq!(out, replies);
        }
    }

    #[test]
    fn a_stream_that_is_reset_has_no_response() {
        let (mut session, mut out) = client();
        let mut bytes = Vec::new();
        frame(&mut bytes, kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]);
        let mut ended = Vec::new();
        session.read(&bytes, &mut out, &mut ended).unwrap();
        assert_eq!(ended, [(1, None)]);
    }

    #[test]
    fn a_frame_that_breaks_the_protocol_is_refused() {
        #[track_caller]
        fn refused(kind: u8, flags: u8, stream: u32, payload: &[u8]) {
            let (mut session, mut out) = client();
            let mut bytes = Vec::new();
            frame(&mut bytes, kind, flags, stream, payload);
            let read = session.read(&bytes, &mut out, &mut Vec::new());
            assert_eq!(read, Err(Malformed));
        }
        refused(kind::GOAWAY, 0, 0, &[0; 8]);
        refused(kind::DATA, 0, 3, b"no stream");
        refused(kind::DATA, flag::PADDED, 1, b"\x09short");
        refused(kind::CONTINUATION, 0, 1, &[]);
        refused(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]);
        refused(kind::SETTINGS, 0, 0, &[0, 3]);
        refused(kind::DATA, 0, 1, &vec![0; MAX_FRAME + 1]);
    }

    #[test]
    fn a_status_other_than_200_is_not_taken_for_200() {
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x20, 0x8d]), Some(404));
        // 502 as a literal.
        assert_eq!(status(&[0x48, 3, b'5', b'0', b'2']), Some(599));
        assert_eq!(status(&[]), None);
    }

    #[test]
    fn later_requests_refer_to_the_fields_of_the_first() {
        let blocks = Blocks::get("bench.example", "/small");
        assert_eq!(blocks.again, [0x82, 0x87, 0xc1, 0xc0, 0xbf, 0xbe]);
        let path = [&[0x44, 6][..], b"/small"].concat();
        assert_eq!(blocks.first[2..10], path);
    }

    #[test]
    fn integers_are_those_of_the_rfc() {
        let mut out = Vec::new();
        // RFC 7541, appendix C.1.
        integer(&mut out, 10, 5);
        integer(&mut out, 1337, 5);
        assert_eq!(out, [10, 31, 154, 10]);
    }
}
