//! Where a body ends (RFC 9112, 6 and 7.1): a state machine over bytes, without any I/O.

/// The longest line that gives a chunk's size, its extensions included.
const MAX_SIZE_LINE: usize = 256;
/// The longest section of trailer fields.
const MAX_TRAILERS: usize = 8 * 1024;

/// How a body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes, above 0.
    Length(u64),
    Chunked,
    /// It ends with the connection; responses only.
    UntilClose,
}

/// Reads one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of data are left.
    Length(u64),
    UntilClose,
    /// A chunk's size line comes next.
    Size,
    /// So much of a chunk is left, and the CRLF after it.
    Chunk(u64),
    Done,
}

/// What comes next in a body. The caller takes off what it was told about before it asks again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// `skip` bytes of framing, then `data` bytes of data, at least one.
    Data { skip: usize, data: usize },
    /// More has to be read before anything can be said.
    More,
    /// `skip` bytes of framing, then `trailers` bytes of trailer fields with the empty line
    /// after them (0: there are none), then the body's end.
    End { skip: usize, trailers: usize },
}

/// The framing of a body is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFraming;

impl Framing {
    pub(crate) fn of_length(length: u64) -> Self {
        if length == 0 {
            Self::Empty
        } else {
            Self::Length(length)
        }
    }

    /// How long it is, where that is said.
    pub(crate) fn length(self) -> u64 {
        match self {
            Self::Length(length) => length,
            Self::Empty | Self::Chunked | Self::UntilClose => 0,
        }
    }
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// What `input`, all that was read and not taken off yet, begins with.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Piece, BadFraming> {
        match self.0 {
            State::Done => Ok(Piece::End {
                skip: 0,
                trailers: 0,
            }),
            _ if input.is_empty() => Ok(Piece::More),
            State::Length(left) => {
                let data = most(left, input.len());
                self.0 = match left - data as u64 {
                    0 => State::Done,
                    left => State::Length(left),
                };
                Ok(Piece::Data { skip: 0, data })
            }
            State::UntilClose => Ok(Piece::Data {
                skip: 0,
                data: input.len(),
            }),
            State::Chunk(0) => match input {
                [b'\r', b'\n', ..] => self.size(input, 2),
                [b'\r'] => Ok(Piece::More),
                _ => Err(BadFraming),
            },
            State::Chunk(left) => {
                let data = most(left, input.len());
                self.0 = State::Chunk(left - data as u64);
                Ok(Piece::Data { skip: 0, data })
            }
            State::Size => self.size(input, 0),
        }
    }

    /// The input has ended. Whether the body may end here.
    pub(crate) fn ends_here(&self) -> bool {
        matches!(self.0, State::Done | State::UntilClose)
    }

    /// Bytes of data that are surely left, with nothing but data among them; `None`: until the
    /// connection is closed. Such data may be moved without being looked at.
    pub(crate) fn plain(&self) -> Option<Option<u64>> {
        match self.0 {
            State::Length(left) => Some(Some(left)),
            State::UntilClose => Some(None),
            _ => None,
        }
    }

    /// So much of the plain data was moved without being looked at.
    pub(crate) fn moved(&mut self, count: u64) {
        if let State::Length(left) = self.0 {
            self.0 = match left.saturating_sub(count) {
                0 => State::Done,
                left => State::Length(left),
            };
        }
    }

    /// Whether the body ends where this input does.
    pub(crate) fn ends_with(&self, input: &[u8]) -> bool {
        let (mut decoder, mut rest) = (*self, input);
        loop {
            match decoder.next(rest) {
                Ok(Piece::Data { skip, data }) => rest = &rest[skip + data..],
                Ok(Piece::End { skip, trailers }) => return rest.len() == skip + trailers,
                Ok(Piece::More) | Err(BadFraming) => return false,
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// A size line begins after `skip` bytes of `input`. While it or what follows it is not all
    /// there, the state stays, and all of it is read again with what comes.
    fn size(&mut self, input: &[u8], skip: usize) -> Result<Piece, BadFraming> {
        let Some(line) = line(&input[skip..], MAX_SIZE_LINE)? else {
            return Ok(Piece::More);
        };
        let size = chunk_size(line)?;
        let skip = skip + line.len() + 2;
        if size == 0 {
            return self.trailers(input, skip);
        }
        let data = most(size, input.len() - skip);
        if data == 0 {
            return Ok(Piece::More);
        }
        self.0 = State::Chunk(size - data as u64);
        Ok(Piece::Data { skip, data })
    }

    /// The trailer section begins after `skip` bytes of `input`.
    fn trailers(&mut self, input: &[u8], skip: usize) -> Result<Piece, BadFraming> {
        let section = &input[skip..];
        let mut length = 0;
        while let Some(line) = line(&section[length..], MAX_TRAILERS - length)? {
            length += line.len() + 2;
            if line.is_empty() {
                self.0 = State::Done;
                return Ok(match length {
                    2 => Piece::End {
                        skip: skip + 2,
                        trailers: 0,
                    },
                    trailers => Piece::End { skip, trailers },
                });
            }
            if length > MAX_TRAILERS {
                return Err(BadFraming);
            }
        }
        Ok(Piece::More)
    }
}

/// The line that `input` begins with, without its CRLF; `None`: not all of it is there.
fn line(input: &[u8], longest: usize) -> Result<Option<&[u8]>, BadFraming> {
    match memchr::memchr2(b'\n', b'\r', input) {
        Some(at) if at > longest => Err(BadFraming),
        Some(at) => match &input[at..] {
            [b'\r', b'\n', ..] => Ok(Some(&input[..at])),
            [b'\r'] => Ok(None),
            _ => Err(BadFraming),
        },
        None if input.len() > longest => Err(BadFraming),
        None => Ok(None),
    }
}

/// The number that a size line begins with. Extensions after it are dropped, but have to look
/// like some (RFC 9112, 7.1.1).
fn chunk_size(line: &[u8]) -> Result<u64, BadFraming> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, extension) = line.split_at(digits);
    if digits.is_empty() || digits.len() > 16 {
        return Err(BadFraming);
    }
    let is_text = |byte: &u8| *byte == b'\t' || (b' '..=b'~').contains(byte);
    if !(extension.is_empty() || extension[0] == b';' && extension.iter().all(is_text)) {
        return Err(BadFraming);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BadFraming)?;
    u64::from_str_radix(text, 16).map_err(|_| BadFraming)
}

