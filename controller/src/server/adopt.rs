//! What runs is taken up by its labels and by what the proxy has of it, where the journal does not
//! know it: the journal was lost, or was restored from an older copy. Nothing is started or stopped for
//! that, so no request fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::api::UpRequest;
use crate::clock::boot;
use crate::error::{Error, Result};
use crate::journal::{Applied, ProxyRecord, Split, VersionRecord};
use crate::manifest::Manifest;
use crate::project::Project;
use crate::project::containers::{ENDPOINT, record_of};
use crate::project::proxy::{PROXY, serving_number};
use crate::runtime::{Container, ContainerState, label};
use crate::server::controller::{Controller, Up, folder_of, lock};
use crate::server::engine;

/// A service that was taken up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// The version that has its requests.
    pub(crate) stable: VersionRecord,
    /// How many containers that has.
    pub(crate) replicas: u32,
}

impl Controller {
    /// Before a first `up`: refuses a project that runs and that this state does not know, or takes it
    /// up where that was asked for. Says what it has taken up.
    pub(super) async fn meet_unknown(
        &self,
        request: &UpRequest,
        manifest: &Manifest,
    ) -> Result<Option<String>> {
        let engine = engine::choose(manifest.runtime, &manifest.project, &self.dir).await?;
        let containers = engine.runtime.list().await?;
        let runs = |one: &&Container| is_role(one, PROXY) && one.state == ContainerState::Running;
        let Some(proxy) = containers.iter().find(runs) else {
            return Ok(None);
        };
        if !request.adopt {
            return Err(Error::refused(format!(
                "a proxy of project {} runs that this state does not know ({}; state folder {}): \
                 `crossfade up --adopt` takes it up with all that it serves, as it runs; `crossfade \
                 down` removes it",
                manifest.project,
                proxy.name,
                self.dir.display()
            )));
        }
        let kind = engine.kind;
        let up = self.make_up(manifest.clone(), engine)?;
        let folder = folder_of(&request.path);
        let (record, services) = self.adoptable(&up.project, folder, &containers).await?;
        let known = |name: &String| manifest.service(name).is_some();
        if let Some(name) = services.keys().find(|name| !known(name)) {
            return Err(Error::refused(format!(
                "service {name} runs and is not in the manifest: add it, and remove it with `crossfade \
                 up --prune` later"
            )));
        }
        let applied = Applied {
            text: request.manifest.clone(),
            path: request.path.clone(),
            runtime: kind,
            boot: boot(),
            kept: Vec::new(),
            project: manifest.project.clone(),
        };
        self.keep(Some(&applied), &record, &services)?;
        *lock(&self.up) = Some(up);
        let text = text_of(&services);
        self.note("up", None, &text)?;
        Ok(Some(text))
    }

    /// After the journal was restored from a copy: what has changed since is taken from what runs.
    pub(super) async fn adopt_again(&self, up: &Up) -> Result<()> {
        let containers = up.project.runtime.list().await?;
        let folder = up.project.folder()?;
        let (record, services) = self.adoptable(&up.project, &folder, &containers).await?;
        self.keep(None, &record, &services)?;
        self.note("up", None, &text_of(&services))
    }

    fn keep(
        &self,
        applied: Option<&Applied>,
        proxy: &ProxyRecord,
        services: &BTreeMap<String, Adopted>,
    ) -> Result<()> {
        let services = services.values().map(|one| (&one.stable, one.replicas));
        let services: Vec<(&VersionRecord, u32)> = services.collect();
        self.journal
            .adopt(applied, proxy, &services, self.clock.now())
    }

    async fn adoptable(
        &self,
        project: &Project,
        folder: &Path,
        containers: &[Container],
    ) -> Result<(ProxyRecord, BTreeMap<String, Adopted>)> {
        let record = ProxyRecord {
            number: serving_number(&project.name, containers).unwrap_or(0),
            ..ProxyRecord::default()
        };
        let names: BTreeSet<&String> = containers
            .iter()
            .filter(|one| is_role(one, ENDPOINT))
            .filter_map(|one| one.labels.get(label::SERVICE))
            .collect();
        let mut services = BTreeMap::new();
        for name in names {
            let split = match project.admin.service(name).await {
                Ok(view) => view.split,
                Err(error) if error.is_unknown() => Split::new(),
                Err(error) => {
                    return Err(Error::refused(format!(
                        "what the proxy has of {name} cannot be read: {error}; it takes its calls \
                         with the token in {}",
                        crate::state_dir::proxy_folder(&self.dir).display()
                    )));
                }
            };
            let of_service = |one: &&Container| one.labels.get(label::SERVICE) == Some(name);
            let theirs: Vec<&Container> = containers.iter().filter(of_service).collect();
            if let Some(adopted) = adopted(project, folder, name, &theirs, &split)? {
                services.insert(name.clone(), adopted);
            }
        }
        Ok((record, services))
    }
}

/// The version that has most requests, else most containers, with its record as their labels have it.
/// What else runs of the service has no place, and is drained.
fn adopted(
    project: &Project,
    folder: &Path,
    service: &str,
    containers: &[&Container],
    split: &Split,
) -> Result<Option<Adopted>> {
    let mut versions = BTreeMap::<i64, (VersionRecord, u32)>::new();
    let manifest = project.manifest();
    let runs = |one: &&&Container| is_role(one, ENDPOINT) && one.state == ContainerState::Running;
    // Of containers of a release before, the manifest has to know how they were made.
    let settings = manifest.service(service);
    let template = settings.map(|settings| project.template(settings, folder));
    let template = template.transpose()?;
    let made = settings
        .map(|settings| settings.image.as_str())
        .zip(template.as_ref());
    for container in containers.iter().filter(runs) {
        let Some(record) = record_of(container, made) else {
            continue;
        };
        versions.entry(record.id).or_insert((record, 0)).1 += 1;
    }
    let weight = |record: &VersionRecord| split.get(&record.version).copied().unwrap_or(0);
    let most = versions
        .into_values()
        .max_by_key(|(record, count)| (weight(record), *count, record.id));
    Ok(most.map(|(stable, replicas)| Adopted { stable, replicas }))
}

fn is_role(container: &Container, role: &str) -> bool {
    container
        .labels
        .get(label::ROLE)
        .is_some_and(|one| one == role)
}

/// `taken up as it runs: web 1.0.0 × 2`.
fn text_of(services: &BTreeMap<String, Adopted>) -> String {
    let each = services.iter().map(|(name, Adopted { stable, replicas })| {
        format!("{name} {} × {replicas}", stable.version)
    });
    let each: Vec<String> = each.collect();
    format!("taken up as it runs: {}", each.join(", "))
}
