//! A minimal HTTP/2 server (RFC 9113) for the origin: it responds to every request with the same
//! message of gRPC. It does not decode the fields of requests.

use std::collections::VecDeque;

use super::blocks::literal;
use super::{
    FIRST_WINDOW, Frame, Frames, PREFACE, ReceiveWindow, flag, frame, grpc_message, kind, setting,
    settings,
};
use crate::response::Malformed;

/// The path of the method that is called.
pub(crate) const GRPC_PATH: &str = "/crossfade.bench.Echo/Call";
/// The bytes of a response's message.
const RESPONSE_MESSAGE: u32 = 100;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Server {
    /// The bytes of the preface that are missing.
    preface_left: usize,
    frames: Frames,
    received: ReceiveWindow,
    /// The peer's receive window of the connection.
    send_window: i64,
    /// Streams whose responses wait for that window.
    blocked: VecDeque<u32>,
    head: Vec<u8>,
    message: Vec<u8>,
    trailers: Vec<u8>,
}

impl Server {
    /// A new connection. Writes SETTINGS to `out`.
    pub(crate) fn new(out: &mut Vec<u8>) -> Self {
        settings(out, &[(setting::MAX_CONCURRENT_STREAMS, 1024)]);
        let received = ReceiveWindow::open(out);
        // `:status: 200` from the static table.
        let mut head = vec![0x88];
        literal(&mut head, "content-type", "application/grpc");
        let mut trailers = Vec::new();
        literal(&mut trailers, "grpc-status", "0");
        Self {
            preface_left: PREFACE.len(),
            frames: Frames::default(),
            received,
            send_window: FIRST_WINDOW.into(),
            blocked: VecDeque::new(),
            head,
            message: grpc_message(RESPONSE_MESSAGE),
            trailers,
        }
    }

    /// Parses bytes. Frames to send go to `out`.
    pub(crate) fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left -= skipped;
        let mut frames = std::mem::take(&mut self.frames);
        let read = frames.read(&bytes[skipped..], |frame| self.frame(frame, out));
        self.frames = frames;
        read
    }

    fn frame(&mut self, received: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match received.kind {
            kind::HEADERS | kind::DATA => {
                if received.kind == kind::DATA {
                    self.received.receive(received.payload.len(), out);
                }
                if received.has(flag::END_STREAM) {
                    self.blocked.push_back(received.stream);
                }
            }
            kind::SETTINGS if !received.has(flag::ACK) => {
                for (name, value) in received.settings()? {
                    // A response fits into the initial window of its stream.
                    if name == setting::INITIAL_WINDOW_SIZE && (value as usize) < self.message.len()
                    {
                        return Err(Malformed);
                    }
                }
                frame(out, kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if !received.has(flag::ACK) => {
                frame(out, kind::PING, flag::ACK, 0, received.payload);
            }
            kind::WINDOW_UPDATE if received.stream == 0 => {
                self.send_window += received.increment()?;
            }
            // CONTINUATION, RST_STREAM, and unknown frames: section 5.5.
            _ => {}
        }
        self.respond(out);
        Ok(())
    }

    /// Responds, as far as the window of the connection allows.
    fn respond(&mut self, out: &mut Vec<u8>) {
        let length = self.message.len() as i64;
        while self.send_window >= length
            && let Some(stream) = self.blocked.pop_front()
        {
            self.send_window -= length;
            frame(out, kind::HEADERS, flag::END_HEADERS, stream, &self.head);
            frame(out, kind::DATA, 0, stream, &self.message);
            let flags = flag::END_HEADERS | flag::END_STREAM;
            frame(out, kind::HEADERS, flags, stream, &self.trailers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    use crate::h2::{Blocks, Session};

    /// Passes bytes between a client and a server until neither has more to send. Returns the
    /// statuses and lengths of the responses.
    fn exchange(
        session: &mut Session,
        server: &mut Server,
        out: &mut Vec<u8>,
    ) -> Vec<(u16, usize)> {
        let mut responses = Vec::new();
        let mut ended = Vec::new();
        while !out.is_empty() {
            let mut back = Vec::new();
            server.read(&std::mem::take(out), &mut back).unwrap();
            session.read(&back, out, &mut ended).unwrap();
            for (_, response) in ended.drain(..) {
                let response = response.unwrap();
                responses.push((response.status, response.length));
            }
        }
        responses
    }

    #[test]
    fn every_call_gets_its_response() {
        let blocks = Rc::new(Blocks::grpc("bench.example"));
        let (mut out, mut hello) = (Vec::new(), Vec::new());
        let mut session = Session::new(&mut out, 64);
        let mut server = Server::new(&mut hello);
        session.read(&hello, &mut out, &mut Vec::new()).unwrap();
        // More than the initial window of a connection: both sides have to restore it.
        for _ in 0..100 {
            for _ in 0..64 {
                session.request(&blocks, &mut out);
            }
            let responses = exchange(&mut session, &mut server, &mut out);
            assert_eq!(responses, [(200, 105); 64]);
        }
    }

    #[test]
    fn a_response_waits_for_the_window_of_the_connection() {
        let mut out = Vec::new();
        let mut server = Server::new(&mut out);
        server.send_window = 0;
        let mut request = PREFACE.to_vec();
        let flags = flag::END_HEADERS | flag::END_STREAM;
        frame(&mut request, kind::HEADERS, flags, 1, &[0x83]);
        out.clear();
        server.read(&request, &mut out).unwrap();
        assert!(out.is_empty());
        let mut update = Vec::new();
        frame(
            &mut update,
            kind::WINDOW_UPDATE,
            0,
            0,
            &200_u32.to_be_bytes(),
        );
        server.read(&update, &mut out).unwrap();
        assert!(!out.is_empty() && server.send_window == 95);
    }
}
