//! The sockets: bound before anything else is done, so that a port that is taken is said at once,
//! and handed to the threads that serve them. Sockets that are open already, since an older process
//! or systemd had them, are used as they are.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::config::{AdminAddress, Config, Listener, ListenersTls};
use crate::wire::keep_alive::keep_alive;
use crate::wire::tls::{ListenerTls, Listening};

/// Connections that wait to be accepted, on each socket.
const BACKLOG: i32 = 4096;

/// Every socket that the proxy serves.
#[derive(Debug)]
pub struct Listeners {
    /// For each worker, a socket of its own for each listener (`SO_REUSEPORT`), or several.
    pub(crate) workers: Vec<Vec<Bound>>,
    pub(crate) admin: Option<AdminListener>,
    /// Where a successor asks for all of them.
    pub(crate) handover: Option<UnixListener>,
    labels: Labels,
}

/// What a socket is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    pub(crate) role: Role,
    /// As the config file has it.
    pub(crate) configured: String,
    /// Where it listens, if that is an address.
    pub(crate) actual: Option<SocketAddr>,
}

/// Who is served by a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Clients,
    Admin,
    Handover,
}

/// As the config file names what is not a listener of clients.
#[derive(Debug)]
struct Labels {
    admin: Option<String>,
    handover: Option<String>,
}

/// A socket that was open before this process began.
#[derive(Debug)]
pub struct Given {
    pub(crate) label: Label,
    pub(crate) fd: OwnedFd,
}

