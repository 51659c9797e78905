//! The sockets on which clients reach the proxy. They are opened here, on the host, and kept open:
//! clients of a proxy that dies wait in them for the next one, and their addresses are real wherever
//! the proxy runs.
//!
//! Each process of the proxy asks for copies when it starts, behind `keeper.sock` in its folder, and
//! names them by the host's address. A controller that starts asks the proxy that runs for them.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use program::sockets::{Channel, Family, Given, Label, Role, copies_from, open_all, serve_copies};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::error::{Error, Exit, Result};
use crate::manifest::{MAX_SOCKET_PATH, RuntimeChoice};
use crate::runtime::RuntimeError;
use crate::state_dir::{self, proxy_folder};

/// Where a proxy asks for the sockets, in its folder.
pub(super) const KEEPER: &str = "keeper.sock";
/// Where a proxy is asked for them, in the same folder.
pub(super) const HANDOVER: &str = "handover.sock";
/// From a proxy that could not be accepted to the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Those of one project.
#[derive(Debug)]
pub(crate) struct HostSockets {
    folder: PathBuf,
    kind: RuntimeChoice,
    kept: Arc<Kept>,
    keeper: Mutex<Option<Keeper>>,
}

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Given>>);

/// The task that responds to proxies. Ends with this.
#[derive(Debug)]
struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The name of an address's sockets.
pub(super) fn name_of(address: SocketAddr) -> String {
    address.to_string()
}

impl HostSockets {
    /// None yet, of the project with this state folder, whose proxy runs on `kind`.
    pub(crate) fn new(state: &Path, kind: RuntimeChoice) -> Self {
        Self {
            folder: proxy_folder(state),
            kind,
            kept: Arc::default(),
            keeper: Mutex::default(),
        }
    }

    /// From here on a proxy may ask for them. An error is a reason to have ports published.
    pub(super) fn keep(&self) -> io::Result<()> {
        let mut keeper = lock(&self.keeper);
        if keeper.is_some() {
            return Ok(());
        }
        let (path, handover) = (self.folder.join(KEEPER), self.folder.join(HANDOVER));
        if handover.as_os_str().len() > MAX_SOCKET_PATH {
            let message = format!(
                "{} is longer than the {MAX_SOCKET_PATH} bytes that a socket's path may have",
                handover.display()
            );
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let explained = |error: io::Error| {
            let message = format!("there can be no socket at {}: {error}", path.display());
            io::Error::new(error.kind(), message)
        };
        let listener = listen(&path).map_err(explained)?;
        let kept = self.kept.clone();
        *keeper = Some(Keeper(tokio::spawn(serve_all(listener, path, kept))));
        Ok(())
    }

    /// Has the sockets of these addresses, from here on: those that the proxy has already, and new
    /// ones for the rest.
    pub(super) async fn open(&self, addresses: &[SocketAddr]) -> Result<()> {
        self.take_back(addresses).await?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut opened = Vec::new();
        for address in self.missing(addresses) {
            let family = family(address, addresses);
            let sockets = open_all(address, workers, family);
            let sockets = sockets.map_err(|error| cannot_listen(address, error))?;
            opened.extend(sockets.into_iter().map(|socket| Given {
                label: label(address),
                fd: socket.into(),
            }));
        }
        self.kept.lock().append(&mut opened);
        Ok(())
    }

    /// Asks the proxy that runs for the sockets of these addresses that are missing here. There may
    /// be none that has them.
    pub(super) async fn take_back(&self, addresses: &[SocketAddr]) -> Result<()> {
        let missing = self.missing(addresses);
        if missing.is_empty() {
            return Ok(());
        }
        let from = self.folder.join(HANDOVER);
        let what = "the proxy does not give its listening sockets back";
        let given = copies_from(&from).await;
        let given = given.map_err(Error::caused(Exit::UNAVAILABLE, what))?;
        let mut kept = self.kept.lock();
        for Given { label: said, fd } in given.unwrap_or_default() {
            let is_meant = |address: &&SocketAddr| match &said.name {
                Some(name) => *name == name_of(**address),
                // Older releases have opened them themselves; in a container, in its own namespace.
                None => {
                    self.kind == RuntimeChoice::Process && said.configured == address.to_string()
                }
            };
            let address = missing.iter().find(is_meant);
            if let Some(address) = address.filter(|_| said.role == Role::Clients) {
                let label = label(*address);
                kept.push(Given { label, fd });
            }
        }
        Ok(())
    }

    /// Closes all but those of these addresses.
    pub(super) fn retain(&self, addresses: &[SocketAddr]) {
        let wanted: BTreeSet<String> = addresses.iter().copied().map(name_of).collect();
        let is_wanted = |one: &Given| one.label.name.as_ref().is_some_and(|n| wanted.contains(n));
        self.kept.lock().retain(is_wanted);
    }

    /// Closes all of them. Those that a proxy has stay open there.
    pub(crate) fn close(&self) {
        *lock(&self.keeper) = None;
        self.kept.lock().clear();
    }

    /// The addresses whose sockets are here.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let kept = self.kept.lock();
        let names = kept.iter().filter_map(|one| one.label.name.as_deref());
        let addresses: BTreeSet<SocketAddr> = names.filter_map(|name| name.parse().ok()).collect();
        addresses.into_iter().collect()
    }

