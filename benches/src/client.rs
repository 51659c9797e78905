//! One connection and one request at a time: for the admin API, and for connections that are
//! there to be idle.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::response::{Response, ResponseReader};

/// How long an answer may take. A drain with `?wait` may take as long as it waits.
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

    /// Sends a request, reads the answer to its end, and gives back all of its text too.
    pub(crate) fn request(&mut self, request: &[u8]) -> Result<(Response, Vec<u8>)> {
        let closed = || Error::Program {
            name: "connection".into(),
            why: "closed before the answer was whole".into(),
        };
        self.stream.write_all(request).context(|| "send".into())?;
        let mut answer = ResponseReader::default();
        let mut text = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = self
                .stream
                .read(&mut buffer)
                .context(|| "read an answer".into())?;
            let bytes = buffer.get(..length).unwrap_or_default();
            text.extend_from_slice(bytes);
            if bytes.is_empty() {
                return Err(closed());
            }
            if let Some(response) = answer.read(bytes).map_err(|_| closed())? {
                return Ok((response, text));
            }
        }
    }

    /// Calls the admin API. Anything but 200 is an error.
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

    /// Sends bytes, and waits up to a second for exactly these.
    pub(crate) fn exchange(&mut self, send: &[u8], want: &[u8]) -> bool {
        let mut got = vec![0; want.len()];
        let patience = Some(Duration::from_secs(1));
        self.stream.set_read_timeout(patience).is_ok()
            && self.stream.write_all(send).is_ok()
            && self.stream.read_exact(&mut got).is_ok()
            && got == want
    }

    /// The other side has closed it, or sent what nobody asked for.
    pub(crate) fn is_closed(&self) -> bool {
        let looked = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0]));
        let closed = !matches!(&looked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        closed || self.stream.set_nonblocking(false).is_err()
    }
}

/// Opens so many connections; each has had one answer.
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
