//! The way to podman's API: a socket that responds, or else a service of our own. A service that
//! has gone is looked for again, or started again, at the next call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::greet::{HELLO, NAME, POLL, chain, greet, unavailable};
use super::own::Own;
use crate::runtime::RuntimeError;

/// Why a call to the API failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing responded: worth another attempt with a new service.
    Lost(ApiError),
    /// The response was an error.
    Refused(RuntimeError),
}

impl Failure {
    /// What `error` means when it came while podman was asked to do `action`.
    pub(super) fn new(action: &'static str, error: ApiError) -> Self {
        Self::of(error, |reason| RuntimeError::Failed {
            runtime: NAME,
            action,
            reason,
        })
    }

    /// The same, where `action` is to make or start what the user has described.
    pub(super) fn to_start(action: &'static str, error: ApiError) -> Self {
        if is_podmans_fault(&error) {
            return Self::new(action, error);
        }
        Self::of(error, |reason| RuntimeError::Refused {
            runtime: NAME,
            action,
            reason,
        })
    }

    fn of(error: ApiError, refused: impl FnOnce(String) -> RuntimeError) -> Self {
        match error {
            ApiError::HyperLegacyError { .. }
            | ApiError::HyperResponseError { .. }
            | ApiError::IOError { .. }
            | ApiError::SocketNotFoundError(_) => Self::Lost(error),
            ApiError::DockerResponseServerError { message, .. } => Self::Refused(refused(message)),
            other => Self::Refused(refused(chain(&other))),
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Lost(error) => {
                unavailable(format!("its API stopped responding: {}", chain(&error)))
            }
        }
    }
}

/// Whether the API responded with this HTTP status.
pub(super) fn has_status(error: &ApiError, status: u16) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code, .. }
        if *status_code == status)
}

/// Whether it would have come to this whatever was to be started: podman is too slow, or has no
/// room left.
fn is_podmans_fault(error: &ApiError) -> bool {
    match error {
        ApiError::RequestTimeoutError => true,
        ApiError::DockerResponseServerError { message, .. } => {
            message.contains("no space left on device")
        }
        _ => false,
    }
}

/// Asks again while the response cannot be read, or podman has failed to make one. It names states
/// that Docker does not have (`initialized`), for as long as a container passes through them; and
/// a container that goes while podman looks at it is a 500 for that moment, and a 404 ever after.
pub(super) async fn settled<T, Fut>(call: impl Fn() -> Fut) -> Result<T, ApiError>
where
    Fut: Future<Output = Result<T, ApiError>>,
{
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match call().await {
            Err(error) if is_passing(&error) && Instant::now() < deadline => sleep(POLL).await,
            response => return response,
        }
    }
}

fn is_passing(error: &ApiError) -> bool {
    matches!(error, ApiError::JsonDataError { .. }) || has_status(error, 500)
}

/// A connection to podman's API that comes back after it was lost.
#[derive(Debug)]
pub(super) struct Service {
    /// Where podman's API may be listening, the first choice first.
    sockets: Vec<PathBuf>,
    /// Where ours listens. `None` where the user named a socket: no other will do then.
    own: Option<Own>,
    docker: Mutex<Docker>,
}

impl Service {
    /// Finds or starts the API. Relative paths in `state_dir` are taken from here.
    pub(super) async fn open(state_dir: &Path) -> Result<Self, RuntimeError> {
        let (sockets, own) = match std::env::var("CONTAINER_HOST") {
            Ok(host) if !host.is_empty() => (vec![named_socket(&host)?], None),
            _ => {
                let own = Own::new(state_dir)?;
                let mut sockets: Vec<PathBuf> = standard_socket().into_iter().collect();
                // A controller that was killed may have left one that still listens.
                sockets.push(own.socket.clone());
                (sockets, Some(own))
            }
        };
        Self::at(sockets, own).await
    }

    pub(super) async fn at(sockets: Vec<PathBuf>, own: Option<Own>) -> Result<Self, RuntimeError> {
        let docker = connect_first(&sockets, own.as_ref()).await?;
        Ok(Self {
            sockets,
            own,
            docker: Mutex::new(docker),
        })
    }

    /// Makes a call, and makes it once more if nothing responded. `request` must be
    /// one that can be repeated.
    pub(super) async fn call<T, F, Fut>(&self, request: F) -> Result<T, RuntimeError>
    where
        F: Fn(Docker) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let docker = self.docker.lock().await.clone();
        match request(docker).await {
            Err(Failure::Lost(error)) => {
                tracing::debug!(
                    error = chain(&error),
                    "podman's API does not respond; looking for another socket"
                );
                request(self.reconnect().await?)
                    .await
                    .map_err(RuntimeError::from)
            }
            response => response.map_err(RuntimeError::from),
        }
    }

    async fn reconnect(&self) -> Result<Docker, RuntimeError> {
        // The second task finds what the first one has made.
        let mut docker = self.docker.lock().await;
        if !matches!(timeout(HELLO, docker.ping()).await, Ok(Ok(_))) {
            *docker = connect_first(&self.sockets, self.own.as_ref()).await?;
        }
        Ok(docker.clone())
    }
}

/// The first socket that responds, or else our own service.
pub(super) async fn connect_first(
    sockets: &[PathBuf],
    own: Option<&Own>,
) -> Result<Docker, RuntimeError> {
    let mut tried = Vec::new();
    for socket in sockets {
        match greet(socket).await {
            Ok(docker) => return Ok(docker),
            Err(error) => tried.push(format!("{}: {error}", socket.display())),
        }
    }
    match own {
        Some(own) => own.start(&tried).await,
        None => Err(unavailable(format!(
            "no response at the socket in CONTAINER_HOST ({})",
            tried.join("; ")
        ))),
    }
}

fn named_socket(host: &str) -> Result<PathBuf, RuntimeError> {
    host.strip_prefix("unix://")
        .map(PathBuf::from)
        .ok_or_else(|| {
            unavailable(format!(
                "CONTAINER_HOST is `{host}`; only unix:///path/to/socket is supported"
            ))
        })
}

/// Where systemd has podman's socket, for root and for others.
fn standard_socket() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/podman/podman.sock"));
    }
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(Path::new(&runtime_dir).join("podman/podman.sock"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    #[test]
    fn a_host_that_is_not_a_unix_socket_is_refused() {
        assert_eq!(
            named_socket("unix:///a/b.sock").unwrap(),
            Path::new("/a/b.sock")
        );
        assert!(named_socket("tcp://127.0.0.1:1").is_err());
    }

    #[track_caller]
    fn check_start(error: ApiError, fault: Fault) {
        let error = RuntimeError::from(Failure::to_start("start a container", error));
        let error = crate::error::Error::from(error);
        assert_eq!(error.fault(), fault, "{error}");
    }

    #[test]
    fn a_podman_that_is_slow_or_has_no_room_says_nothing_about_the_container() {
        let said = |message: &str| ApiError::DockerResponseServerError {
            status_code: 500,
            message: message.to_owned(),
        };
        check_start(ApiError::RequestTimeoutError, Fault::Environment);
        let full =
            "writing blob: mkdir /var/lib/containers/storage/overlay/0a1b: no space left on device";
        check_start(said(full), Fault::Environment);
        let missing = "crun: executable file `/app` not found in $PATH: No such file or directory";
        check_start(said(missing), Fault::Candidate);
    }
}
