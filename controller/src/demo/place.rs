//! Where the demo plays: a state folder, a project and ports of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::{Done, DownRequest, UpRequest};
use crate::client::ControllerClient;
use crate::error::{Error, Result};
use crate::http::proxy_admin::{Dial, ProxyAdmin};
use crate::manifest::{Manifest, RuntimeChoice};
use crate::print::say;
use crate::project::proxy;
use crate::runtime::RuntimeError;
use crate::server::engine::{self, Engine};
use crate::state_dir;

/// The service that is rolled out.
pub(super) const SERVICE: &str = "web";

/// Where the ports are looked for: clients', and the proxy's admin port.
const CLIENTS: u16 = 8080;
const PORT_ATTEMPTS: usize = 5;

const SERVER: &str = "crossfade-sample-server";
/// The bad release's share of responses that are errors.
const BAD_RATE: &str = "0.33";

/// The demo's own corner of this machine.
pub(super) struct DemoProject {
    /// Everything on disk.
    pub(super) state: PathBuf,
    /// On which runtime, and why on this one.
    pub(super) why: String,
    /// Where clients reach the proxy.
    pub(super) listen: SocketAddr,
    pub(super) client: ControllerClient,
    pub(super) admin: ProxyAdmin,
    kind: RuntimeChoice,
    project: String,
}

impl DemoProject {
    /// Chooses the runtime, a folder and ports.
    pub(super) async fn find(runtime: RuntimeChoice) -> Result<Self> {
        let project = format!("crossfade-demo-{}", std::process::id());
        let state = std::env::temp_dir().join(&project);
        state_dir::make(&state)?;
        let found = Self::find_in(&state, project, runtime).await;
        if found.is_err() {
            remove(&state)?;
        }
        found
    }

    async fn find_in(state: &Path, project: String, runtime: RuntimeChoice) -> Result<Self> {
        let (kind, why) = choose(runtime, &project, state).await?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(CLIENTS)?));
        Ok(Self {
            client: ControllerClient::new(state.to_owned()),
            // Replaced by `up`: only a proxy has a token.
            admin: ProxyAdmin::new(Dial::Tcp(listen), String::new()),
            state: state.to_owned(),
            why,
            listen,
            kind,
            project,
        })
    }

    /// `crossfade up`. If a port has been taken since it was found free, it tries others.
    pub(super) async fn up(&mut self) -> Result<Done> {
        for attempt in 1.. {
            self.client.ensure_controller().await?;
            let request = UpRequest {
                prune: false,
                adopt: false,
                manifest: self.manifest(),
                path: self.state.join("crossfade.toml"),
            };
            match self.client.call("up", &request).await {
                Ok(done) => {
                    let manifest = Manifest::parse(&request.manifest);
                    let manifest = manifest.map_err(Error::manifest(request.path))?;
                    self.admin = proxy::admin(&self.state, &manifest.proxy)?;
                    return Ok(done);
                }
                Err(error) if attempt == PORT_ATTEMPTS || self.ports_are_free() => {
                    return Err(error);
                }
                Err(_) => {
                    // It has nothing to control, and ends.
                    self.client.until_gone().await;
                    self.listen.set_port(free_port(CLIENTS)?);
                    say(&format!(
                        "  another program has taken a port: listening on http://{}",
                        self.listen
                    ))?;
                }
            }
        }
        Err(Error::unavailable("no port stayed free"))
    }

    fn ports_are_free(&self) -> bool {
        is_free(self.listen.port())
    }

    /// What `crossfade up` is given: short times, so that the story is.
    pub(super) fn manifest(&self) -> String {
        let (image, _) = self.release("1.0.0");
        format!(
            r#"project = "{project}"
runtime = "{runtime}"

[proxy]
listen = ["{listen}"]
drain_timeout = "10s"

[[services]]
name = "{SERVICE}"
image = {image:?}
version = "1.0.0"
replicas = 4
health = {{ path = "/healthz", interval = "250ms", timeout = "2s" }}

[services.rollout]
strategy = "canary"
steps = [10, 50, 100]
step_min_duration = "4s"
min_requests = 50
min_healthy_time = "500ms"
bake = "3s"
"#,
            project = self.project,
            runtime = if self.kind == RuntimeChoice::Podman {
                "podman"
            } else {
                "process"
            },
            listen = self.listen,
        )
    }

    /// The image (or program) of a release, and the environment that makes it that release.
    pub(super) fn release(&self, version: &str) -> (String, BTreeMap<String, String>) {
        if self.kind == RuntimeChoice::Podman {
            // The images were built as these releases.
            return (format!("localhost/{SERVER}:{version}"), BTreeMap::new());
        }
        let bad = (version == "3.0.0").then(|| ("ERROR_RATE".to_owned(), BAD_RATE.to_owned()));
        (SERVER.to_owned(), bad.into_iter().collect())
    }

    /// Takes everything away, and says if something could not be.
    pub(super) async fn clear(&self) -> Result<()> {
        self.client.ensure_controller().await?;
        let request = DownRequest {
            path: None,
            manifest: Some(self.manifest()),
        };
        let _: Done = self.client.call("down", &request).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.client.is_responding().await && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        remove(&self.state)
    }
}

/// The runtime, and a sentence on why this one.
async fn choose(
    runtime: RuntimeChoice,
    project: &str,
    state: &Path,
) -> Result<(RuntimeChoice, String)> {
    let Engine {
        runtime: engine,
        kind,
        why,
    } = engine::choose(runtime, project, state).await?;
    let requested = || format!("{} (as requested)", engine.name());
    let why = why.map_or_else(requested, |why| format!("{}: {why}", engine.name()));
    if kind == RuntimeChoice::Process {
        engine.resolve_image(SERVER).await?;
        return Ok((kind, why));
    }
    for image in [
        "proxy:latest",
        "sample-server:1.0.0",
        "sample-server:2.0.0",
        "sample-server:3.0.0",
    ] {
        match engine
            .resolve_image(&format!("localhost/crossfade-{image}"))
            .await
        {
            Ok(_) => {}
            Err(error @ RuntimeError::ImageNotFound { .. }) => {
                return Err(Error::unavailable(format!(
                    "{error}: `make images` builds it"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((kind, why))
}

/// A free port of this machine, from `first` on.
fn free_port(first: u16) -> Result<u16> {
    let last = first.saturating_add(99);
    (first..=last)
        .find(|port| is_free(*port))
        .ok_or_else(|| Error::unavailable(format!("no port from {first} to {last} is free")))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file(folder)(error))
        }
        _ => Ok(()),
    }
}
