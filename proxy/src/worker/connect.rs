//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::table::endpoint::Endpoint;
use crate::wire::keep_alive::keep_alive;
use crate::wire::socket::Bytestream;
use crate::wire::timer::Timer;

/// Connects to an endpoint, within so much time for each step.
pub(crate) async fn open(
    endpoint: &Endpoint,
    timer: &Timer,
    within: Duration,
) -> io::Result<Bytestream> {
    let tcp = connect(endpoint.target, timer, within).await?;
    let Some(tls) = &endpoint.transport.tls else {
        return Ok(Bytestream::plain(tcp));
    };
    let mut handshake = std::pin::pin!(tls.connect(tcp, &endpoint.address));
    let stream = timer.wait(within, |cx| handshake.as_mut().poll(cx)).await?;
    let stream = stream.inspect_err(|error| {
        let (version, address) = (&*endpoint.version, endpoint.target);
        tracing::warn!(version, %address, %error, "TLS handshake with an endpoint failed");
    })?;
    Ok(Bytestream::ToEndpoint(Box::new(stream)))
}

/// Connects, within so much time.
async fn connect(target: SocketAddr, timer: &Timer, within: Duration) -> io::Result<TcpStream> {
    let mut connecting = std::pin::pin!(TcpStream::connect(target));
    let stream = timer
        .wait(within, |cx| connecting.as_mut().poll(cx))
        .await??;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
    Ok(stream)
}
