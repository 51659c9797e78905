//! Where a process finds its program and its port.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
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
            Err(RuntimeError::PortTaken { address })
        }
        Err(error) => Err(refused("publish a port", format!("{address}: {error}"))),
    }
}

/// A port on loopback that nobody listens on and that is not in `taken`. It starts looking at
/// random, so that projects which do not know of each other seldom meet.
pub(super) fn free_port(taken: &[u16]) -> Result<u16, RuntimeError> {
    let count = PORTS.end() - PORTS.start() + 1;
    let first = rand::random_range(0..count);
    (0..count)
        .map(|step| PORTS.start() + (first + step) % count)
        .filter(|port| !taken.contains(port))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| {
            let reason = format!("no port from {} to {} is free", PORTS.start(), PORTS.end());
            refused("find a port", reason)
        })
}
