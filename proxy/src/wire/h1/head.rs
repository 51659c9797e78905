//! Reading heads, strictly: a head that two readers could take for different things is refused
//! (RFC 9112, 2 to 6, without the lenience that 2.2 and 5.2 allow). One exception is made, for endpoints
//! alone: lines of their heads may end with a bare LF, as those of some CGI programs do.

use std::mem::MaybeUninit;

use http::Version;
use httparse::Header;

use super::body::{BadFraming, Framing};
use crate::wire::head::{Head, Known, Message, Span};

// Fields of one head: as many as `limits.header_count` can ask for.
pub(crate) use admin_api::MAX_FIELDS;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// Not HTTP, or not strictly.
    Syntax,
    /// More fields than are allowed.
    TooManyFields,
    /// A version of HTTP that this wire does not speak (RFC 9110, 15.6.6).
    Version,
    /// Its body's length is ambiguous or not to be understood (RFC 9112, 6.3).
    Framing,
    /// A transfer coding other than chunked (RFC 9112, 6.1).
    Coding,
}

impl From<BadFraming> for BadHead {
    fn from(_: BadFraming) -> Self {
        Self::Framing
    }
}

/// How lines may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    /// With CRLF. What ends otherwise ends elsewhere for other readers.
    Crlf,
    /// With LF, before which may be a CR.
    Lf,
}

/// Where a request's head ends, if all of it is there. `scanned` bytes were looked through before,
/// and are not again.
pub(crate) fn find_end(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, BadHead> {
    for at in memchr::memchr_iter(b'\n', &bytes[*scanned..]) {
        let at = *scanned + at;
        match &bytes[at.saturating_sub(3)..at] {
            [b'\r', b'\n', b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            // A line that ends otherwise than with CRLF ends elsewhere for other readers.
            _ => return Err(BadHead::Syntax),
        }
    }
    *scanned = bytes.len();
    Ok(None)
}

/// The same of a response's head.
pub(crate) fn find_response_end(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    for at in memchr::memchr_iter(b'\n', &bytes[*scanned..]) {
        let at = *scanned + at;
        if let [.., b'\n'] | [.., b'\n', b'\r'] = bytes[..at] {
            return Some(at + 1);
        }
    }
    *scanned = bytes.len();
    None
}

/// Reads a request's head if `bytes` begin with a whole one that is well, and gives its length.
/// What is not is left to [`find_end`] and [`read_request`].
pub(crate) fn request_at_once(bytes: &[u8], most: usize, head: &mut Head) -> Option<usize> {
    parse_request(bytes, most, head).ok().flatten()
}

/// The same of a response's head.
pub(crate) fn response_at_once(bytes: &[u8], head: &mut Head) -> Option<usize> {
    parse_response(bytes, head).ok().flatten()
}

/// Reads a request's head, which `bytes` is.
pub(crate) fn read_request(bytes: &[u8], most: usize, head: &mut Head) -> Result<(), BadHead> {
    whole(bytes, parse_request(bytes, most, head)?)
}

/// Reads a response's head, which `bytes` is.
pub(crate) fn read_response(bytes: &[u8], head: &mut Head) -> Result<(), BadHead> {
    whole(bytes, parse_response(bytes, head)?)
}

fn whole(bytes: &[u8], end: Option<usize>) -> Result<(), BadHead> {
    match end {
        Some(end) if end == bytes.len() => Ok(()),
        _ => Err(BadHead::Syntax),
    }
}

/// Reads the head of a request that `bytes` begin with, and gives its length; `None`: more is
/// to come.
fn parse_request(bytes: &[u8], most: usize, head: &mut Head) -> Result<Option<usize>, BadHead> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let slots = &mut slots[..most.min(MAX_FIELDS)];
    let read = request.parse_with_uninit_headers(bytes, slots);
    let end = match read {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyFields),
        Err(httparse::Error::Version) if has_other_version(bytes) => return Err(BadHead::Version),
        Err(_) => return Err(BadHead::Syntax),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(BadHead::Syntax);
    };
    if !target.bytes().all(is_in_target) {
        return Err(BadHead::Syntax);
    }
    let span = |part: &[u8]| span_of(bytes, part);
    head.request(
        version(minor),
        span(method.as_bytes()),
        span(target.as_bytes()),
    );
    // The parser would skip empty lines, which are skipped already.
    if span_of(bytes, method.as_bytes()).start() > 0 {
        return Err(BadHead::Syntax);
    }
    push_fields(head, &bytes[..end], request.headers, LineEnd::Crlf)?;
    Ok(Some(end))
}

