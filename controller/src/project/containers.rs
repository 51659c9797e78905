//! The containers of a version: which there are, and starting those that are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::{ContainerError, Error, Exit, Result};
use crate::journal::VersionRecord;
use crate::manifest::Volume;
use crate::project::Project;
use crate::runtime::{
    Container, ContainerSpec, ContainerState, LogOptions, Mount, Network, RuntimeError, label,
};

/// Tells apart containers whose versions had one label and two images.
const VERSION_ID: &str = "io.crossfade.version-id";
/// The role of a container that serves.
pub(crate) const ENDPOINT: &str = "endpoint";
/// Lines of a dead container's output that go into the reason.
const LAST_LINES: usize = 5;
/// From the end of a drain to SIGKILL: what is left by then was cut by the proxy anyway.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// What is said of a container that ended and should not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dead {
    /// It is an error: a candidate does not get a second chance.
    Fail,
    /// It is taken away and another is started.
    Replace,
}

/// The label that says which version a container was started for.
pub(crate) fn label_of_version(id: i64) -> (String, String) {
    (VERSION_ID.to_owned(), id.to_string())
}

/// The version that a container was started for.
pub(crate) fn version_id(container: &Container) -> Option<i64> {
    container.labels.get(VERSION_ID)?.parse().ok()
}

/// Those of the containers that belong to this very version.
pub(crate) fn of_version<'a>(
    containers: &'a [Container],
    version: &VersionRecord,
) -> Vec<&'a Container> {
    containers
        .iter()
        .filter(|container| version_id(container) == Some(version.id))
        .collect()
}

fn mount(volume: &Volume) -> Mount {
    Mount {
        host: volume.host.clone(),
        container: volume.container.clone(),
        read_only: volume.read_only,
        relabel: volume.relabel,
    }
}

impl Project {
    /// The version's containers that are not retired, whether they run or not, by name.
    pub(crate) async fn containers_of(&self, version: &VersionRecord) -> Result<Vec<Container>> {
        let containers = self.live_containers(&version.service).await?;
        Ok(of_version(&containers, version)
            .into_iter()
            .cloned()
            .collect())
    }

    /// The service's containers that are not retired, of all versions, by name.
    pub(crate) async fn live_containers(&self, service: &str) -> Result<Vec<Container>> {
        let retired: BTreeSet<String> = self
            .journal
            .retired()?
            .into_iter()
            .map(|retired| retired.name)
            .collect();
        let mut containers = self.runtime.list().await?;
        containers.retain(|container| {
            container
                .labels
                .get(label::ROLE)
                .is_some_and(|role| role == ENDPOINT)
                && container
                    .labels
                    .get(label::SERVICE)
                    .is_some_and(|name| name == service)
                && !retired.contains(&container.name)
        });
        Ok(containers)
    }

    /// Starts containers until the version has `wanted` of them. Gives those that it started,
    /// also when it fails half-way: `started` then holds what has to be undone.
    pub(crate) async fn start_missing(
        &self,
        version: &VersionRecord,
        wanted: u32,
        dead: Dead,
        started: &mut Vec<Container>,
    ) -> Result<()> {
        let _alone = self.place_lock(&version.service).await;
        let stays = self
            .start_missing_alone(version, wanted, dead, started)
            .await?;
        if let Some(error) = stays {
            tracing::warn!("{}: {error}", version.service);
        }
        Ok(())
    }

