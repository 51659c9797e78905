//! An endpoint that speaks HTTP/2 as a script tells it, in frames that it makes itself.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::clock::Watched;
use super::endpoint::{ProxyEnd, Script, Step, reset};
use super::message::Body;
use crate::wire::h2::client::STREAM_WINDOW;

const PREFACE: usize = 24;
const MAX_FRAME: usize = 16 * 1024;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

struct Connection<'s> {
    stream: Watched,
    /// The streams that have begun and were not taken yet, each with whether it has ended.
    coming: Vec<Coming>,
    /// The stream that was taken last.
    last: u32,
    endpoint: usize,
    number: usize,
    script: &'s Script,
}

struct Coming {
    stream: u32,
    place: usize,
    data: Vec<u8>,
    has_ended: bool,
}

/// Plays a script, until the proxy has ended the connection.
pub(super) async fn play(
    stream: TcpStream,
    steps: &[Step],
    endpoint: usize,
    number: usize,
    script: &Script,
) {
    let mut connection = Connection {
        stream: Watched(stream),
        coming: Vec::new(),
        last: 0,
        endpoint,
        number,
        script,
    };
    // A connection that ends too early for its script is what some tests are about.
    let _ = connection.play(steps).await;
}

impl Connection<'_> {
    async fn play(&mut self, steps: &[Step]) -> Option<()> {
        self.stream.read_exact(&mut [0; PREFACE]).await.ok()?;
        self.frame(SETTINGS, 0, 0, b"").await;
        for step in steps {
            match step {
                Step::Take | Step::TakeHead => self.take(*step == Step::Take).await?,
                Step::Respond(status, body) => {
                    let head = response_head(*status, Some(body.len()));
                    if body.is_empty() {
                        let flags = END_HEADERS | END_STREAM;
                        self.frame(HEADERS, flags, self.last, &head).await;
                    } else {
                        self.frame(HEADERS, END_HEADERS, self.last, &head).await;
                        self.frame(DATA, END_STREAM, self.last, body.as_bytes())
                            .await;
                    }
                }
                Step::TakeBody => panic!("{step:?} over HTTP/2"),
                Step::RespondMany(_) => panic!("{step:?} needs a window, which this has not"),
                Step::RefuseWithMany(count) => self.refuse_with_many(*count).await,
                Step::RespondWithTrailers(status, body, (name, value)) => {
                    let head = response_head(*status, None);
                    self.frame(HEADERS, END_HEADERS, self.last, &head).await;
                    self.frame(DATA, 0, self.last, body.as_bytes()).await;
                    let mut trailers = Vec::new();
                    literal(name, value, &mut trailers);
                    let flags = END_HEADERS | END_STREAM;
                    self.frame(HEADERS, flags, self.last, &trailers).await;
                }
                Step::BeginHead => {
                    // A frame of 50 bytes, of which 3 come.
                    let begun = [0, 0, 50, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x88, 0x0f, 0x0d];
                    let _ = self.stream.write_all(&begun).await;
                }
                Step::BeginBody(length, body) => {
                    let head = response_head(200, Some(*length));
                    self.frame(HEADERS, END_HEADERS, self.last, &head).await;
                    self.frame(DATA, 0, self.last, body.as_bytes()).await;
                }
                Step::Say(bytes) => drop(self.stream.write_all(bytes.as_bytes()).await),
                Step::Wait(time) => tokio::time::sleep(*time).await,
                Step::Stall => while self.read().await.is_some() {},
                Step::Close => {
                    // What is left to read, a window update, would make it a reset.
                    while let Ok(1..) = self.stream.0.try_read(&mut [0; 1024]) {}
                    return None;
                }
                Step::Reset => {
                    reset(&self.stream.0);
                    return None;
                }
                Step::GoAway(has_looked) => {
                    let last = if *has_looked {
                        self.last
                    } else {
                        self.last.saturating_sub(2)
                    };
                    let payload = [last.to_be_bytes(), 0u32.to_be_bytes()].concat();
                    self.frame(GOAWAY, 0, 0, &payload).await;
                }
                Step::ResetStream(code) => {
                    self.frame(RST_STREAM, 0, self.last, &code.to_be_bytes())
                        .await;
                }
            }
        }
        Some(())
    }

    /// Sends a 413 with so many bytes, as many as the proxy's first window has room for.
    async fn refuse_with_many(&mut self, count: usize) {
        assert!(count <= STREAM_WINDOW as usize, "there is no window for it");
        let head = response_head(413, Some(count));
        self.frame(HEADERS, END_HEADERS, self.last, &head).await;
        let mut left = count;
        while left > 0 {
            let piece = left.min(MAX_FRAME);
            left -= piece;
            let flags = if left == 0 { END_STREAM } else { 0 };
            let data = vec![b'x'; piece];
            self.frame(DATA, flags, self.last, &data).await;
        }
    }

    /// Waits for the next stream, or for its end.
    async fn take(&mut self, whole: bool) -> Option<()> {
        loop {
            let first = self.coming.first();
            if first.is_some_and(|coming| coming.has_ended || !whole) {
                let coming = self.coming.remove(0);
                self.last = coming.stream;
                let body = Body {
                    is_whole: coming.has_ended,
                    data: coming.data,
                    ..Body::default()
                };
                self.script.came(coming.place, body);
                return Some(());
            }
            self.read().await?;
        }
    }

    /// Reads one frame.
    async fn read(&mut self) -> Option<()> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let stream = u32::from_be_bytes(stream);
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let ends = flags & END_STREAM > 0;
        match kind {
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, b"").await,
            HEADERS => match self.coming.iter_mut().find(|known| known.stream == stream) {
                Some(trailed) => trailed.has_ended = ends,
                None => {
                    let script = self.script;
                    let place = script.begins(self.endpoint, self.number, String::new());
                    self.coming.push(Coming {
                        stream,
                        place,
                        data: Vec::new(),
                        has_ended: ends,
                    });
                }
            },
            DATA => {
                let mut known = self.coming.iter_mut();
                if let Some(coming) = known.find(|known| known.stream == stream) {
                    coming.data.extend_from_slice(&payload);
                    coming.has_ended = ends;
                }
            }
            RST_STREAM => {
                let code = payload.try_into().map(u32::from_be_bytes);
                self.script.ended(ProxyEnd::Stream(code.unwrap()));
            }
            _ => {}
        }
        Some(())
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        let _ = self.stream.write_all(&frame).await;
    }
}

/// A header block of literals without indexing (RFC 7541, 6.2.2).
fn response_head(status: u16, length: Option<usize>) -> Vec<u8> {
    let mut block = Vec::new();
    literal(":status", &status.to_string(), &mut block);
    if let Some(length) = length {
        literal("content-length", &length.to_string(), &mut block);
    }
    block
}

fn literal(name: &str, value: &str, to: &mut Vec<u8>) {
    to.push(0);
    for text in [name, value] {
        to.push(u8::try_from(text.len()).unwrap());
        to.extend_from_slice(text.as_bytes());
    }
}