/// Whether a target may have this byte, on whatever wire. UTF-8 that a client has not escaped is
/// escaped when the target goes on ([`crate::wire::target`]).
pub(crate) fn is_in_target(byte: u8) -> bool {
    byte > b' ' && byte != b'#' && byte != 0x7f
}

/// Reads the head of a response that `bytes` begin with, and gives its length; `None`: more is
/// to come.
fn parse_response(bytes: &[u8], head: &mut Head) -> Result<Option<usize>, BadHead> {
    // The parser would skip empty lines, which only requests may have before them.
    if !bytes.starts_with(b"HTTP/") {
        return Err(BadHead::Syntax);
    }
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut slots,
    );
    let end = match read {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(BadHead::Syntax),
    };
    let (Some(minor), Some(status @ 100..=999)) = (response.version, response.code) else {
        return Err(BadHead::Syntax);
    };
    let reason = response.reason.unwrap_or_default();
    head.response(version(minor), status, span_of(bytes, reason.as_bytes()));
    push_fields(head, &bytes[..end], response.headers, LineEnd::Lf)?;
    Ok(Some(end))
}

/// Reads a section of trailer fields, which `bytes` is, its last empty line included.
pub(crate) fn read_trailers(bytes: &[u8], head: &mut Head) -> Result<(), BadHead> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete((end, fields))) if end == bytes.len() => {
            head.request(Version::HTTP_11, Span::default(), Span::default());
            push_fields(head, bytes, fields, LineEnd::Crlf)
        }
        _ => Err(BadHead::Syntax),
    }
}

/// Adds the fields that were read of `bytes`, which are a head or trailer fields to their end.
/// The parser lets lines through that end otherwise than with CRLF: where they may not, every line
/// before a name is looked at, and the last two.
fn push_fields(
    head: &mut Head,
    bytes: &[u8],
    fields: &[Header<'_>],
    lines: LineEnd,
) -> Result<(), BadHead> {
    let is_strict = lines == LineEnd::Crlf;
    for field in fields {
        let name = span_of(bytes, field.name.as_bytes());
        if is_strict && name.start() > 0 && !bytes[..name.start()].ends_with(b"\r\n") {
            return Err(BadHead::Syntax);
        }
        head.push(bytes, name, span_of(bytes, field.value));
    }
    if !is_strict || bytes.ends_with(b"\r\n\r\n") || bytes == b"\r\n" {
        Ok(())
    } else {
        Err(BadHead::Syntax)
    }
}

/// Where `part`, which is a part of `bytes`, is in it.
fn span_of(bytes: &[u8], part: &[u8]) -> Span {
    if part.is_empty() {
        return Span::default();
    }
    let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
    Span::new(start, start + part.len())
}

fn version(minor: u8) -> Version {
    if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

/// Whether a request line is one, but for a version that this wire does not speak.
fn has_other_version(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]] = words[..] else {
        return false;
    };
    major.is_ascii_digit() && minor.is_ascii_digit()
}

/// How a request's body ends (RFC 9112, 6.3).
pub(crate) fn request_framing(request: Message<'_>) -> Result<Framing, BadHead> {
    match (content_length(request)?, coding(request)?) {
        (None, false) => Ok(Framing::Empty),
        (Some(length), false) => Ok(Framing::of_length(length)),
        (None, true) if request.version() == Version::HTTP_11 => Ok(Framing::Chunked),
        _ => Err(BadHead::Framing),
    }
}

