//! The health of a version's containers as the proxy sees it, and waiting for it.

use std::collections::BTreeSet;
use std::time::Duration;

use admin_api::{EndpointView, HealthState, ServiceView};
use program::text::plain;
use tokio::time::{Instant, sleep};

use crate::error::{ContainerError, Result, Unhealthy};
use crate::journal::VersionRecord;
use crate::project::Project;
use crate::project::containers::of_version;
use crate::runtime::{Container, ContainerState};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it may take where the manifest does not say.
const LIMIT: Duration = Duration::from_secs(60);

/// How the proxy sees the endpoints of a version. Retired ones do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Those that get requests.
    pub(crate) up: u32,
    /// The first one that does not.
    pub(crate) down: Option<Unhealthy>,
    /// The container that this is, by its id, where that is known.
    down_id: Option<String>,
    /// Whether a check of one has failed: one that was not checked yet has not.
    pub(crate) failing: bool,
}

impl Health {
    /// Of the version's endpoints in the proxy's view of its service.
    pub(crate) fn of(view: &ServiceView, version: &str) -> Self {
        let mut health = Self::default();
        let version = view.versions.get(version);
        for endpoint in version.iter().flat_map(|version| &version.endpoints) {
            match endpoint.health {
                HealthState::Up => health.up += 1,
                HealthState::Draining => {}
                HealthState::Down | HealthState::Ejected | HealthState::Unresolved => {
                    health.failing |= endpoint.reason.is_some();
                    health.down.get_or_insert_with(|| Unhealthy {
                        endpoint: endpoint.address.clone(),
                        health: endpoint.health,
                        reason: endpoint
                            .reason
                            .as_deref()
                            .map(|why| plain(why).into_owned()),
                    });
                }
            }
        }
        health
    }

    /// Says which of these containers the first one is that does not get requests.
    fn name_container(&mut self, containers: &[&Container]) {
        if let Some(down) = &mut self.down {
            let has_address = |container: &&&Container| {
                let address = container.address.as_ref().map(ToString::to_string);
                address.as_ref() == Some(&down.endpoint)
            };
            if let Some(container) = containers.iter().find(has_address) {
                down.endpoint = format!("{} ({})", container.name, down.endpoint);
                self.down_id = Some(container.id.clone());
            }
        }
    }

    /// Whether the first endpoint that gets no requests fails its checks: an ejected one does not.
    pub(crate) fn is_down(&self) -> bool {
        let down = self.down.as_ref();
        self.failing && down.is_some_and(|down| down.health == HealthState::Down)
    }

    /// Whether the version serves: one of its endpoints is up, or it has none that should be.
    pub(crate) fn serves(&self) -> bool {
        self.up > 0 || self.down.is_none()
    }

    /// The error that it is when `needed` containers of `of` are not up within `limit`; `output` is
    /// what the first of those said last.
    fn too_few(self, needed: u32, of: String, limit: String, output: String) -> ContainerError {
        ContainerError::HealthyTooFew {
            healthy: self.up,
            needed,
            of,
            limit,
            down: self.down.map(Box::new),
            output,
        }
    }
}

/// A version as the runtime and the proxy see it at one moment.
#[derive(Debug)]
pub(crate) struct Observed {
    /// Its containers that run.
    pub(crate) running: u32,
    /// Its endpoints.
    pub(crate) health: Health,
    /// The proxy's view of the whole service.
    pub(crate) view: ServiceView,
}

/// Whether the proxy sees an endpoint of the service that should get requests and does not.
pub(crate) fn has_unhealthy(view: &ServiceView) -> bool {
    let mut versions = view.versions.keys();
    versions.any(|version| Health::of(view, version).down.is_some())
}

/// The endpoint that a container is.
pub(crate) fn endpoint_of<'v>(
    view: &'v ServiceView,
    container: &Container,
) -> Option<&'v EndpointView> {
    let address = container.address.as_ref()?.to_string();
    let mut endpoints = view
        .versions
        .values()
        .flat_map(|version| &version.endpoints);
    endpoints
        .find(|endpoint| endpoint.address == address && endpoint.health != HealthState::Draining)
}

/// Whether the version has served and no longer does: an endpoint that has had requests is without
/// its container, and none of those that run is healthy.
pub(crate) fn has_lost_all(
    view: &ServiceView,
    version: &VersionRecord,
    containers: &[Container],
) -> bool {
    let running: BTreeSet<String> = of_version(containers, version)
        .into_iter()
        .filter_map(|container| Some(container.address.as_ref()?.to_string()))
        .collect();
    let Some(version) = view.versions.get(&version.version) else {
        return false;
    };
    let (there, gone): (Vec<&EndpointView>, Vec<&EndpointView>) = version
        .endpoints
        .iter()
        .partition(|endpoint| running.contains(&endpoint.address));
    gone.iter().any(|endpoint| endpoint.requests > 0)
        && there
            .iter()
            .all(|endpoint| endpoint.health != HealthState::Up)
}

