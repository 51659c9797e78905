//! Containers, by podman's Docker-compatible API: rootful and rootless alike.
//!
//! A container is ours if it carries our project's label. Nothing else is ever stopped or removed,
//! whatever its name. An image is pulled only on request: to start a container
//! of one that is not on this host is an error.

#[cfg(test)]
mod fake;
mod greet;
mod listing;
mod network;
mod own;
mod pull;
mod service;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc};

use self::listing::Listing;
use self::service::{Failure, Service, has_status, settled};
use super::{
    Container, ContainerSpec, ContainerState, LogOptions, LogStream, PullStep, Runtime,
    RuntimeError, label,
};

/// Past a container's stop timeout podman kills it, which takes a moment on a busy machine.
const STOP_MARGIN: Duration = Duration::from_secs(60);
/// From the end of a stream of events to the next: podman's service may have ended.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// From the beginning of a stream of events until podman is taken to listen. It sends nothing until
/// the first event.
const LISTENS_AFTER: Duration = Duration::from_secs(1);
/// Events that may change a list of containers.
const CHANGES: [&str; 10] = [
    "create", "start", "stop", "died", "die", "remove", "rename", "restart", "pause", "unpause",
];

/// One project's containers in podman.
#[derive(Debug)]
pub struct Podman {
    project: String,
    network: String,
    service: Service,
    listing: Listing,
}

impl Podman {
    /// Finds podman's API, or starts it with its files in `state_dir`. Containers of `project`
    /// are put on the network named `network`.
    ///
    /// A socket named in `CONTAINER_HOST` (`unix://…`) is used and no other.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] where podman is missing or its API does not respond.
    pub async fn connect(
        project: &str,
        network: &str,
        state_dir: &Path,
    ) -> Result<Self, RuntimeError> {
        Ok(Self {
            project: project.to_owned(),
            network: network.to_owned(),
            service: Service::open(state_dir).await?,
            listing: Listing::default(),
        })
    }

    fn owns(&self, found: &ContainerInspectResponse) -> bool {
        let labels = found
            .config
            .as_ref()
            .and_then(|config| config.labels.as_ref());
        labels.and_then(|labels| labels.get(label::PROJECT)) == Some(&self.project)
    }

    async fn start_once(
        &self,
        docker: &Docker,
        spec: &ContainerSpec,
    ) -> Result<Container, Failure> {
        // Podman takes the beginning of an id for a name: only the whole name is meant here.
        let found = inspect(docker, &spec.name)
            .await?
            .filter(|found| spec::name_of(found) == spec.name);
        if let Some(found) = found {
            if !self.owns(&found) {
                return Err(RuntimeError::NotOurs {
                    name: spec.name.clone(),
                }
                .into());
            }
            if spec::state_of(&found) == ContainerState::Running && !spec::is_stopping(&found) {
                return self.describe(docker, &found, &[]).await;
            }
            image_id(docker, &spec.image).await?;
            remove(docker, &spec.name).await?;
        } else {
            image_id(docker, &spec.image).await?;
        }

        let body = spec::create_body(spec, &self.project, &self.network)?;
        let options = CreateContainerOptionsBuilder::new()
            .name(&spec.name)
            .build();
        let id = docker
            .create_container(Some(options), body)
            .await
            .map_err(|error| match spec::name_taken(&error) {
                Some(reason) => RuntimeError::NameTaken {
                    name: spec.name.clone(),
                    reason,
                }
                .into(),
                None => Failure::to_start("create a container", error),
            })?
            .id;
        if let Err(error) = docker.start_container(&id, None).await {
            if inspect(docker, &id).await?.is_none() {
                // It was removed between the two calls.
                return Err(RuntimeError::NoSuchContainer { id }.into());
            }
            // The first error is the one to tell, so a second one here is not.
            let _ = remove(docker, &id).await;
            return Err(match spec::port_taken(spec, &error) {
                Some(address) => RuntimeError::port_taken(address).into(),
                None => Failure::to_start("start a container", error),
            });
        }
        match inspect(docker, &id).await? {
            Some(started) => self.describe(docker, &started, &[]).await,
            None => Err(RuntimeError::NoSuchContainer { id }.into()),
        }
    }

