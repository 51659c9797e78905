//! The head of a message, on whatever wire it came: spans of the bytes that it was read into.
//!
//! Policy (routing, header rules, retries) reads heads through [`Message`] and knows no wire.

use http::Version;

/// Where something is in the bytes of a head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

/// One header field.
#[derive(Debug, Clone, Copy)]
struct Field {
    known: Known,
    name: Span,
    value: Span,
}

/// A head that was read; its bytes are elsewhere. It is used again for other heads, so that
/// reading one allocates nothing.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) version: Version,
    /// Of a request; of a response, the reason phrase.
    line: [Span; 2],
    /// Of a response.
    pub(crate) status: u16,
    fields: Vec<Field>,
    /// A bit for each [`Known`] that is among them: most are not, and need no looking for.
    present: u32,
    connection: Options,
}

/// What `Connection` says (RFC 9110, 7.6.1), which every message is asked about several times.
#[derive(Debug, Clone, Copy, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// It names fields beside those that never go on.
    fields: bool,
}

/// A header field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'m> {
    pub(crate) known: Known,
    pub(crate) name: &'m [u8],
    pub(crate) value: &'m [u8],
    /// All of it, where it came just as it is written: name, colon, space, value, end of line.
    pub(crate) whole: Option<&'m [u8]>,
}

/// A head with its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'m> {
    bytes: &'m [u8],
    head: &'m Head,
}

/// The fields that a proxy does something with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Accept,
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    MaxForwards,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    /// Any other `X-Forwarded-*`.
    XForwardedOther,
    XRealIp,
    /// With `_` where one of these has `-`. CGI, WSGI and PHP take the two for one field, so it would
    /// arrive as what it is not.
    Underscored,
    Other,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Heads are limited to far less than 4 GiB.
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

impl Default for Head {
    fn default() -> Self {
        Self {
            version: Version::HTTP_11,
            line: [Span::default(); 2],
            status: 0,
            fields: Vec::new(),
            present: 0,
            connection: Options::default(),
        }
    }
}

impl Options {
    fn add(&mut self, value: &[u8]) {
        for option in elements(value) {
            match Known::of(option) {
                Known::KeepAlive => self.keep_alive = true,
                Known::Upgrade => self.upgrade = true,
                known if known.is_hop_by_hop() => {}
                _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
                _ => self.fields = true,
            }
        }
    }
}

impl Head {
    /// Whether no memory is set aside for it.
    pub(crate) fn is_unused(&self) -> bool {
        self.fields.capacity() == 0
    }

    /// Begins a request's head.
    pub(crate) fn request(&mut self, version: Version, method: Span, target: Span) {
        self.version = version;
        self.line = [method, target];
        self.status = 0;
        self.clear();
    }

    /// Begins a response's head.
    pub(crate) fn response(&mut self, version: Version, status: u16, reason: Span) {
        self.version = version;
        self.line = [Span::default(), reason];
        self.status = status;
        self.clear();
    }

    fn clear(&mut self) {
        self.fields.clear();
        self.present = 0;
        self.connection = Options::default();
    }

    /// Adds a field, which is in `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8], name: Span, value: Span) {
        let known = Known::of(name.of(bytes));
        self.present |= known.bit();
        if known == Known::Connection {
            self.connection.add(value.of(bytes));
        }
        self.fields.push(Field { known, name, value });
    }

    /// The head over the bytes that it was read from.
    pub(crate) fn over<'m>(&'m self, bytes: &'m [u8]) -> Message<'m> {
        Message { bytes, head: self }
    }
}

impl<'m> Message<'m> {
    pub(crate) fn version(self) -> Version {
        self.head.version
    }

