//! The upstream set of a service, built from its containers and its split, and given to the
//! proxy in one call.

use std::collections::BTreeSet;

use admin_api::names;
use admin_api::{EndpointSpec, HealthState, MirrorSpec, ServiceSpec, ServiceView, VersionSpec};

use crate::error::Result;
use crate::journal::{Split, VersionRecord};
use crate::manifest::ServiceSettings;
use crate::project::Project;
use crate::project::containers::{of_version, version_id};
use crate::project::reconcile::{DesiredVersion, wanted};
use crate::runtime::{Container, ContainerState, label};

/// A service's containers and what the proxy has of them, read at one moment.
#[derive(Debug)]
pub(crate) struct ServiceTable {
    /// Those that are not retired.
    pub(crate) containers: Vec<Container>,
    /// The proxy's view.
    pub(crate) view: ServiceView,
}

impl ServiceTable {
    /// The version's containers that are too many where `keep` stay. Those that the proxy sees
    /// healthy are kept first, then by name.
    pub(crate) fn extra(&self, version: &VersionRecord, keep: u32) -> Vec<Container> {
        let view = self.view.versions.get(&version.version);
        let endpoints = view.iter().flat_map(|view| &view.endpoints);
        let healthy: BTreeSet<&str> = endpoints
            .filter(|endpoint| endpoint.health == HealthState::Up)
            .map(|endpoint| endpoint.address.as_str())
            .collect();
        let serves = |container: &Container| {
            let address = container.address.map(|address| address.to_string());
            address.is_some_and(|address| healthy.contains(address.as_str()))
        };
        let mut containers = of_version(&self.containers, version);
        containers.sort_by_key(|container| !serves(container));
        let extra = containers.into_iter().skip(keep as usize);
        extra.cloned().collect()
    }
}

impl Project {
    /// Tells the proxy the whole upstream set of a service as it is now. Can be repeated
    /// without harm.
    pub(crate) async fn push(&self, service: &str) -> Result<()> {
        let _in_order = self.push_lock(service).await;
        let containers = self.live_containers(service).await?;
        if let Some(spec) = self.wanted_upstreams(service, &containers)? {
            self.admin.put_service(&spec).await?;
        }
        Ok(())
    }

    /// Reads what the proxy has, and tells it again if that is not what is wanted: it has
    /// started again with nothing, or another program changed it.
    pub(crate) async fn check_table(&self, service: &str) -> Result<ServiceTable> {
        let _in_order = self.push_lock(service).await;
        let containers = self.live_containers(service).await?;
        let wanted = self.wanted_upstreams(service, &containers)?;
        let view = match self.admin.service(service).await {
            Ok(view) => Some(view),
            Err(error) if error.is_unknown() => None,
            Err(error) => return Err(error.into()),
        };
        let same = wanted
            .as_ref()
            .zip(view.as_ref())
            .is_some_and(|(w, v)| agrees(v, w));
        if let (Some(view), true) = (view, same) {
            return Ok(ServiceTable { containers, view });
        }
        if let Some(wanted) = &wanted {
            tracing::info!(
                service,
                "the proxy's table differs from the desired one: sending it again"
            );
            self.admin.put_service(wanted).await?;
        }
        Ok(ServiceTable {
            containers,
            view: self.admin.service(service).await?,
        })
    }

    /// Takes the service out of the proxy, if it is there.
    pub(crate) async fn take_out(&self, service: &str) -> Result<()> {
        match self.admin.delete_service(service).await {
            Err(error) if !error.is_unknown() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn wanted_upstreams(
        &self,
        service: &str,
        containers: &[Container],
    ) -> Result<Option<ServiceSpec>> {
        let Some(record) = self.journal.service(service)? else {
            return Ok(None);
        };
        let manifest = self.manifest();
        let Some(settings) = manifest.service(service) else {
            return Ok(None);
        };
        let rollout = self.journal.running(service)?;
        let wanted = wanted(&record, rollout.as_ref());
        let containers = containers.iter().filter(|container| {
            let of = version_id(container);
            wanted.iter().any(|one| of == Some(one.version.id))
        });
        let mut spec = upstreams(settings, containers, &record.split);
        for DesiredVersion { version, .. } in &wanted {
            let is_there = spec.endpoints.iter().any(|e| e.version == version.version);
            let transport = &version.template.transport;
            if is_there && *transport != VersionSpec::default() {
                spec.versions
                    .insert(version.version.clone(), transport.clone());
            }
        }
        let mirror = rollout.and_then(|rollout| rollout.mirrors());
        // Copies need an endpoint to go to.
        let is_there = |to: &MirrorSpec| spec.endpoints.iter().any(|one| one.version == to.version);
        spec.mirror = mirror.filter(is_there);
        Ok(Some(spec))
    }
}

/// The upstream set: every container that runs, under its version, and the split over the
/// versions that have one.
fn upstreams<'a>(
    settings: &ServiceSettings,
    containers: impl IntoIterator<Item = &'a Container>,
    split: &Split,
) -> ServiceSpec {
    let mut endpoints: Vec<EndpointSpec> = containers
        .into_iter()
        .filter(|container| container.state == ContainerState::Running)
        .filter_map(|container| {
            let version = container.labels.get(label::VERSION)?.clone();
            Some(EndpointSpec {
                address: container.address?.to_string(),
                version,
                weight: 1,
            })
        })
        .collect();
    let versions: BTreeSet<&str> = endpoints
        .iter()
        .map(|endpoint| endpoint.version.as_str())
        .collect();
    let mut split = split.clone();
    split.retain(|version, _| versions.contains(version.as_str()));
    if split.values().all(|weight| *weight == 0) {
        // The version that is to have requests has no container left, and no other may take them:
        // a service without endpoints responds with 503.
        endpoints.clear();
        split.clear();
    }
    ServiceSpec {
        name: settings.name.clone(),
        hosts: settings.hosts.clone(),
        path_prefix: settings.path_prefix.clone(),
        traffic: settings.traffic.clone(),
        split,
        endpoints,
        ..ServiceSpec::default()
    }
}

/// Routes as the proxy shows them, however they were written.
fn routes<'a>(hosts: &[String], prefix: &'a str) -> (BTreeSet<String>, &'a str) {
    let host = |host: &String| names::host(host).unwrap_or_else(|_| host.clone());
    (
        hosts.iter().map(host).collect(),
        prefix.trim_end_matches('/'),
    )
}