/// A worker's socket of one listener.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: Listener,
    /// Shared by the listener's sockets.
    pub(crate) tls: Option<Arc<ListenerTls>>,
    pub(crate) socket: TcpListener,
    /// Another worker has the same one.
    is_shared: bool,
}

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
    /// Binds everything that the config asks for and that is not among those `given`, or
    /// nothing. What is given and not asked for is closed.
    pub fn bind(
        config: &Config,
        tls: &ListenersTls,
        workers: usize,
        mut given: Vec<Given>,
    ) -> Result<Self, BindError> {
        let mut sockets: Vec<Vec<Bound>> = Vec::new();
        sockets.resize_with(workers, Vec::new);
        for (listener, tls) in config.listeners.iter().zip(&tls.0) {
            let error = |source| BindError {
                address: listener.address.to_string(),
                source,
            };
            let given = take_clients(&mut given, listener.address);
            let spread = spread(listener.address, workers, given).map_err(error)?;
            for (number, (socket, is_shared)) in spread.into_iter().enumerate() {
                sockets[number % workers].push(Bound {
                    listener: listener.clone(),
                    tls: tls.clone(),
                    socket,
                    is_shared,
                });
            }
        }
        let admin = config.admin.as_ref().map(|admin| &admin.listen);
        let labels = Labels {
            admin: admin.map(ToString::to_string),
            handover: config.handover.as_ref().map(|path| unix_label(path)),
        };
        let admin =
            admin.map(
                |listen| match take_one(&mut given, Role::Admin, &listen.to_string()) {
                    Some(fd) => given_admin(listen, fd),
                    None => bind_admin(listen),
                },
            );
        let handover = config.handover.as_ref().map(|path| {
            let error = |source| BindError {
                address: format!("handover.socket: {}", path.display()),
                source,
            };
            match take_one(&mut given, Role::Handover, &unix_label(path)) {
                Some(fd) => Ok(UnixListener::from(fd)),
                None => bind_unix(path).map_err(error),
            }
        });
        Ok(Self {
            workers: sockets,
            admin: admin.transpose()?,
            handover: handover.transpose()?,
            labels,
        })
    }

    /// Begins to listen. Clients would be reset if nothing served them in the end, so this
    /// is the last thing to be done before they are.
    pub(crate) fn listen(&self) -> io::Result<()> {
        for bound in self.workers.iter().flatten() {
            rustix::net::listen(&bound.socket, BACKLOG)?;
        }
        Ok(())
    }

    /// Every socket once more, for a successor. They stay open until these are dropped.
    pub(crate) fn handles(&self) -> io::Result<Vec<Given>> {
        let mut handles = Vec::new();
        let own = self.workers.iter().flatten();
        for bound in own.filter(|bound| !bound.is_shared) {
            let label = Label {
                role: Role::Clients,
                configured: bound.listener.address.to_string(),
                actual: bound.socket.local_addr().ok(),
            };
            let fd = bound.socket.try_clone()?.into();
            handles.push(Given { label, fd });
        }
        let mut add = |role, configured: &Option<String>, fd: Option<io::Result<OwnedFd>>| {
            if let (Some(configured), Some(fd)) = (configured, fd) {
                let label = Label {
                    role,
                    configured: configured.clone(),
                    actual: None,
                };
                handles.push(Given { label, fd: fd? });
            }
            io::Result::Ok(())
        };
        let admin = self.admin.as_ref().map(|admin| match admin {
            AdminListener::Tcp(socket) => socket.try_clone().map(OwnedFd::from),
            AdminListener::Unix(socket) => socket.try_clone().map(OwnedFd::from),
        });
        add(Role::Admin, &self.labels.admin, admin)?;
        let handover = self.handover.as_ref();
        let handover = handover.map(|socket| socket.try_clone().map(OwnedFd::from));
        add(Role::Handover, &self.labels.handover, handover)?;
        Ok(handles)
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.once().into_iter();
        addresses.map(|(address, _)| address).collect()
    }

    /// TLS of each listener that has it, with the listener's address.
    pub(crate) fn tls(&self) -> Listening {
        let once = self.once().into_iter();
        once.filter_map(|(address, bound)| Some((address, bound.tls.clone()?)))
            .collect()
    }

    /// One socket of each address. A worker may have several.
    fn once(&self) -> Vec<(SocketAddr, &Bound)> {
        let mut once: Vec<(SocketAddr, &Bound)> = Vec::new();
        for bound in self.workers.first().into_iter().flatten() {
            let Ok(address) = bound.socket.local_addr() else {
                continue;
            };
            if !once.iter().any(|(known, _)| *known == address) {
                once.push((address, bound));
            }
        }
        once
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

/// A unix socket's path as labels have it.
fn unix_label(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Takes what clients connect to at an address out of what is given: as the config has it, or
/// as it is.
fn take_clients(given: &mut Vec<Given>, address: SocketAddr) -> Vec<TcpListener> {
    let configured = address.to_string();
    let is_meant = |given: &Given| {
        let label = &given.label;
        label.role == Role::Clients
            && (label.configured == configured || label.actual == Some(address))
    };
    // With port 0 several listeners may be configured alike.
    let Some(actual) = given.iter().find(|g| is_meant(g)).map(|g| g.label.actual) else {
        return Vec::new();
    };
    let taken = given.extract_if(.., |g| is_meant(g) && g.label.actual == actual);
    taken.map(|given| given.fd.into()).collect()
}

fn take_one(given: &mut Vec<Given>, role: Role, configured: &str) -> Option<OwnedFd> {
    let is_meant = |given: &Given| {
        let label = &given.label;
        let actual = label.actual.map(|actual| actual.to_string());
        label.configured == configured && label.role == role
            || label.role == Role::Clients && actual.as_deref() == Some(configured)
    };
    let at = given.iter().position(is_meant)?;
    Some(given.remove(at).fd)
}

/// Sockets for so many workers, each of which has one at least: a connection that arrives at a
/// socket that no worker accepts on would wait for ever. The flag says that the same one comes
/// twice.
fn spread(
    address: SocketAddr,
    workers: usize,
    given: Vec<TcpListener>,
) -> io::Result<Vec<(TcpListener, bool)>> {
    let mut address = address;
    if given.is_empty() && address.port() != 0 {
        // Another program that shares its port would be given half of our clients.
        bind_tcp(address, false)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for socket in given {
        socket.set_nonblocking(true)?;
        address = socket.local_addr()?;
        sockets.push((socket, false));
    }
    let given = sockets.len();
    while sockets.len() < workers {
        match bind_tcp(address, true) {
            Ok(socket) => {
                // Port 0: all workers take the first worker's port.
                address = socket.local_addr()?;
                sockets.push((socket, false));
            }
            // systemd's are one for each address, and not shared.
            Err(_) if given > 0 => {
                let again = sockets[sockets.len() % given].0.try_clone()?;
                sockets.push((again, true));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn given_admin(address: &AdminAddress, fd: OwnedFd) -> Result<AdminListener, BindError> {
    let error = |source| BindError {
        address: format!("admin port {address}"),
        source,
    };
    Ok(match address {
        AdminAddress::Tcp(_) => {
            let socket = TcpListener::from(fd);
            socket.set_nonblocking(true).map_err(error)?;
            AdminListener::Tcp(socket)
        }
        AdminAddress::Unix(_) => {
            let socket = UnixListener::from(fd);
            socket.set_nonblocking(true).map_err(error)?;
            AdminListener::Unix(socket)
        }
    })
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
    socket.set_tcp_keepalive(&keep_alive())?;
    socket.bind(&address.into())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_to_the_sockets_that_were_given_until_the_others_are_served() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let given = bind_tcp(any, true).unwrap();
        rustix::net::listen(&given, BACKLOG).unwrap();
        let address = given.local_addr().unwrap();
        let sockets = spread(address, 4, vec![given]).unwrap();
        assert_eq!(sockets.len(), 4);
        let clients: Vec<_> = (0..64)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let accepted: Vec<_> = std::iter::from_fn(|| sockets[0].0.accept().ok()).collect();
        assert_eq!(accepted.len(), clients.len());
    }
}
