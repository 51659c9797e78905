//! The controller of one state folder, and the project that is up in it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedMutexGuard};

use super::backoff::{Backoff, RuntimeWatch};
use crate::clock::{Clock, boot};
use crate::error::{Error, Result};
use crate::journal::{Journal, RolloutRecord};
use crate::manifest::{ContainerTemplate, Manifest, RuntimeChoice};
use crate::project::caller::Caller;
use crate::project::containers::ENDPOINT;
use crate::project::proxy::{self as proxy_host, ProxyHost};
use crate::project::secrets::Secrets;
use crate::project::webhooks::Webhooks;
use crate::project::{Locks, Project, ProjectFiles};
use crate::project_name;
use crate::rollout::{self, Handle};
use crate::runtime::{ContainerState, Runtime, RuntimeError, label};
use crate::server::engine::{self, Engine};
use crate::server::liveness::Liveness;
use crate::server::recent::Recent;
use crate::server::table_watch::TableWatch;

/// What the history says of a controller that was told to stop.
const STOPPED: &str = "the controller is stopped; what is up runs on";

/// The controller of one state folder.
pub(crate) struct Controller {
    pub(super) dir: PathBuf,
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    /// What is up; `None` before the first `up` and after `down`.
    pub(super) up: Mutex<Option<Arc<Up>>>,
    /// What a `down` could not take away: its project and its runtime.
    pub(super) leaving: Mutex<Option<(String, Arc<dyn Runtime>)>>,
    /// Why it is not, where it should be.
    pub(super) last_error: Mutex<Option<String>>,
    /// Held by verbs that start or stop things, one at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Held while a service is changed, from the check of its generation on.
    pub(super) admitting: Locks,
    /// Held while desired and actual are compared, and by verbs that change both at once. Never
    /// taken before `changing`.
    pub(super) reconciling: tokio::sync::Mutex<()>,
    /// Told when nothing is left to control.
    pub(super) finished: Notify,
    /// Held by each verb, and by each call that pulls an image.
    pub(super) busy: Arc<()>,
    /// What runs was taken up after the journal was restored.
    has_adopted: AtomicBool,
}

/// A project that is up.
pub(crate) struct Up {
    pub(crate) project: Arc<Project>,
    pub(super) kind: RuntimeChoice,
    /// The rollouts that run, by service.
    pub(super) rollouts: Mutex<HashMap<String, Arc<Handle>>>,
    /// Who is told of events.
    pub(super) webhooks: Webhooks,
    /// Told when a container may have come or gone.
    pub(super) changed: Arc<Notify>,
    pub(super) _watch: RuntimeWatch,
    /// Tells the same of the proxy.
    pub(super) table: TableWatch,
    pub(super) backoff: Mutex<Backoff>,
    /// That of the proxy's standby.
    pub(super) standby_backoff: Mutex<Backoff>,
    /// The proxy is to have a standby, and was not seen to have one.
    pub(super) lacks_standby: AtomicBool,
    /// The containers' health over time.
    pub(super) liveness: Mutex<Liveness>,
    /// What could not be put right when it was looked at last.
    pub(super) last_error: Mutex<Vec<Unsolved>>,
    /// Which process the proxy was at the last look.
    pub(super) proxy_process: Mutex<Option<String>>,
    /// The dead containers of each service, by their ids, that the history has.
    pub(super) told_dead: Mutex<HashMap<String, BTreeSet<String>>>,
    /// The newest version after which images were removed that are no longer kept.
    pub(super) images_of: Mutex<Option<i64>>,
    /// What came of requests in the last minute.
    pub(super) recent: Mutex<Recent>,
}

/// Something that could not be put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsolved {
    /// The service that it is about.
    pub(super) service: Option<String>,
    /// Why not.
    pub(super) why: String,
}

impl fmt::Display for Unsolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl Controller {
    /// A controller with its folder and its journal.
    pub(crate) fn new(dir: PathBuf, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new(Self {
            dir,
            journal,
            clock: Clock::new(),
            up: Mutex::new(None),
            leaving: Mutex::new(None),
            last_error: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            admitting: Locks::default(),
            reconciling: tokio::sync::Mutex::new(()),
            finished: Notify::new(),
            busy: Arc::default(),
            has_adopted: AtomicBool::new(false),
        })
    }

