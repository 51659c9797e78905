//! The environment of all workloads: ports, folder, origins, and the contenders that run.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::cores::Cores;
use crate::error::{Context, Error, Result};
use crate::network::Network;
use crate::origin;
use crate::peers::{Peer, Setup, services};
use crate::process::Running;
use crate::tls;
use crate::work::Contender;

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
    /// Its processes; `None` for the origin without a proxy.
    pub(crate) running: Option<Running>,
    /// The address that requests go to.
    pub(crate) target: SocketAddr,
    /// The address of its admin API, if it is crossfade.
    pub(crate) admin: SocketAddr,
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

    /// The address of the origin of a version.
    pub(crate) fn origin(&self, version: u16) -> SocketAddr {
        local(self.port + version - 1)
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
        let port = u16::try_from(number * 2)
            .ok()
            .and_then(|offset| self.port.checked_add(10 + offset))
            .ok_or_else(|| Error::Usage("too many contenders for the ports".into()))?;
        let origin = self.origin(1);
        let endpoints: Vec<SocketAddr> = match contender.endpoints {
            0 => vec![origin],
            count => (0..count.min(ENDPOINTS))
                .map(|number| origin::endpoint(number, origin.port()).into())
                .collect(),
        };
        let services = match contender.installed.peer {
            Peer::Crossfade => services(contender.services, &endpoints),
            _ => String::new(),
        };
        Ok(Setup {
            port,
            admin: port + 1,
            origin,
            workers: contender.workers,
            services,
            keeps_heap: contender.keeps_heap,
            tls: contender.tls,
            folder: self.folder(),
        })
    }

    /// Starts contender `number` of a workload, and waits until it listens.
    pub(crate) fn start(&self, number: usize, contender: &Contender) -> Result<Started> {
        let setup = self.setup(number, contender)?;
        let Some(command) = contender.installed.command(&setup)? else {
            return Ok(Started {
                running: None,
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
            target,
            admin: local(setup.admin),
        })
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
