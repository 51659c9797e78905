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
    /// Of a request; of an answer, the reason phrase.
    line: [Span; 2],
    /// Of an answer.
    pub(crate) status: u16,
    fields: Vec<Field>,
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
    XForwardedProto,
    XRealIp,
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
        }
    }
}

impl Head {
    /// Begins a request's head.
    pub(crate) fn request(&mut self, version: Version, method: Span, target: Span) {
        self.version = version;
        self.line = [method, target];
        self.status = 0;
        self.fields.clear();
    }

    /// Begins an answer's head.
    pub(crate) fn answer(&mut self, version: Version, status: u16, reason: Span) {
        self.version = version;
        self.line = [Span::default(), reason];
        self.status = status;
        self.fields.clear();
    }

    /// Adds a field whose name is `name_bytes`.
    pub(crate) fn push(&mut self, name_bytes: &[u8], name: Span, value: Span) {
        self.fields.push(Field {
            known: Known::of(name_bytes),
            name,
            value,
        });
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

    /// Every field in the order in which it came: what it is, its name, its value.
    pub(crate) fn fields(self) -> impl Iterator<Item = (Known, &'m [u8], &'m [u8])> {
        let bytes = self.bytes;
        self.head
            .fields
            .iter()
            .map(move |field| (field.known, field.name.of(bytes), field.value.of(bytes)))
    }

    /// The values of a known field.
    pub(crate) fn values(self, known: Known) -> impl Iterator<Item = &'m [u8]> {
        let bytes = self.bytes;
        self.head
            .fields
            .iter()
            .filter(move |field| field.known == known)
            .map(move |field| field.value.of(bytes))
    }

    /// The values of any field, by its name in any case.
    pub(crate) fn named(self, name: &str) -> impl Iterator<Item = &'m [u8]> {
        self.fields()
            .filter(move |(_, other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, _, value)| value)
    }

    /// The elements of a comma-separated known field, over all its lines.
    pub(crate) fn elements(self, known: Known) -> impl Iterator<Item = &'m [u8]> {
        self.values(known)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether a comma-separated known field has this element, in any case.
    pub(crate) fn has(self, known: Known, element: &str) -> bool {
        self.elements(known)
            .any(|other| other.eq_ignore_ascii_case(element.as_bytes()))
    }
}

impl Known {
    /// What a field is, by its name in any case.
    pub(crate) fn of(name: &[u8]) -> Self {
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Te)],
            4 => &[("host", Self::Host), ("date", Self::Date)],
            6 => &[
                ("accept", Self::Accept),
                ("cookie", Self::Cookie),
                ("expect", Self::Expect),
            ],
            7 => &[("upgrade", Self::Upgrade)],
            9 => &[("forwarded", Self::Forwarded), ("x-real-ip", Self::XRealIp)],
            10 => &[
                ("connection", Self::Connection),
                ("keep-alive", Self::KeepAlive),
            ],
            12 => &[("max-forwards", Self::MaxForwards)],
            14 => &[
                ("content-length", Self::ContentLength),
                ("http2-settings", Self::Http2Settings),
            ],
            15 => &[("x-forwarded-for", Self::XForwardedFor)],
            16 => &[
                ("proxy-connection", Self::ProxyConnection),
                ("x-forwarded-host", Self::XForwardedHost),
            ],
            17 => &[
                ("transfer-encoding", Self::TransferEncoding),
                ("x-forwarded-proto", Self::XForwardedProto),
            ],
            _ => &[],
        };
        candidates
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            .map_or(Self::Other, |(_, known)| *known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_by_its_name_in_any_case() {
        assert_eq!(Known::of(b"Content-Length"), Known::ContentLength);
        assert_eq!(Known::of(b"TE"), Known::Te);
        assert_eq!(Known::of(b"content_length"), Known::Other);
        assert_eq!(Known::of(b""), Known::Other);
    }

    #[test]
    fn elements_go_over_all_lines_of_a_field() {
        let bytes = b"connectiona, ,b Connectionc";
        let mut head = Head::default();
        head.push(&bytes[..10], Span::new(0, 10), Span::new(10, 16));
        head.push(&bytes[16..26], Span::new(16, 26), Span::new(26, 27));
        let message = head.over(bytes);
        let elements: Vec<_> = message.elements(Known::Connection).collect();
        assert_eq!(elements, [b"a", b"b", b"c"]);
        assert!(message.has(Known::Connection, "C"));
        assert!(!message.has(Known::Connection, "a, "));
    }
}