/// How a response's body ends (RFC 9112, 6.3). `to_head`: the request's method was HEAD.
pub(crate) fn response_framing(response: Message<'_>, to_head: bool) -> Result<Framing, BadHead> {
    let framing = match (content_length(response)?, coding(response)?) {
        (None, false) => Framing::UntilClose,
        (Some(length), false) => Framing::of_length(length),
        (None, true) if response.version() == Version::HTTP_11 => Framing::Chunked,
        _ => return Err(BadHead::Framing),
    };
    let bodyless = to_head || matches!(response.status(), 100..=199 | 204 | 304);
    Ok(if bodyless { Framing::Empty } else { framing })
}

/// The length that a message gives for its body: one field, digits and nothing else.
fn content_length(message: Message<'_>) -> Result<Option<u64>, BadHead> {
    let mut values = message.values(Known::ContentLength);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match number(value) {
        Some(length) if values.next().is_none() => Ok(Some(length)),
        _ => Err(BadHead::Framing),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let more = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    let first = digits.first().map(|_| 0)?;
    digits.iter().try_fold(first, more)
}

/// Whether a message is chunked. Any other coding is refused, and chunked twice too.
fn coding(message: Message<'_>) -> Result<bool, BadHead> {
    let mut values = message.values(Known::TransferEncoding);
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(value), None) if is_other_coding(value) => Err(BadHead::Coding),
        _ => Err(BadHead::Framing),
    }
}

