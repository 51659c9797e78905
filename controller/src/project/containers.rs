//! The containers of a version: which there are, and starting those that are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use admin_api::Period;
use program::text::plain;
use serde::{Deserialize, Serialize};

use crate::error::{ContainerError, Error, Exit, Result};
use crate::journal::VersionRecord;
use crate::manifest::{ContainerTemplate, Volume};
use crate::project::Project;
use crate::runtime::{
    Container, ContainerSpec, ContainerState, LogOptions, Mount, Network, Privileges, RuntimeError,
    label,
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

/// What its version is, as the journal has it, for one that has lost it.
#[derive(Serialize, Deserialize)]
struct RecordLabel {
    image: String,
    pull_name: Option<String>,
    template: ContainerTemplate,
    by_hand: Option<BTreeMap<String, String>>,
}

/// The label of a [`RecordLabel`].
const RECORD: &str = "io.crossfade.record";

fn label_of_record(version: &VersionRecord) -> (String, String) {
    let record = RecordLabel {
        image: version.image.clone(),
        pull_name: version.pull_name.clone(),
        template: version.template.clone(),
        by_hand: version.by_hand.clone(),
    };
    // Of texts and numbers: cannot fail.
    let json = serde_json::to_string(&record).unwrap_or_default();
    (RECORD.to_owned(), json)
}

/// The version that a container was started for, as its labels have it. `made`: the image and the
/// template to take for a container of a release that wrote no such label.
pub(crate) fn record_of(
    container: &Container,
    made: Option<(&str, &ContainerTemplate)>,
) -> Option<VersionRecord> {
    let labels = &container.labels;
    let written = labels.get(RECORD);
    let written = written.and_then(|json| serde_json::from_str(json).ok());
    let record = written.or_else(|| {
        made.map(|(image, template)| RecordLabel {
            image: image.to_owned(),
            pull_name: None,
            template: template.clone(),
            by_hand: None,
        })
    })?;
    Some(VersionRecord {
        id: version_id(container)?,
        service: labels.get(label::SERVICE)?.clone(),
        version: labels.get(label::VERSION)?.clone(),
        image: record.image,
        resolved: container.image.clone(),
        pull_name: record.pull_name,
        template: record.template,
        by_hand: record.by_hand,
    })
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

    /// The service's containers that are not retired, of all versions, by name, as the runtime told
    /// last.
    pub(crate) async fn live_containers(&self, service: &str) -> Result<Vec<Container>> {
        self.live_of(service, self.runtime.last_list().await?)
    }

    /// The same, as the runtime has them now.
    pub(crate) async fn live_containers_now(&self, service: &str) -> Result<Vec<Container>> {
        self.live_of(service, self.runtime.list().await?)
    }

    fn live_of(&self, service: &str, mut containers: Vec<Container>) -> Result<Vec<Container>> {
        let retired: BTreeSet<String> = self
            .journal
            .retired()?
            .into_iter()
            .map(|retired| retired.name)
            .collect();
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
        let (mut running, mut ended) = (0, Vec::new());
        for container in self.containers_of(version).await? {
            match container.state {
                ContainerState::Running => running += 1,
                ContainerState::Exited(_) if dead == Dead::Fail => {
                    return Err(self.exit_of(&container).await);
                }
                // One that was made and never started is none, either.
                ContainerState::Exited(_) | ContainerState::Created => ended.push(container),
            }
        }
        let missing = wanted.saturating_sub(running);
        let done = self.start_more(version, missing, started).await;
        // Not before: requests may wait for the new ones.
        let mut stays = None;
        for container in ended {
            if let Err(error) = self.remove_container(&container).await {
                let what = format!("{} cannot be removed", container.name);
                stays = Some(Error::caused(Exit::FAILED, what)(error));
            }
        }
        done.map(|()| stays)
    }

    /// Starts so many containers of the version, under names that are free.
    async fn start_more(
        &self,
        version: &VersionRecord,
        mut missing: u32,
        started: &mut Vec<Container>,
    ) -> Result<()> {
        if missing == 0 {
            return Ok(());
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
        while missing > 0 {
            let Some(name) = free.next() else { break };
            let spec = self.container_spec(version, name)?;
            let container = self.runtime.start(&spec).await;
            if let Some(socket) = &spec.socket {
                let has_it = |one: &Container| one.address.as_ref() == Some(&socket.address());
                if !container.as_ref().is_ok_and(has_it) {
                    self.sockets.discard(socket);
                }
            }
            let container = match container {
                // It belongs to another program, and stays as it is: there are other names.
                Err(error @ (RuntimeError::NotOurs { .. } | RuntimeError::NameTaken { .. })) => {
                    tracing::info!("{error}");
                    continue;
                }
                done => done?,
            };
            missing -= 1;
            let exited = matches!(container.state, ContainerState::Exited(_));
            started.push(container.clone());
            if exited {
                return Err(self.exit_of(&container).await);
            }
        }
        Ok(())
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
            since: None,
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
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ");
        plain(&last).into_owned()
    }

    fn container_name(&self, version: &VersionRecord, n: u32) -> String {
        // `+` is allowed in a version and not in a name.
        let label: String = version.version.replace('+', "-").chars().take(32).collect();
        format!(
            "{}-{}-{label}-{}-{n}",
            self.name, version.service, version.id
        )
    }

    fn container_spec(&self, version: &VersionRecord, name: String) -> Result<ContainerSpec> {
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
        let socket = template.socket.as_ref();
        let socket = socket.map(|path| self.sockets.make(path)).transpose()?;
        Ok(ContainerSpec {
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
                .chain([label_of_version(version.id), label_of_record(version)])
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
            privileges: match template.new_privileges {
                true => Privileges::Gained,
                false => Privileges::Kept,
            },
            confinement: template.confinement.clone(),
            port: Some(template.port).filter(|port| *port != 0 && socket.is_none()),
            socket,
            stop_timeout: template.stop_timeout.map_or_else(
                || self.manifest().drain_timeout(&version.service) + STOP_MARGIN,
                Period::get,
            ),
        })
    }
}
