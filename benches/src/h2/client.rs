//! A minimal HTTP/2 client (RFC 9113) that sends the same request again and again on many streams,
//! with header blocks encoded beforehand. Of a response's fields it decodes only the status, and
//! only from HPACK's static table.

use std::collections::VecDeque;
use std::rc::Rc;

use super::blocks::Blocks;
use super::{
    FIRST_WINDOW, Frame, Frames, PREFACE, ReceiveWindow, flag, frame, kind, setting, settings,
};
use crate::response::{Malformed, Response};

/// The receive window of a stream. Small responses never fill it.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The status of a response that cannot be decoded, or that is none of gRPC.
const UNEXPECTED: u16 = 599;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    next_stream: u32,
    frames: Frames,
    /// The responses that are not complete.
    open: Vec<(u32, Pending)>,
    /// The stream whose header block continues in the next frame.
    continued: Option<u32>,
    received: ReceiveWindow,
    /// The peer's receive window of the connection.
    send_window: i64,
    /// Bodies that wait for that window.
    blocked: VecDeque<(u32, Rc<Blocks>)>,
    /// The streams that the peer has to allow.
    streams: u32,
}

/// A response that is not complete.
#[derive(Debug)]
struct Pending {
    response: Response,
    is_grpc: bool,
    has_trailers: bool,
    /// The stream ends with the header block.
    ends: bool,
}

/// A stream that has ended: with its response, or without one after a reset.
pub(crate) type Ended = (u32, Option<Response>);

/// All that a client sends that takes nothing of its responses: it gives them no window.
pub(crate) fn stalled(blocks: &Blocks, streams: usize) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    let of_client = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, 0)];
    settings(&mut out, &of_client);
    let flags = flag::END_STREAM | flag::END_HEADERS;
    for stream in (1..).step_by(2).take(streams) {
        frame(
            &mut out,
            kind::HEADERS,
            flags,
            stream,
            blocks.block(stream == 1),
        );
    }
    out
}

