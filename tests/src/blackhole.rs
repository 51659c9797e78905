//! An address at which connections are never made, and never refused: a host that is gone.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// Connections that a backlog of 0 has room for, and some more, which are dropped.
const WAITING: usize = 3;

/// Holds an address for as long as it lives.
pub struct Blackhole {
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Blackhole {
    /// Takes this port on loopback. The kernel drops what asks for a connection while more of them
    /// wait already than the listener has room for.
    pub fn at(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.set_reuse_address(true).expect("it is allowed");
        listener.bind(&address).expect("the port is free");
        listener.listen(0).expect("it is bound");
        let waiting = (0..WAITING).map(|_| {
            let waiting = socket();
            waiting.set_nonblocking(true).expect("it is allowed");
            // In progress, which is all that is wanted.
            let _ = waiting.connect(&address);
            waiting
        });
        Self {
            _waiting: waiting.collect(),
            _listener: listener,
        }
    }
}
