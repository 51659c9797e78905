//! What a server has sent, held against what a server may send: these rules apply in every case.

use std::collections::{HashMap, VecDeque};

use super::Wrong;
use super::frame::{self, Code, Frame, flag, kind, number, setting};
use super::hpack::Decoder;
use super::response::Response;

/// All that came on a connection, and what was said that limits it.
#[derive(Default)]
pub struct Heard {
    /// Frames, as text, for the message of a case that fails.
    pub log: Vec<String>,
    /// The server's parameters, once it has sent them.
    pub settings: Option<HashMap<u16, u32>>,
    /// How many of our SETTINGS are acknowledged.
    pub acks: usize,
    /// PINGs that it wants acknowledged, and SETTINGS: acknowledgements that are due.
    pub due: Vec<Frame>,
    /// Acknowledged PINGs.
    pub pongs: Vec<Vec<u8>>,
    /// What came on streams.
    pub responses: HashMap<u32, Response>,
    /// The last GOAWAY: its last stream and its code.
    pub goaway: Option<(u32, Code)>,
    /// The end of the connection.
    pub closed: bool,
    decoder: Decoder,
    /// A field block of which END_HEADERS has not come: its stream, its flags and its bytes.
    open_block: Option<Frame>,
    /// The highest stream that we have opened.
    opened: u32,
    windows: Windows,
    /// DATA that we have sent, on the connection (0) and on streams, and windows for it.
    sent: HashMap<u32, i64>,
    granted: HashMap<u32, i64>,
}

/// How much DATA the server may send (RFC 9113, 6.9).
struct Windows {
    /// What we have granted beyond the first 65,535, on the connection (0) and on streams.
    granted: HashMap<u32, i64>,
    received: HashMap<u32, i64>,
    /// SETTINGS_INITIAL_WINDOW_SIZE that is acknowledged.
    initial: i64,
    /// Our SETTINGS that are not acknowledged, each with this parameter, if it was in there, and
    /// the size of the header table.
    pending: VecDeque<(Option<i64>, Option<usize>)>,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            granted: HashMap::new(),
            received: HashMap::new(),
            initial: 65_535,
            pending: VecDeque::new(),
        }
    }
}

impl Windows {
    fn take(&mut self, stream: u32, bytes: i64) -> Result<(), Wrong> {
        // Between a SETTINGS and its acknowledgement the server may go by either.
        let pending = self.pending.iter().filter_map(|(window, _)| *window);
        let initial = pending.fold(self.initial, i64::max);
        for (id, initial) in [(0, 65_535), (stream, initial)] {
            let received = self.received.entry(id).or_default();
            *received += bytes;
            let window = initial + self.granted.get(&id).unwrap_or(&0);
            // An empty frame needs no window, and a window may be negative.
            if bytes > 0 && *received > window {
                return Err(Wrong(format!(
                    "{received} bytes of DATA came on {id}, whose window is {window}"
                )));
            }
        }
        Ok(())
    }
}

impl Heard {
    /// Takes note of a frame that we send.
    pub fn sending(&mut self, frame: &Frame) {
        match frame.kind {
            kind::HEADERS => self.opened = self.opened.max(frame.stream),
            kind::DATA => {
                for id in [0, frame.stream] {
                    *self.sent.entry(id).or_default() += frame.payload.len() as i64;
                }
            }
            kind::WINDOW_UPDATE => {
                let granted = self.windows.granted.entry(frame.stream).or_default();
                *granted += i64::from(number(&frame.payload, 0));
            }
            kind::SETTINGS if !frame.has(flag::ACK) => {
                let parameters = parameters(&frame.payload);
                let last = |wanted| {
                    let mut found = parameters.iter().rev();
                    found.find(|(id, _)| *id == wanted).map(|(_, value)| *value)
                };
                self.windows.pending.push_back((
                    last(setting::INITIAL_WINDOW_SIZE).map(i64::from),
                    last(setting::HEADER_TABLE_SIZE).map(|size| size as usize),
                ));
            }
            _ => {}
        }
    }