impl Session {
    /// A new connection for this many streams at once. Writes the preface and SETTINGS to `out`.
    pub(crate) fn new(out: &mut Vec<u8>, streams: usize) -> Self {
        out.extend_from_slice(PREFACE);
        let of_client = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        ];
        settings(out, &of_client);
        Self {
            next_stream: 1,
            frames: Frames::default(),
            open: Vec::new(),
            continued: None,
            received: ReceiveWindow::open(out),
            send_window: FIRST_WINDOW.into(),
            blocked: VecDeque::new(),
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
        }
    }

    /// Writes one request to `out`, on a new stream. Returns the stream.
    pub(crate) fn request(&mut self, blocks: &Rc<Blocks>, out: &mut Vec<u8>) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = blocks.block(stream == 1);
        if blocks.body().is_empty() {
            let flags = flag::END_STREAM | flag::END_HEADERS;
            frame(out, kind::HEADERS, flags, stream, block);
        } else {
            frame(out, kind::HEADERS, flag::END_HEADERS, stream, block);
            self.blocked.push_back((stream, blocks.clone()));
            self.send_bodies(out);
        }
        let response = Response {
            status: 0,
            length: 0,
            last: false,
            version: b'?',
        };
        let pending = Pending {
            response,
            is_grpc: blocks.is_grpc(),
            has_trailers: false,
            ends: false,
        };
        self.open.push((stream, pending));
        stream
    }

    /// Sends bodies, as far as the window of the connection allows. A body fits into the initial
    /// window of its stream.
    fn send_bodies(&mut self, out: &mut Vec<u8>) {
        while let Some((stream, blocks)) = self.blocked.front() {
            let body = blocks.body();
            if self.send_window < body.len() as i64 {
                return;
            }
            self.send_window -= body.len() as i64;
            frame(out, kind::DATA, flag::END_STREAM, *stream, body);
            self.blocked.pop_front();
        }
    }

    /// Parses bytes. Streams that have ended go to `ended`, frames to send to `out`.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        ended: &mut Vec<Ended>,
    ) -> Result<(), Malformed> {
        let mut frames = std::mem::take(&mut self.frames);
        let read = frames.read(bytes, |frame| self.frame(frame, out, ended));
        self.frames = frames;
        read
    }

    fn frame(
        &mut self,
        received: Frame<'_>,
        out: &mut Vec<u8>,
        ended: &mut Vec<Ended>,
    ) -> Result<(), Malformed> {
        let stream = received.stream;
        if self.continued.is_some() != (received.kind == kind::CONTINUATION) {
            return Err(Malformed);
        }
        match received.kind {
            kind::DATA => {
                self.received.receive(received.payload.len(), out);
                let length = received.unpadded()?.len();
                self.pending(stream)?.response.length += length;
                if received.has(flag::END_STREAM) {
                    self.end(stream, true, ended);
                }
            }
            kind::HEADERS => {
                let block = received.unpadded()?;
                let skipped = if received.has(flag::PRIORITY) { 5 } else { 0 };
                let block = block.get(skipped..).ok_or(Malformed)?;
                let pending = self.pending(stream)?;
                if pending.response.status == 0 {
                    pending.response.status = status(block).ok_or(Malformed)?;
                } else {
                    pending.has_trailers = true;
                }
                // The stream cannot end before the block does.
                pending.ends = received.has(flag::END_STREAM);
                self.continued = Some(stream);
                if received.has(flag::END_HEADERS) {
                    self.end_of_block(ended)?;
                }
            }
            // The status was in the first fragment.
            kind::CONTINUATION if received.has(flag::END_HEADERS) => self.end_of_block(ended)?,
            kind::RST_STREAM => self.end(stream, false, ended),
            kind::SETTINGS if !received.has(flag::ACK) => {
                self.check_settings(received)?;
                frame(out, kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if !received.has(flag::ACK) => {
                frame(out, kind::PING, flag::ACK, 0, received.payload);
            }
            kind::WINDOW_UPDATE if stream == 0 => {
                self.send_window += received.increment()?;
                self.send_bodies(out);
            }
            // No peer has a reason to close the connection.
            kind::GOAWAY => return Err(Malformed),
            // Acknowledgements, windows of streams, and unknown frames: section 5.5.
            _ => {}
        }
        Ok(())
    }

    /// The client adds fields to the dynamic table, opens several streams at once and sends small
    /// bodies. A server that does not allow that cannot be measured.
    fn check_settings(&self, received: Frame<'_>) -> Result<(), Malformed> {
        for (name, value) in received.settings()? {
            let least = match name {
                setting::HEADER_TABLE_SIZE => 1024,
                setting::MAX_CONCURRENT_STREAMS => self.streams,
                setting::INITIAL_WINDOW_SIZE => 1024,
                _ => 0,
            };
            if value < least {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    fn pending(&mut self, stream: u32) -> Result<&mut Pending, Malformed> {
        let open = self.open.iter_mut().find(|(open, _)| *open == stream);
        open.map(|(_, pending)| pending).ok_or(Malformed)
    }

    fn end_of_block(&mut self, ended: &mut Vec<Ended>) -> Result<(), Malformed> {
        let stream = self.continued.take().ok_or(Malformed)?;
        if self.pending(stream)?.ends {
            self.end(stream, true, ended);
        }
        Ok(())
    }

    fn end(&mut self, stream: u32, complete: bool, ended: &mut Vec<Ended>) {
        let index = self.open.iter().position(|(open, _)| *open == stream);
        if let Some(index) = index {
            let (stream, pending) = self.open.swap_remove(index);
            ended.push((stream, complete.then(|| pending.response())));
        }
    }
}

impl Pending {
    /// The complete response. A response of gRPC has a message and trailers; without them it is
    /// an error of the proxy, whatever its status.
    fn response(&self) -> Response {
        let is_complete = !self.is_grpc || (self.has_trailers && self.response.length > 0);
        Response {
            status: if is_complete {
                self.response.status
            } else {
                UNEXPECTED
            },
            ..self.response
        }
    }
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
        // `:status` with another value, as a literal or from the dynamic table.
        _ => Some(UNEXPECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::{FRAME_HEADER, MAX_FRAME};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::AtomicBool;

    use crate::load::Load;
    use crate::plan::{Closing, End, Outcome, Pace, Plan, Requests};

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
            upload: 0,
            closing: Closing::Never,
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
        let mut session = Session::new(&mut out, 16);
        session.request(&Rc::new(Blocks::get("a", "/")), &mut out);
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
    fn a_response_of_grpc_without_trailers_or_message_is_an_error() {
        #[track_caller]
        fn check(message: bool, trailers: bool, want: u16) {
            let (mut session, mut out) = client();
            let stream = session.request(&Rc::new(Blocks::grpc("a")), &mut out);
            let mut bytes = Vec::new();
            frame(
                &mut bytes,
                kind::HEADERS,
                flag::END_HEADERS,
                stream,
                &[0x88],
            );
            if message {
                frame(&mut bytes, kind::DATA, 0, stream, b"ok");
            }
            let flags = flag::END_STREAM | flag::END_HEADERS;
            match trailers {
                true => frame(&mut bytes, kind::HEADERS, flags, stream, &[0x80]),
                false => frame(&mut bytes, kind::DATA, flag::END_STREAM, stream, b""),
            }
            let mut ended = Vec::new();
            session.read(&bytes, &mut out, &mut ended).unwrap();
            assert_eq!(ended[0].1.unwrap().status, want);
        }
        check(true, true, 200);
        check(true, false, UNEXPECTED);
        check(false, true, UNEXPECTED);
    }

    #[test]
    fn a_body_waits_for_the_window_of_the_connection() {
        let (mut session, mut out) = client();
        session.send_window = 10;
        out.clear();
        session.request(&Rc::new(Blocks::grpc("a")), &mut out);
        let head = out.len();
        let mut update = Vec::new();
        frame(
            &mut update,
            kind::WINDOW_UPDATE,
            0,
            0,
            &100_u32.to_be_bytes(),
        );
        session.read(&update, &mut out, &mut Vec::new()).unwrap();
        assert_eq!(out.len(), head + FRAME_HEADER + 5 + 32);
    }
}
