//! RFC 9112, read strictly and slowly: what a recipient without any lenience makes of bytes. It
//! was written from the RFC, and shares nothing with the proxy, whose reading it judges.

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not all there.
    More,
    /// It breaks a rule.
    Bad(&'static str),
}

/// Something that was read, and where what comes after it begins.
pub type Parsed<T> = Result<(T, usize), Fault>;

/// Names and values of field lines.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// HTTP/1.0.
    pub is_old: bool,
    pub fields: Fields,
    pub end: End,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    pub reason: Vec<u8>,
    /// HTTP/1.0.
    pub is_old: bool,
    pub fields: Fields,
    pub end: End,
}

/// A body, taken out of its framing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    pub data: Vec<u8>,
    pub trailers: Fields,
    /// Some chunk has an extension.
    pub extensions: bool,
}

/// The values of a field.
pub fn values<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    let named = |(other, value): &'f (Vec<u8>, Vec<u8>)| {
        let is_it = other.eq_ignore_ascii_case(name.as_bytes());
        is_it.then_some(value.as_slice())
    };
    fields.iter().filter_map(named).collect()
}

/// A request, to its last byte.
pub fn request(bytes: &[u8]) -> Parsed<(RequestHead, Body)> {
    let (head, at) = request_head(bytes)?;
    let (body, at) = body(head.end, bytes, at, false)?;
    Ok(((head, body), at))
}

/// How the lines of a head may end (RFC 9112, 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// With CRLF.
    Crlf,
    /// With LF, too: the proxy lets endpoints do so.
    Lf,
}

/// A response, to its last byte. `closed`: nothing comes after `bytes`.
pub fn response(
    bytes: &[u8],
    to_head: bool,
    closed: bool,
    lines: LineEnd,
) -> Parsed<(ResponseHead, Body)> {
    let (head, at) = response_head(bytes, to_head, lines)?;
    let (body, at) = body(head.end, bytes, at, closed)?;
    Ok(((head, body), at))
}

/// RFC 9112, 3.
pub fn request_head(bytes: &[u8]) -> Parsed<RequestHead> {
    let (first, at) = line(bytes, 0, LineEnd::Crlf)?;
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Fault::Bad("a request line has three words"));
    };
    if !is_token(method) {
        return Err(Fault::Bad("a method is a token"));
    }
    // RFC 3986 allows less, but the rest is not mistaken for anything else. What is not ASCII goes on
    // as escapes.
    if target.is_empty()
        || !target
            .iter()
            .all(|b| matches!(b, 0x21..=0x7e | 0x80..) && *b != b'#')
    {
        return Err(Fault::Bad("a target is visible and has no fragment"));
    }
    let is_old = is_old(version)?;
    let (fields, at) = fields(bytes, at, LineEnd::Crlf)?;
    match (values(&fields, "host").len(), is_old) {
        (1, _) | (0, true) => {}
        _ => return Err(Fault::Bad("a request has one Host")),
    }
    let end = match (length(&fields)?, chunks(&fields, is_old)?) {
        (None, false) => End::Empty,
        (Some(length), false) => End::Length(length),
        (None, true) => End::Chunked,
        (Some(_), true) => return Err(Fault::Bad("a body has one kind of framing")),
    };
    let head = RequestHead {
        method: method.to_vec(),
        target: target.to_vec(),
        is_old,
        fields,
        end,
    };
    Ok((head, at))
}