    /// The container as the trait has it. One that lives in another's network namespace is
    /// reached at that one's address, which may be among those that are `known`.
    async fn describe(
        &self,
        docker: &Docker,
        found: &ContainerInspectResponse,
        known: &[ContainerInspectResponse],
    ) -> Result<Container, Failure> {
        let Some(owner) = spec::namespace_of(found) else {
            return Ok(spec::container(
                found,
                spec::address_on(found, &self.network),
            ));
        };
        let is_owner = |one: &&ContainerInspectResponse| one.id.as_deref() == Some(owner);
        let address: Option<IpAddr> = match known.iter().find(is_owner) {
            Some(owner) => spec::address_on(owner, &self.network),
            None => inspect(docker, owner)
                .await?
                .and_then(|owner| spec::address_on(&owner, &self.network)),
        };
        Ok(spec::container(found, address))
    }

    async fn list_once(&self, docker: &Docker) -> Result<Vec<Container>, Failure> {
        let filter = format!("{}={}", label::PROJECT, self.project);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&HashMap::from([("label", vec![filter])]))
            .build();
        let summaries = settled(|| docker.list_containers(Some(options.clone())))
            .await
            .map_err(|error| Failure::new("list containers", error))?;
        let mut found = Vec::with_capacity(summaries.len());
        // The list lacks exit codes. What has gone meanwhile is left out.
        for id in summaries.into_iter().filter_map(|summary| summary.id) {
            found.extend(inspect(docker, &id).await?);
        }
        let mut containers = Vec::with_capacity(found.len());
        for one in &found {
            containers.push(self.describe(docker, one, &found).await?);
        }
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    /// Follows one stream of events to its end.
    async fn follow_events(&self, docker: &Docker, changed: &Notify) {
        let filters = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("event", CHANGES.map(str::to_owned).to_vec()),
            (
                "label",
                vec![format!("{}={}", label::PROJECT, self.project)],
            ),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = std::pin::pin!(docker.events(Some(options)));
        let mut listens = std::pin::pin!(tokio::time::sleep(LISTENS_AFTER));
        let mut listening = None;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut listens, if listening.is_none() => {
                    listening = Some(self.listing.listen());
                    continue;
                }
            };
            let Some(Ok(event)) = event else { return };
            self.listing.change();
            // Starts are ours, and a list tells of others' in time.
            let ended = |action: &str| matches!(action, "died" | "die" | "remove");
            if event.action.as_deref().is_none_or(ended) {
                changed.notify_one();
            }
        }
    }

    async fn stop_once(&self, docker: &Docker, id: &str) -> Result<(), Failure> {
        let Some(found) = inspect(docker, id).await? else {
            return Ok(());
        };
        if !self.owns(&found) {
            return Err(RuntimeError::NotOurs {
                name: spec::name_of(&found).to_owned(),
            }
            .into());
        }
        let timeout = spec::stop_timeout_of(&found);
        let patient = docker.clone().with_timeout(timeout + STOP_MARGIN);
        let seconds = i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        if let Err(error) = patient.stop_container(id, Some(options)).await {
            let failure = Failure::new("stop a container", error);
            if matches!(failure, Failure::Lost(_)) {
                return Err(failure);
            }
            // It may never have run, or have ended by itself: removing it tells.
            tracing::debug!(
                id,
                ?failure,
                "a container could not be stopped before its removal"
            );
        }
        remove(&patient, id).await
    }
}

