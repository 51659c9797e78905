//! Connections that stay open: idle ones have received one response each, and stalled ones take
//! nothing of theirs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::BlockingClient;
use crate::error::{Context, Error, Result};
use crate::h2::{self, Blocks, Session};
use crate::response::{Response, ResponseReader};
use crate::tls::{self, HOST, Handshakes};
use crate::work::Work;

/// How long a response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(40);

/// The protocol of idle connections.
pub(crate) enum Protocol {
    Plain {
        request: Vec<u8>,
    },
    Tls {
        config: Arc<ClientConfig>,
        request: Vec<u8>,
    },
    Http2 {
        config: Arc<ClientConfig>,
        blocks: Rc<Blocks>,
    },
    /// HTTP/2 without a window for any response.
    Stalled {
        config: Arc<ClientConfig>,
        blocks: Blocks,
        streams: usize,
    },
}

/// An idle connection. Dropping it closes it.
pub(crate) enum Idle {
    Plain(#[expect(dead_code, reason = "it only stays open")] BlockingClient),
    /// Without the client's state of TLS, which a connection that stays idle does not need.
    Tls(#[expect(dead_code, reason = "it only stays open")] TcpStream),
}

impl Protocol {
    /// The protocol of a workload's connections.
    pub(crate) fn of(work: Work, request: &[u8]) -> Result<Self> {
        let request = request.to_vec();
        Ok(match work {
            Work::IdleTls => Self::Tls {
                config: tls::client("http/1.1", Handshakes::Full)?,
                request,
            },
            Work::IdleH2 => Self::Http2 {
                config: tls::client("h2", Handshakes::Full)?,
                blocks: Rc::new(Blocks::get(HOST, "/small")),
            },
            Work::Stalled => Self::Stalled {
                config: tls::client("h2", Handshakes::Full)?,
                blocks: Blocks::get(HOST, "/large"),
                streams: work.streams(),
            },
            _ => Self::Plain { request },
        })
    }

    /// Opens `count` connections.
    pub(crate) fn open(&self, target: SocketAddr, count: usize) -> Result<Vec<Idle>> {
        (0..count).map(|_| self.open_one(target)).collect()
    }

    fn open_one(&self, target: SocketAddr) -> Result<Idle> {
        match self {
            Self::Plain { request } => {
                let mut client = BlockingClient::connect(target)?;
                let (response, _) = client.request(request)?;
                check(response)?;
                Ok(Idle::Plain(client))
            }
            Self::Tls { config, request } => {
                let mut stream = connect(target, config)?;
                stream.write_all(request).context(|| "send".into())?;
                let mut reader = ResponseReader::default();
                let response = receive(&mut stream, |bytes, _| {
                    reader.read(bytes).map_err(|_| invalid())
                })?;
                check(response)?;
                Ok(Idle::Tls(stream.sock))
            }
            Self::Http2 { config, blocks } => {
                let mut stream = connect(target, config)?;
                let mut out = Vec::new();
                let mut session = Session::new(&mut out, 1);
                session.request(blocks, &mut out);
                stream.write_all(&out).context(|| "send".into())?;
                let mut ended = Vec::new();
                let response = receive(&mut stream, |bytes, out| {
                    session
                        .read(bytes, out, &mut ended)
                        .map_err(|_| invalid())?;
                    match ended.pop() {
                        Some((_, None)) => Err(invalid()),
                        Some((_, response)) => Ok(response),
                        None => Ok(None),
                    }
                })?;
                check(response)?;
                Ok(Idle::Tls(stream.sock))
            }
            Self::Stalled {
                config,
                blocks,
                streams,
            } => {
                let mut stream = connect(target, config)?;
                let requests = h2::stalled(blocks, *streams);
                // A proxy may break off a client that asks for so much.
                let _ = stream.write_all(&requests);
                Ok(Idle::Tls(stream.sock))
            }
        }
    }
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

fn connect(target: SocketAddr, config: &Arc<ClientConfig>) -> Result<TlsStream> {
    let context = || format!("connect to {target}");
    let socket = TcpStream::connect(target).context(context)?;
    socket.set_nodelay(true).context(context)?;
    socket
        .set_read_timeout(Some(RESPONSE_TIMEOUT))
        .context(context)?;
    let name = ServerName::try_from(HOST).map_err(|error| Error::Usage(error.to_string()))?;
    let connection = ClientConnection::new(config.clone(), name)
        .map_err(|error| Error::Usage(format!("TLS: {error}")))?;
    Ok(StreamOwned::new(connection, socket))
}

/// Reads until `parse` has a response. `parse` may have bytes to send.
fn receive(
    stream: &mut TlsStream,
    mut parse: impl FnMut(&[u8], &mut Vec<u8>) -> Result<Option<Response>>,
) -> Result<Response> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = stream
            .read(&mut buffer)
            .context(|| "read a response".into())?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Err(invalid());
        }
        let mut out = Vec::new();
        let response = parse(bytes, &mut out)?;
        stream.write_all(&out).context(|| "send".into())?;
        if let Some(response) = response {
            return Ok(response);
        }
    }
}

fn invalid() -> Error {
    Error::Program {
        name: "connection".into(),
        why: "no valid response".into(),
    }
}

fn check(response: Response) -> Result<()> {
    match response.status {
        200 => Ok(()),
        _ => Err(invalid()),
    }
}