    /// Takes up what the journal says is up, unfinished rollouts included. `false` where the
    /// engine is not there yet: try again.
    pub(crate) async fn take_up(&self) -> bool {
        if self.get_up().is_some() {
            return true;
        }
        let last_error = match self.take_up_applied().await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!("cannot continue from the journal: {error}");
                Some(error.to_string())
            }
        };
        let fine = last_error.is_none();
        *lock(&self.last_error) = last_error;
        fine
    }

    pub(super) async fn take_up_applied(&self) -> Result<()> {
        if lock(&self.leaving).is_some() {
            // The disk may have been too full to write that it is not wanted any more.
            return Ok(());
        }
        let Some(applied) = self.journal.applied()? else {
            return Ok(());
        };
        let manifest = applied.manifest();
        let mut manifest = manifest.map_err(Error::manifest(&applied.path))?;
        manifest.services.extend(applied.kept);
        let engine = engine::choose(applied.runtime, &manifest.project, &self.dir).await?;
        let up = self.make_up(manifest, engine)?;
        if let Some(restored) = self.journal.restored()
            && !self.has_adopted.load(Ordering::Relaxed)
        {
            self.note("journal", None, &restored.to_string())?;
            // Before anything is done by a journal of yesterday.
            self.adopt_again(&up).await?;
            self.has_adopted.store(true, Ordering::Relaxed);
        }
        self.clear_after_boot(&up, &applied.boot).await?;
        for record in self.journal.unfinished()? {
            tracing::info!(phase = %record.phase, "takes up {}", record.title());
            up.run(record);
        }
        *lock(&self.up) = Some(up);
        if let Err(error) = self.note_start() {
            // A disk that is full is no reason to leave alone what runs.
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// A manifest that was read from `path`. Where it names no project it is of the one that is up, else
    /// of its folder's name.
    pub(super) fn read_manifest(&self, text: &str, path: &Path) -> Result<Manifest> {
        let project = match (self.get_up(), self.journal.applied()?) {
            (Some(up), _) => up.project.name.clone(),
            (None, Some(applied)) => applied.project,
            (None, None) => project_name::of_manifest(path, text)?,
        };
        Manifest::parse_as(text, &project).map_err(Error::manifest(path))
    }

    /// Whether the journal says that nothing is to be up.
    pub(super) fn wants_nothing(&self) -> bool {
        self.journal
            .applied()
            .is_ok_and(|applied| applied.is_none())
    }

    /// The controller takes up what another one has left.
    fn note_start(&self) -> Result<()> {
        let before = self.journal.newest_of_kind("controller")?;
        let was_stopped = before.is_some_and(|event| event.text == STOPPED);
        let why = match was_stopped {
            true => "after it was stopped",
            false => "after it had died or was killed",
        };
        let (pid, release) = (std::process::id(), env!("CARGO_PKG_VERSION"));
        let text = format!("the controller runs again, {why}: process {pid}, release {release}");
        self.note("controller", None, &text)
    }

    /// The controller ends, and what is up runs on.
    pub(super) fn note_stop(&self) {
        if self.get_up().is_none() {
            return;
        }
        if let Err(error) = self.note("controller", None, STOPPED) {
            tracing::warn!("{error}");
        }
    }

    /// Writes an event that belongs to no rollout.
    pub(super) fn note(&self, kind: &str, service: Option<&str>, text: &str) -> Result<()> {
        self.note_of(&Caller::default(), kind, service, text)
    }

    /// The same, with the user that requested it.
    pub(super) fn note_of(
        &self,
        caller: &Caller,
        kind: &str,
        service: Option<&str>,
        text: &str,
    ) -> Result<()> {
        let event = caller.event(service, kind, text);
        self.journal.note(&event, self.clock.now())
    }

    /// The containers that were there when the machine went down died of that, and of nothing
    /// else: they are removed before any version is judged by them.
    pub(super) async fn clear_after_boot(&self, up: &Up, before: &str) -> Result<()> {
        let now = boot();
        if now == before {
            return Ok(());
        }
        for container in up.project.runtime.list().await? {
            // The proxy and its infra container are made again together.
            let serves = container
                .labels
                .get(label::ROLE)
                .is_some_and(|role| role == ENDPOINT);
            if !serves || container.state == ContainerState::Running {
                continue;
            }
            match up.project.remove_container(&container).await {
                Ok(()) => self.journal.forget_retired(&container.name)?,
                Err(error @ RuntimeError::Unavailable { .. }) => return Err(error.into()),
                Err(error) => {
                    // It belongs to no version, and is removed when that can be done.
                    tracing::warn!("{}: {error}", container.name);
                    let service = container.labels.get(label::SERVICE);
                    let service = service.map(String::as_str).unwrap_or_default();
                    up.project
                        .retire(service, std::slice::from_ref(&container))?;
                }
            }
        }
        tracing::info!("the machine was restarted: starting everything again");
        self.journal.set_boot(&now)
    }

    pub(super) fn make_up(&self, manifest: Manifest, engine: Engine) -> Result<Arc<Up>> {
        let admin = proxy_host::admin(&self.dir, &manifest.proxy)?;
        let project = Project::new(
            manifest,
            self.journal.clone(),
            engine.runtime,
            admin,
            self.clock,
            ProjectFiles::new(&self.dir, engine.kind),
        );
        let up = Up::new(Arc::new(project), engine.kind);
        up.webhooks.follow(&up.project)?;
        Ok(Arc::new(up))
    }

    /// Ends when `down` has taken everything away.
    pub(crate) async fn finished(&self) {
        self.finished.notified().await;
    }

    /// Drops running rollouts where they are. The journal knows where to go on.
    pub(crate) fn stop(&self) {
        if let Some(up) = self.get_up() {
            for handle in lock(&up.rollouts).values() {
                handle.stop();
            }
        }
    }

    /// Lets one caller at a time change a service, and refuses a caller that has seen an older
    /// generation than it has by now. What this gives is held until the change is made.
    pub(super) async fn admit(
        &self,
        service: &str,
        caller: &Caller,
    ) -> Result<OwnedMutexGuard<()>> {
        let admitted = self.admitting.of(service).lock_owned().await;
        let Some(seen) = caller.if_generation else {
            return Ok(admitted);
        };
        let now = self.journal.generation(service)?;
        if now == seen {
            return Ok(admitted);
        }
        Err(Error::stale(format!(
            "{service} is at generation {now}, not {seen}: another change came first; see \
             `crossfade status` and `crossfade history {service}`"
        )))
    }

    /// Removes the secrets of versions that can no longer be rolled back to.
    pub(super) fn forget_secrets(&self) -> Result<()> {
        let mut used = BTreeSet::new();
        let mut use_all =
            |template: &ContainerTemplate| used.extend(template.secrets.values().cloned());
        for service in self.journal.services()? {
            use_all(&service.stable.template);
            service
                .previous
                .iter()
                .for_each(|one| use_all(&one.template));
            service
                .requested
                .iter()
                .for_each(|one| use_all(&one.template));
        }
        for rollout in self.journal.unfinished()? {
            use_all(&rollout.from.template);
            use_all(&rollout.to.template);
        }
        Secrets::new(&self.dir).retain(&used)
    }

    /// The proxy of what is up.
    pub(super) fn proxy_host<'a>(&'a self, up: &'a Up) -> Result<ProxyHost<'a>> {
        Ok(ProxyHost {
            project: &up.project,
            state: &self.dir,
            kind: up.kind,
            record: self.journal.proxy()?,
        })
    }

    pub(super) fn get_up(&self) -> Option<Arc<Up>> {
        lock(&self.up).clone()
    }

    /// Lets one verb at a time start or stop things, as long as `up` is what is up.
    pub(super) async fn alone(&self, up: &Arc<Up>) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let alone = self.changing.lock().await;
        match self.get_up() {
            Some(now) if Arc::ptr_eq(&now, up) => Ok(alone),
            _ => Err(Error::refused(format!(
                "{} went down in the meantime; try again",
                up.project.name
            ))),
        }
    }

    /// What is up, or what to do about it.
    pub(super) fn up(&self) -> Result<Arc<Up>> {
        self.get_up().ok_or_else(|| match &*lock(&self.last_error) {
            Some(last_error) => Error::unavailable(last_error.clone()),
            None => Error::refused("no project is up here: run `crossfade up`"),
        })
    }
}