    fn missing(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let here = self.addresses();
        let missing = addresses.iter().filter(|address| !here.contains(address));
        missing.copied().collect()
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Given>> {
        lock(&self.0)
    }

    fn copies(&self) -> io::Result<Vec<Given>> {
        let copy = |one: &Given| {
            let label = one.label.clone();
            io::Result::Ok(Given {
                label,
                fd: one.fd.try_clone()?,
            })
        };
        self.lock().iter().map(copy).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn label(address: SocketAddr) -> Label {
    Label {
        role: Role::Clients,
        configured: address.to_string(),
        actual: Some(address),
        name: Some(name_of(address)),
    }
}

/// The folder is its owner's alone.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        state_dir::make(folder).map_err(io::Error::other)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve_all(listener: UnixListener, path: PathBuf, kept: Arc<Kept>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (path, kept) = (path.clone(), kept.clone());
                tokio::spawn(async move {
                    if let Err(error) = serve_one(stream, &path, &kept).await {
                        tracing::warn!("{}: no sockets were given: {error}", path.display());
                    }
                });
            }
            Err(error) => {
                tracing::warn!("{}: {error}", path.display());
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn serve_one(stream: UnixStream, path: &Path, kept: &Kept) -> io::Result<()> {
    let mut channel = Channel::new(stream, path)?;
    serve_copies(&mut channel, || kept.copies()).await
}

/// Where both `0.0.0.0` and `[::]` are listed with one port, each has the clients of its own family.
fn family(address: SocketAddr, all: &[SocketAddr]) -> Family {
    let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
    match address.ip().is_unspecified() && all.contains(&other) {
        true => Family::V6Only,
        false => Family::Both,
    }
}

fn cannot_listen(address: SocketAddr, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::AddrInUse => RuntimeError::port_taken(address).into(),
        ErrorKind::PermissionDenied => {
            let port = address.port();
            let what = format!(
                "cannot listen on {address}: this user may not listen on port {port}; `sysctl \
                 net.ipv4.ip_unprivileged_port_start={port}` lets every user, and \
                 `AmbientCapabilities=CAP_NET_BIND_SERVICE` in the controller's unit this one"
            );
            Error::caused(Exit::UNAVAILABLE, what)(error)
        }
        _ => Error::caused(Exit::UNAVAILABLE, format!("cannot listen on {address}"))(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test {
        state: tempfile::TempDir,
        sockets: HostSockets,
    }

    impl Test {
        fn new() -> Self {
            let state = tempfile::TempDir::new().expect("a folder");
            let sockets = HostSockets::new(state.path(), RuntimeChoice::Podman);
            sockets.keep().expect("a keeper");
            Self { state, sockets }
        }

        fn path(&self, name: &str) -> PathBuf {
            proxy_folder(self.state.path()).join(name)
        }
    }

    /// An address that is free.
    fn free() -> SocketAddr {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("its address")
    }

    fn names(given: &[Given]) -> BTreeSet<&str> {
        let names = given.iter().filter_map(|one| one.label.name.as_deref());
        names.collect()
    }

    #[tokio::test]
    async fn a_proxy_gets_copies_by_name_and_clients_wait_while_there_is_none() {
        let test = Test::new();
        let (one, other) = (free(), free());
        test.sockets.open(&[one, other]).await.expect("opened");
        let given = copies_from(&test.path(KEEPER)).await.expect("a reply");
        let given = given.expect("a keeper");
        assert_eq!(names(&given), [&*name_of(one), &name_of(other)].into());
        drop(given);
        std::net::TcpStream::connect(one).expect("it waits");
        test.sockets.retain(&[other]);
        std::net::TcpStream::connect(one).expect_err("closed");
        test.sockets.close();
        std::net::TcpStream::connect(other).expect_err("closed");
        // Its task ends when it is its turn.
        tokio::task::yield_now().await;
        let none = copies_from(&test.path(KEEPER)).await.expect("a reply");
        assert!(none.is_none());
    }

    #[tokio::test]
    async fn sockets_come_back_from_the_proxy_that_has_them_and_are_not_opened_again() {
        let test = Test::new();
        let address = free();
        test.sockets.open(&[address]).await.expect("opened");
        let copies = copies_from(&test.path(KEEPER)).await.expect("a reply");
        let copies = copies.expect("a keeper");
        let count = copies.len();
        // The proxy, which outlives its controller.
        let proxy = UnixListener::bind(test.path(HANDOVER)).expect("bound");
        let path = test.path(HANDOVER);
        let proxy = tokio::spawn(async move {
            let (stream, _) = proxy.accept().await.expect("a caller");
            let mut channel = Channel::new(stream, &path).expect("let in");
            serve_copies(&mut channel, || Ok(copies))
                .await
                .expect("given");
        });
        test.sockets.close();
        let next = HostSockets::new(test.state.path(), RuntimeChoice::Podman);
        next.keep().expect("a keeper");
        next.open(&[address]).await.expect("taken back");
        proxy.await.expect("it does not panic");
        assert_eq!(next.kept.lock().len(), count);
    }

    #[tokio::test]
    async fn a_taken_port_says_by_whom() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        let error = Test::new().sockets.open(&[address]).await;
        let error = error.expect_err("taken").to_string();
        let who = format!("(process {})", std::process::id());
        assert!(
            error.contains(&address.to_string()) && error.contains(&who),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_folder_that_can_have_no_socket_is_a_reason_to_publish_ports() {
        let state = tempfile::TempDir::new().expect("a folder");
        std::fs::write(proxy_folder(state.path()), "a file").expect("written");
        let sockets = HostSockets::new(state.path(), RuntimeChoice::Podman);
        let error = sockets.keep().expect_err("a file is no folder").to_string();
        assert!(error.contains("there can be no socket at"), "{error}");
        let deep = Path::new("/tmp").join("d".repeat(100));
        let sockets = HostSockets::new(&deep, RuntimeChoice::Podman);
        let error = sockets.keep().expect_err("too long").to_string();
        assert!(error.contains("is longer than the 107 bytes"), "{error}");
    }
}
