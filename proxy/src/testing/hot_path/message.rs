//! Messages of HTTP/1.1, read from a socket without the proxy's own parser.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::clock::Watched;

/// A socket, and the bytes that were read from it and not used yet.
pub(crate) struct Reader {
    pub(crate) stream: Watched,
    bytes: Vec<u8>,
    /// The socket has ended: with a reset, if `Err`.
    end: Option<Result<(), ()>>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(usize),
    Chunks,
    UntilClose,
}

/// A body, as far as it came.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) data: Vec<u8>,
    /// The trailer section, without the empty line behind it.
    pub(crate) trailers: String,
    pub(crate) is_whole: bool,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream: Watched(stream),
            bytes: Vec::new(),
            end: None,
        }
    }

    /// Reads more. Gives whether anything came.
    async fn fill(&mut self) -> bool {
        if self.end.is_none() {
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(1..) => return true,
                Ok(0) => self.end = Some(Ok(())),
                Err(_) => self.end = Some(Err(())),
            }
        }
        false
    }

    /// Reads everything until the other side ends, and gives how it ended.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Result<(), ()>) {
        while self.fill().await {}
        (std::mem::take(&mut self.bytes), self.end.unwrap_or(Ok(())))
    }

    /// The next bytes, up to and with this mark.
    async fn until(&mut self, mark: &[u8]) -> Option<String> {
        loop {
            let found = self.bytes.windows(mark.len()).position(|part| part == mark);
            if let Some(at) = found {
                let rest = self.bytes.split_off(at + mark.len());
                let part = std::mem::replace(&mut self.bytes, rest);
                return Some(String::from_utf8_lossy(&part).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads a head, with the empty line behind it. `None`: the other side ended before.
    pub(crate) async fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").await
    }

    pub(crate) async fn body(&mut self, length: Length) -> Body {
        let mut body = Body::default();
        match length {
            Length::Bytes(count) => {
                while self.bytes.len() < count && self.fill().await {}
                body.is_whole = self.bytes.len() >= count;
                body.data = self.bytes.drain(..count.min(self.bytes.len())).collect();
            }
            Length::UntilClose => {
                let (data, end) = self.rest().await;
                (body.data, body.is_whole) = (data, end.is_ok());
            }
            Length::Chunks => {
                body.is_whole = self.chunks(&mut body).await.is_some();
            }
        }
        body
    }

    async fn chunks(&mut self, body: &mut Body) -> Option<()> {
        loop {
            let size = self.until(b"\r\n").await?;
            let size = usize::from_str_radix(size.trim_end().split(';').next()?, 16).ok()?;
            if size == 0 {
                break;
            }
            while self.bytes.len() < size + 2 && self.fill().await {}
            body.data
                .extend_from_slice(&self.bytes[..size.min(self.bytes.len())]);
            if self.bytes.len() < size + 2 {
                return None;
            }
            self.bytes.drain(..size + 2);
        }
        loop {
            let line = self.until(b"\r\n").await?;
            if line == "\r\n" {
                return Some(());
            }
            body.trailers.push_str(&line);
        }
    }
}

/// The value of a field, where it is in this head.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).find_map(|line| {
        let (other, value) = line.split_once(':')?;
        other.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where the body ends that a request's head announces.
pub(crate) fn length_of_request(head: &str) -> Length {
    match field(head, "transfer-encoding") {
        Some(_) => Length::Chunks,
        None => {
            Length::Bytes(field(head, "content-length").map_or(0, |length| length.parse().unwrap()))
        }
    }
}

/// The same of a response's head.
pub(crate) fn length_of_response(head: &str, status: u16, to_head: bool) -> Length {
    if to_head || matches!(status, 100..=199 | 204 | 304) {
        return Length::Bytes(0);
    }
    match (
        field(head, "transfer-encoding"),
        field(head, "content-length"),
    ) {
        (Some(_), _) => Length::Chunks,
        (None, Some(length)) => Length::Bytes(length.parse().unwrap()),
        (None, None) => Length::UntilClose,
    }
}
