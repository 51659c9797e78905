//! Reads a response: the head is parsed, the body is only counted.

/// The longest head.
const MAX_HEAD: usize = 16 * 1024;

/// The state of one response that is being received.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    /// The beginning of a head that is not complete.
    head: Vec<u8>,
    body: Option<Body>,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    left: usize,
    response: Response,
}

/// A complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    /// Its status code.
    pub(crate) status: u16,
    /// The length of its body.
    pub(crate) length: usize,
    /// Whether the connection closes after it.
    pub(crate) last: bool,
    /// The first character of `X-Version`: the version of the origin.
    pub(crate) version: u8,
}

/// The bytes are no response that the load generator can parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl ResponseReader {
    /// Reads bytes. Returns the response when it is complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Option<Response>, Malformed> {
        let mut joined;
        let mut bytes = bytes;
        if self.body.is_none() {
            if !self.head.is_empty() {
                joined = std::mem::take(&mut self.head);
                joined.extend_from_slice(bytes);
                bytes = &joined;
            }
            let Some((body, head_length)) = parse(bytes)? else {
                if bytes.len() > MAX_HEAD {
                    return Err(Malformed);
                }
                self.head = bytes.to_vec();
                return Ok(None);
            };
            self.body = Some(body);
            bytes = bytes.get(head_length..).unwrap_or_default();
        }
        self.skip(bytes.len())
    }

    /// Counts bytes of the body that were discarded unread.
    pub(crate) fn skip(&mut self, length: usize) -> Result<Option<Response>, Malformed> {
        let Some(body) = &mut self.body else {
            return Err(Malformed);
        };
        body.left = body.left.checked_sub(length).ok_or(Malformed)?;
        if body.left > 0 {
            return Ok(None);
        }
        let response = body.response;
        self.body = None;
        Ok(Some(response))
    }

    /// Whether no byte of it has been received.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_none() && self.head.is_empty()
    }

    /// The missing bytes of its body; 0 before the head is complete.
    pub(crate) fn body_left(&self) -> usize {
        self.body.map_or(0, |body| body.left)
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Body, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    let head_length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed),
    };
    let mut length = None;
    let mut response = Response {
        status: parsed.code.unwrap_or(0),
        length: 0,
        last: parsed.version == Some(0),
        version: b'?',
    };
    for header in parsed.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(|_| Malformed)?;
            length = Some(text.parse().map_err(|_| Malformed)?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            response.last |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("x-version") {
            response.version = header.value.first().copied().unwrap_or(b'?');
        }
    }
    // The origin always sends a length, and no proxy may remove it.
    let length = match response.status {
        101 | 204 | 304 => 0,
        _ => length.ok_or(Malformed)?,
    };
    response.length = length;
    let body = Body {
        left: length,
        response,
    };
    Ok(Some((body, head_length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"HTTP/1.1 200 OK\r\nX-Version: 2.0.0\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello";

    const WHOLE: Response = Response {
        status: 200,
        length: 5,
        last: true,
        version: b'2',
    };

    #[test]
    fn a_response_is_the_same_for_every_split_of_its_bytes() {
        for cut in 0..TEXT.len() {
            let mut reader = ResponseReader::default();
            assert!(reader.is_empty());
            let (first, second) = TEXT.split_at(cut);
            if !first.is_empty() {
                assert_eq!(reader.read(first), Ok(None));
                assert!(!reader.is_empty());
            }
            assert_eq!(reader.read(second), Ok(Some(WHOLE)), "cut at {cut}");
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn a_body_can_be_counted_without_being_read() {
        let mut reader = ResponseReader::default();
        let head = TEXT.len() - 5;
        assert_eq!(reader.read(&TEXT[..head]), Ok(None));
        assert_eq!(reader.body_left(), 5);
        assert_eq!(reader.skip(4), Ok(None));
        assert_eq!(reader.skip(1), Ok(Some(WHOLE)));
    }

    #[test]
    fn an_invalid_response_is_refused() {
        for text in [
            &b"HELLO\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        ] {
            assert_eq!(ResponseReader::default().read(text), Err(Malformed));
        }
    }
}
