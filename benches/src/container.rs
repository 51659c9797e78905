//! `container`: each proxy as a process, in a container of rootful podman, and in one of rootless
//! podman, with a published port. The origin is a container on the same network.
//!
//! It runs in the namespace of the host, where podman's network and its rules are.

mod podman;
mod rootfs;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::accounting::tree;
use crate::client::BlockingClient;
use crate::contender::{Contender, Runtime};
use crate::cores;
use crate::error::{Context, Error, Result};
use crate::peers::Setup;
use crate::progress::Progress;
use crate::rounds::{self, Effort, Sample};
use crate::test_env::{Started, TestEnv};
use crate::work::Work;

pub(crate) use podman::Container;
use podman::Podman;

/// The port of the origin in its container.
const ORIGIN_PORT: u16 = 8080;
const REMARK: &str = "It runs in the network namespace of the host. CPU is that of the container's processes: the process that forwards the published port of a rootless container is not in it.";
/// How long a container may take until it responds.
const START: Duration = Duration::from_secs(30);

/// The contenders that were measured, their samples, and remarks.
pub(crate) type Measured = (Vec<Contender>, Vec<Vec<Sample>>, Vec<String>);

/// Measures the contenders. Those whose runtime is not available are left out.
pub(crate) fn measure(
    env: &TestEnv,
    contenders: Vec<Contender>,
    effort: Effort,
    progress: &Progress,
) -> Result<Measured> {
    // A thread of its own moves to the namespace of the host: what it starts is there too.
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            env.network.leave()?;
            let host = env.in_host_network()?;
            measure_in(&host, contenders, effort, progress)
        });
        measured.join().map_err(|_| Error::Program {
            name: "container".into(),
            why: "panicked".into(),
        })?
    })
}

fn measure_in(
    env: &TestEnv,
    contenders: Vec<Contender>,
    effort: Effort,
    progress: &Progress,
) -> Result<Measured> {
    // Users inside a container are others outside of it, and write there.
    fs::set_permissions(env.folder(), Permissions::from_mode(0o777))
        .context(|| env.folder().display().to_string())?;
    let mut notes = vec![REMARK.to_owned()];
    let mut hosts = Vec::new();
    for runtime in [Runtime::Rootful, Runtime::Rootless] {
        match Podman::find(runtime) {
            Ok(podman) => {
                let version = podman.version()?;
                notes.push(format!("Podman {version}, {}.", runtime.name()));
                hosts.push(ContainerHost::new(env, runtime, podman)?);
            }
            Err(why) => notes.push(format!("No {} containers: {why}.", runtime.name())),
        }
    }
    let has_host = |contender: &Contender| {
        contender.runtime == Runtime::Process
            || hosts.iter().any(|host| host.runtime == contender.runtime)
    };
    let contenders: Vec<Contender> = contenders.into_iter().filter(has_host).collect();
    let start = |number: usize, contender: &Contender| {
        let host = hosts.iter().find(|host| host.runtime == contender.runtime);
        match host {
            Some(host) => host.start(number, contender),
            None => env.start(number, contender),
        }
    };
    let samples = rounds::measure(env, Work::Container, &contenders, effort, progress, &start)?;
    Ok((contenders, samples, notes))
}

/// A network of podman with an origin on it.
struct ContainerHost<'a> {
    env: &'a TestEnv,
    runtime: Runtime,
    podman: Podman,
    origin: SocketAddr,
    /// Removed before its network.
    _origin: Container,
    network: podman::Network,
}

