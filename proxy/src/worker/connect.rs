//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::table::endpoint::Endpoint;
use crate::wire::address::SocketAddress;
use crate::wire::keep_alive::keep_alive;
use crate::wire::resources::{self, OpenFiles};
use crate::wire::socket::Bytestream;
use crate::wire::timer::Timer;
use crate::wire::unix;

/// Connects to an endpoint, within so much time for each step. Some of the process's `files` are
/// kept for other things.
pub(crate) async fn open(
    endpoint: &Endpoint,
    timer: &Timer,
    within: Duration,
    files: OpenFiles,
) -> io::Result<Bytestream> {
    let tcp = match &endpoint.target {
        SocketAddress::Ip(target) => connect(*target, timer, within, files).await?,
        SocketAddress::Unix(path) => connect_unix(path, timer, within, files).await?,
    };
    let Some(tls) = &endpoint.transport.tls else {
        return Ok(Bytestream::plain(tcp));
    };
    let mut handshake = std::pin::pin!(tls.connect(tcp, &endpoint.address));
    let stream = timer.wait(within, |cx| handshake.as_mut().poll(cx)).await?;
    let stream = stream.inspect_err(|error| {
        let (version, address) = (&*endpoint.version, &endpoint.target);
        tracing::warn!(version, %address, %error, "TLS handshake with an endpoint failed");
    })?;
    Ok(Bytestream::ToEndpoint(Box::new(stream)))
}

/// Connects, within so much time.
async fn connect(
    target: SocketAddr,
    timer: &Timer,
    within: Duration,
    files: OpenFiles,
) -> io::Result<TcpStream> {
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if files.is_reserved(&socket) {
        return Err(resources::no_file_left());
    }
    let mut connecting = std::pin::pin!(socket.connect(target));
    let stream = timer
        .wait(within, |cx| connecting.as_mut().poll(cx))
        .await??;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
    Ok(stream)
}

/// The same to a unix socket.
async fn connect_unix(
    path: &Path,
    timer: &Timer,
    within: Duration,
    files: OpenFiles,
) -> io::Result<TcpStream> {
    let mut connecting = std::pin::pin!(unix::connect(path));
    let stream = timer
        .wait(within, |cx| connecting.as_mut().poll(cx))
        .await??;
    if files.is_reserved(&stream) {
        return Err(resources::no_file_left());
    }
    Ok(stream)
}