#[async_trait]
impl Runtime for Podman {
    fn name(&self) -> &'static str {
        greet::NAME
    }

    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError> {
        self.service
            .call(|docker| async move { image_id(&docker, image).await })
            .await
    }

    async fn pull_image(
        &self,
        image: &str,
        progress: &(dyn Fn(PullStep) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        self.service
            .call(|docker| async move { pull::pull(&docker, image, progress).await })
            .await
    }

    async fn pull_name(&self, image: &str) -> Result<Option<String>, RuntimeError> {
        self.service
            .call(|docker| async move { pull_name(&docker, image).await })
            .await
    }

    async fn remove_image(&self, id: &str) -> Result<bool, RuntimeError> {
        self.service
            .call(|docker| async move { remove_image(&docker, id).await })
            .await
    }

    async fn ensure_network(&self) -> Result<(), RuntimeError> {
        self.service
            .call(|docker| async move { self.ensure_network_once(&docker).await })
            .await
    }

    async fn remove_network(&self) -> Result<(), RuntimeError> {
        self.service
            .call(|docker| async move { self.remove_network_once(&docker).await })
            .await
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        let _changing = self.listing.changing();
        self.service
            .call(|docker| async move { self.start_once(&docker, spec).await })
            .await
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let changes = self.listing.changes();
        let containers = self
            .service
            .call(|docker| async move { self.list_once(&docker).await })
            .await?;
        self.listing.keep(changes, &containers);
        Ok(containers)
    }

    async fn last_list(&self) -> Result<Vec<Container>, RuntimeError> {
        match self.listing.get() {
            Some(containers) => Ok(containers),
            None => self.list().await,
        }
    }

    async fn stop(&self, id: &str) -> Result<(), RuntimeError> {
        let _changing = self.listing.changing();
        self.service
            .call(|docker| async move { self.stop_once(&docker, id).await })
            .await
    }

    async fn watch(&self, changed: &Notify) {
        loop {
            if let Ok(docker) = self.service.call(async |docker| Ok(docker)).await {
                self.follow_events(&docker, changed).await;
                // Events that were missed meanwhile.
                changed.notify_one();
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    async fn logs(&self, id: &str, options: LogOptions) -> Result<LogStream, RuntimeError> {
        // Asked first, so that what is wrong is said now and not in the stream.
        let docker = self
            .service
            .call(|docker| async move {
                match inspect(&docker, id).await? {
                    Some(_) => Ok(docker),
                    None => Err(RuntimeError::NoSuchContainer { id: id.to_owned() }.into()),
                }
            })
            .await?;
        Ok(stream_logs(docker, id.to_owned(), options))
    }
}

fn stream_logs(docker: Docker, id: String, options: LogOptions) -> LogStream {
    let tail = options
        .tail
        .map_or_else(|| "all".to_owned(), |lines| lines.to_string());
    let query = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .follow(options.follow)
        .since(options.since.unwrap_or(0))
        .tail(&tail)
        .build();
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut pieces = std::pin::pin!(docker.logs(&id, Some(query)));
        loop {
            let piece = tokio::select! {
                // The reader has gone, and a silent container would never tell us.
                () = sender.closed() => break,
                piece = pieces.next() => piece,
            };
            let Some(piece) = piece else { break };
            let piece = piece
                .map(bollard::container::LogOutput::into_bytes)
                .map_err(|error| Failure::new("give a container's output", error).into());
            if sender.send(piece).await.is_err() {
                break;
            }
        }
    });
    receiver
}

async fn image_id(docker: &Docker, image: &str) -> Result<String, Failure> {
    match docker.inspect_image(image).await {
        Ok(found) => Ok(found.id.unwrap_or_else(|| image.to_owned())),
        Err(error) if has_status(&error, 404) => Err(RuntimeError::ImageNotFound {
            image: image.to_owned(),
        }
        .into()),
        Err(error) => Err(Failure::new("look at an image", error)),
    }
}

/// Podman gives digests to images that it has built itself, too.
async fn pull_name(docker: &Docker, image: &str) -> Result<Option<String>, Failure> {
    match docker.inspect_image(image).await {
        Ok(found) => Ok(found
            .repo_digests
            .unwrap_or_default()
            .into_iter()
            .find(|digest| !digest.starts_with(pull::LOCAL))),
        Err(error) if has_status(&error, 404) => Ok(None),
        Err(error) => Err(Failure::new("look at an image", error)),
    }
}

async fn remove_image(docker: &Docker, id: &str) -> Result<bool, Failure> {
    // Not by force: that would take containers of others with it.
    let options = RemoveImageOptionsBuilder::new().build();
    match docker.remove_image(id, Some(options), None).await {
        Ok(_) => Ok(true),
        Err(error) if has_status(&error, 404) => Ok(false),
        Err(ApiError::DockerResponseServerError { message, .. }) => {
            tracing::debug!(id, message, "an image stays");
            Ok(false)
        }
        Err(error) => Err(Failure::new("remove an image", error)),
    }
}

async fn inspect(docker: &Docker, id: &str) -> Result<Option<ContainerInspectResponse>, Failure> {
    match settled(|| docker.inspect_container(id, None)).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if has_status(&error, 404) => Ok(None),
        Err(error) => Err(Failure::new("look at a container", error)),
    }
}

/// Removes a container and its anonymous volumes. It may be gone already, or be going.
async fn remove(docker: &Docker, id: &str) -> Result<(), Failure> {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    match docker.remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if has_status(&error, 404) => Ok(()),
        Err(error @ ApiError::DockerResponseServerError { .. })
            if inspect(docker, id).await?.is_none() =>
        {
            tracing::debug!(id, %error, "a container was removed by another program");
            Ok(())
        }
        Err(error) => Err(Failure::new("remove a container", error)),
    }
}
