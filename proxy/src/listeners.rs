//! The sockets: bound before anything else is done, so that a port that is taken is said at
//! once, and handed to whoever serves them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

use crate::config::{AdminAddress, Config, Listener, ListenersTls};
use crate::tls::{ListenerTls, Listening};

const BACKLOG: i32 = 4096;

/// Every socket that the proxy serves.
#[derive(Debug)]
pub struct Listeners {
    /// For each worker, a socket of its own for each listener (`SO_REUSEPORT`).
    pub(crate) workers: Vec<Vec<Bound>>,
    pub(crate) admin: Option<AdminListener>,
}

/// A worker's socket of one listener.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: Listener,
    /// Shared by the listener's sockets.
    pub(crate) tls: Option<Arc<ListenerTls>>,
    pub(crate) socket: TcpListener,
}

/// The admin port's socket.
#[derive(Debug)]
pub(crate) enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// An address that could not be bound.
#[derive(Debug)]
pub struct BindError {
    address: String,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => write!(f, "{address} is taken by another program"),
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{address}: not permitted (ports below 1024 need a privilege)"
                )
            }
            _ => write!(f, "{address}: {source}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Listeners {
    /// Binds everything that the config asks for, or nothing.
    pub fn bind(config: &Config, tls: &ListenersTls, workers: usize) -> Result<Self, BindError> {
        let mut sockets: Vec<Vec<Bound>> = Vec::new();
        sockets.resize_with(workers, Vec::new);
        for (listener, tls) in config.listeners.iter().zip(&tls.0) {
            let error = |source| BindError {
                address: listener.address.to_string(),
                source,
            };
            let mut address = listener.address;
            if address.port() != 0 {
                // Another program that shares its port would be given half of our clients.
                bind_tcp(address, false).map_err(error)?;
            }
            for own in &mut sockets {
                let socket = bind_tcp(address, true).map_err(error)?;
                // Port 0: the first worker's choice is everybody's.
                address = socket.local_addr().map_err(error)?;
                own.push(Bound {
                    listener: listener.clone(),
                    tls: tls.clone(),
                    socket,
                });
            }
        }
        let admin = config
            .admin
            .as_ref()
            .map(|admin| bind_admin(&admin.listen))
            .transpose()?;
        Ok(Self {
            workers: sockets,
            admin,
        })
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let first = self.workers.first().into_iter().flatten();
        first
            .filter_map(|bound| bound.socket.local_addr().ok())
            .collect()
    }

    /// TLS of each listener that has it, with the listener's address.
    pub(crate) fn tls(&self) -> Listening {
        let first = self.workers.first().into_iter().flatten();
        first
            .filter_map(|bound| Some((bound.socket.local_addr().ok()?, bound.tls.clone()?)))
            .collect()
    }

    /// Where the admin API is served.
    pub fn admin_address(&self) -> Option<String> {
        match self.admin.as_ref()? {
            AdminListener::Tcp(socket) => Some(socket.local_addr().ok()?.to_string()),
            AdminListener::Unix(socket) => Some(format!(
                "unix:{}",
                socket.local_addr().ok()?.as_pathname()?.display()
            )),
        }
    }
}

fn bind_tcp(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted connections inherit it. A peer that vanished is noticed in some minutes.
    socket.set_tcp_keepalive(&crate::keep_alive())?;
    socket.bind(&address.into())?;
    if share {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

fn bind_admin(address: &AdminAddress) -> Result<AdminListener, BindError> {
    match address {
        AdminAddress::Tcp(address) => {
            let error = |source| BindError {
                address: format!("admin port {address}"),
                source,
            };
            let socket = TcpListener::bind(address).map_err(error)?;
            socket.set_nonblocking(true).map_err(error)?;
            Ok(AdminListener::Tcp(socket))
        }
        AdminAddress::Unix(path) => {
            let error = |source| BindError {
                address: format!("unix:{}", path.display()),
                source,
            };
            let socket = bind_unix(path).map_err(error)?;
            Ok(AdminListener::Unix(socket))
        }
    }
}

/// Binds a unix socket for its owner alone. What a killed proxy left behind is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // Nobody else may connect, not even for the moment before its mode is set.
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
