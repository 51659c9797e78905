//! `logs`: what a service's containers printed, line by line, each with its container's name
//! before it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::api::LogsRequest;
use crate::error::{Error, Result};
use crate::project::no_such;
use crate::runtime::{Container, LogOptions, Runtime, label};
use crate::server::controller::Controller;

/// Lines, as they come.
pub(crate) type LogLines = mpsc::Receiver<Bytes>;

impl Controller {
    /// `logs`.
    pub(crate) async fn logs(&self, request: LogsRequest) -> Result<LogLines> {
        let up = self.up()?;
        let service = up.project.service(&request.service)?;
        let mut containers = up.project.runtime.list().await?;
        let has = |container: &Container, key: &str, value: &str| {
            container
                .labels
                .get(key)
                .is_some_and(|found| found == value)
        };
        containers.retain(|container| has(container, label::SERVICE, &service.name));
        if let Some(version) = &request.version {
            let mut running: Vec<String> = containers
                .iter()
                .filter_map(|container| container.labels.get(label::VERSION).cloned())
                .collect();
            running.dedup();
            containers.retain(|container| has(container, label::VERSION, version));
            if containers.is_empty() {
                let known: Vec<&str> = running.iter().map(String::as_str).collect();
                return Err(Error::usage(no_such("running version", version, &known)));
            }
        }
        let (send, lines) = mpsc::channel(64);
        let options = LogOptions {
            tail: request.tail,
            follow: request.follow,
        };
        let runtime = up.project.runtime.clone();
        if request.follow {
            for container in containers {
                tokio::spawn(copy(runtime.clone(), container, options, send.clone()));
            }
        } else {
            // One after the other, so that the lines of a container stay together.
            tokio::spawn(async move {
                for container in containers {
                    copy(runtime.clone(), container, options, send.clone()).await;
                }
            });
        }
        Ok(lines)
    }
}

/// Copies one container's output, whole lines at a time, until either side ends.
async fn copy(
    runtime: Arc<dyn Runtime>,
    container: Container,
    options: LogOptions,
    send: mpsc::Sender<Bytes>,
) {
    let mut stream = match runtime.logs(&container.id, options).await {
        Ok(stream) => stream,
        Err(error) => {
            // The client may be gone already.
            let _ = send
                .send(format!("{}: {error}\n", container.name).into())
                .await;
            return;
        }
    };
    let mut rest = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = stream.recv() => piece,
            () = send.closed() => return,
        };
        let Some(Ok(piece)) = piece else { break };
        rest.extend_from_slice(&piece);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let whole: Vec<u8> = rest.drain(..=end).collect();
        if send.send(prefixed(&container.name, &whole)).await.is_err() {
            return;
        }
    }
    if !rest.is_empty() {
        let _ = send.send(prefixed(&container.name, &rest)).await;
    }
}

fn prefixed(name: &str, lines: &[u8]) -> Bytes {
    let mut text = String::new();
    for line in String::from_utf8_lossy(lines).lines() {
        text.push_str(&format!("{name} | {line}\n"));
    }
    text.into()
}