/// Whether the proxy has what is wanted.
fn agrees(view: &ServiceView, spec: &ServiceSpec) -> bool {
    let has: BTreeSet<(&str, &str)> = view
        .versions
        .iter()
        .flat_map(|(version, of)| {
            // Retired ones may be shown until they are gone; they do not count.
            let live = of
                .endpoints
                .iter()
                .filter(|e| e.health != HealthState::Draining);
            live.map(move |endpoint| (version.as_str(), endpoint.address.as_str()))
        })
        .collect();
    let wants: BTreeSet<(&str, &str)> = spec
        .endpoints
        .iter()
        .map(|e| (e.version.as_str(), e.address.as_str()))
        .collect();
    let weights_agree = spec
        .split
        .iter()
        .all(|(version, weight)| view.split.get(version).copied().unwrap_or(0) == *weight);
    let no_other = view
        .split
        .iter()
        .all(|(version, weight)| *weight == 0 || spec.split.contains_key(version));
    let default = VersionSpec::default();
    let same_transport = wants.iter().all(|(version, _)| {
        let wanted = spec.versions.get(*version).unwrap_or(&default);
        let of = view.versions.get(*version);
        of.is_some_and(|of| (&of.protocol, &of.tls) == (&wanted.protocol, &wanted.tls))
    });
    has == wants
        && same_transport
        && weights_agree
        && no_other
        && view.traffic == spec.traffic
        && view.mirror == spec.mirror
        && routes(&view.hosts, &view.path_prefix) == routes(&spec.hosts, &spec.path_prefix)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use admin_api::TrafficSettings;
    use admin_api::flat::FlatKeys;

    use super::*;
    use crate::manifest::Manifest;

    fn settings() -> ServiceSettings {
        let text = "[[services]]\nname = \"web\"\nimage = \"web:1\"\n";
        Manifest::parse(text)
            .expect("a manifest")
            .services
            .remove(0)
    }

    fn container(version: &str, address: Option<&str>, state: ContainerState) -> Container {
        Container {
            id: String::new(),
            name: String::new(),
            image: String::new(),
            labels: BTreeMap::from([(label::VERSION.to_owned(), version.to_owned())]),
            state,
            address: address.map(|address| address.parse().expect("an address")),
        }
    }

    fn split(weights: &[(&str, u32)]) -> Split {
        weights
            .iter()
            .map(|(version, weight)| ((*version).to_owned(), *weight))
            .collect()
    }

    #[test]
    fn only_containers_that_run_are_endpoints() {
        let containers = [
            container("1", Some("10.0.0.1:80"), ContainerState::Running),
            container("1", None, ContainerState::Exited(Some(1))),
            container("2", None, ContainerState::Created),
        ];
        let spec = upstreams(&settings(), &containers, &split(&[("1", 90), ("2", 10)]));
        assert_eq!(spec.endpoints.len(), 1);
        assert_eq!(
            spec.split,
            split(&[("1", 90)]),
            "a version without endpoints is not named"
        );
    }

    #[test]
    fn when_the_version_with_the_traffic_is_gone_no_other_takes_it() {
        let containers = [container("2", Some("10.0.0.2:80"), ContainerState::Running)];
        let spec = upstreams(&settings(), &containers, &split(&[("1", 100), ("2", 0)]));
        assert_eq!((spec.endpoints.len(), spec.split.len()), (0, 0));
    }

    #[test]
    fn every_setting_of_the_manifest_gets_to_the_proxy_and_is_noticed_when_it_is_missing_there() {
        let every = include_str!("../../../admin-api/tests/every_setting.toml");
        let text = format!("[[services]]\nname = \"web\"\nimage = \"web:1\"\n{every}");
        let settings = Manifest::parse(&text)
            .expect("a manifest")
            .services
            .remove(0);
        let spec = upstreams(&settings, &[], &split(&[]));
        assert_eq!(spec.traffic, settings.traffic);

        let view = |traffic: serde_json::Value| ServiceView {
            path_prefix: spec.path_prefix.clone(),
            traffic: serde_json::from_value(traffic).expect("settings"),
            ..ServiceView::default()
        };
        let all = serde_json::to_value(&spec.traffic).expect("JSON");
        assert!(agrees(&view(all.clone()), &spec));
        for key in TrafficSettings::KEYS {
            let mut without = all.clone();
            let taken = without.as_object_mut().and_then(|all| all.remove(*key));
            assert!(taken.is_some(), "`{key}` is not in {all}");
            assert!(!agrees(&view(without), &spec), "`{key}` is missing");
        }
    }
}
