//! How listening sockets are opened.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// Connections that wait to be accepted, on each socket.
pub const BACKLOG: i32 = 4096;

/// Binds a socket at an address, and does not listen yet. With `share`, several may have the same
/// address, and the kernel divides new connections among them.
///
/// # Errors
/// Where the address is taken, not permitted, or not of this machine.
pub fn bind(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    bind_for(address, share, Family::Both)
}

/// Which clients an address of IPv6 is for, where it is every address of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Those of IPv4, too.
    Both,
    /// Those of IPv6 alone: another listener has the others.
    V6Only,
}

fn bind_for(address: SocketAddr, share: bool, family: Family) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(family == Family::V6Only)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Opens so many sockets at an address, which all listen, and are all there are.
///
/// # Errors
/// As with [`bind`].
pub fn open_all(
    mut address: SocketAddr,
    count: usize,
    family: Family,
) -> io::Result<Vec<TcpListener>> {
    // Another program that shares its port would be given half of our clients.
    bind_for(address, false, family)?;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bind_for(address, true, family)?;
        // Port 0: all of them take the first one's port.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    for socket in &sockets {
        rustix::net::listen(socket, BACKLOG)?;
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_another_has_is_refused_even_where_both_would_share_it() {
        let first = open_all(SocketAddr::from(([127, 0, 0, 1], 0)), 1, Family::Both).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = open_all(address, 2, Family::Both).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(open_all(address, 2, Family::Both).unwrap().len(), 2);
    }

    #[test]
    fn both_families_may_have_the_same_port() {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let v4 = open_all(any, 1, Family::Both).unwrap();
        let port = v4[0].local_addr().unwrap().port();
        let v6: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, port).into();
        open_all(v6, 1, Family::Both).unwrap_err();
        assert_eq!(open_all(v6, 2, Family::V6Only).unwrap().len(), 2);
    }
}
