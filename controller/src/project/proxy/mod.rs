//! The proxy as the controller runs it: one container in the network namespace of a small
//! infra container, which publishes the ports and stays when the proxy is replaced; or one process.

mod certificates;
mod config;
mod spec;
mod standby;

use std::hash::Hasher;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::error::{ContainerError, Error, Exit, Result};
use crate::http::proxy_admin::{Dial, ProxyAdmin};
use crate::journal::{ProxyRecord, ProxyUpgrade};
use crate::manifest::{MAX_SOCKET_PATH, ProxySettings, RuntimeChoice};
use crate::project::Project;
use crate::runtime::{
    Container, ContainerSpec, ContainerState, ResourceLimits, RuntimeError, label,
};
use crate::state_dir::{self, proxy_folder, write_private};

pub(crate) use standby::{serving_number, standbys};

/// The role of the proxy's container.
pub(crate) const PROXY: &str = "proxy";
/// The role of the infra container, which publishes the proxy's ports. Its name stays as it is:
/// it is a label of containers that outlive an upgrade of the controller.
pub(crate) const INFRA: &str = "holder";

/// Where the proxy's container sees its folder.
pub(super) const INSIDE: &str = "/run/crossfade-proxy";
/// What the proxy remembers, in its folder.
const STATE_FILE: &str = "state.json";
/// What the proxy is told at its start, in the same folder.
const CONFIG: &str = "proxy.toml";
/// Where its admin API is, in the same folder.
const ADMIN: &str = "admin.sock";
/// The port of the admin API where it can be on no unix socket, and of proxies of older releases.
const ADMIN_PORT: u16 = 9900;
/// How long the proxy may take to respond on its admin port.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection to a client's address may take from the host itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What is said where the proxy could not ask for its sockets.
const CANNOT_KEEP: &str = "the proxy's listening sockets cannot be passed to it";
/// How long a new proxy may take until it has taken over.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of the admin API. Makes the folder and the token where they are not there yet.
pub(crate) fn admin(state: &Path, settings: &ProxySettings) -> Result<ProxyAdmin> {
    let folder = proxy_folder(state);
    state_dir::make(&folder)?;
    let token = token(&folder)?;
    let dial = match AdminAt::of(&folder, settings) {
        AdminAt::Port(port) => Dial::Tcp((Ipv4Addr::LOCALHOST, port).into()),
        AdminAt::Socket(socket) => Dial::Unix {
            socket,
            older: has_older_proxy(&folder).then(|| (Ipv4Addr::LOCALHOST, ADMIN_PORT).into()),
        },
    };
    Ok(ProxyAdmin::new(dial, token))
}

/// Where the admin API is, as the host reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum AdminAt {
    /// A unix socket in the proxy's folder.
    Socket(PathBuf),
    /// A port of 127.0.0.1.
    Port(u16),
}

impl AdminAt {
    fn of(folder: &Path, settings: &ProxySettings) -> Self {
        let socket = folder.join(ADMIN);
        match settings.admin_port {
            Some(port) => Self::Port(port),
            None if socket.as_os_str().len() <= MAX_SOCKET_PATH => Self::Socket(socket),
            None => Self::Port(ADMIN_PORT),
        }
    }

    fn port(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(_) => None,
            Self::Port(port) => Some((Ipv4Addr::LOCALHOST, *port).into()),
        }
    }
}

/// The address of the admin API in the host's network, where it has one.
pub(crate) fn admin_address(state: &Path, settings: &ProxySettings) -> Option<SocketAddr> {
    AdminAt::of(&proxy_folder(state), settings).port()
}

/// Whether the proxy was told by an older release to have its admin API on a port.
fn has_older_proxy(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join(CONFIG)).unwrap_or_default();
    let mut listens = text.lines().filter(|line| line.starts_with("listen = "));
    listens.next().is_some_and(|line| !line.contains("\"unix:"))
}

/// Takes away what the proxy remembers: the next one is to begin with nothing.
pub(crate) fn forget(state: &Path) -> Result<()> {
    let path = proxy_folder(state).join(STATE_FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file(path)(error)),
        _ => Ok(()),
    }
}

/// What makes a proxy for a project.
pub(crate) struct ProxyHost<'a> {
    /// The project.
    pub(crate) project: &'a Project,
    /// The project's state folder.
    pub(crate) state: &'a Path,
    /// What the project runs on.
    pub(crate) kind: RuntimeChoice,
    /// Which proxy it is.
    pub(crate) record: ProxyRecord,
}

