//! What is known of one request, until its end.

use std::io::Write;
use std::time::{Duration, Instant};

use http::Version;

use super::escape;
use super::termination::{Phase, Termination, Who};
use crate::wire::head::{Known, Message};
use crate::wire::peer::Peer;
use crate::wire::reply::LocalReply;
use crate::wire::tls;

/// The longest value that is kept of what a client sends.
const MAX_VALUE: usize = 4 * 1024;
/// The status of a request whose client left before its response. nginx has it, too.
const CLIENT_CLOSED: u16 = 499;
/// Where the trace id is in `traceparent` (W3C Trace Context, 3.2.2).
const TRACE_ID: std::ops::Range<usize> = 3..35;
const TRACE_PARENT: usize = 55;

/// A text of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text {
    Client,
    Peer,
    /// The first line as it came, where it could not be read.
    Line,
    Method,
    Target,
    Host,
    Service,
    Version,
    Endpoint,
    UserAgent,
    Referer,
    RequestId,
    TraceId,
}

const TEXTS: usize = Text::TraceId as usize + 1;

impl Text {
    /// The beginning of its member of an object.
    fn member(self) -> &'static [u8] {
        match self {
            Self::Client => b",\"client\":\"",
            Self::Peer => b",\"peer\":\"",
            Self::Line => b",\"request\":\"",
            Self::Method => b",\"method\":\"",
            Self::Target => b",\"uri\":\"",
            Self::Host => b",\"host\":\"",
            Self::Service => b",\"service\":\"",
            Self::Version => b",\"version\":\"",
            Self::Endpoint => b",\"endpoint\":\"",
            Self::UserAgent => b",\"user_agent\":\"",
            Self::Referer => b",\"referer\":\"",
            Self::RequestId => b",\"request_id\":\"",
            Self::TraceId => b",\"trace_id\":\"",
        }
    }
}

/// Where a text is.
#[derive(Debug, Clone, Copy, Default)]
struct TextSpan {
    start: u32,
    end: u32,
}

/// What is known of one request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) began: Instant,
    /// How long it waited before its first attempt.
    pub(super) waited: Duration,
    /// How long connections took that were made for it.
    pub(super) connecting: Duration,
    /// When the head of the response was there.
    pub(super) responded: Option<Instant>,
    pub(super) version: Version,
    pub(super) has_tls: bool,
    pub(super) tls: Option<tls::Version>,
    /// 0: it had no response.
    pub(super) status: u16,
    pub(super) attempts: u8,
    /// Bytes of its head, of its body, and of its response's body.
    pub(super) head: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) termination: Termination,
    /// Its texts are members of an object already, which spares them a copy.
    is_json: bool,
    bytes: Vec<u8>,
    /// Where a text is; in members, whether it is there.
    places: [TextSpan; TEXTS],
    /// Values of the fields that the format has beside.
    fields: Vec<TextSpan>,
}

