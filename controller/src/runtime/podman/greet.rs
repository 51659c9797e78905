//! A connection to one socket, if podman responds there; and the text of an error of podman's.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::time::timeout;

use crate::runtime::RuntimeError;

/// The runtime's name.
pub(super) const NAME: &str = "podman";

/// For one response, in seconds: image stores on slow disks are slow. Stopping takes its own.
const RESPONSE_SECONDS: u64 = 120;
/// For a socket to show that it has a listener. systemd may have to start podman first.
pub(super) const HELLO: Duration = Duration::from_secs(10);
/// From one question to the next where something is waited for.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Connects and agrees on a version of the API.
pub(super) async fn greet(socket: &Path) -> Result<Docker, String> {
    let path = socket.to_str().ok_or("the path is not UTF-8")?;
    let docker = Docker::connect_with_unix(path, RESPONSE_SECONDS, API_DEFAULT_VERSION)
        .map_err(|error| chain(&error))?;
    match timeout(HELLO, docker.negotiate_version()).await {
        Ok(Ok(docker)) => Ok(docker),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no response in {} s", HELLO.as_secs())),
    }
}

pub(super) fn unavailable(reason: String) -> RuntimeError {
    RuntimeError::Unavailable {
        runtime: NAME,
        reason,
    }
}

/// An error with what caused it: the API client's own words name only the outermost layer.
pub(super) fn chain(error: &ApiError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