    pub(crate) fn method(self) -> &'m [u8] {
        self.head.line[0].of(self.bytes)
    }

    pub(crate) fn target(self) -> &'m [u8] {
        self.head.line[1].of(self.bytes)
    }

    pub(crate) fn reason(self) -> &'m [u8] {
        self.head.line[1].of(self.bytes)
    }

    pub(crate) fn status(self) -> u16 {
        self.head.status
    }

    /// Every field in the order in which it came.
    pub(crate) fn fields(self) -> impl Iterator<Item = Line<'m>> {
        let bytes = self.bytes;
        self.head.fields.iter().map(move |field| {
            let (name, value) = (field.name, field.value);
            let end = value.end as usize + 2;
            let is_canonical = value.start == name.end + 2
                && bytes.get(name.end as usize..value.start as usize) == Some(b": ")
                && bytes.get(value.end as usize..end) == Some(b"\r\n");
            Line {
                known: field.known,
                name: name.of(bytes),
                value: value.of(bytes),
                whole: is_canonical.then(|| &bytes[name.start as usize..end]),
            }
        })
    }

    /// The values of a known field.
    pub(crate) fn values(self, known: Known) -> impl DoubleEndedIterator<Item = &'m [u8]> {
        let bytes = self.bytes;
        let is_present = self.head.present & known.bit() != 0;
        let fields: &[Field] = if is_present { &self.head.fields } else { &[] };
        fields
            .iter()
            .filter(move |field| field.known == known)
            .map(move |field| field.value.of(bytes))
    }

    /// The values of any field, by its name in any case.
    pub(crate) fn named(self, name: &str) -> impl Iterator<Item = &'m [u8]> {
        self.fields()
            .filter(move |line| line.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|line| line.value)
    }

    /// The elements of a comma-separated known field, over all its lines.
    pub(crate) fn elements(self, known: Known) -> impl Iterator<Item = &'m [u8]> {
        self.values(known).flat_map(elements)
    }

    /// Whether a comma-separated known field has this element, in any case.
    pub(crate) fn has(self, known: Known, element: &str) -> bool {
        self.elements(known)
            .any(|other| other.eq_ignore_ascii_case(element.as_bytes()))
    }

    /// Whether it leaves its connection open (RFC 9112, 9.3).
    pub(crate) fn keeps_alive(self) -> bool {
        let says = self.head.connection;
        if self.version() == Version::HTTP_10 {
            says.keep_alive
        } else {
            !says.close
        }
    }

    /// Whether `Connection` asks for another protocol.
    pub(crate) fn says_upgrade(self) -> bool {
        self.head.connection.upgrade
    }

    /// Whether `Connection` names this field, by its name in any case. Of those that never go
    /// on, no caller asks.
    pub(crate) fn names(self, field: &[u8]) -> bool {
        self.head.connection.fields
            && self
                .elements(Known::Connection)
                .any(|element| is_alike(element, field))
    }
}

/// The elements of a comma-separated value.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

impl Known {
    /// What a field is, by its name in any case. Length and first letter leave one candidate.
    pub(crate) fn of(name: &[u8]) -> Self {
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        let (candidate, known): (&[u8], Self) = match (name.len(), first) {
            (2, b't') => (b"te", Self::Te),
            (4, b'h') => (b"host", Self::Host),
            (4, b'd') => (b"date", Self::Date),
            (6, b'a') => (b"accept", Self::Accept),
            (6, b'c') => (b"cookie", Self::Cookie),
            (6, b'e') => (b"expect", Self::Expect),
            (7, b'u') => (b"upgrade", Self::Upgrade),
            (9, b'f') => (b"forwarded", Self::Forwarded),
            (9, b'x') => (b"x-real-ip", Self::XRealIp),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b'k') => (b"keep-alive", Self::KeepAlive),
            (12, b'm') => (b"max-forwards", Self::MaxForwards),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (14, b'h') => (b"http2-settings", Self::Http2Settings),
            (15, b'x') => (b"x-forwarded-for", Self::XForwardedFor),
            (16, b'p') => (b"proxy-connection", Self::ProxyConnection),
            (16, b'x') => (b"x-forwarded-host", Self::XForwardedHost),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (17, b'x') => (b"x-forwarded-proto", Self::XForwardedProto),
            (13.., b'x') => return Self::of_rare(name, b""),
            _ => return Self::Other,
        };
        if is_in_any_case(name, candidate) {
            known
        } else {
            Self::of_rare(name, candidate)
        }
    }

    /// The same of a name that is not the candidate.
    fn of_rare(name: &[u8], candidate: &[u8]) -> Self {
        const FORWARDED: &[u8] = b"x-forwarded-";
        let begins = name.get(..FORWARDED.len());
        let is_forwarded = begins.is_some_and(|begins| is_alike(begins, FORWARDED));
        if !is_forwarded && !is_alike(name, candidate) {
            Self::Other
        } else if name.contains(&b'_') {
            Self::Underscored
        } else if name.eq_ignore_ascii_case(b"x-forwarded-port") {
            Self::XForwardedPort
        } else {
            Self::XForwardedOther
        }
    }

    /// Whether it is about one connection alone, and never goes on (RFC 9110, 7.6.1).
    pub(crate) fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether it says for whom a proxy sends a request.
    pub(crate) fn is_forwarding(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XForwardedOther
                | Self::XRealIp
        )
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Whether two names are the same in any case, and with `_` for `-`.
pub(crate) fn is_alike(name: &[u8], other: &[u8]) -> bool {
    let read = |byte: &u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    name.len() == other.len() && name.iter().map(read).eq(other.iter().map(read))
}