    /// What has come on a stream.
    pub fn response(&self, stream: u32) -> Response {
        self.responses.get(&stream).cloned().unwrap_or_default()
    }

    /// How much DATA we may send on a stream.
    pub fn send_window(&self, stream: u32) -> i64 {
        let initial = self.settings.as_ref();
        let initial = initial.and_then(|settings| settings.get(&setting::INITIAL_WINDOW_SIZE));
        let initial = initial.map_or(65_535, |size| i64::from(*size));
        let left = |id, initial| {
            initial + self.granted.get(&id).unwrap_or(&0) - self.sent.get(&id).unwrap_or(&0)
        };
        left(0, 65_535).min(left(stream, initial))
    }

    /// How much DATA has come on all streams, with its padding.
    pub fn data_received(&self) -> i64 {
        self.windows.received.get(&0).copied().unwrap_or(0)
    }

    /// Takes a frame of the server.
    pub fn take(&mut self, frame: Frame) -> Result<(), Wrong> {
        self.log.push(frame.to_string());
        let name = frame.to_string();
        let broken = |why: &str| Err(Wrong(format!("the server broke a rule: {name}: {why}")));
        if frame.payload.len() > frame::PAYLOAD {
            return broken("larger than our SETTINGS_MAX_FRAME_SIZE");
        }
        if self.settings.is_none() && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return broken("its first frame has to be SETTINGS");
        }
        let continues = frame.kind == kind::CONTINUATION;
        if let Some(open) = &self.open_block
            && !(continues && open.stream == frame.stream)
        {
            return broken("in the middle of a field block");
        }
        if continues && self.open_block.is_none() {
            return broken("it continues nothing");
        }
        let on_connection = matches!(frame.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        let on_stream = matches!(
            frame.kind,
            kind::DATA | kind::HEADERS | kind::RST_STREAM | kind::CONTINUATION
        );
        if on_connection && frame.stream != 0 || on_stream && frame.stream == 0 {
            return broken("on the wrong stream");
        }
        if on_stream && (frame.stream > self.opened || frame.stream.is_multiple_of(2)) {
            return broken("no such stream was opened");
        }
        let size_is_right = match frame.kind {
            kind::SETTINGS => frame.payload.len().is_multiple_of(6),
            kind::PING => frame.payload.len() == 8,
            kind::RST_STREAM | kind::WINDOW_UPDATE => frame.payload.len() == 4,
            kind::GOAWAY => frame.payload.len() >= 8,
            _ => true,
        };
        if !size_is_right {
            return broken("of a wrong size");
        }
        match frame.kind {
            kind::DATA => self.data(&frame),
            kind::HEADERS | kind::CONTINUATION => self.fields(frame),
            kind::RST_STREAM => {
                let code = Code(number(&frame.payload, 0));
                self.responses.entry(frame.stream).or_default().reset = Some(code);
                Ok(())
            }
            kind::SETTINGS => self.settings(&frame),
            kind::PUSH_PROMISE => broken("we have said SETTINGS_ENABLE_PUSH 0"),
            kind::PING if frame.has(flag::ACK) => {
                self.pongs.push(frame.payload);
                Ok(())
            }
            kind::PING => {
                let pong = Frame::new(kind::PING, flag::ACK, 0, frame.payload);
                self.due.push(pong);
                Ok(())
            }
            kind::GOAWAY => {
                let last = number(&frame.payload, 0);
                let before = self.goaway.map_or(u32::MAX, |(last, _)| last);
                if last > before {
                    return broken("the last stream has grown since the GOAWAY before");
                }
                self.goaway = Some((last, Code(number(&frame.payload, 4))));
                Ok(())
            }
            kind::WINDOW_UPDATE => match number(&frame.payload, 0) {
                0 => broken("by nothing"),
                by => {
                    *self.granted.entry(frame.stream).or_default() += i64::from(by);
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }

    fn settings(&mut self, frame: &Frame) -> Result<(), Wrong> {
        if frame.has(flag::ACK) {
            let Some((window, table)) = self.windows.pending.pop_front() else {
                return Err(Wrong("SETTINGS ACK for nothing".to_owned()));
            };
            self.windows.initial = window.unwrap_or(self.windows.initial);
            if let Some(table) = table {
                self.decoder.set_limit(table);
            }
            self.acks += 1;
            return Ok(());
        }
        let ours = self.settings.get_or_insert_default();
        for (id, value) in parameters(&frame.payload) {
            let is_valid = match id {
                setting::ENABLE_PUSH => value == 0,
                setting::INITIAL_WINDOW_SIZE => value <= frame::WINDOW,
                setting::MAX_FRAME_SIZE => (1 << 14..1 << 24).contains(&value),
                setting::ENABLE_CONNECT_PROTOCOL => value <= 1,
                _ => true,
            };
            if !is_valid {
                return Err(Wrong(format!(
                    "the server's SETTINGS have {id} with {value}"
                )));
            }
            ours.insert(id, value);
        }
        self.due.push(frame::settings_ack());
        Ok(())
    }

    fn data(&mut self, frame: &Frame) -> Result<(), Wrong> {
        let bytes = frame.payload.len() as i64;
        self.windows.take(frame.stream, bytes)?;
        let response = self.open_response(frame)?;
        if response.status.is_none() {
            return Err(Wrong(format!("{frame}, before a response's head")));
        }
        response.body.extend(unpadded(frame, 0)?);
        if frame.has(flag::END_STREAM) {
            response.end()?;
        }
        Ok(())
    }

    fn fields(&mut self, frame: Frame) -> Result<(), Wrong> {
        let ends = frame.has(flag::END_HEADERS);
        let whole = match self.open_block.take() {
            Some(mut open) => {
                open.payload.extend(frame.payload);
                open
            }
            None => {
                let skipped = if frame.has(flag::PRIORITY) { 5 } else { 0 };
                let payload = unpadded(&frame, skipped)?;
                Frame { payload, ..frame }
            }
        };
        if !ends {
            self.open_block = Some(whole);
            return Ok(());
        }
        let fields = self.decoder.decode(&whole.payload);
        let fields = fields.map_err(|error| Wrong(format!("{whole}: {error}")))?;
        self.open_response(&whole)?
            .take(fields, whole.has(flag::END_STREAM))
    }

    fn open_response(&mut self, frame: &Frame) -> Result<&mut Response, Wrong> {
        let response = self.responses.entry(frame.stream).or_default();
        if response.ended || response.reset.is_some() {
            return Err(Wrong(format!("{frame}, after the end of the stream")));
        }
        Ok(response)
    }
}

/// The parameters in a payload of SETTINGS.
fn parameters(payload: &[u8]) -> Vec<(u16, u32)> {
    let parameters = payload.chunks_exact(6);
    parameters
        .map(|entry| (u16::from_be_bytes([entry[0], entry[1]]), number(entry, 2)))
        .collect()
}

/// A payload without padding, and without so many octets in front.
fn unpadded(frame: &Frame, skipped: usize) -> Result<Vec<u8>, Wrong> {
    let payload = &frame.payload[..];
    let inner = if frame.has(flag::PADDED) {
        payload.split_first().and_then(|(padding, rest)| {
            let end = rest.len().checked_sub(usize::from(*padding))?;
            rest.get(..end)
        })
    } else {
        Some(payload)
    };
    let inner = inner.and_then(|inner| inner.get(skipped..));
    inner
        .map(<[u8]>::to_vec)
        .ok_or_else(|| Wrong(format!("{frame}: its padding is longer than the frame")))
}
