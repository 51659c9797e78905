//! What the controller does for each verb of the command line.

mod deploy;
mod down;
mod logs;
mod rollback;
mod scale;
mod split;
mod status;
mod tend;
mod up;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::{Done, RolloutRequest};
use crate::clock::Clock;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, RuntimeChoice};
use crate::proxy;
use crate::rollout::{self, Ask, Handle};
use crate::runtime::Runtime;
use crate::site::Site;
use crate::store::{RolloutRecord, Store};

pub(crate) use logs::LogLines;

/// So often nothing is found up before a controller in the background ends.
const IDLE_TICKS: u32 = 5;

/// The controller of one state folder.
pub(crate) struct Controller {
    dir: PathBuf,
    store: Arc<Store>,
    clock: Clock,
    /// What is up; `None` before the first `up` and after `down`.
    up: Mutex<Option<Arc<Up>>>,
    /// What a `down` could not take away: its project and its runtime.
    leaving: Mutex<Option<(String, Arc<dyn Runtime>)>>,
    /// Why it is not, where it should be.
    trouble: Mutex<Option<String>>,
    /// Held by verbs that start or stop things, one at a time.
    changing: tokio::sync::Mutex<()>,
    /// Told when nothing is left to control.
    finished: Notify,
}

/// A project that is up.
pub(crate) struct Up {
    pub(crate) site: Arc<Site>,
    kind: RuntimeChoice,
    /// The rollouts that run, by service.
    rollouts: Mutex<HashMap<String, Arc<Handle>>>,
}

impl Controller {
    /// A controller with its folder and its journal.
    pub(crate) fn new(dir: PathBuf, store: Store) -> Arc<Self> {
        Arc::new(Self {
            dir,
            store: Arc::new(store),
            clock: Clock::new(),
            up: Mutex::new(None),
            leaving: Mutex::new(None),
            trouble: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            finished: Notify::new(),
        })
    }

    /// Takes up what the journal says is up, unfinished rollouts included. `false` where the
    /// engine is not there yet: try again.
    pub(crate) async fn take_up(&self) -> bool {
        if self.get_up().is_some() {
            return true;
        }
        let trouble = match self.take_up_applied().await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!("cannot go on where it was left: {error}");
                Some(error.to_string())
            }
        };
        let fine = trouble.is_none();
        *lock(&self.trouble) = trouble;
        fine
    }

    async fn take_up_applied(&self) -> Result<()> {
        let Some(applied) = self.store.applied()? else {
            return Ok(());
        };
        let manifest = Manifest::parse(&applied.text).map_err(|source| Error::Manifest {
            path: applied.path,
            source,
        })?;
        let engine = engine::choose(applied.runtime, &manifest.project, &self.dir).await?;
        let up = self.make_up(manifest, engine)?;
        for record in self.store.unfinished()? {
            tracing::info!(phase = %record.phase, "takes up {}", record.title());
            up.run(record);
        }
        *lock(&self.up) = Some(up);
        Ok(())
    }

    fn make_up(&self, manifest: Manifest, engine: Engine) -> Result<Arc<Up>> {
        let admin = proxy::admin(&self.dir, &manifest.proxy)?;
        let site = Site::new(
            manifest,
            self.store.clone(),
            engine.runtime,
            admin,
            self.clock,
        );
        Ok(Arc::new(Up {
            site: Arc::new(site),
            kind: engine.kind,
            rollouts: Mutex::new(HashMap::new()),
        }))
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

    /// Everything every two seconds that nobody has to ask for. `until_down`: ends the controller
    /// when nothing has come up for a while.
    pub(crate) async fn keep_tending(self: Arc<Self>, until_down: bool) {
        let mut tick = tokio::time::interval(Duration::from_secs(2));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut idle = 0;
        loop {
            tick.tick().await;
            let is_up = {
                // An `up` that has begun is in the journal, and not to be taken up beside it.
                let _alone = self.changing.lock().await;
                self.take_up().await
            };
            if is_up {
                self.tend().await;
            }
            // Somebody may have looked into the history, and may do so again.
            idle = if is_up && self.get_up().is_none() {
                idle + 1
            } else {
                0
            };
            if until_down && idle >= IDLE_TICKS {
                self.finished.notify_one();
            }
        }
    }

    /// `promote`.
    pub(crate) async fn promote(&self, request: RolloutRequest) -> Result<Done> {
        self.ask(request, Ask::Promote).await
    }

    /// `abort`.
    pub(crate) async fn abort(&self, request: RolloutRequest) -> Result<Done> {
        self.ask(
            request,
            Ask::Abort {
                why: "aborted by hand".into(),
            },
        )
        .await
    }

    /// `pause`.
    pub(crate) async fn pause(&self, request: RolloutRequest) -> Result<Done> {
        self.ask(request, Ask::Pause).await
    }

    /// `resume`.
    pub(crate) async fn resume(&self, request: RolloutRequest) -> Result<Done> {
        self.ask(request, Ask::Resume).await
    }

    async fn ask(&self, request: RolloutRequest, ask: Ask) -> Result<Done> {
        let up = self.up()?;
        let service = match request.service {
            Some(service) => up.site.service(&service)?.name,
            None => match self.store.unfinished()?.as_slice() {
                [] => return Err(Error::Refused("no rollout is running".into())),
                [one] => one.service.clone(),
                several => {
                    let names: Vec<&str> = several.iter().map(|r| r.service.as_str()).collect();
                    return Err(Error::Usage(format!(
                        "{} have rollouts that run: say which one is meant",
                        names.join(" and ")
                    )));
                }
            },
        };
        let Some(handle) = up.rollout(&service) else {
            return Err(Error::Refused(format!(
                "no rollout of {service} is running"
            )));
        };
        Ok(Done::say(handle.ask(ask).await?))
    }

    fn get_up(&self) -> Option<Arc<Up>> {
        lock(&self.up).clone()
    }

    /// What is up, or what to do about it.
    fn up(&self) -> Result<Arc<Up>> {
        self.get_up().ok_or_else(|| match &*lock(&self.trouble) {
            Some(trouble) => Error::Unavailable(trouble.clone()),
            None => Error::Refused("nothing is up here: `crossfade up` starts it".into()),
        })
    }
}

impl Up {
    /// Begins or goes on with a rollout that is in the journal.
    fn run(&self, record: RolloutRecord) {
        let service = record.service.clone();
        let handle = rollout::spawn(self.site.clone(), record);
        lock(&self.rollouts).insert(service, Arc::new(handle));
    }

    /// The service's rollout, while it runs.
    fn rollout(&self, service: &str) -> Option<Arc<Handle>> {
        let handle = lock(&self.rollouts).get(service).cloned();
        handle.filter(|handle| !handle.live().record.phase.is_over())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