impl ProxyHost<'_> {
    /// What has to be there before anything is started: the proxy's image or program.
    pub(crate) async fn check(&self, settings: &ProxySettings) -> Result<()> {
        self.project
            .runtime
            .resolve_image(&self.image_text(settings)?)
            .await?;
        Ok(())
    }

    /// Makes sure that the proxy runs and responds. `started` gets what was started, also when
    /// it fails half-way.
    pub(crate) async fn ensure(&self, started: &mut Vec<Container>) -> Result<()> {
        let manifest = self.project.manifest();
        let settings = &manifest.proxy;
        let containers = self.project.runtime.list().await?;
        let runs = |c: &&Container| c.state == ContainerState::Running;
        let find = |role| containers.iter().find(|c| has_role(c, role));
        let infra = find(INFRA).filter(runs).is_some();
        let podman = self.kind == RuntimeChoice::Podman;
        let proxies = || containers.iter().filter(|c| has_role(c, PROXY));
        let current = self.proxy_name();
        if (infra || !podman) && proxies().filter(runs).any(|c| c.name == current) {
            return self.until_it_responds().await;
        }
        let addresses = addresses_of(settings);
        if self.has_host_sockets() {
            // While there may be a proxy that has them. One that does not give them is no hindrance.
            if let Err(error) = self.project.host_sockets.take_back(&addresses).await {
                tracing::warn!("{error}");
            }
        }
        // Another one that still runs hands over; but proxies without their infra container have no
        // network any more: all of them are made again.
        let is_lost = |c: &&Container| !runs(c) || podman && !infra;
        let mut lost: Vec<&Container> = proxies().filter(is_lost).collect();
        // A standby goes before the proxy whose place it would take.
        lost.sort_by_key(|c| std::cmp::Reverse(number_of(&self.project.name, &c.name)));
        for dead in lost.into_iter().chain(find(INFRA).filter(|c| !runs(c))) {
            self.project.runtime.stop(&dead.id).await?;
        }
        let hands_over = proxies().any(|c| !is_lost(&c));
        if self.has_host_sockets() {
            self.open_sockets(&addresses).await?;
        }
        self.write_config(settings)?;
        if podman {
            if !infra {
                started.push(self.start(self.infra_spec(settings)?).await?);
            }
        } else if !hands_over {
            let admin = admin_address(self.state, settings);
            let clients = addresses.iter().copied();
            let clients = clients.filter(|_| !self.has_host_sockets());
            check_ports(clients.chain(admin))?;
        }
        started.push(self.start(self.proxy_spec(settings)?).await?);
        self.until_it_responds().await
    }

    /// Starts a container; without limits where the engine cannot keep them, as for a user whose
    /// cgroups are not their own.
    async fn start(&self, mut spec: ContainerSpec) -> Result<Container> {
        let runtime = &self.project.runtime;
        if self.kind == RuntimeChoice::Process {
            spec.limits = ResourceLimits::default();
        }
        match runtime.start(&spec).await {
            Err(RuntimeError::Refused { reason, .. })
                if spec.limits != ResourceLimits::default() =>
            {
                tracing::info!("{}: without limits of memory and pids: {reason}", spec.name);
                spec.limits = ResourceLimits::default();
                Ok(runtime.start(&spec).await?)
            }
            done => Ok(done?),
        }
    }

    /// The same for an `up`: where the host's sockets cannot be passed to the proxy, the engine
    /// publishes its ports, until `down`.
    pub(crate) async fn ensure_or_publish(&self, started: &mut Vec<Container>) -> Result<()> {
        if !self.has_host_sockets() {
            return self.ensure(started).await;
        }
        let sockets = &self.project.host_sockets;
        let others = started.len();
        let why = match sockets.keep() {
            Err(error) => error.to_string(),
            Ok(()) => match self.ensure(started).await {
                Ok(()) => return Ok(()),
                Err(error) if self.has_just_ended(&error, &started[others..]) => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        tracing::warn!("{why}: its ports are published instead");
        for one in started.drain(others..).rev() {
            self.project.runtime.stop(&one.id).await?;
        }
        sockets.close();
        let record = ProxyRecord {
            published: Some(why),
            ..self.record.clone()
        };
        self.project.journal.set_proxy(&record)?;
        let published = ProxyHost { record, ..*self };
        published.ensure(started).await
    }

    /// Whether a proxy has ended that was started with its infra container: it may not have been
    /// let at its sockets, or not know of them.
    fn has_just_ended(&self, error: &Error, started: &[Container]) -> bool {
        let is_new = |role: &str| started.iter().any(|one| has_role(one, role));
        matches!(error, Error::Container(ContainerError::Exited { name, .. })
            if *name == self.proxy_name())
            && is_new(INFRA)
    }

    /// Whether the proxy in force was started with these settings. One that is not there, or does
    /// not say, counts as such: it is seen to elsewhere.
    pub(crate) async fn runs_as(&self, settings: &ProxySettings) -> Result<bool> {
        let name = self.proxy_name();
        let containers = self.project.runtime.list().await?;
        let found = containers.iter().find(|one| one.name == name);
        let was = found.and_then(|one| one.labels.get(label::SETTINGS));
        Ok(match was {
            Some(was) => *was == self.settings_label(settings)?,
            None => true,
        })
    }

    /// Another for each config and each image.
    fn settings_label(&self, settings: &ProxySettings) -> Result<String> {
        let mut hasher = SipHasher24::new();
        hasher.write(self.config_text(settings)?.as_bytes());
        hasher.write(self.image_text(settings)?.as_bytes());
        Ok(format!("{:032x}", hasher.finish128().as_u128()))
    }

    /// The proxy that an upgrade is to bring.
    pub(crate) fn after(self, upgrade: &ProxyUpgrade) -> Self {
        let record = ProxyRecord {
            number: self.record.number + 1,
            image: upgrade.image.clone(),
            published: self.record.published.clone(),
            upgrade: None,
        };
        Self { record, ..self }
    }

    /// Starts this proxy beside the one that runs, and waits until it has taken over: another
    /// process than `before` responds on the admin port. If it does not, it is removed again.
    pub(crate) async fn take_over(&self, settings: &ProxySettings, before: &str) -> Result<()> {
        let sockets = &self.project.host_sockets;
        let addresses = addresses_of(settings);
        if !self.has_host_sockets() {
            return self.take_over_alone(settings, before).await;
        }
        sockets.take_back(&addresses).await?;
        let had = sockets.addresses();
        let taken_over = match self.open_sockets(&addresses).await {
            Ok(()) => self.take_over_alone(settings, before).await,
            Err(error) => Err(error),
        };
        // Where no proxy accepts, no client is to wait.
        sockets.retain(if taken_over.is_ok() { &addresses } else { &had });
        taken_over
    }

    async fn take_over_alone(&self, settings: &ProxySettings, before: &str) -> Result<()> {
        let config = proxy_folder(self.state).join(CONFIG);
        let config_before = state_dir::read(&config).ok();
        self.write_config(settings)?;
        let started = self.start(self.proxy_spec(settings)?).await?;
        let taken_over = self.until_another_responds(&started, before).await;
        if taken_over.is_err() {
            self.project.runtime.stop(&started.id).await?;
            if let Some(text) = config_before {
                write_private(&config, &text)?;
            }
        }
        taken_over
    }

    /// Whether the proxy has its sockets from here.
    pub(crate) fn has_host_sockets(&self) -> bool {
        self.record.published.is_none()
    }

    /// Has the sockets of the proxy that runs here, too, so that they outlive it.
    pub(crate) async fn keep_sockets(&self) -> Result<()> {
        if !self.has_host_sockets() {
            return Ok(());
        }
        let addresses = addresses_of(&self.project.manifest().proxy);
        self.project.host_sockets.take_back(&addresses).await?;
        let kept = self.project.host_sockets.keep();
        kept.map_err(Error::caused(Exit::UNAVAILABLE, CANNOT_KEEP))
    }

    async fn open_sockets(&self, addresses: &[SocketAddr]) -> Result<()> {
        let sockets = &self.project.host_sockets;
        let kept = sockets.keep();
        kept.map_err(Error::caused(Exit::UNAVAILABLE, CANNOT_KEEP))?;
        sockets.open(addresses).await
    }

    async fn until_another_responds(&self, started: &Container, before: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + TAKE_OVER_TIMEOUT;
        loop {
            let status = self.project.admin.status().await;
            if status.is_ok_and(|status| status.process != before) {
                return Ok(());
            }
            let containers = self.project.runtime.last_list().await?;
            let found = containers.iter().find(|c| c.id == started.id);
            if let Some(exited) = found.filter(|c| c.state != ContainerState::Running) {
                return Err(self.project.exit_of(exited).await);
            }
            if tokio::time::Instant::now() >= deadline {
                let seconds = TAKE_OVER_TIMEOUT.as_secs();
                return Err(Error::refused(format!(
                    "{} has not taken over within {seconds} s",
                    started.name
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_it_responds(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            let Err(error) = self.project.admin.status().await else {
                return Ok(());
            };
            for container in self.project.runtime.last_list().await? {
                let is_needed = has_role(&container, INFRA)
                    || has_role(&container, PROXY) && container.name == self.proxy_name();
                let exited = matches!(container.state, ContainerState::Exited(_));
                if exited && is_needed {
                    return Err(self.project.exit_of(&container).await);
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its image, or the path of its program.
    pub(crate) fn image_text(&self, settings: &ProxySettings) -> Result<String> {
        if let Some(image) = &self.record.image {
            return Ok(image.clone());
        }
        if self.kind != RuntimeChoice::Process {
            return Ok(settings.image.clone());
        }
        let program = match &settings.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()
                .map_err(Error::file("crossfade"))?
                .with_file_name("crossfade-proxy"),
        };
        Ok(program.to_string_lossy().into_owned())
    }

    /// The name of the proxy that is in force. The next one has another: for a while both run.
    pub(crate) fn proxy_name(&self) -> String {
        self.name_of(self.record.number)
    }

    fn name_of(&self, number: u32) -> String {
        match number {
            0 => self.name(PROXY),
            number => format!("{}-{number}", self.name(PROXY)),
        }
    }

    /// Whether the proxy has a network: on podman it is the infra container's.
    pub(crate) fn has_network(&self, containers: &[Container]) -> bool {
        let is_infra =
            |one: &Container| has_role(one, INFRA) && one.state == ContainerState::Running;
        self.kind != RuntimeChoice::Podman || containers.iter().any(is_infra)
    }

    fn name(&self, role: &str) -> String {
        format!("{}-{role}", self.project.name)
    }
}

/// The number of the proxy with this name in a project: how many have taken over before it.
pub(crate) fn number_of(project: &str, name: &str) -> Option<u32> {
    let rest = name.strip_prefix(project)?.strip_prefix('-')?;
    match rest.strip_prefix(PROXY)? {
        "" => Some(0),
        number => number.strip_prefix('-')?.parse().ok(),
    }
}

fn has_role(container: &Container, role: &str) -> bool {
    container.labels.get(label::ROLE).is_some_and(|r| r == role)
}

/// Connects to each address, and waits until a process has accepted that: a socket whose process does
/// not takes connections, too.
pub(crate) async fn check_addresses(settings: &ProxySettings) -> Result<()> {
    let checks = addresses_of(settings).into_iter().map(async |address| {
        // A thread for it: the kernel's clock is what counts.
        let checked = tokio::task::spawn_blocking(move || is_accepted(address, CONNECT_TIMEOUT));
        let checked = checked.await.unwrap_or_else(|error| Err(error.into()));
        let what = format!("clients cannot connect to {address}");
        checked.map_err(Error::caused(Exit::UNAVAILABLE, what))
    });
    futures_util::future::try_join_all(checks).await?;
    Ok(())
}

/// Connects, and ends the connection at once: a process that accepts it closes it then.
fn is_accepted(address: SocketAddr, within: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&reached_from_here(address), within)?;
    stream.set_read_timeout(Some(within))?;
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            let message = format!("no process has accepted a connection within {within:?}");
            Err(io::Error::new(ErrorKind::TimedOut, message))
        }
        // Closed, in whatever way.
        _ => Ok(()),
    }
}

/// Every address of a machine is none to connect to.
fn reached_from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn addresses_of(settings: &ProxySettings) -> Vec<SocketAddr> {
    let addresses = settings.listeners.iter().map(|one| one.address);
    addresses.collect()
}

/// The proxy shares its ports among its threads, so it might share them with another proxy
/// unasked: look first.
pub(crate) fn check_ports(addresses: impl Iterator<Item = SocketAddr>) -> Result<()> {
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                return Err(RuntimeError::port_taken(address).into());
            }
            Err(error) => {
                let what = format!("cannot listen on {address}");
                return Err(Error::caused(Exit::UNAVAILABLE, what)(error));
            }
        }
    }
    Ok(())
}

/// The secret by which the proxy knows its controller; made at the first call.
fn token(folder: &Path) -> Result<String> {
    let path = folder.join("token");
    match state_dir::read(&path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::file(path)(error)),
    }
    let secret: [u8; 32] = rand::random();
    let token: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(&path, &token)?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::spec::inside_ports;
    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn the_token_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let first = token(dir.path()).expect("made");
        assert_eq!(first.len(), 64);
        assert_eq!(token(dir.path()).expect("read"), first);
        let mode = std::fs::metadata(dir.path().join("token"))
            .expect("a file")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn the_admin_api_is_on_a_socket_unless_a_port_is_set_or_no_socket_fits() {
        let settings = |keys: &str| {
            let services = "[[services]]\nname = \"web\"\nimage = \"web:1\"";
            let text = format!("[proxy]\n{keys}\n{services}\n");
            Manifest::parse(&text).expect("a manifest").proxy
        };
        let folder = Path::new("/state/proxy");
        let socket = AdminAt::Socket(folder.join("admin.sock"));
        assert_eq!(AdminAt::of(folder, &settings("")), socket);
        let port = settings("admin_port = 9901");
        assert_eq!(AdminAt::of(folder, &port), AdminAt::Port(9901));
        let deep = Path::new("/tmp").join("d".repeat(100));
        assert_eq!(AdminAt::of(&deep, &settings("")), AdminAt::Port(9900));
    }

    #[test]
    fn a_proxy_of_an_older_release_is_known_by_its_config() {
        let dir = tempfile::TempDir::new().expect("a folder");
        assert!(!has_older_proxy(dir.path()), "there is none");
        for (listen, is_older) in [("127.0.0.1:9900", true), ("unix:/a/admin.sock", false)] {
            let text = format!("[admin]\nlisten = \"{listen}\"\n");
            std::fs::write(dir.path().join(CONFIG), text).expect("written");
            assert_eq!(has_older_proxy(dir.path()), is_older, "{listen}");
        }
    }

    #[test]
    fn a_proxys_name_has_its_number() {
        for (name, number) in [
            ("shop-proxy", Some(0)),
            ("shop-proxy-12", Some(12)),
            ("shop-proxy-", None),
            ("shop-holder", None),
            ("shop-2-proxy", None),
        ] {
            assert_eq!(number_of("shop", name), number, "{name}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("its address");
        let error = check_ports([address].into_iter()).expect_err("taken");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn an_address_that_nothing_listens_on_or_that_no_process_accepts_on_is_none_for_clients() {
        let within = Duration::from_millis(200);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let error = is_accepted(address, within).expect_err("it waits in the backlog");
        assert!(
            error.to_string().contains("no process has accepted"),
            "{error}"
        );
        std::thread::scope(|scope| {
            // What was left of the connection before, and the next one.
            scope.spawn(|| [(); 2].map(|()| listener.accept().map(drop)));
            is_accepted(address, CONNECT_TIMEOUT).expect("it is accepted");
        });
        drop(listener);
        let error = is_accepted(address, within).expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_that_clients_cannot_connect_to_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let services = "[[services]]\nname = \"web\"\nimage = \"web:1\"";
        let text = format!("[proxy]\nlisten = [\"{address}\"]\n{services}\n");
        let manifest = Manifest::parse(&text).expect("a manifest");
        let error = check_addresses(&manifest.proxy).await.expect_err("refused");
        let says = format!("clients cannot connect to {address}: ");
        assert!(error.to_string().starts_with(&says), "{error}");
    }

    #[test]
    fn a_listener_keeps_its_port_inside_wherever_it_stands_in_the_manifest() {
        let ports = |listen: &str| {
            let services = "[[services]]\nname = \"web\"\nimage = \"web:1\"";
            let text = format!("[proxy]\nlisten = [{listen}]\n{services}\n");
            let manifest = Manifest::parse(&text).expect("a manifest");
            let ports = inside_ports(&manifest.proxy);
            ports
                .map(|(address, port)| (address.port(), port))
                .collect::<Vec<_>>()
        };
        let (a, b) = ("\"127.0.0.1:9001\"", "\"127.0.0.1:9002\"");
        assert_eq!(ports(&format!("{a}, {b}")), [(9001, 8080), (9002, 8081)]);
        assert_eq!(ports(&format!("{b}, {a}")), [(9002, 8081), (9001, 8080)]);
    }
}