fn most(left: u64, here: usize) -> usize {
    usize::try_from(left).map_or(here, |left| left.min(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces of `step` bytes, and what is left behind it.
    fn read(framing: Framing, input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>), BadFraming> {
        let mut decoder = Decoder::new(framing);
        let (mut data, mut trailers) = (Vec::new(), Vec::new());
        let (mut start, mut end) = (0, 0);
        loop {
            match decoder.next(&input[start..end])? {
                Piece::Data { skip, data: count } => {
                    assert!(count > 0);
                    data.extend_from_slice(&input[start + skip..start + skip + count]);
                    start += skip + count;
                }
                Piece::End {
                    skip,
                    trailers: count,
                } => {
                    trailers.extend_from_slice(&input[start + skip..start + skip + count]);
                    assert!(decoder.is_done() && decoder.ends_here());
                    assert_eq!(&input[start + skip + count..], b"next", "step {step}");
                    return Ok((data, trailers));
                }
                Piece::More if end == input.len() => return Err(BadFraming),
                Piece::More => end = (end + step).min(input.len()),
            }
        }
    }

    #[track_caller]
    fn check(input: &str, want: Result<(&str, &str), BadFraming>) {
        for step in [1, 2, 3, 7, 1000] {
            let got = read(Framing::Chunked, input.as_bytes(), step);
            let want = want.map(|(data, trailers)| (data.into(), trailers.into()));
            assert_eq!(got, want, "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn chunks_are_taken_apart_however_they_arrive() {
        check("0\r\n\r\nnext", Ok(("", "")));
        check("5\r\nhello\r\n0\r\n\r\nnext", Ok(("hello", "")));
        check(
            "000A;name=\"value\"\r\n0123456789\r\n1\r\n!\r\n00\r\n\r\nnext",
            Ok(("0123456789!", "")),
        );
        check(
            "1\r\na\r\n0\r\nx: y\r\nz: \r\n\r\nnext",
            Ok(("a", "x: y\r\nz: \r\n\r\n")),
        );
    }

    #[test]
    fn anything_but_chunks_is_refused() {
        for bad in [
            "5\nhello\r\n0\r\n\r\nnext",
            "5\r\nhello\n0\r\n\r\nnext",
            "5\r\nhello!\r\n0\r\n\r\nnext",
            "5\rx\nhello\r\n0\r\n\r\nnext",
            "5 \r\nhello\r\n0\r\n\r\nnext",
            "5;\0\r\nhello\r\n0\r\n\r\nnext",
            " 5\r\nhello\r\n0\r\n\r\nnext",
            "+5\r\nhello\r\n0\r\n\r\nnext",
            "0x5\r\nhello\r\n0\r\n\r\nnext",
            "-1\r\nhello\r\n0\r\n\r\nnext",
            "\r\n0\r\n\r\nnext",
            "g\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\nnext",
            "0\r\n\nnext",
            "0\r\nx: y\n\r\nnext",
        ] {
            check(bad, Err(BadFraming));
        }
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\nnext", "x".repeat(MAX_SIZE_LINE));
        check(&long, Err(BadFraming));
        let trailers = "x: y\r\n".repeat(MAX_TRAILERS / 6 + 1);
        check(&format!("0\r\n{trailers}\r\nnext"), Err(BadFraming));
    }

    #[test]
    fn a_body_of_known_length_ends_at_its_length() {
        for step in [1, 3, 100] {
            let got = read(Framing::Length(5), b"hellonext", step);
            assert_eq!(got, Ok((b"hello".to_vec(), Vec::new())), "{step}");
        }
        let mut decoder = Decoder::new(Framing::Length(10));
        assert!(!decoder.ends_here());
        assert_eq!(decoder.plain(), Some(Some(10)));
        decoder.moved(10);
        assert!(decoder.is_done());
        assert!(Decoder::new(Framing::UntilClose).ends_here());
        assert!(!Decoder::new(Framing::Chunked).ends_here());
    }
}