/// Whether it is a well-formed list of codings that ends with its only `chunked`, or a single
/// one that we do not know.
fn is_other_coding(value: &[u8]) -> bool {
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_token = |coding: &[u8]| {
        !coding.is_empty()
            && coding
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(b))
    };
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let count = codings.clone().filter(|coding| is_chunked(coding)).count();
    let last = codings.clone().next_back().unwrap_or_default();
    codings.all(is_token) && count == 1 && is_chunked(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Framing, BadHead> {
        let mut scanned = 0;
        let end = find_end(text.as_bytes(), &mut scanned)?;
        let bytes = &text.as_bytes()[..end.ok_or(BadHead::Syntax)?];
        let mut head = Head::default();
        read_request(bytes, 100, &mut head)?;
        request_framing(head.over(bytes))
    }

    #[track_caller]
    fn check(fields: &str, want: Result<Framing, BadHead>) {
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(request(&text), want, "{text:?}");
    }

    #[test]
    fn a_request_says_in_one_way_how_long_its_body_is() {
        check("", Ok(Framing::Empty));
        check("Content-Length: 0\r\n", Ok(Framing::Empty));
        check("Content-Length: 12\r\n", Ok(Framing::Length(12)));
        check("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked));
        for bad in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 1 1\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{bad}\r\n");
            assert!(
                matches!(request(&text), Err(BadHead::Framing | BadHead::Syntax)),
                "{text:?}"
            );
        }
        check("Transfer-Encoding: gzip, chunked\r\n", Err(BadHead::Coding));
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(request(old), Err(BadHead::Framing));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for bad in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            "GET / HTTP/1.1\r\n: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#f HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(request(bad), Err(BadHead::Syntax), "{bad:?}");
        }
        assert_eq!(
            request("GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            Err(BadHead::Version)
        );
        assert_eq!(
            request("GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            Err(BadHead::Version)
        );
        let many = "a: b\r\n".repeat(101);
        let text = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(request(&text), Err(BadHead::TooManyFields));
    }

    #[test]
    fn the_end_of_a_head_is_found_wherever_its_pieces_were_cut() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for cut in 0..text.len() - 4 {
            let mut scanned = 0;
            assert_eq!(find_end(&text[..cut], &mut scanned), Ok(None), "{cut}");
            assert_eq!(find_end(text, &mut scanned), Ok(Some(27)), "{cut}");
        }
    }

    fn response(text: &str, to_head: bool) -> Result<Framing, BadHead> {
        let mut head = Head::default();
        read_response(text.as_bytes(), &mut head)?;
        response_framing(head.over(text.as_bytes()), to_head)
    }

    #[test]
    fn a_response_ends_as_its_status_and_fields_say() {
        let one = "content-length: 1\r\n";
        let chunked = "transfer-encoding: chunked\r\n";
        for (line, fields, to_head, want) in [
            ("1.1 200 OK", "", false, Ok(Framing::UntilClose)),
            ("1.1 200 OK", one, false, Ok(Framing::Length(1))),
            ("1.1 200", one, true, Ok(Framing::Empty)),
            ("1.1 204 No Content", "", false, Ok(Framing::Empty)),
            ("1.1 304 Not Modified", one, false, Ok(Framing::Empty)),
            ("1.1 103 Early Hints", "", false, Ok(Framing::Empty)),
            ("1.1 200 OK", chunked, false, Ok(Framing::Chunked)),
            ("1.0 200 OK", chunked, false, Err(BadHead::Framing)),
            ("1.1 999 Odd", one, false, Ok(Framing::Length(1))),
            ("1.1 099 Odd", "", false, Err(BadHead::Syntax)),
            ("1.1 1000 Odd", "", false, Err(BadHead::Syntax)),
            ("1.1 20 OK", "", false, Err(BadHead::Syntax)),
        ] {
            let text = format!("HTTP/{line}\r\n{fields}\r\n");
            assert_eq!(response(&text, to_head), want, "{text:?}");
        }
        let both = format!("HTTP/1.1 200 OK\r\n{one}{chunked}\r\n");
        assert_eq!(response(&both, false), Err(BadHead::Framing));
        let twice = format!("HTTP/1.1 200 OK\r\n{one}{one}\r\n");
        assert_eq!(response(&twice, true), Err(BadHead::Framing));
        for bad in [
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
        ] {
            assert_eq!(response(bad, false), Err(BadHead::Syntax), "{bad:?}");
        }
    }

    #[test]
    fn lines_of_a_response_may_end_with_a_bare_lf() {
        let mut head = Head::default();
        for text in [
            "HTTP/1.0 200 OK\nServer: x\nContent-Length: 2\n\n",
            "HTTP/1.1 200\nServer: x\r\nContent-Length: 2\n\r\n",
            "HTTP/1.1 200 OK\r\nServer: x\nContent-Length: 2\r\n\n",
        ] {
            let whole = format!("{text}ok\n\n");
            for cut in 0..=text.len() {
                let (mut scanned, bytes) = (0, whole.as_bytes());
                let early = find_response_end(&bytes[..cut], &mut scanned);
                assert_eq!(early, (cut == text.len()).then_some(cut), "{text:?}");
                scanned *= usize::from(early.is_none());
                let end = find_response_end(bytes, &mut scanned);
                assert_eq!(end, Some(text.len()), "{text:?} after {cut}");
            }
            assert_eq!(
                response_at_once(whole.as_bytes(), &mut head),
                Some(text.len())
            );
            assert_eq!(response(text, false), Ok(Framing::Length(2)), "{text:?}");
            let message = head.over(whole.as_bytes());
            let values: Vec<&[u8]> = message.fields().map(|line| line.value).collect();
            assert_eq!(values, [&b"x"[..], b"2"], "{text:?}");
        }
        for bad in [
            "HTTP/1.1 200 OK\rServer: x\n\n",
            "HTTP/1.1 200 OK\nServer: x\ry\n\n",
            "HTTP/1.1 200 OK\nServer: x\r\r\n\n",
            "HTTP/1.1 200 OK\nServer: x\n y\n\n",
            "\nHTTP/1.1 200 OK\n\n",
        ] {
            assert_eq!(response(bad, false), Err(BadHead::Syntax), "{bad:?}");
        }
        // Trailer fields are in the body's framing, which is as strict as for clients.
        assert!(read_trailers(b"a: b\n\n", &mut head).is_err());
    }

    #[test]
    fn a_folded_trailer_is_refused() {
        let mut head = Head::default();
        assert!(read_trailers(b"a: b\r\n\r\n", &mut head).is_ok());
        let folded = read_trailers(b"a: b\r\n c\r\n\r\n", &mut head);
        assert_eq!(folded, Err(BadHead::Syntax));
    }
}
