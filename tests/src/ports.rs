//! Ports for servers that must be told theirs before they listen.
//!
//! `controller/tests/podman_runtime` includes this file by path, too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Below the ports that kernels give to outgoing connections, and above those that the process
/// runtime gives to its processes.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// An address on loopback that is free, and that no other test gets until this process ends: no
/// other run of the tests either, also of another user. A socket whose name has the port in it
/// keeps it: such a name, as a port, is there once in a network namespace.
pub fn free_address() -> SocketAddr {
    static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    // Runs side by side begin at different ports, so that they rarely have to look twice.
    let first = std::process::id().wrapping_mul(617);
    let found = (0..u32::from(COUNT))
        .filter_map(|step| u16::try_from(first.wrapping_add(step) % u32::from(COUNT)).ok())
        .find_map(|step| reserve(FIRST + step));
    let Some((address, name)) = found else {
        panic!("no port from {FIRST} on is free");
    };
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    reserved.push(name);
    address
}

fn reserve(port: u16) -> Option<(SocketAddr, UnixListener)> {
    let name = UnixAddress::from_abstract_name(format!("crossfade-port-{port}")).ok()?;
    let name = UnixListener::bind_addr(&name).ok()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).ok()?;
    Some((address, name))
}