/// RFC 9112, 4.
pub fn response_head(bytes: &[u8], to_head: bool, lines: LineEnd) -> Parsed<ResponseHead> {
    let (first, at) = line(bytes, 0, lines)?;
    let (version, rest) = first.split_at(first.len().min(8));
    let is_old = is_old(version)?;
    let [b' ', a @ b'1'..=b'9', b, c, b' ', reason @ ..] = rest else {
        return Err(Fault::Bad("a status line has a status between two spaces"));
    };
    if !b.is_ascii_digit() || !c.is_ascii_digit() {
        return Err(Fault::Bad("a status has three digits"));
    }
    let status = [a, b, c]
        .iter()
        .fold(0, |sum, digit| sum * 10 + u16::from(*digit - b'0'));
    if !reason.iter().all(|byte| is_text(*byte)) {
        return Err(Fault::Bad("a reason phrase is text"));
    }
    let (fields, at) = fields(bytes, at, lines)?;
    let end = match (length(&fields)?, chunks(&fields, is_old)?) {
        (Some(_), true) => return Err(Fault::Bad("a body has one kind of framing")),
        _ if to_head || matches!(status, 100..=199 | 204 | 304) => End::Empty,
        (None, false) => End::UntilClose,
        (Some(length), false) => End::Length(length),
        (None, true) => End::Chunked,
    };
    let head = ResponseHead {
        status,
        reason: reason.to_vec(),
        is_old,
        fields,
        end,
    };
    Ok((head, at))
}

/// RFC 9112, 7.1.
pub fn chunked(bytes: &[u8], mut at: usize) -> Parsed<Body> {
    let mut body = Body::default();
    loop {
        let (size_line, data) = line(bytes, at, LineEnd::Crlf)?;
        let digits = size_line
            .iter()
            .take_while(|b| b.is_ascii_hexdigit())
            .count();
        let (digits, extension) = size_line.split_at(digits);
        if digits.is_empty() {
            return Err(Fault::Bad("a chunk begins with its size"));
        }
        let size = digits.iter().try_fold(0_u64, |size, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            size.checked_mul(16)?.checked_add(u64::from(digit))
        });
        let size = size.ok_or(Fault::Bad("a chunk's size is a number of 64 bits"))?;
        // Recipients have to ignore extensions, whatever they say.
        let is_extension = |b: &u8| *b == b'\t' || matches!(b, 0x20..=0x7e);
        if !extension.is_empty() && extension[0] != b';' || !extension.iter().all(is_extension) {
            return Err(Fault::Bad(
                "after a chunk's size comes nothing but extensions",
            ));
        }
        body.extensions |= !extension.is_empty();
        if size == 0 {
            let (trailers, end) = fields(bytes, data, LineEnd::Crlf)?;
            body.trailers = trailers;
            return Ok((body, end));
        }
        let here = &bytes[data..];
        let size = usize::try_from(size).map_err(|_| Fault::More)?;
        if here.len() < size {
            return Err(Fault::More);
        }
        body.data.extend_from_slice(&here[..size]);
        at = match &here[size..] {
            [b'\r', b'\n', ..] => data + size + 2,
            [] | [b'\r'] => return Err(Fault::More),
            _ => return Err(Fault::Bad("a chunk's data ends with CRLF")),
        };
    }
}

fn body(end: End, bytes: &[u8], at: usize, closed: bool) -> Parsed<Body> {
    let plain = |end: usize| {
        let body = Body {
            data: bytes[at..end].to_vec(),
            ..Body::default()
        };
        Ok((body, end))
    };
    match end {
        End::Empty => plain(at),
        End::Chunked => chunked(bytes, at),
        End::UntilClose if closed => plain(bytes.len()),
        End::UntilClose => Err(Fault::More),
        End::Length(length) if length > (bytes.len() - at) as u64 => Err(Fault::More),
        End::Length(length) => plain(at + length as usize),
    }
}

/// The line at this place, without its end (RFC 9112, 2.2).
fn line(bytes: &[u8], at: usize, lines: LineEnd) -> Parsed<&[u8]> {
    let rest = &bytes[at..];
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let end = end.ok_or(Fault::More)?;
    match &rest[end..] {
        [b'\r', b'\n', ..] => Ok((&rest[..end], at + end + 2)),
        [b'\r'] => Err(Fault::More),
        [b'\n', ..] if lines == LineEnd::Lf => Ok((&rest[..end], at + end + 1)),
        _ => Err(Fault::Bad("a line ends with CRLF")),
    }
}

