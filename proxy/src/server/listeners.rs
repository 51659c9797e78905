//! The sockets: bound before anything else is done, so that a port that is taken is said at once,
//! and handed to the threads that serve them. Sockets that are open already, since an older process
//! or systemd had them, are used as they are.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use program::sockets::{BACKLOG, Given, Label, Role, bind};
use socket2::SockRef;

use crate::config::{Config, Listener, ListenersTls};
use crate::server::admin_listener::{AdminListener, bind_unix};
use crate::server::bind_error::BindError;
use crate::wire::keep_alive::keep_alive;
use crate::wire::listener_id::ListenerId;
use crate::wire::tls::{ListenerTls, Listening};

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

/// As the config file names what is not a listener of clients.
#[derive(Debug)]
struct Labels {
    admin: Option<String>,
    handover: Option<String>,
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

impl Bound {
    /// Where it is, as other processes know it.
    pub(crate) fn id(&self) -> ListenerId {
        match (self.listener.id(), self.socket.local_addr()) {
            (ListenerId::Address(_), Ok(actual)) => ListenerId::Address(actual),
            (id, _) => id,
        }
    }
}

/// The id of a listener's socket; `None` of others.
pub(crate) fn id_of(label: &Label) -> Option<ListenerId> {
    match (&label.name, label.actual) {
        (Some(name), _) => Some(ListenerId::Named(name.as_str().into())),
        (None, actual) => actual.map(ListenerId::Address),
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
            let given = match &listener.name {
                Some(name) => take_named(&mut given, name)?,
                None => take_clients(&mut given, listener.address),
            };
            let spread = spread(listener, workers, given).map_err(error)?;
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
                    Some(fd) => AdminListener::given(listen, fd),
                    None => AdminListener::bind(listen),
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
                name: bound.listener.name.as_deref().map(str::to_owned),
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
                    name: None,
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
        let once = self.once().into_iter();
        let addresses = once.filter_map(|(_, bound)| bound.socket.local_addr().ok());
        addresses.collect()
    }

    /// The same, as other processes know it.
    pub(crate) fn ids(&self) -> Vec<ListenerId> {
        self.once().into_iter().map(|(id, _)| id).collect()
    }

    /// TLS of each listener that has it, with the listener's id.
    pub(crate) fn tls(&self) -> Listening {
        let once = self.once().into_iter();
        once.filter_map(|(id, bound)| Some((id, bound.tls.clone()?)))
            .collect()
    }

    /// One socket of each listener. A worker may have several.
    fn once(&self) -> Vec<(ListenerId, &Bound)> {
        let mut once: Vec<(ListenerId, &Bound)> = Vec::new();
        for bound in self.workers.first().into_iter().flatten() {
            let id = bound.id();
            if !once.iter().any(|(known, _)| *known == id) {
                once.push((id, bound));
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
            && label.name.is_none()
            && (label.configured == configured || label.actual == Some(address))
    };
    // With port 0 several listeners may be configured alike.
    let Some(actual) = given.iter().find(|g| is_meant(g)).map(|g| g.label.actual) else {
        return Vec::new();
    };
    let taken = given.extract_if(.., |g| is_meant(g) && g.label.actual == actual);
    taken.map(|given| given.fd.into()).collect()
}

/// Takes the sockets of a named listener out of what is given. None of them is opened here: that
/// might succeed in the wrong network namespace.
fn take_named(given: &mut Vec<Given>, name: &str) -> Result<Vec<TcpListener>, BindError> {
    let taken = given.extract_if(.., |given| given.label.name.as_deref() == Some(name));
    let taken: Vec<TcpListener> = taken.map(|given| given.fd.into()).collect();
    if taken.is_empty() {
        let why = "neither the keeper nor a process before has a socket of this name";
        return Err(BindError {
            address: format!("listener `{name}`"),
            source: io::Error::new(io::ErrorKind::NotFound, why),
        });
    }
    Ok(taken)
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
    listener: &Listener,
    workers: usize,
    given: Vec<TcpListener>,
) -> io::Result<Vec<(TcpListener, bool)>> {
    let mut address = listener.address;
    if given.is_empty() && address.port() != 0 {
        // Another program that shares its port would be given half of our clients.
        bind(address, false)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for socket in given {
        socket.set_nonblocking(true)?;
        address = socket.local_addr()?;
        sockets.push((socket, false));
    }
    let given = sockets.len();
    while sockets.len() < workers {
        let again = || sockets[sockets.len() % given].0.try_clone();
        if listener.name.is_some() {
            sockets.push((again()?, true));
            continue;
        }
        match bind(address, true) {
            Ok(socket) => {
                // Port 0: all workers take the first worker's port.
                address = socket.local_addr()?;
                sockets.push((socket, false));
            }
            // systemd's are one for each address, and not shared.
            Err(_) if given > 0 => sockets.push((again()?, true)),
            Err(error) => return Err(error),
        }
    }
    for (socket, _) in &sockets {
        // Accepted connections inherit it. A peer that vanished is noticed in some minutes.
        SockRef::from(socket).set_tcp_keepalive(&keep_alive())?;
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::socket::HalfClose;

    fn listener(address: SocketAddr, name: Option<&str>) -> Listener {
        Listener {
            address,
            name: name.map(Arc::from),
            trusted_proxies: Arc::default(),
            proxy_protocol: Arc::default(),
            tls: None,
            half_close: HalfClose::Abort,
        }
    }

    #[test]
    fn clients_come_to_the_sockets_that_were_given_until_the_others_are_served() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let given = bind(any, true).unwrap();
        rustix::net::listen(&given, BACKLOG).unwrap();
        let address = given.local_addr().unwrap();
        let sockets = spread(&listener(address, None), 4, vec![given]).unwrap();
        assert_eq!(sockets.len(), 4);
        let clients: Vec<_> = (0..64)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let accepted: Vec<_> = std::iter::from_fn(|| sockets[0].0.accept().ok()).collect();
        assert_eq!(accepted.len(), clients.len());
    }

    #[test]
    fn sockets_of_a_named_listener_are_shared_and_no_other_is_opened() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let given = program::sockets::open_all(any, 1, program::sockets::Family::Both).unwrap();
        let actual = given[0].local_addr().unwrap();
        // As it may be inside of a container: the address is that of another namespace.
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
        let sockets = spread(&listener(elsewhere, Some("web")), 4, given).unwrap();
        assert_eq!(sockets.len(), 4);
        for (socket, _) in &sockets {
            assert_eq!(socket.local_addr().unwrap(), actual);
        }
        assert_eq!(
            sockets.iter().filter(|(_, is_shared)| *is_shared).count(),
            3
        );
    }

    #[test]
    fn a_named_listener_gets_the_sockets_of_its_name_whatever_their_address() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut given: Vec<Given> = [None, Some("web"), Some("api")]
            .into_iter()
            .map(|name| Given {
                label: Label {
                    role: Role::Clients,
                    configured: "0.0.0.0:8080".into(),
                    actual: Some(any),
                    name: name.map(str::to_owned),
                },
                fd: bind(any, true).unwrap().into(),
            })
            .collect();
        let inside = SocketAddr::from(([0, 0, 0, 0], 8080));
        assert_eq!(take_clients(&mut given, inside).len(), 1);
        assert_eq!(take_named(&mut given, "api").unwrap().len(), 1);
        let left: Vec<_> = given.iter().map(|one| one.label.name.as_deref()).collect();
        assert_eq!(left, [Some("web")]);
        let error = take_named(&mut given, "api").unwrap_err().to_string();
        assert!(
            error.starts_with("listener `api`: neither the keeper"),
            "{error}"
        );
    }
}
