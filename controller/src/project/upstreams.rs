//! The upstream set of a service, built from its containers and its split, and given to the
//! proxy in one call.

use std::collections::BTreeSet;

use admin_api::names;
use admin_api::{
    EndpointSpec, EndpointView, HealthState, MirrorSpec, ServiceSpec, ServiceView, VersionSpec,
};

use crate::error::{Error, Result};
use crate::journal::{Phase, RolloutRecord, Split, VersionRecord};
use crate::manifest::{Manifest, ServiceSettings};
use crate::project::Project;
use crate::project::containers::{of_version, version_id};
use crate::project::reconcile::{DesiredVersion, wanted};
use crate::runtime::{Container, ContainerState, label};

/// A host that does not exist (RFC 6761).
const NO_HOST: &str = "crossfade.invalid";

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
            let address = container.address.as_ref().map(ToString::to_string);
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
        if let (Some(mut view), true) = (view, same) {
            show_workers(&mut view, &containers);
            return Ok(ServiceTable { containers, view });
        }
        if let Some(wanted) = &wanted {
            tracing::info!(
                service,
                "the proxy's table differs from the desired one: sending it again"
            );
            self.admin.put_service(wanted).await?;
        }
        let mut view = self.admin.service(service).await?;
        show_workers(&mut view, &containers);
        Ok(ServiceTable { containers, view })
    }

    /// Takes the service out of the proxy, if it is there.
    pub(crate) async fn take_out(&self, service: &str) -> Result<()> {
        match self.admin.delete_service(service).await {
            Err(error) if !error.is_unknown() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Has services take the routes of others over, which are on their way out: each in one swap, in
    /// which those go. `manifest` holds from then on, and has them no more.
    pub(crate) async fn hand_routes_over(
        &self,
        waiting: &[(String, Vec<String>)],
        manifest: Manifest,
    ) -> Result<()> {
        let mut in_order = Vec::new();
        for (service, replaced) in waiting {
            // Nothing tells the proxy of it in between, by the manifest as it was.
            in_order.push(self.push_lock(service).await);
            let containers = self.live_containers(service).await?;
            let spec = self.upstreams_by(&manifest, service, &containers)?;
            let Some(spec) = spec else { continue };
            match self.admin.put_in_place_of(replaced, &spec).await {
                // A proxy of the release before does not know of the places of others.
                Err(error) if error.is_conflict() => {
                    for name in replaced {
                        self.take_out(name).await?;
                    }
                    self.admin.put_service(&spec).await?;
                }
                done => {
                    done?;
                }
            }
        }
        self.set_manifest(manifest);
        Ok(())
    }

    fn wanted_upstreams(
        &self,
        service: &str,
        containers: &[Container],
    ) -> Result<Option<ServiceSpec>> {
        self.upstreams_by(&self.manifest(), service, containers)
    }

    fn upstreams_by(
        &self,
        manifest: &Manifest,
        service: &str,
        containers: &[Container],
    ) -> Result<Option<ServiceSpec>> {
        let Some(record) = self.journal.service(service)? else {
            return Ok(None);
        };
        let Some(settings) = manifest.service(service) else {
            return Ok(None);
        };
        let rollout = self.journal.running(service)?;
        let wanted = wanted(&record, rollout.as_ref());
        let containers = containers.iter().filter(|container| {
            let of = version_id(container);
            wanted.iter().any(|one| of == Some(one.version.id))
        });
        let warm = rollout.as_ref().and_then(warm_version);
        let mut spec = upstreams(settings, containers, &record.split, warm);
        wait_for_routes(&mut spec, manifest);
        self.read_users(&mut spec)?;
        if let Some(maintenance) = record.maintenance {
            spec.traffic.maintenance = Some(maintenance);
        }
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

impl Project {
    /// Tells the proxy of the services that have no containers here, where it does not have them as
    /// the manifest does.
    pub(crate) async fn check_external(&self) -> Result<()> {
        for spec in &self.manifest().external {
            let mut spec = spec.clone();
            self.read_users(&mut spec)?;
            for version in spec.versions.values_mut() {
                if let Some(ca) = version.tls.as_mut().and_then(|tls| tls.ca.as_mut()) {
                    *ca = self.authorities.keep(&self.folder()?.join(&*ca))?;
                }
            }
            let view = match self.admin.service(&spec.name).await {
                Ok(view) => Some(view),
                Err(error) if error.is_unknown() => None,
                Err(error) => return Err(error.into()),
            };
            if !view.is_some_and(|view| agrees(&view, &spec)) {
                self.admin.put_service(&spec).await?;
            }
        }
        Ok(())
    }

    /// Puts the users of a file in place of its name, which the proxy may not see: it may be in a
    /// container. What has changed since is noticed as any other difference is.
    fn read_users(&self, spec: &mut ServiceSpec) -> Result<()> {
        let Some(auth) = &mut spec.traffic.basic_auth else {
            return Ok(());
        };
        if let Some(file) = auth.file.take() {
            let file = self.folder()?.join(file);
            let users = std::fs::read_to_string(&file).map_err(Error::file(&file))?;
            auth.users = Some(users);
        }
        Ok(())
    }
}

/// Adds the containers to the proxy's view that serve nothing: the proxy does not know of them, and they
/// are well as long as they run.
pub(crate) fn show_workers(view: &mut ServiceView, containers: &[Container]) {
    for container in containers {
        let runs = container.state == ContainerState::Running && container.address.is_none();
        let version = container.labels.get(label::VERSION).filter(|_| runs);
        let Some(version) = version else { continue };
        let version = view.versions.entry(version.clone()).or_default();
        version.endpoints.push(EndpointView {
            address: container.name.clone(),
            health: HealthState::Up,
            ..EndpointView::default()
        });
    }
}

/// The hosts and the start of the paths of a service. One that serves nothing has a route that no client
/// asks for: the proxy knows it all the same.
fn route_of(settings: &ServiceSettings) -> (Vec<String>, String) {
    match settings.is_worker() {
        true => (vec![NO_HOST.to_owned()], format!("/{}", settings.name)),
        false => (settings.hosts.clone(), settings.path_prefix.clone()),
    }
}

/// The version that takes all requests where none of those that are to have them has a container
/// left: a rollout goes back to it anyway, and this is the same swap, without the wait until the
/// rollout has seen it. A candidate is never such a version: it may not have been checked.
fn warm_version(rollout: &RolloutRecord) -> Option<&str> {
    let is_leaving = rollout.phase == Phase::Draining;
    (!is_leaving).then_some(&*rollout.from.version)
}

/// The upstream set: every container that runs, under its version, and the split over the
/// versions that have one.
fn upstreams<'a>(
    settings: &ServiceSettings,
    containers: impl IntoIterator<Item = &'a Container>,
    split: &Split,
    warm: Option<&str>,
) -> ServiceSpec {
    let mut endpoints: Vec<EndpointSpec> = containers
        .into_iter()
        .filter(|container| container.state == ContainerState::Running)
        .filter_map(|container| {
            let version = container.labels.get(label::VERSION)?.clone();
            Some(EndpointSpec {
                address: container.address.as_ref()?.to_string(),
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
        split.clear();
        match warm.filter(|version| versions.contains(version)) {
            Some(version) => {
                split.insert(version.to_owned(), 100);
            }
            // The version that is to have requests has no container left, and no other may take
            // them: requests to a service without endpoints wait, and get a 503 in the end.
            None => endpoints.clear(),
        }
    }
    let (hosts, path_prefix) = route_of(settings);
    ServiceSpec {
        name: settings.name.clone(),
        hosts,
        path_prefix,
        traffic: settings.traffic.clone(),
        split,
        endpoints,
        ..ServiceSpec::default()
    }
}

/// Leaves the routes out that a service gets from another, which is on its way out and has them until
/// then. A service without any has one that no client asks for, so that its health can be seen.
fn wait_for_routes(spec: &mut ServiceSpec, manifest: &Manifest) {
    let taken: BTreeSet<String> = predecessors(manifest, &spec.name)
        .flat_map(|other| routes(&other.hosts, &other.path_prefix).0)
        .collect();
    if predecessors(manifest, &spec.name).next().is_none() {
        return;
    }
    let is_taken = |host: &String| taken.contains(&host_text(host));
    let had_pattern = spec.hosts.iter().any(|host| host.starts_with('~'));
    let (waiting, free): (Vec<_>, Vec<_>) = std::mem::take(&mut spec.hosts)
        .into_iter()
        .partition(is_taken);
    spec.hosts = free;
    if spec.hosts.is_empty() {
        spec.hosts = match had_pattern {
            // Its settings may have the groups of an expression.
            true => waiting.iter().map(|host| no_host_like(host)).collect(),
            false => vec![NO_HOST.to_owned()],
        };
        if spec.traffic.path.is_none() {
            spec.path_prefix = format!("/{}", spec.name);
        }
    }
}

/// A host like this one that no client asks for.
fn no_host_like(host: &str) -> String {
    match host.strip_prefix('~') {
        Some(pattern) => format!("~(?:{pattern})\\.crossfade\\.invalid"),
        None => NO_HOST.to_owned(),
    }
}

/// A host as the proxy shows it, however it was written.
fn host_text(host: &str) -> String {
    names::host(host).unwrap_or_else(|_| host.to_owned())
}

/// The services on their way out whose routes another one is to have.
pub(crate) fn predecessors<'m>(
    manifest: &'m Manifest,
    name: &str,
) -> impl Iterator<Item = &'m ServiceSettings> {
    let is_leaving = |name: &str| manifest.leaving.iter().any(|leaving| leaving == name);
    let of = manifest.service(name).filter(|_| !is_leaving(name));
    let of = of.filter(|one| !one.is_worker());
    let of = of.map(|one| (routes(&one.hosts, &one.path_prefix), &one.traffic));
    let leaving = manifest.services.iter();
    let leaving = leaving.filter(move |other| is_leaving(&other.name) && !other.is_worker());
    leaving.filter(move |other| {
        let (hosts, prefix) = routes(&other.hosts, &other.path_prefix);
        of.as_ref()
            .is_some_and(|((own_hosts, own_prefix), traffic)| {
                let same_host = hosts.is_empty() && own_hosts.is_empty();
                let same_path = *own_prefix == prefix && traffic.same_routes(&other.traffic);
                same_path && (same_host || !hosts.is_disjoint(own_hosts))
            })
    })
}

/// Routes as the proxy shows them, however they were written.
fn routes<'a>(hosts: &[String], prefix: &'a str) -> (BTreeSet<String>, &'a str) {
    (
        hosts.iter().map(|host| host_text(host)).collect(),
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
        let VersionSpec { protocol, tls } = spec.versions.get(*version).unwrap_or(&default);
        let of = view.versions.get(*version);
        of.is_some_and(|of| (&of.protocol, &of.tls) == (protocol, tls))
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
        let spec = upstreams(
            &settings(),
            &containers,
            &split(&[("1", 90), ("2", 10)]),
            None,
        );
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
        let spec = upstreams(
            &settings(),
            &containers,
            &split(&[("1", 100), ("2", 0)]),
            Some("1"),
        );
        assert_eq!((spec.endpoints.len(), spec.split.len()), (0, 0));
    }

    #[test]
    fn when_the_version_with_the_traffic_is_gone_the_warm_one_takes_it_in_the_same_table() {
        let containers = [
            container("1", Some("10.0.0.1:80"), ContainerState::Running),
            container("2", None, ContainerState::Exited(Some(1))),
        ];
        for weights in [&[("2", 100)][..], &[("1", 0), ("2", 100)]] {
            let spec = upstreams(&settings(), &containers, &split(weights), Some("1"));
            assert_eq!(
                (spec.endpoints.len(), spec.split),
                (1, split(&[("1", 100)]))
            );
        }
        let spec = upstreams(&settings(), &containers, &split(&[("2", 100)]), None);
        assert_eq!(spec.endpoints.len(), 0, "it is no longer kept warm");
    }

    #[test]
    fn what_gets_the_routes_of_a_service_that_leaves_waits_for_them() {
        let service = |name: &str, keys: &str| {
            format!("[[services]]\nname = \"{name}\"\nimage = \"web:1\"\n{keys}\n")
        };
        let routes_of = |new: &str, old: &str| {
            let mut manifest = Manifest::parse(&service("shop", new)).expect("a manifest");
            let leaving = Manifest::parse(&service("web", old)).expect("a manifest");
            manifest.services.extend(leaving.services);
            manifest.leaving.push("web".into());
            let route = |at: usize| {
                let mut spec = upstreams(&manifest.services[at], &[], &split(&[]), None);
                wait_for_routes(&mut spec, &manifest);
                format!("{}{}", spec.hosts.join(","), spec.path_prefix)
            };
            [route(0), route(1)]
        };
        let [new, old] = routes_of("", "");
        assert_eq!([new, old], ["crossfade.invalid/shop", "/"]);
        let [new, _] = routes_of("path_prefix = \"/api\"", "");
        assert_eq!(new, "/api", "another route");
        let [new, old] = routes_of("hosts = [\"a.test\", \"b.test\"]", "hosts = [\"B.test\"]");
        assert_eq!([new, old], ["a.test/", "B.test/"]);
        let [new, _] = routes_of("path = \"/api\"", "");
        assert_eq!(new, "/", "a path of its own");
        let [new, _] = routes_of("path = \"/api\"", "path = \"/api\"");
        assert_eq!(new, "crossfade.invalid/", "the same path");
        let hosts = "hosts = ['~(?<t>a+)\\.test']\nredirect.to = \"/$match_t\"";
        let [new, _] = routes_of(&hosts.replace("/$match_t", "/t/$match_t"), hosts_only());
        assert_eq!(new, "~(?:(?<t>a+)\\.test)\\.crossfade\\.invalid/shop");
    }

    fn hosts_only() -> &'static str {
        "hosts = ['~(?<t>a+)\\.test']"
    }

    #[test]
    fn a_worker_has_a_route_that_no_client_requests_and_is_well_while_it_runs() {
        let text = "[[services]]\nname = \"jobs\"\nimage = \"jobs:1\"\nport = 0\n";
        let manifest = Manifest::parse(text).expect("a manifest");
        let containers = [
            container("1", None, ContainerState::Running),
            container("1", None, ContainerState::Exited(Some(1))),
        ];
        let weights = split(&[("1", 100)]);
        let spec = upstreams(&manifest.services[0], &containers, &weights, None);
        assert_eq!((spec.endpoints.len(), spec.split.len()), (0, 0));
        assert_eq!(spec.hosts, ["crossfade.invalid"]);
        assert_eq!(spec.path_prefix, "/jobs");
        let mut view = ServiceView::default();
        show_workers(&mut view, &containers);
        let endpoints = &view.versions["1"].endpoints;
        assert_eq!(endpoints.len(), 1);
        assert_eq!(endpoints[0].health, HealthState::Up);
    }

    #[test]
    fn every_setting_of_the_manifest_gets_to_the_proxy_and_is_noticed_when_it_is_missing_there() {
        let every = include_str!("../../../admin-api/tests/every_setting.toml");
        let text = format!("[[services]]\nname = \"web\"\nimage = \"web:1\"\n{every}");
        let settings = Manifest::parse(&text)
            .expect("a manifest")
            .services
            .remove(0);
        let spec = upstreams(&settings, &[], &split(&[]), None);
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