/// Whether a token is `candidate`, which is as long and in lower case, eight bytes at a time.
///
/// The bit that is set tells upper from lower case, and no other byte of a token (RFC 9110, 5.6.2)
/// becomes a letter, a digit or a `-` by it.
fn is_in_any_case(token: &[u8], candidate: &[u8]) -> bool {
    const CASE: u8 = 0x20;
    let (words, rest) = token.as_chunks();
    let (words_of_candidate, rest_of_candidate) = candidate.as_chunks();
    let same_words = words.iter().zip(words_of_candidate).all(|(word, other)| {
        u64::from_ne_bytes(*word) | u64::from_ne_bytes([CASE; 8]) == u64::from_ne_bytes(*other)
    });
    let mut pairs = rest.iter().zip(rest_of_candidate);
    same_words && pairs.all(|(byte, other)| byte | CASE == *other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_field_is_known_and_a_name_that_differs_in_a_byte_is_not() {
        let names = [
            "te",
            "host",
            "date",
            "accept",
            "cookie",
            "expect",
            "upgrade",
            "forwarded",
            "x-real-ip",
            "connection",
            "keep-alive",
            "max-forwards",
            "content-length",
            "http2-settings",
            "x-forwarded-for",
            "proxy-connection",
            "x-forwarded-host",
            "x-forwarded-port",
            "transfer-encoding",
            "x-forwarded-proto",
        ];
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for name in names {
            let known = Known::of(name.as_bytes());
            assert_ne!(known, Known::Other, "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known);
            for at in 0..name.len() {
                for byte in (0..=u8::MAX).filter(|byte| is_token(*byte)) {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let same = other.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(Known::of(&other) == known, same, "{other:?}");
                }
            }
        }
    }

    #[test]
    fn a_field_is_known_by_its_name_in_any_case() {
        assert_eq!(Known::of(b"Content-Length"), Known::ContentLength);
        assert_eq!(Known::of(b"TE"), Known::Te);
        assert_eq!(Known::of(b""), Known::Other);
        // Of the same length and first letter as one that is known.
        assert_eq!(Known::of(b"content-length"), Known::ContentLength);
        assert_eq!(Known::of(b"content-lenght"), Known::Other);
        assert_eq!(Known::of(b"X-Forwarded-Prefix"), Known::XForwardedOther);
        assert_eq!(Known::of(b"X-Forwarded-Ssl"), Known::XForwardedOther);
        assert_eq!(Known::of(b"X-Forwarded-"), Known::Other);
        assert_eq!(Known::of(b"X-Forwarder-For"), Known::Other);
    }

    #[test]
    fn a_name_with_underscores_is_told_from_the_one_that_it_is_taken_for() {
        for name in [
            "Content_Length",
            "TRANSFER_ENCODING",
            "x_real_ip",
            "X-Real_IP",
            "X_Forwarded_For",
            "x-forwarded_for",
            "X_Forwarded-Host",
            "x_forwarded_proto",
            "x_forwarded_port",
            "x_forwarded_prefix",
            "x-forwarded-client_cert",
            "Keep_Alive",
            "proxy_connection",
            "max_forwards",
            "http2_settings",
        ] {
            assert_eq!(Known::of(name.as_bytes()), Known::Underscored, "{name}");
        }
        for name in [
            "user_agent",
            "x_user",
            "_",
            "content_lenght",
            "x_forwarder_for_me",
        ] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn connection_names_a_field_with_underscores_too() {
        let bytes = b"connectionx-own, Y_Own";
        let mut head = Head::default();
        head.push(bytes, Span::new(0, 10), Span::new(10, 22));
        let message = head.over(bytes);
        assert!(message.names(b"X_Own") && message.names(b"y-own") && !message.names(b"z-own"));
    }

    #[test]
    fn a_head_that_is_used_again_has_forgotten_the_fields_before() {
        let bytes = b"hosta";
        let mut head = Head::default();
        head.push(bytes, Span::new(0, 4), Span::new(4, 5));
        assert_eq!(head.over(bytes).values(Known::Host).count(), 1);
        head.request(Version::HTTP_11, Span::default(), Span::default());
        assert_eq!(head.over(bytes).values(Known::Host).count(), 0);
    }

    #[test]
    fn elements_go_over_all_lines_of_a_field() {
        let bytes = b"connectiona, ,b Connectionc";
        let mut head = Head::default();
        head.push(bytes, Span::new(0, 10), Span::new(10, 16));
        head.push(bytes, Span::new(16, 26), Span::new(26, 27));
        let message = head.over(bytes);
        let elements: Vec<_> = message.elements(Known::Connection).collect();
        assert_eq!(elements, [b"a", b"b", b"c"]);
        assert!(message.has(Known::Connection, "C"));
        assert!(!message.has(Known::Connection, "a, "));
        assert!(message.names(b"B") && !message.names(b"a, "));
        assert!(message.keeps_alive() && !message.says_upgrade());
    }
}