/// What of a request is kept.
pub(super) struct Wanted<'w> {
    pub(super) query: bool,
    /// Names of fields, in lower case.
    pub(super) fields: &'w [String],
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            waited: Duration::ZERO,
            connecting: Duration::ZERO,
            responded: None,
            version: Version::HTTP_11,
            has_tls: false,
            tls: None,
            status: 0,
            attempts: 0,
            head: 0,
            bytes_in: 0,
            bytes_out: 0,
            // What is dropped on its way has no better one.
            termination: Termination::new(Who::Killed, Phase::Queue),
            is_json: false,
            bytes: Vec::new(),
            places: [TextSpan::default(); TEXTS],
            fields: Vec::new(),
        }
    }

    /// Forgets the request before, and begins with one of this peer.
    pub(super) fn begin(&mut self, peer: &Peer, is_json: bool) {
        let (mut bytes, mut fields) = (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.fields),
        );
        bytes.clear();
        fields.clear();
        *self = Self {
            bytes,
            fields,
            is_json,
            has_tls: peer.tls,
            tls: peer.tls_version,
            ..Self::new()
        };
        if !is_json {
            self.set(Text::Peer, peer.lines.address());
        }
    }

    /// Takes in what a request's head says.
    pub(super) fn read(&mut self, peer: &Peer, request: Message<'_>, wanted: &Wanted<'_>) {
        self.version = request.version();
        if peer.is_trusted() {
            // `None`: who the client is cannot be known.
            let client = peer.client(request).map(|client| client.to_string());
            self.set(Text::Client, client.unwrap_or_default().as_bytes());
        } else {
            self.set(Text::Client, peer.lines.address());
        }
        self.set(Text::Method, request.method());
        let mut host = request.values(Known::Host);
        self.set(Text::Host, host.next().unwrap_or_default());
        self.set(Text::Target, without_query(request.target(), wanted.query));
        for line in request.fields() {
            let text = match line.name.len() {
                7 if is(line.name, "referer") => Text::Referer,
                10 if is(line.name, "user-agent") => Text::UserAgent,
                11 if is(line.name, "traceparent") => Text::TraceId,
                12 if is(line.name, "x-request-id") => Text::RequestId,
                _ => continue,
            };
            match text {
                Text::TraceId if line.value.len() >= TRACE_PARENT => {
                    self.set(text, &line.value[TRACE_ID]);
                }
                Text::TraceId => {}
                Text::Referer => self.set(text, without_query(line.value, wanted.query)),
                _ => self.set(text, line.value),
            }
        }
        for name in wanted.fields {
            let value = request.named(name).next();
            let place = self.add(value.unwrap_or_default());
            self.fields.push(place);
        }
    }

    /// Takes in the first line of a head that cannot be read.
    pub(super) fn read_line(&mut self, peer: &Peer, line: &[u8], wanted: &Wanted<'_>) {
        self.set(Text::Client, peer.lines.address());
        let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = &line[..end.unwrap_or(line.len())];
        self.set(Text::Line, without_query(line, wanted.query));
        self.termination.phase = Phase::Head;
    }

    /// Its head has so many bytes.
    pub(crate) fn has_head(&mut self, bytes: usize) {
        self.head = bytes as u64;
    }

    /// It is for this service.
    pub(crate) fn is_for(&mut self, service: &str) {
        self.set(Text::Service, service.as_bytes());
    }

    /// It has this id, whatever its client called it.
    pub(crate) fn has_id(&mut self, id: &[u8]) {
        self.forget(Text::RequestId);
        self.set(Text::RequestId, id);
    }

    /// Its first attempt begins now, after a wait.
    pub(crate) fn has_waited(&mut self) {
        self.waited = self.began.elapsed();
    }

    /// It has been sent to this endpoint last.
    pub(crate) fn went_to(&mut self, version: &str, endpoint: &str) {
        self.set(Text::Version, version.as_bytes());
        self.set(Text::Endpoint, endpoint.as_bytes());
    }

    /// So many attempts were made, and connections for them took so long.
    pub(crate) fn was_tried(&mut self, attempts: usize, connecting: Duration) {
        self.attempts = u8::try_from(attempts).unwrap_or(u8::MAX);
        self.connecting = connecting;
    }

    /// An endpoint has responded, now.
    pub(crate) fn has_response(&mut self, status: u16) {
        self.responded = Some(Instant::now());
        self.status = status;
        self.termination.phase = Phase::Body;
    }

    /// It got the proxy's own response, after it had come so far.
    pub(crate) fn was_refused(&mut self, reply: LocalReply, reached: Phase) {
        self.termination = Termination::of(reply, reached);
        self.responded = None;
        self.status = match reply {
            LocalReply::ClientGone => CLIENT_CLOSED,
            _ => reply.status().as_u16(),
        };
    }

    /// A filter has responded for the proxy, with this status.
    pub(crate) fn has_status(&mut self, status: u16) {
        self.status = status;
    }

    /// So many bytes of bodies were passed on, to the endpoint and to the client.
    pub(crate) fn has_moved(&mut self, bytes_in: u64, bytes_out: u64) {
        (self.bytes_in, self.bytes_out) = (bytes_in, bytes_out);
    }

    /// Bytes of its body that were passed on.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// This is how it ended.
    pub(crate) fn ended(&mut self, termination: Termination) {
        self.termination = termination;
    }

    pub(super) fn text(&self, text: Text) -> &[u8] {
        self.at(self.places[text as usize])
    }

    /// The value of one of the fields that are wanted beside.
    pub(super) fn field(&self, at: usize) -> &[u8] {
        self.fields.get(at).map_or(b"", |place| self.at(*place))
    }

    fn at(&self, place: TextSpan) -> &[u8] {
        &self.bytes[place.start as usize..place.end as usize]
    }

    /// The members that its texts are, each with a comma before it.
    pub(super) fn members(&self) -> &[u8] {
        &self.bytes
    }

    /// A text is what it was found to be first.
    #[inline]
    fn set(&mut self, text: Text, value: &[u8]) {
        let place = self.places[text as usize];
        if value.is_empty() || place.end > place.start {
            return;
        }
        if !self.is_json {
            self.places[text as usize] = self.add(value);
            return;
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text.member());
        escape::json(&value[..value.len().min(MAX_VALUE)], &mut self.bytes);
        self.bytes.push(b'"');
        let end = self.bytes.len() as u32;
        self.places[text as usize] = TextSpan { start, end };
    }

    /// Takes a text out again. Rare, and so not worth a list of what is in which order.
    fn forget(&mut self, text: Text) {
        let gone = std::mem::take(&mut self.places[text as usize]);
        self.bytes.drain(gone.start as usize..gone.end as usize);
        let length = gone.end - gone.start;
        for place in self.places.iter_mut().chain(&mut self.fields) {
            if place.start >= gone.end && place.end > place.start {
                place.start -= length;
                place.end -= length;
            }
        }
    }

    fn add(&mut self, value: &[u8]) -> TextSpan {
        let value = &value[..value.len().min(MAX_VALUE)];
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        TextSpan {
            start,
            end: self.bytes.len() as u32,
        }
    }

    /// Adds method, target and protocol, as the first line of HTTP/1.1 has them, or the line that could
    /// not be read. `escape` adds what came from the client.
    pub(super) fn write_request(&self, escape: fn(&[u8], &mut Vec<u8>), to: &mut Vec<u8>) {
        let method = self.text(Text::Method);
        if method.is_empty() {
            return escape(self.text(Text::Line), to);
        }
        escape(method, to);
        to.push(b' ');
        escape(self.text(Text::Target), to);
        // Writing to memory does not fail.
        let _ = write!(to, " {}", self.protocol());
    }

    pub(super) fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            _ => "HTTP/1.1",
        }
    }

    pub(super) fn tls(&self) -> &'static str {
        match self.tls {
            None => "",
            Some(tls::Version::Tls12) => "TLSv1.2",
            Some(tls::Version::Tls13) => "TLSv1.3",
        }
    }
}

fn is(name: &[u8], want: &str) -> bool {
    name.eq_ignore_ascii_case(want.as_bytes())
}

/// What comes before the query, unless that is to be kept.
fn without_query(target: &[u8], keep: bool) -> &[u8] {
    if keep {
        return target;
    }
    let query = target.iter().position(|byte| *byte == b'?');
    &target[..query.unwrap_or(target.len())]
}
