//! The environment of all workloads: ports, folder, origins, and the contenders that run.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::container::Container;
use crate::contender::Contender;
use crate::cores::Cores;
use crate::error::{Context, Error, Result};
use crate::network::Network;
use crate::origin;
use crate::peers::{Peer, Setup, services};
use crate::process::Running;
use crate::tls;

/// The number of endpoint addresses that an origin listens on.
const ENDPOINTS: u16 = 1000;

/// The environment that all workloads share.
pub(crate) struct TestEnv {
    /// The assignment of cores.
    pub(crate) cores: Cores,
    /// The network of the run.
    pub(crate) network: Network,
    /// The first of the 100 ports.
    port: u16,
    folder: TempDir,
    /// Set by Ctrl-C.
    pub(crate) interrupted: Arc<AtomicBool>,
    origins: Vec<Running>,
}

/// A contender that is running.
pub(crate) struct Started {
    /// Its processes; `None` for the origin without a proxy, and in a container.
    pub(crate) running: Option<Running>,
    container: Option<Container>,
    /// The address that requests go to.
    pub(crate) target: SocketAddr,
    /// The address of its admin API, if it is crossfade.
    pub(crate) admin: SocketAddr,
}

impl Started {
    /// A contender in a container.
    pub(crate) fn in_container(container: Container, target: SocketAddr) -> Self {
        Self {
            running: None,
            container: Some(container),
            target,
            // Its admin API is not published.
            admin: target,
        }
    }

    /// The root of the tree of its processes; `None` for the origin without a proxy.
    pub(crate) fn root(&self) -> Option<u32> {
        let process = self.running.as_ref().map(Running::id);
        process.or_else(|| self.container.as_ref().map(Container::root))
    }
}

impl TestEnv {
    /// Starts two origins, of versions 1 and 2.
    pub(crate) fn new(
        port: u16,
        cores: Cores,
        network: Network,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self> {
        network.widen(port);
        let folder = tempfile::tempdir().context(|| "a temporary folder".into())?;
        // nginx's workers run as another user when root starts it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .context(|| folder.path().display().to_string())?;
        tls::write_certificate(folder.path())?;
        let mut env = Self {
            cores,
            network,
            port,
            folder,
            interrupted,
            origins: Vec::new(),
        };
        for version in [1, 2] {
            let address = env.origin(version);
            let this = std::env::current_exe().context(|| "this program's path".into())?;
            let mut command = vec![this.into_os_string(), "origin".into()];
            for argument in [
                "--port",
                &address.port().to_string(),
                "--endpoints",
                &ENDPOINTS.to_string(),
                "--version",
                &format!("{version}.0.0"),
                "--path",
                &env.origin_path(version).display().to_string(),
            ] {
                command.push(argument.into());
            }
            let name = format!("origin-{version}");
            let mut running =
                Running::start(&name, &[env.cores.load], &command, env.folder.path())?;
            running.wait_until_listening(address)?;
            env.origins.push(running);
        }
        Ok(env)
    }

    /// An environment in the network of the host. The calling thread is there already.
    pub(crate) fn in_host_network(&self) -> Result<Self> {
        let network = Network::host("containers need it");
        Self::new(
            self.port,
            self.cores.clone(),
            network,
            self.interrupted.clone(),
        )
    }

    /// The address of the origin of a version.
    pub(crate) fn origin(&self, version: u16) -> SocketAddr {
        local(self.port + version - 1)
    }

    /// The path of the unix socket of an origin.
    fn origin_path(&self, version: u16) -> PathBuf {
        self.folder().join(format!("origin-{version}.sock"))
    }

    /// Why crossfade's config check refuses its config; `None` if it accepts it.
    pub(crate) fn config_error(&self, contender: &Contender) -> Result<Option<String>> {
        if contender.installed.peer != Peer::Crossfade {
            return Ok(None);
        }
        let setup = self.setup(0, contender)?;
        let Some(mut command) = contender.installed.command(&setup)? else {
            return Ok(None);
        };
        command.push("--check".into());
        let [program, arguments @ ..] = command.as_slice() else {
            return Ok(None);
        };
        let checked = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context(|| "crossfade-proxy --check".into())?;
        let text = String::from_utf8_lossy(&checked.stderr).into_owned();
        let folder = self.folder().display().to_string();
        Ok((!checked.status.success()).then(|| text.trim().replace(&folder, "FOLDER")))
    }

    /// The folder of configs and logs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns an error after Ctrl-C.
    pub(crate) fn check_interrupted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// The parameters of contender `number` of a workload.
    pub(crate) fn setup(&self, number: usize, contender: &Contender) -> Result<Setup<'_>> {
        self.setup_for(number, contender, self.origin(1), Ipv4Addr::LOCALHOST)
    }

    /// The same with another origin, and another address to listen on.
    pub(crate) fn setup_for(
        &self,
        number: usize,
        contender: &Contender,
        origin: SocketAddr,
        listen: Ipv4Addr,
    ) -> Result<Setup<'_>> {
        let port = u16::try_from(number * 2)
            .ok()
            .and_then(|offset| self.port.checked_add(10 + offset))
            .ok_or_else(|| Error::Usage("too many contenders for the ports".into()))?;
        let origin_path = self.origin_path(1);
        let endpoints: Vec<String> = match contender.endpoints {
            0 if contender.variant.unix => vec![format!("unix:{}", origin_path.display())],
            0 => vec![origin.to_string()],
            count => (0..count.min(ENDPOINTS))
                .map(|number| origin::endpoint(number, origin.port()).to_string())
                .collect(),
        };
        let services = match contender.installed.peer {
            Peer::Crossfade => services(contender.services, &endpoints, contender.variant),
            _ => String::new(),
        };
        Ok(Setup {
            port,
            listen,
            admin: port + 1,
            origin,
            workers: contender.workers,
            services,
            keeps_heap: contender.keeps_heap,
            variant: contender.variant,
            origin_path,
            folder: self.folder(),
        })
    }

    /// Starts contender `number` of a workload, and waits until it listens.
    pub(crate) fn start(&self, number: usize, contender: &Contender) -> Result<Started> {
        let setup = self.setup(number, contender)?;
        let Some(command) = contender.installed.command(&setup)? else {
            return Ok(Started {
                running: None,
                container: None,
                target: setup.origin,
                admin: setup.origin,
            });
        };
        self.start_command(&setup, contender, &command)
    }

    /// Starts a contender with a command of the caller.
    pub(crate) fn start_command(
        &self,
        setup: &Setup<'_>,
        contender: &Contender,
        command: &[std::ffi::OsString],
    ) -> Result<Started> {
        let name = format!("{}-{}", contender.installed.peer.name(), setup.port);
        let cores = self.cores.of_workers(contender.workers);
        let target = local(setup.port);
        // Another program on this port would be measured instead.
        drop(TcpListener::bind(target).context(|| format!("{name}: port {}", setup.port))?);
        let mut running = Running::start(&name, &cores, command, self.folder())?;
        running.wait_until_listening(target)?;
        Ok(Started {
            running: Some(running),
            container: None,
            target,
            admin: local(setup.admin),
        })
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