impl Up {
    pub(super) fn new(project: Arc<Project>, kind: RuntimeChoice) -> Self {
        let changed = Arc::new(Notify::new());
        Self {
            _watch: RuntimeWatch::start(project.runtime.clone(), changed.clone()),
            table: TableWatch::start(project.clone(), changed.clone()),
            project,
            kind,
            rollouts: Mutex::default(),
            changed,
            webhooks: Webhooks::default(),
            backoff: Mutex::default(),
            standby_backoff: Mutex::default(),
            lacks_standby: AtomicBool::new(false),
            liveness: Mutex::default(),
            last_error: Mutex::default(),
            proxy_process: Mutex::default(),
            told_dead: Mutex::default(),
            images_of: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    /// Begins or goes on with a rollout that is in the journal.
    pub(super) fn run(&self, record: RolloutRecord) {
        let service = record.service.clone();
        let handle = rollout::spawn(self.project.clone(), record);
        lock(&self.rollouts).insert(service, Arc::new(handle));
    }

    /// The service's rollout, while it runs.
    pub(super) fn rollout(&self, service: &str) -> Option<Arc<Handle>> {
        let handle = lock(&self.rollouts).get(service).cloned();
        handle.filter(|handle| !handle.live().record.phase.is_over())
    }
}

/// The folder of a manifest.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
