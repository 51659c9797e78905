//! A site without containers and without a proxy: fakes that do what they are told and write
//! down what was asked of them, in order.

mod calls;
mod listener;
mod proxy;
mod runtime;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::http::proxy_admin::{Dial, ProxyAdmin};
use crate::journal::{
    Event, EventFilter, FILE, Journal, NewRollout, NewVersion, Phase, RolloutRecord, VersionRecord,
};
use crate::manifest::{ContainerTemplate, Manifest, RuntimeChoice};
use crate::plan::RolloutSettings;
use crate::project::{Project, ProjectFiles};
use crate::rollout::{self, Handle};
use crate::runtime::{ContainerState, label};
use calls::Calls;
use proxy::FakeProxy;
use runtime::FakeRuntime;

pub(crate) use listener::listener;

const SERVICES: &str = r#"
[[services]]
name = "web"
image = "web:1.0.0"
replicas = 4
health = { path = "/healthz" }

[services.rollout]
step_min_duration = "1s"
min_requests = 20
max_hold = "20s"
bake = "5s"
min_healthy_time = "1s"
start_timeout = "10s"
"#;

/// A manifest that is quick enough for a test that pauses the clock, and with every phase in it. A
/// thread accepts clients at its address.
pub(crate) fn manifest() -> String {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    let address = ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || listener.incoming().for_each(drop));
        address
    });
    format!("[proxy]\nlisten = [\"{address}\"]\n{SERVICES}")
}

/// A site with `web` 1.0.0 on four containers.
pub(crate) struct TestProject {
    pub(crate) project: Arc<Project>,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) proxy: Arc<FakeProxy>,
    pub(crate) calls: Calls,
    dir: TempDir,
}

impl TestProject {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let journal = Arc::new(Journal::open(&dir.path().join(FILE)).expect("a journal"));
        let calls = Calls::new();
        let runtime = FakeRuntime::new(calls.clone());
        let proxy = Arc::new(FakeProxy::new(calls.clone()));
        let (dial, connections) = mpsc::unbounded_channel();
        tokio::spawn(proxy.clone().serve(connections));
        let manifest = Manifest::parse(&manifest()).expect("a manifest");
        let admin = ProxyAdmin::new(Dial::Memory(dial), "secret".into());
        let clock = Clock::new();
        let files = ProjectFiles::new(dir.path(), RuntimeChoice::Process);
        let project = Project::new(manifest, journal, runtime.clone(), admin, clock, files);
        let this = Self {
            project: Arc::new(project),
            runtime,
            proxy,
            calls,
            dir,
        };
        this.project
            .journal
            .add_service(&this.version("1.0.0"), 4, 0)
            .expect("recorded");
        let stable = this.project.service("web").expect("there").stable;
        let dead = crate::project::containers::Dead::Fail;
        this.project
            .start_missing(&stable, 4, dead, &mut Vec::new())
            .await
            .expect("started");
        this.project.push("web").await.expect("pushed");
        this.calls.clear();
        this
    }

    /// The state folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn version(&self, label: &str) -> NewVersion {
        NewVersion {
            service: "web".into(),
            version: label.into(),
            image: format!("web:{label}"),
            resolved: format!("web:{label}"),
            pull_name: None,
            template: ContainerTemplate {
                port: 8080,
                ..ContainerTemplate::default()
            },
            by_hand: None,
        }
    }

    /// Writes a rollout to 2.0.0 down.
    pub(crate) fn begin(&self, strategy: &str) -> RolloutRecord {
        let strategy = strategy.parse().expect("a strategy");
        self.begin_with(|settings| settings.strategy = strategy)
    }

    /// The same, with other settings.
    pub(crate) fn begin_with(&self, change: impl FnOnce(&mut RolloutSettings)) -> RolloutRecord {
        let manifest = self.project.manifest();
        let mut settings = manifest.service("web").expect("there").rollout.clone();
        change(&mut settings);
        let stable = self.project.service("web").expect("there").stable;
        let steps = settings.strategy.steps(4);
        let new = NewRollout {
            from: stable.id,
            to: self.version("2.0.0"),
            settings,
            steps,
            who: None,
            requested: None,
        };
        self.project
            .journal
            .begin_rollout(&new, self.project.clock.now())
            .expect("recorded")
    }

    /// Everything that happened.
    pub(crate) fn events(&self) -> Vec<Event> {
        let all = EventFilter::default();
        self.project.journal.events(all).expect("read")
    }

    /// Begins a canary to 2.0.0.
    pub(crate) fn canary(&self) -> Handle {
        rollout::spawn(self.project.clone(), self.begin("canary"))
    }

    /// What a controller does that was killed: takes up what the journal says.
    pub(crate) fn take_up(&self) -> Option<Handle> {
        let unfinished = self.project.journal.unfinished().expect("read");
        unfinished
            .into_iter()
            .next()
            .map(|record| rollout::spawn(self.project.clone(), record))
    }

    /// The versions of the containers that run, with how many of each.
    pub(crate) fn running(&self) -> BTreeMap<String, usize> {
        let mut running = BTreeMap::new();
        for container in self.runtime.containers().iter() {
            let version = container.labels.get(label::VERSION);
            if let (Some(version), ContainerState::Running) = (version, container.state) {
                *running.entry(version.clone()).or_default() += 1;
            }
        }
        running
    }
}

/// A rollout that shifts, from one version to another.
pub(crate) fn rollout(from: VersionRecord, to: VersionRecord) -> RolloutRecord {
    RolloutRecord {
        id: 1,
        service: from.service.clone(),
        from,
        to,
        settings: RolloutSettings::default(),
        steps: Vec::new(),
        phase: Phase::Shifting,
        step: 0,
        paused: None,
        hand_split: None,
        why: None,
        created: 0,
        phase_since: 0,
        ended: None,
        requested: None,
        checkpoints: BTreeSet::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
