//! The sockets that are not for clients: the admin port, and unix sockets.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::config::AdminAddress;
use crate::server::bind_error::BindError;

/// The admin port's socket.
#[derive(Debug)]
pub(crate) enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AdminListener {
    /// The same socket once more.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// One that was given.
    pub(super) fn given(address: &AdminAddress, fd: OwnedFd) -> Result<Self, BindError> {
        let error = |source| BindError {
            address: format!("admin port {address}"),
            source,
        };
        Ok(match address {
            AdminAddress::Tcp(_) => {
                let socket = TcpListener::from(fd);
                socket.set_nonblocking(true).map_err(error)?;
                Self::Tcp(socket)
            }
            AdminAddress::Unix(_) => {
                let socket = UnixListener::from(fd);
                socket.set_nonblocking(true).map_err(error)?;
                Self::Unix(socket)
            }
        })
    }

    /// A new one.
    pub(super) fn bind(address: &AdminAddress) -> Result<Self, BindError> {
        match address {
            AdminAddress::Tcp(address) => {
                let error = |source| BindError {
                    address: format!("admin port {address}"),
                    source,
                };
                let socket = TcpListener::bind(address).map_err(error)?;
                socket.set_nonblocking(true).map_err(error)?;
                Ok(Self::Tcp(socket))
            }
            AdminAddress::Unix(path) => {
                let error = |source| BindError {
                    address: format!("unix:{}", path.display()),
                    source,
                };
                let socket = bind_unix(path).map_err(error)?;
                Ok(Self::Unix(socket))
            }
        }
    }
}

/// Binds a unix socket for its owner alone. What a killed proxy left behind is replaced.
pub(super) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // No other user may connect, not even for the moment before its mode is set.
    let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let socket = bind_or_replace(path);
    rustix::process::umask(umask);
    let socket = socket?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_or_replace(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if !is_socket || !UnixStream::connect(path).is_err_and(refused) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}
