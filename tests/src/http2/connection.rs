//! A client's connection that sends whatever a case wants, and the things that a case may expect.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{self, Code, Frame, flag, number, setting};
use super::heard::Heard;
use super::response::Response;
use super::{Step, Wrong};

/// The first bytes of every client (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a case may take, whose response comes at once. Only one that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(4);

/// A connection over TCP, with prior knowledge.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
    deadline: Instant,
    pings: u64,
    /// An error that was due has come, but with this code.
    pub other_code: Option<String>,
    /// What has come so far.
    pub heard: Heard,
}

impl Connection {
    /// Connects and sends nothing.
    pub fn connect(address: SocketAddr) -> Step<Self> {
        let stream = TcpStream::connect(address);
        let stream = stream.map_err(|error| Wrong(format!("{address}: {error}")))?;
        // What a case sends in pieces has to arrive in pieces; failing this, it comes a bit later.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream,
            unread: Vec::new(),
            deadline: Instant::now() + DEADLINE,
            pings: 0,
            other_code: None,
            heard: Heard::default(),
        })
    }

    /// Gives the server so much time from now.
    pub fn give(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// Exchanges prefaces, and waits until ours is acknowledged.
    pub fn open(&mut self) -> Step {
        self.open_with(&[])
    }

    /// The same, with these parameters beside `SETTINGS_ENABLE_PUSH` 0.
    pub fn open_with(&mut self, parameters: &[(u16, u32)]) -> Step {
        self.raw(PREFACE);
        self.send([first_settings(parameters)]);
        self.settled(1)
    }

    /// Sends frames, in one write.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Frame>) {
        let mut bytes = Vec::new();
        for frame in frames {
            self.heard.sending(&frame);
            bytes.extend(frame.bytes());
        }
        self.raw(&bytes);
    }

    /// Sends bytes. That the server has closed the connection is seen when reading.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until so many of our SETTINGS are acknowledged.
    pub fn settled(&mut self, acks: usize) -> Step {
        self.until(&format!("{acks} SETTINGS ACK"), |heard| {
            (heard.acks >= acks).then_some(Ok(()))
        })
    }

    /// Changes our parameters, and waits until they are acknowledged.
    pub fn change_settings(&mut self, parameters: &[(u16, u32)]) -> Step {
        let acks = self.heard.acks;
        self.send([frame::settings(parameters)]);
        self.settled(acks + 1)
    }

    /// A parameter of the server's.
    pub fn server_setting(&self, id: u16) -> Option<u32> {
        self.heard.settings.as_ref()?.get(&id).copied()
    }

    /// How large a payload the server takes.
    pub fn frame_limit(&self) -> usize {
        self.server_setting(setting::MAX_FRAME_SIZE)
            .map_or(frame::PAYLOAD, |size| size as usize)
    }

    /// Expects a PING to be acknowledged: all that was sent before has been taken without an error.
    pub fn alive(&mut self) -> Step {
        self.pings += 1;
        let payload = (0x0bad_cafe << 32 | self.pings).to_be_bytes();
        self.send([frame::ping(flag::NONE, payload)]);
        self.until("an acknowledged PING", |heard| {
            if let Some(error) = heard.connection_error() {
                return Some(Err(error));
            }
            let acknowledged = heard.pongs.iter().any(|pong| *pong == payload);
            acknowledged.then_some(Ok(()))
        })
    }

    /// Expects a whole response on a stream.
    pub fn response(&mut self, stream: u32) -> Step<Response> {
        self.until(&format!("a response on {stream}"), |heard| {
            let response = heard.response(stream);
            match response.reset {
                Some(code) if !response.ended => {
                    Some(Err(Wrong(format!("{stream} was reset with {code}"))))
                }
                _ if response.ended => Some(Ok(response)),
                _ => heard.connection_error().map(Err),
            }
        })
    }

    /// Expects a whole response with status 200 to 299.
    pub fn success(&mut self, stream: u32) -> Step<Response> {
        let response = self.response(stream)?;
        match response.status {
            Some(200..=299) => Ok(response),
            status => Err(Wrong(format!("{stream} was acknowledged with {status:?}"))),
        }
    }

    /// Waits until so much of a body has come.
    pub fn received(&mut self, stream: u32, bytes: usize) -> Step {
        self.until(&format!("{bytes} bytes of DATA on {stream}"), |heard| {
            if let Some(error) = heard.connection_error() {
                return Some(Err(error));
            }
            (heard.response(stream).body.len() >= bytes).then_some(Ok(()))
        })
    }

    /// Expects the end of the connection, with one of these codes if it gives any.
    pub fn connection_error(&mut self, codes: &[Code]) -> Step {
        let what = format!("a connection error ({})", list(codes));
        self.until(&what, |heard| heard.closed.then_some(Ok(())))?;
        if let Some((_, code)) = self.heard.goaway {
            self.note(code, codes);
        }
        Ok(())
    }

    /// Expects RST_STREAM with one of these codes. A server may make a connection error of it.
    pub fn stream_error(&mut self, stream: u32, codes: &[Code]) -> Step {
        let what = format!("a stream error ({}) on {stream}", list(codes));
        let ended = self.until(&what, |heard| match heard.stream_error(stream) {
            None if heard.response(stream).ended => Some(Ok(None)),
            None if heard.closed => Some(Ok(codes.first().copied())),
            error => error.map(|code| Ok(Some(code))),
        })?;
        // The response may have been on its way before the error: behind a PING it was not.
        let error = ended.or_else(|| {
            let gone = self.alive().is_err() && self.heard.goaway.is_none();
            let unnamed = codes.first().copied().filter(|_| gone && self.heard.closed);
            self.heard.stream_error(stream).or(unnamed)
        });
        match error {
            Some(code) => {
                self.note(code, codes);
                Ok(())
            }
            None => Err(Wrong(format!("{what}: it was acknowledged"))),
        }
    }

    /// Expects that nothing comes of what was sent on a stream that is closed: a server may
    /// discard it, or make an error of it (RFC 9113, 5.1).
    pub fn discarded(&mut self, stream: u32) -> Step {
        let before = self.heard.response(stream).status;
        let alive = self.alive();
        match self.heard.stream_error(stream) {
            Some(code) => self.note(code, &[Code::STREAM_CLOSED, Code::PROTOCOL_ERROR]),
            None if self.heard.closed => {}
            None => alive?,
        }
        if self.heard.response(stream).status != before {
            return Err(Wrong(format!("{stream} was closed, and is acknowledged")));
        }
        Ok(())
    }

    /// Takes note of an error that has come, if it has another code than it should.
    fn note(&mut self, code: Code, codes: &[Code]) {
        if !codes.contains(&code) {
            self.other_code = Some(format!("{code} in place of {}", list(codes)));
        }
    }

    /// Expects a request to be taken as malformed (RFC 9113, 8.1.1): a stream error of type
    /// `PROTOCOL_ERROR`, in place of which a server may respond with a status that says so.
    pub fn malformed(&mut self, stream: u32) -> Step {
        let error = self.stream_error(stream, &[Code::PROTOCOL_ERROR]);
        let response = self.heard.response(stream);
        match response.status {
            Some(400..=499 | 501) if response.ended => Ok(()),
            Some(status) => Err(Wrong(format!("malformed, yet acknowledged with {status}"))),
            None => error,
        }
    }

    /// Sends a body in DATA frames of this payload and padding, as the server's windows let it,
    /// without END_STREAM.
    pub fn send_body(&mut self, stream: u32, frames: usize, payload: usize, padding: u8) -> Step {
        let frame = if padding == 0 {
            frame::data(flag::NONE, stream, vec![b'x'; payload])
        } else {
            frame::data(
                flag::PADDED,
                stream,
                frame::padded(&vec![b'x'; payload], padding),
            )
        };
        let size = frame.payload.len() as i64;
        for number in 0..frames {
            let what = format!("a window for DATA frame {number}");
            self.until(&what, |heard| match heard.connection_error() {
                Some(error) => Some(Err(error)),
                None => (heard.send_window(stream) >= size).then_some(Ok(())),
            })?;
            self.send([frame.clone()]);
        }
        Ok(())
    }

    /// Expects the end of the connection, whatever came before it, in whatever protocol.
    pub fn closed(&mut self) -> Step {
        loop {
            self.unread.clear();
            if self.fill("the end of the connection")? == 0 {
                return Ok(());
            }
        }
    }

    /// Reads until something is there. The end of the connection ends every wait.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&Heard) -> Option<Step<T>>,
    ) -> Step<T> {
        loop {
            if let Some(result) = found(&self.heard) {
                return result;
            }
            if self.heard.closed {
                return Err(Wrong(format!("{what}: the connection was closed")));
            }
            self.read_frame(what)?;
        }
    }

    fn read_frame(&mut self, what: &str) -> Step {
        loop {
            if let Some(frame) = self.next_unread() {
                self.heard.take(frame)?;
                let due = std::mem::take(&mut self.heard.due);
                self.send(due);
                return Ok(());
            }
            if self.fill(what)? == 0 {
                self.heard.closed = true;
                return Ok(());
            }
        }
    }

    fn next_unread(&mut self) -> Option<Frame> {
        let head = self.unread.get(..frame::HEAD)?;
        let length = number(&[0, head[0], head[1], head[2]], 0) as usize;
        let (kind, flags, stream) = (head[3], head[4], number(head, 5) & frame::WINDOW);
        if self.unread.len() < frame::HEAD + length {
            return None;
        }
        let rest = self.unread.split_off(frame::HEAD + length);
        let payload = self.unread.split_off(frame::HEAD);
        self.unread = rest;
        Some(Frame::new(kind, flags, stream, payload))
    }

    /// Reads what is there. 0: the connection has ended.
    fn fill(&mut self, what: &str) -> Step<usize> {
        let timed_out = || Wrong(format!("{what}: nothing of it within {DEADLINE:?}"));
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        let limited = self.stream.set_read_timeout(Some(left));
        let mut buffer = [0; 32 * 1024];
        match limited.and_then(|()| self.stream.read(&mut buffer)) {
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                Ok(read)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(timed_out())
            }
            // A server that closes while there is something for it to read resets.
            Err(_) => Ok(0),
        }
    }
}

impl Heard {
    /// The end of the connection, or a GOAWAY that tells of an error, where none is expected.
    fn connection_error(&self) -> Option<Wrong> {
        match self.goaway {
            Some((_, code)) if code != Code::NO_ERROR => {
                Some(Wrong(format!("the server sent GOAWAY with {code}")))
            }
            _ if self.closed => Some(Wrong("the server closed the connection".to_owned())),
            _ => None,
        }
    }

    /// The code with which a stream was reset, or the connection ended.
    fn stream_error(&self, stream: u32) -> Option<Code> {
        let reset = self.response(stream).reset;
        let codes = [reset, self.goaway.map(|(_, code)| code)];
        let mut codes = codes.into_iter().flatten();
        codes.find(|code| *code != Code::NO_ERROR)
    }
}

/// The SETTINGS of a client's preface.
pub fn first_settings(parameters: &[(u16, u32)]) -> Frame {
    frame::settings(&[&[(setting::ENABLE_PUSH, 0)], parameters].concat())
}

fn list(codes: &[Code]) -> String {
    let names: Vec<String> = codes.iter().map(Code::to_string).collect();
    names.join(" or ")
}
