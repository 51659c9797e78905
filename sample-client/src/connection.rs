//! One connection to the server.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::failure::{Cause, Failure};
use crate::resolver::Resolver;
use crate::target::Target;

/// A keep-alive connection, with the task that drives it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

/// How a connection ended while no request was on it.
#[derive(Debug)]
pub(crate) enum IdleEnd {
    /// The server closed it.
    Closed,
    /// The server sent bytes that belong to no request.
    Unsolicited(Failure),
}

/// Connects to the first of the host's addresses that accepts the connection.
pub(crate) async fn connect(resolver: &Resolver, target: &Target) -> Result<TcpStream, Failure> {
    let addresses = resolver.addresses(&target.host).await.map_err(|error| {
        Failure::new(
            Cause::Connect,
            format!("no address for {}: {error}", target.host),
        )
    })?;
    let mut last = Failure::new(Cause::Connect, format!("no address for {}", target.host));
    for address in addresses {
        match connect_to(address, target.port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let address = SocketAddr::new(address, target.port);
                last = Failure::new(Cause::Connect, format!("{address}: {error}"));
            }
        }
    }
    Err(last)
}

async fn connect_to(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connection {
    /// Wraps a new stream for HTTP/1.1. Nothing is sent yet.
    pub(crate) async fn new(stream: TcpStream) -> Result<Self, Failure> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::from_error(Cause::Reset, &error))?;
        Ok(Self {
            sender,
            driver: tokio::spawn(connection),
        })
    }

    /// Waits for the end of a connection that has no request on it.
    pub(crate) async fn idle_end(&mut self) -> IdleEnd {
        match (&mut self.driver).await {
            Ok(Err(error)) => IdleEnd::of(&error),
            // A driver does not panic, and is aborted only by `drop`.
            Ok(Ok(())) | Err(_) => IdleEnd::Closed,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Closes the socket at once, even if a response is outstanding.
        self.driver.abort();
    }
}

impl IdleEnd {
    /// Classifies an idle connection's error: any error but one of the socket is an unsolicited
    /// response.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        if io_error_in(error).is_some() {
            Self::Closed
        } else {
            Self::Unsolicited(Failure::from_error(Cause::Protocol, error))
        }
    }
}

/// Finds the I/O error in a chain of errors, if there is one.
pub(crate) fn io_error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}
