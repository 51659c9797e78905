//! A blocking client with one connection and one request at a time: for the admin API, and for
//! connections that stay idle.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::response::{Response, ResponseReader};

/// How long a response may take. A drain with `?wait` takes as long as it waits.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(40);

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct BlockingClient {
    stream: TcpStream,
}

impl BlockingClient {
    /// Connects.
    pub(crate) fn connect(target: SocketAddr) -> Result<Self> {
        let at = || format!("connect to {target}");
        let stream = TcpStream::connect(target).context(at)?;
        stream.set_nodelay(true).context(at)?;
        stream
            .set_read_timeout(Some(RESPONSE_TIMEOUT))
            .context(at)?;
        Ok(Self { stream })
    }

    /// Sends a request and reads the whole response. Returns its bytes too.
    pub(crate) fn request(&mut self, request: &[u8]) -> Result<(Response, Vec<u8>)> {
        let closed = || Error::Program {
            name: "connection".into(),
            why: "closed before the response was complete".into(),
        };
        self.stream.write_all(request).context(|| "send".into())?;
        let mut reader = ResponseReader::default();
        let mut text = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = self
                .stream
                .read(&mut buffer)
                .context(|| "read a response".into())?;
            let bytes = buffer.get(..length).unwrap_or_default();
            text.extend_from_slice(bytes);
            if bytes.is_empty() {
                return Err(closed());
            }
            if let Some(response) = reader.read(bytes).map_err(|_| closed())? {
                return Ok((response, text));
            }
        }
    }

    /// Calls the admin API. A status other than 200 is an error.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> Result<String> {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let (response, text) = self.request(request.as_bytes())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if response.status == 200 {
            return Ok(text);
        }
        Err(Error::Program {
            name: "admin API".into(),
            why: format!("{method} {path}: {text}"),
        })
    }

    /// Sends `send` and reads for up to a second. Returns whether exactly `want` came back.
    pub(crate) fn exchange(&mut self, send: &[u8], want: &[u8]) -> bool {
        let mut got = vec![0; want.len()];
        let timeout = Some(Duration::from_secs(1));
        self.stream.set_read_timeout(timeout).is_ok()
            && self.stream.write_all(send).is_ok()
            && self.stream.read_exact(&mut got).is_ok()
            && got == want
    }

    /// Whether the other side has closed it, or sent unsolicited bytes.
    pub(crate) fn is_closed(&self) -> bool {
        let peeked = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0]));
        let closed = !matches!(&peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        closed || self.stream.set_nonblocking(false).is_err()
    }
}

/// Opens `count` connections. Each has received one response.
pub(crate) fn open_idle(
    target: SocketAddr,
    count: usize,
    request: &[u8],
) -> Result<Vec<BlockingClient>> {
    (0..count)
        .map(|_| {
            let mut client = BlockingClient::connect(target)?;
            client.request(request)?;
            Ok(client)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_knows_whether_the_other_side_has_closed_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = BlockingClient::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(!client.is_closed());
        drop(server);
        assert!(client.is_closed());
    }
}