    /// The same, for who has the service's [`place_lock`](Project::place_lock). What cannot be taken
    /// away keeps nothing from being started: why not is given back.
    pub(crate) async fn start_missing_alone(
        &self,
        version: &VersionRecord,
        wanted: u32,
        dead: Dead,
        started: &mut Vec<Container>,
    ) -> Result<Option<Error>> {
        let (mut running, mut stays) = (0, None);
        for container in self.containers_of(version).await? {
            match container.state {
                ContainerState::Running => running += 1,
                ContainerState::Exited(_) if dead == Dead::Fail => {
                    return Err(self.exit_of(&container).await);
                }
                // One that was made and never started is started anew, under its name or
                // another.
                ContainerState::Exited(_) | ContainerState::Created => {
                    if let Err(error) = self.runtime.stop(&container.id).await {
                        let what = format!("{} cannot be removed", container.name);
                        stays = Some(Error::caused(Exit::FAILED, what)(error));
                    }
                }
            }
        }
        if running >= wanted {
            return Ok(stays);
        }
        let taken: BTreeSet<String> = self
            .runtime
            .list()
            .await?
            .into_iter()
            .map(|container| container.name)
            .collect();
        let mut free = (1..)
            .map(|n| self.container_name(version, n))
            .filter(|n| !taken.contains(n));
        while running < wanted {
            let Some(name) = free.next() else { break };
            let spec = self.container_spec(version, name);
            let container = match self.runtime.start(&spec).await {
                // It belongs to another program, and stays as it is: there are other names.
                Err(error @ (RuntimeError::NotOurs { .. } | RuntimeError::NameTaken { .. })) => {
                    tracing::info!("{error}");
                    continue;
                }
                done => done?,
            };
            running += 1;
            let exited = matches!(container.state, ContainerState::Exited(_));
            started.push(container.clone());
            if exited {
                return Err(self.exit_of(&container).await);
            }
        }
        Ok(stays)
    }

    /// The error that a container's end is, with what it printed last. One that is gone a moment
    /// later was removed by another program, and its end is not the version's fault.
    pub(crate) async fn exit_of(&self, container: &Container) -> Error {
        let code = match container.state {
            ContainerState::Exited(code) => code,
            _ => None,
        };
        let output = self.last_lines(&container.id).await;
        match self.runtime.list().await {
            Ok(there) if there.iter().all(|one| one.id != container.id) => {
                let id = container.id.clone();
                return RuntimeError::NoSuchContainer { id }.into();
            }
            _ => {}
        }
        let name = container.name.clone();
        ContainerError::Exited { name, code, output }.into()
    }

    /// What a container printed last, on one line; empty where that cannot be known.
    pub(crate) async fn last_lines(&self, id: &str) -> String {
        let options = LogOptions {
            tail: Some(LAST_LINES),
            follow: false,
        };
        let read = async {
            let mut stream = self.runtime.logs(id, options).await.ok()?;
            let mut text = Vec::new();
            while let Some(Ok(bytes)) = stream.recv().await {
                text.extend_from_slice(&bytes);
            }
            Some(text)
        };
        let text = tokio::time::timeout(Duration::from_secs(2), read)
            .await
            .ok()
            .flatten();
        let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ")
    }

    fn container_name(&self, version: &VersionRecord, n: u32) -> String {
        // `+` is allowed in a version and not in a name.
        let label: String = version.version.replace('+', "-").chars().take(32).collect();
        format!(
            "{}-{}-{label}-{}-{n}",
            self.name, version.service, version.id
        )
    }

    fn container_spec(&self, version: &VersionRecord, name: String) -> ContainerSpec {
        let mut env = BTreeMap::from([
            ("VERSION".to_owned(), version.version.clone()),
            ("CROSSFADE_SERVICE".to_owned(), version.service.clone()),
        ]);
        let template = &version.template;
        env.extend(template.env.clone());
        let labels = [
            (label::PROJECT, self.name.clone()),
            (label::ROLE, ENDPOINT.to_owned()),
            (label::SERVICE, version.service.clone()),
            (label::VERSION, version.version.clone()),
        ];
        ContainerSpec {
            name,
            // Not the name it was asked for by: a tag may have moved since.
            image: version.resolved.clone(),
            command: template.command.clone(),
            env,
            labels: template
                .labels
                .clone()
                .into_iter()
                .chain(labels.map(|(key, value)| (key.to_owned(), value)))
                .chain([label_of_version(version.id)])
                .collect(),
            network: Network::Project {
                aliases: Vec::new(),
            },
            publish: Vec::new(),
            mounts: template.volumes.iter().map(mount).collect(),
            secrets: template
                .secrets
                .iter()
                .map(|(name, id)| (name.clone(), self.secrets.file(id)))
                .collect(),
            limits: template.limits,
            port: Some(template.port),
            stop_timeout: self.manifest().drain_timeout(&version.service) + STOP_MARGIN,
        }
    }
}