/// Field lines up to an empty one (RFC 9112, 5).
fn fields(bytes: &[u8], mut at: usize, lines: LineEnd) -> Parsed<Fields> {
    let mut fields = Vec::new();
    loop {
        let (line, next) = line(bytes, at, lines)?;
        at = next;
        if line.is_empty() {
            return Ok((fields, at));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or(Fault::Bad("a field line has a colon"))?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // A folded line begins with a space, and so has no such name.
        if !is_token(name) {
            return Err(Fault::Bad("a field's name is a token"));
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().take_while(|b| is_space(b)).count();
        let end = value.iter().rev().take_while(|b| is_space(b)).count();
        let value = if start == value.len() {
            &[]
        } else {
            &value[start..value.len() - end]
        };
        if !value.iter().all(|byte| is_text(*byte)) {
            return Err(Fault::Bad("a field's value is text"));
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
}

fn is_old(version: &[u8]) -> Result<bool, Fault> {
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Fault::Bad("the version is HTTP/1.0 or HTTP/1.1")),
    }
}

/// RFC 9112, 6.2: in one way only.
fn length(fields: &Fields) -> Result<Option<u64>, Fault> {
    match values(fields, "content-length")[..] {
        [] => Ok(None),
        [value] if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
            let length = value.iter().try_fold(0_u64, |sum, digit| {
                sum.checked_mul(10)?.checked_add(u64::from(*digit - b'0'))
            });
            length
                .map(Some)
                .ok_or(Fault::Bad("a length is a number of 64 bits"))
        }
        _ => Err(Fault::Bad("a length is one number, said once")),
    }
}

/// RFC 9112, 6.1: of the codings only chunked.
fn chunks(fields: &Fields, is_old: bool) -> Result<bool, Fault> {
    match values(fields, "transfer-encoding")[..] {
        [] => Ok(false),
        [value] if value.eq_ignore_ascii_case(b"chunked") && !is_old => Ok(true),
        _ => Err(Fault::Bad("a message is chunked once, and not in HTTP/1.0")),
    }
}

/// RFC 9110, 5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// RFC 9110, 5.5.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e | 0x80..=0xff)
}

/// The normal form of a path (RFC 3986, 6.2.2), with one slash for several. `None`: an escape is broken,
/// or it goes above the root.
pub fn normal_path(path: &[u8]) -> Option<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut is_folder = true;
    for segment in path.split(|byte| *byte == b'/') {
        let segment = unescaped(segment)?;
        is_folder = matches!(&segment[..], b"" | b"." | b"..");
        match &segment[..] {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    if is_folder {
        segments.push(Vec::new());
    }
    Some([b"/", &segments.join(&b'/')[..]].concat())
}

/// Whether a path has a segment that is a dot segment once it is unescaped.
pub fn has_dots(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    segments.any(|segment| {
        let segment = unescaped(segment).unwrap_or_default();
        segment == b"." || segment == b".."
    })
}

/// A segment with the escapes that it needs, and no other (RFC 3986, 2.1 to 2.3).
fn unescaped(segment: &[u8]) -> Option<Vec<u8>> {
    let text = segment.split(|byte| *byte == b'%');
    let mut parts = text.map(<[u8]>::to_vec);
    let mut whole = escaped(&parts.next()?);
    for part in parts {
        let digits = std::str::from_utf8(part.get(..2)?).ok()?;
        let are_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| are_hex)?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            whole.push(byte);
        } else {
            whole.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
        whole.extend_from_slice(&escaped(&part[2..]));
    }
    Some(whole)
}

/// The same with escapes for what is not ASCII.
pub fn escaped(text: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte.is_ascii() {
        true => vec![*byte],
        false => format!("%{byte:02X}").into_bytes(),
    };
    text.iter().flat_map(escape).collect()
}
