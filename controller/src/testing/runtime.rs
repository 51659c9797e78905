//! A runtime without an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};

use super::calls::Calls;
use super::lock;
use crate::runtime::{
    Container, ContainerSpec, ContainerState, EndpointAddress, LogOptions, LogStream, PullStep,
    Runtime, RuntimeError, label,
};

/// Containers that are entries of a list.
pub(crate) struct FakeRuntime {
    calls: Calls,
    containers: Mutex<Vec<Container>>,
    started: Mutex<u8>,
    /// Versions whose containers exit as soon as they start, with what they say.
    pub(crate) exits_at_once: Mutex<BTreeMap<String, String>>,
    /// Names of containers that are not ours.
    foreign: Mutex<Vec<String>>,
    /// Names of containers that it has forgotten.
    forgotten: Mutex<Vec<String>>,
    /// It cannot take a container away that has ended.
    pub(crate) keeps_dead: AtomicBool,
    /// Who has a container's output read finds that it is gone then.
    pub(crate) vanish: AtomicBool,
    /// No engine responds, to any call.
    pub(crate) away: AtomicBool,
    /// It cannot tell what runs.
    pub(crate) blind: AtomicBool,
    /// What images stand for that were built again.
    pub(crate) rebuilt: Mutex<BTreeMap<String, String>>,
    /// Told when a container has ended by itself.
    changed: Notify,
}

impl FakeRuntime {
    pub(super) fn new(calls: Calls) -> Arc<Self> {
        Arc::new(Self {
            calls,
            containers: Mutex::default(),
            started: Mutex::default(),
            exits_at_once: Mutex::default(),
            foreign: Mutex::default(),
            forgotten: Mutex::default(),
            keeps_dead: AtomicBool::new(false),
            vanish: AtomicBool::new(false),
            away: AtomicBool::new(false),
            blind: AtomicBool::new(false),
            rebuilt: Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub(crate) fn containers(&self) -> MutexGuard<'_, Vec<Container>> {
        lock(&self.containers)
    }

    fn must_respond(&self) -> Result<(), RuntimeError> {
        match self.away.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(RuntimeError::Unavailable {
                runtime: "fake",
                reason: "its socket is gone".into(),
            }),
        }
    }

    /// Where those that run are reached.
    pub(crate) fn addresses(&self) -> BTreeSet<String> {
        let containers = self.containers();
        let addresses = containers
            .iter()
            .filter_map(|container| container.address.as_ref());
        addresses.map(|address| address.to_string()).collect()
    }

    /// These names are taken by containers that are not ours.
    pub(crate) fn foreign(&self, names: &[String]) {
        lock(&self.foreign).extend_from_slice(names);
    }

    /// It keeps these names for containers that it does not know any more.
    pub(crate) fn forgotten(&self, names: &[String]) {
        lock(&self.forgotten).extend_from_slice(names);
    }

    /// The first container of the version that runs ends.
    pub(crate) fn exit(&self, version: &str, code: i64) {
        let mut containers = self.containers();
        let found = containers.iter_mut().find(|container| {
            let of = container.labels.get(label::VERSION);
            of.is_some_and(|of| of == version) && container.state == ContainerState::Running
        });
        let container = found.expect("a container of that version");
        container.state = ContainerState::Exited(Some(code));
        container.address = None;
        self.changed.notify_one();
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError> {
        self.must_respond()?;
        let rebuilt = lock(&self.rebuilt).get(image).cloned();
        Ok(rebuilt.unwrap_or_else(|| image.to_owned()))
    }

    async fn pull_image(
        &self,
        image: &str,
        _progress: &(dyn Fn(PullStep) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        self.calls.push(format!("pull {image}"));
        Ok(())
    }

    async fn pull_name(&self, _image: &str) -> Result<Option<String>, RuntimeError> {
        Ok(None)
    }

    async fn remove_image(&self, id: &str) -> Result<bool, RuntimeError> {
        self.calls.push(format!("remove image {id}"));
        Ok(true)
    }

    async fn ensure_network(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn remove_network(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        self.must_respond()?;
        if lock(&self.foreign).contains(&spec.name) {
            let name = spec.name.clone();
            return Err(RuntimeError::NotOurs { name });
        }
        if lock(&self.forgotten).contains(&spec.name) {
            return Err(RuntimeError::NameTaken {
                name: spec.name.clone(),
                reason: "it is in use already".into(),
            });
        }
        self.calls.push(format!("start {}", spec.name));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let version = spec.labels.get(label::VERSION);
        let exits = version.is_some_and(|of| lock(&self.exits_at_once).contains_key(of));
        let mut started = lock(&self.started);
        *started += 1;
        let container = Container {
            id: format!("id-{}", spec.name),
            name: spec.name.clone(),
            image: spec.image.clone(),
            labels: spec.labels.clone(),
            state: if exits {
                ContainerState::Exited(Some(3))
            } else {
                ContainerState::Running
            },
            address: (!exits)
                .then_some(spec.port)
                .flatten()
                .map(|port| EndpointAddress::Ip(([10, 0, 0, *started], port).into())),
        };
        self.containers().push(container.clone());
        Ok(container)
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.must_respond()?;
        if self.blind.load(Ordering::Relaxed) {
            return Err(RuntimeError::Failed {
                runtime: "fake",
                action: "list containers",
                reason: "it is blind".into(),
            });
        }
        let mut containers = self.containers().clone();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    async fn stop(&self, id: &str) -> Result<(), RuntimeError> {
        self.must_respond()?;
        let is_dead = |one: &Container| one.id == id && one.state != ContainerState::Running;
        let is_dead = self.containers().iter().any(is_dead);
        if is_dead && self.keeps_dead.load(Ordering::Relaxed) {
            return Err(RuntimeError::Failed {
                runtime: "fake",
                action: "remove a container",
                reason: "its layer is busy".into(),
            });
        }
        // Nothing can be in flight to a dead one, so it needs no receipt.
        let verb = match is_dead {
            true => "clear away",
            false => "stop",
        };
        self.calls
            .push(format!("{verb} {}", id.trim_start_matches("id-")));
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.containers().retain(|container| container.id != id);
        Ok(())
    }

    async fn watch(&self, changed: &Notify) {
        loop {
            self.changed.notified().await;
            changed.notify_one();
        }
    }

    async fn logs(&self, id: &str, _options: LogOptions) -> Result<LogStream, RuntimeError> {
        if self.vanish.load(Ordering::Relaxed) {
            self.containers().retain(|container| container.id != id);
        }
        let (send, stream) = mpsc::channel(1);
        let said = lock(&self.exits_at_once)
            .values()
            .next()
            .cloned()
            .unwrap_or_default();
        // Room for one is there.
        let _ = send.try_send(Ok(said.into()));
        Ok(stream)
    }
}
