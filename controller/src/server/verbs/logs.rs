//! `logs`: what a service's containers printed, or the proxy, line by line, each with its container's
//! name before it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::api::LogsRequest;
use crate::error::{Error, Result};
use crate::manifest::RuntimeChoice;
use crate::project::no_such_version;
use crate::project::proxy::PROXY;
use crate::runtime::{Container, LogOptions, Runtime, label};
use crate::server::controller::Controller;

/// How often new containers of a service that is followed are looked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Lines, as they come.
pub(crate) type LogLines = mpsc::Receiver<Bytes>;

impl Controller {
    /// `logs`.
    pub(crate) async fn logs(&self, request: LogsRequest) -> Result<LogLines> {
        let up = self.up()?;
        if let Some(service) = &request.service {
            up.project.service(service)?;
        }
        if request.since.is_some() && up.kind == RuntimeChoice::Process {
            let why = "--since: the output of processes has no times; use --tail LINES";
            return Err(Error::usage(why));
        }
        let whose = Whose(request.service);
        let mut containers = up.project.runtime.list().await?;
        containers.retain(|container| whose.has(container));
        if let Some(version) = &request.version {
            let mut running: Vec<String> = containers
                .iter()
                .filter_map(|container| container.labels.get(label::VERSION).cloned())
                .collect();
            running.dedup();
            containers.retain(|container| has(container, label::VERSION, version));
            if containers.is_empty() {
                let known: Vec<&str> = running.iter().map(String::as_str).collect();
                return Err(Error::usage(no_such_version(
                    "running version",
                    version,
                    &known,
                )));
            }
        }
        let (send, lines) = mpsc::channel(64);
        let options = LogOptions {
            tail: request.tail,
            since: request
                .since
                .map(|since| i32::try_from(since / 1000).unwrap_or(i32::MAX)),
            follow: request.follow,
        };
        let runtime = up.project.runtime.clone();
        if request.follow {
            tokio::spawn(follow(runtime, whose, request.version, options, send));
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

/// A service, or with `None` the proxy.
struct Whose(Option<String>);

impl Whose {
    /// Whether it is one of its containers.
    fn has(&self, container: &Container) -> bool {
        match &self.0 {
            Some(service) => has(container, label::SERVICE, service),
            None => has(container, label::ROLE, PROXY),
        }
    }
}

fn has(container: &Container, key: &str, value: &str) -> bool {
    let found = container.labels.get(key);
    found.is_some_and(|found| found == value)
}

/// Copies the output of a service's containers, those that are there and those that come, until its
/// reader leaves.
async fn follow(
    runtime: Arc<dyn Runtime>,
    whose: Whose,
    version: Option<String>,
    mut options: LogOptions,
    send: mpsc::Sender<Bytes>,
) {
    let is_meant = |container: &Container| {
        let of_version = |version: &String| has(container, label::VERSION, version);
        whose.has(container) && version.as_ref().is_none_or(of_version)
    };
    let mut followed: BTreeSet<String> = BTreeSet::new();
    while !send.is_closed() {
        // Where they cannot be listed now, they are later.
        if let Ok(mut containers) = runtime.last_list().await {
            containers.retain(is_meant);
            followed.retain(|id| containers.iter().any(|container| container.id == *id));
            for container in containers {
                if followed.insert(container.id.clone()) {
                    tokio::spawn(copy(runtime.clone(), container, options, send.clone()));
                }
            }
            // All of what those print that come later.
            options.tail = None;
        }
        tokio::select! {
            () = send.closed() => return,
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
        }
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
