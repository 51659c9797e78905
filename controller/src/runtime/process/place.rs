//! Where a process finds its program and its port.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};

use super::refused;
use crate::runtime::RuntimeError;

/// Below where kernels take ports for outgoing connections from, so that none of those is in the
/// way when a process comes to listen.
const PORTS: RangeInclusive<u16> = 7000..=7999;

/// `PATH`, ours or the usual one.
pub(super) fn search_path() -> OsString {
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env::var_os("PATH").unwrap_or_else(|| usual.into())
}

/// The program that `image` names: a path, or a bare name that is looked for beside this program
/// first and in `PATH` then.
pub(crate) fn program(image: &str) -> Result<PathBuf, RuntimeError> {
    let found = if image.contains('/') {
        std::path::absolute(image)
            .ok()
            .filter(|path| is_executable(path))
    } else {
        let beside = env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned));
        let path = search_path();
        beside
            .into_iter()
            .chain(env::split_paths(&path))
            .map(|folder| folder.join(image))
            .find(|path| is_executable(path))
    };
    found.ok_or_else(|| RuntimeError::ImageNotFound {
        image: image.to_owned(),
    })
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Says who is at fault when a process could not listen where it is told to.
pub(super) fn must_be_free(address: SocketAddr) -> Result<(), RuntimeError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(RuntimeError::port_taken(address))
        }
        Err(error) => Err(refused("publish a port", format!("{address}: {error}"))),
    }
}

/// A port that the controllers of other projects do not give to a process of theirs while this is
/// there. What keeps it is a socket whose name they look for: it is as wide as ports are, a network
/// namespace, and goes with this controller.
#[derive(Debug)]
pub(super) struct ReservedPort {
    pub(super) number: u16,
    _name: net::UnixListener,
}

impl ReservedPort {
    fn of(number: u16) -> Option<Self> {
        let name = format!("crossfade-port-{number}");
        let address = net::SocketAddr::from_abstract_name(name).ok()?;
        let name = net::UnixListener::bind_addr(&address).ok()?;
        Some(Self {
            number,
            _name: name,
        })
    }
}

/// A port on loopback that is free, that no program has reserved, and that is not in `taken`. The
/// search starts at random.
pub(super) fn free_port(taken: &[u16]) -> Result<ReservedPort, RuntimeError> {
    let count = PORTS.end() - PORTS.start() + 1;
    let first = rand::random_range(0..count);
    (0..count)
        .map(|step| PORTS.start() + (first + step) % count)
        .filter(|port| !taken.contains(port))
        .filter_map(ReservedPort::of)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).is_ok())
        .ok_or_else(|| {
            let reason = format!("no port from {} to {} is free", PORTS.start(), PORTS.end());
            refused("find a port", reason)
        })
}

/// The inodes of the sockets that listen on this port, at any address of this machine.
pub(super) fn listeners_on(port: u16) -> Vec<u64> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| parse_listeners(&table, port))
        .collect()
}

/// proc_net(5): the second field is `ADDRESS:PORT` in hexadecimal digits, the fourth is the state,
/// and the tenth the inode.
fn parse_listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    let rows = table.lines().map(str::split_ascii_whitespace);
    rows.filter_map(|mut fields| {
        let listens = fields.nth(1)?.ends_with(&end) && fields.nth(1)? == LISTEN;
        let inode = fields.nth(5)?;
        listens.then(|| inode.parse().ok())?
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_to_no_other() {
        let first = free_port(&[]).unwrap();
        assert!(ReservedPort::of(first.number).is_none());
        let number = first.number;
        drop(first);
        assert!(ReservedPort::of(number).is_some());
    }

    #[test]
    fn who_listens_is_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
           0: 0100007F:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
           1: 0100007F:1B58 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n\
           2: 00000000:1B59 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(parse_listeners(table, 7000), [4711]);
        assert_eq!(parse_listeners(table, 7001), [4713]);
        assert_eq!(parse_listeners(table, 7002), [0; 0]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listeners_on(port).len(), 1);
    }
}