impl<'a> ContainerHost<'a> {
    fn new(env: &'a TestEnv, runtime: Runtime, podman: Podman) -> Result<Self> {
        let name = format!("crossfade-bench-{}", std::process::id());
        let network = podman.create_network(&name)?;
        let this = std::env::current_exe().context(|| "this program's path".into())?;
        let folder = env
            .folder()
            .join(format!("rootfs-{}-origin", runtime.name()));
        rootfs::create(&folder, &this)?;
        podman.own(&folder)?;
        let mut command = podman.run(&format!("{name}-origin"), &network);
        command.extend(["--rootfs".into(), folder.into(), this.into_os_string()]);
        let port = ORIGIN_PORT.to_string();
        let arguments = [
            "origin",
            "--address",
            "0.0.0.0",
            "--port",
            &port,
            "--version",
            "1.0.0",
        ];
        command.extend(arguments.iter().map(OsString::from));
        let container = Container::start(
            &podman,
            &format!("{name}-origin"),
            &[env.cores.load],
            &command,
            env.folder(),
        )?;
        let address = podman.address_of(&container)?;
        pin(&container, &[env.cores.load])?;
        Ok(Self {
            env,
            runtime,
            podman,
            origin: SocketAddr::new(address, ORIGIN_PORT),
            _origin: container,
            network,
        })
    }

    /// Starts contender `number` in a container, and waits until it responds.
    fn start(&self, number: usize, contender: &Contender) -> Result<Started> {
        let peer = contender.installed.peer;
        let listen = Ipv4Addr::UNSPECIFIED;
        let setup = self.env.setup_for(number, contender, self.origin, listen)?;
        let missing = || Error::Usage(format!("{} cannot run in a container", peer.name()));
        let program = contender.installed.program.clone().ok_or_else(missing)?;
        let inside = Setup {
            // `env` is not in the container: podman sets the variable.
            keeps_heap: false,
            ..setup.clone()
        };
        let command = contender.installed.command(&inside)?.ok_or_else(missing)?;

        let name = format!(
            "crossfade-bench-{}-{number}-{}",
            std::process::id(),
            peer.name()
        );
        let mut run = self.podman.run(&name, &self.network);
        let port = setup.port;
        let folder = self.env.folder().display();
        run.extend(
            [
                format!("--publish=127.0.0.1:{port}:{port}"),
                format!("--volume={folder}:{folder}"),
            ]
            .map(OsString::from),
        );
        if let Some(variable) = contender.installed.heap_variable(&setup) {
            run.push(format!("--env={variable}").into());
        }
        let root = self.rootfs(contender, &program)?;
        run.extend(["--rootfs".into(), root.into_os_string()]);
        run.extend(command);

        let cores = self.env.cores.of_workers(contender.workers);
        let container = Container::start(&self.podman, &name, &cores, &run, self.env.folder())?;
        let target = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        wait_until_it_responds(&container, target, &Work::Container.requests(contender))?;
        pin(&container, &cores)?;
        Ok(Started::in_container(container, target))
    }

    /// The root file system of a proxy. It is made once.
    fn rootfs(&self, contender: &Contender, program: &std::path::Path) -> Result<PathBuf> {
        let peer = contender.installed.peer.name();
        let name = format!("rootfs-{}-{peer}", self.runtime.name());
        let folder = self.env.folder().join(name);
        if !folder.exists() {
            rootfs::create(&folder, program)?;
            self.podman.own(&folder)?;
        }
        Ok(folder)
    }
}

/// Binds all threads of a container to these cores: its runtime may have changed that.
fn pin(container: &Container, cores: &[usize]) -> Result<()> {
    for pid in tree(container.root)? {
        cores::pin_process(pid, cores);
    }
    Ok(())
}

fn wait_until_it_responds(
    container: &Container,
    target: SocketAddr,
    requests: &[Vec<u8>],
) -> Result<()> {
    let request = requests.first().map_or(&[][..], Vec::as_slice);
    let deadline = Instant::now() + START;
    let responds = || {
        let mut client = BlockingClient::connect(target).ok()?;
        let (response, _) = client.request(request).ok()?;
        (response.status == 200).then_some(())
    };
    while responds().is_none() {
        if Instant::now() > deadline {
            return Err(container.failed("does not respond"));
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}
