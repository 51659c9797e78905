//! An answer as it comes in: its head is read, its body is only counted.

/// Heads past this are refused.
const MAX_HEAD: usize = 16 * 1024;

/// What has come of one answer.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    /// The start of a head whose end has not come.
    head: Vec<u8>,
    body: Option<Body>,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    left: usize,
    response: Response,
}

/// An answer that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    /// Its status code.
    pub(crate) status: u16,
    /// The length of its body.
    pub(crate) length: usize,
    /// The connection ends with it.
    pub(crate) last: bool,
    /// The first character of `X-Version`: which origin answered.
    pub(crate) version: u8,
}

/// What was read was no answer that the load generator understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl ResponseReader {
    /// Takes in bytes. `Some` when the response is complete; what comes after it belongs to nothing.
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

    /// Takes in bytes of the body that nobody has looked at.
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

    /// Nothing of it has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_none() && self.head.is_empty()
    }

    /// How much of its body is still to come; 0 before its head is complete.
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
    // The origin always gives a length, and no proxy may lose it.
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
    fn an_answer_is_the_same_in_however_many_pieces_it_comes() {
        for cut in 0..TEXT.len() {
            let mut answer = ResponseReader::default();
            assert!(answer.is_empty());
            let (first, second) = TEXT.split_at(cut);
            if !first.is_empty() {
                assert_eq!(answer.read(first), Ok(None));
                assert!(!answer.is_empty());
            }
            assert_eq!(answer.read(second), Ok(Some(WHOLE)), "cut at {cut}");
            assert!(answer.is_empty());
        }
    }

    #[test]
    fn a_body_can_be_counted_without_being_read() {
        let mut answer = ResponseReader::default();
        let head = TEXT.len() - 5;
        assert_eq!(answer.read(&TEXT[..head]), Ok(None));
        assert_eq!(answer.body_left(), 5);
        assert_eq!(answer.skip(4), Ok(None));
        assert_eq!(answer.skip(1), Ok(Some(WHOLE)));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
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