impl Project {
    /// Looks at a version's containers. One that has exited is an error.
    pub(crate) async fn observe(&self, version: &VersionRecord) -> Result<Observed> {
        let table = self.check_table(&version.service).await?;
        let mut health = Health::of(&table.view, &version.version);
        let containers = match health.down {
            // The proxy knows of a container that has ended before the runtime tells of it.
            Some(_) => self.live_containers_now(&version.service).await?,
            None => table.containers,
        };
        let containers = of_version(&containers, version);
        let exited = |state| matches!(state, ContainerState::Exited(_));
        if let Some(dead) = containers.iter().find(|container| exited(container.state)) {
            return Err(self.exit_of(dead).await);
        }
        let running = containers
            .iter()
            .filter(|container| container.state == ContainerState::Running)
            .count();
        health.name_container(&containers);
        Ok(Observed {
            running: u32::try_from(running).unwrap_or(u32::MAX),
            health,
            view: table.view,
        })
    }

    /// The error that it is when `needed` containers of `of` are not up within `limit`, with what the
    /// first of them said last.
    pub(crate) async fn too_few_healthy(
        &self,
        health: Health,
        needed: u32,
        of: String,
        limit: String,
    ) -> ContainerError {
        let output = match &health.down_id {
            Some(id) => self.last_lines(id).await,
            None => String::new(),
        };
        health.too_few(needed, of, limit, output)
    }

    /// Waits until the proxy sees so many containers of the version healthy.
    pub(crate) async fn until_healthy(&self, version: &VersionRecord, replicas: u32) -> Result<()> {
        let manifest = self.manifest();
        let service = manifest.service(&version.service);
        let limit = service.map_or(LIMIT, |service| service.rollout.start_timeout.get());
        let began = Instant::now();
        loop {
            let health = self.observe(version).await?.health;
            if health.up >= replicas {
                return Ok(());
            }
            if began.elapsed() >= limit {
                let of = format!("{} {}", version.service, version.version);
                let limit = format!("{} s", limit.as_secs());
                let error = self.too_few_healthy(health, replicas, of, limit).await;
                return Err(error.into());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use admin_api::VersionView;

    use super::*;

    /// Endpoints of one version, each with its health and what its last check came to.
    fn health(endpoints: &[(HealthState, Option<&str>)]) -> Health {
        let endpoints = endpoints.iter().enumerate();
        let endpoints = endpoints.map(|(n, (health, reason))| EndpointView {
            address: format!("10.0.0.{}:80", n + 1),
            health: *health,
            reason: reason.map(str::to_owned),
            ..EndpointView::default()
        });
        let version = VersionView {
            endpoints: endpoints.collect(),
            ..VersionView::default()
        };
        let view = ServiceView {
            versions: [("2.0.0".to_owned(), version)].into(),
            ..ServiceView::default()
        };
        Health::of(&view, "2.0.0")
    }

    #[test]
    fn the_first_endpoint_that_is_down_is_named_and_retired_ones_do_not_count() {
        use HealthState::{Down, Draining, Ejected, Up};
        let mut seen = health(&[(Up, None), (Draining, None), (Ejected, Some("5 failures"))]);
        assert_eq!((seen.up, seen.failing, seen.serves()), (1, true, true));
        let container = |name: &str, address: &str| Container {
            id: String::new(),
            name: name.to_owned(),
            image: String::new(),
            labels: BTreeMap::new(),
            state: ContainerState::Running,
            address: address.parse().ok(),
        };
        let containers = [
            container("web-1", "10.0.0.1:80"),
            container("web-3", "10.0.0.3:80"),
        ];
        seen.name_container(&containers.each_ref());
        let said = "no database".to_owned();
        let error = seen.too_few(2, "web 2.0.0".into(), "60 s".into(), said);
        assert_eq!(
            error.to_string(),
            "1 of 2 containers of web 2.0.0 were healthy within 60 s: \
             web-3 (10.0.0.3:80) is ejected: 5 failures; it said: no database"
        );
        let seen = health(&[(Down, None), (Down, Some("refused"))]);
        let first = seen.down.as_ref().map(ToString::to_string);
        assert_eq!(
            first.as_deref(),
            Some("10.0.0.1:80 is down: not checked yet")
        );
        assert!(seen.failing && !seen.serves());
    }

    #[test]
    fn an_endpoint_that_was_not_checked_yet_is_not_failing() {
        let seen = health(&[(HealthState::Down, None)]);
        assert!(!seen.failing && !seen.serves());
    }

    #[test]
    fn a_version_without_endpoints_that_should_serve_is_well() {
        assert!(health(&[]).serves());
        assert!(health(&[(HealthState::Draining, None)]).serves());
    }
}
