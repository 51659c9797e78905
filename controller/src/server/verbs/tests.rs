//! Verbs that run beside a rollout, beside each other, or that fail.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use std::sync::Arc;

use crate::api::{DeployRequest, PullRequest, ScaleRequest, UpRequest};
use crate::journal::{EventFilter, NewRollout, NewVersion, Phase, Transition};
use crate::manifest::RuntimeChoice;
use crate::plan::RolloutSettings;
use crate::project::caller::Caller;
use crate::rollout::Handle;
use crate::runtime::{Container, ContainerState, label};
use crate::server::controller::{Controller, Up, lock};
use crate::testing::{TestProject, manifest};

/// A controller over fakes, which looks after `web` 1.0.0 on four containers.
pub(in crate::server) struct Tended {
    pub(in crate::server) test: TestProject,
    pub(in crate::server) controller: Arc<Controller>,
    pub(in crate::server) up: Arc<Up>,
    tending: tokio::task::JoinHandle<()>,
}

impl Tended {
    pub(in crate::server) async fn new() -> Self {
        let test = TestProject::new().await;
        let dir = test.dir().to_owned();
        let controller = Controller::new(dir, test.project.journal.clone());
        let up = Arc::new(Up::new(test.project.clone(), RuntimeChoice::Process));
        *lock(&controller.up) = Some(up.clone());
        let tending = tokio::spawn(controller.clone().keep_reconciling(false));
        Self {
            test,
            controller,
            up,
            tending,
        }
    }

    /// Runs a rollout to 2.0.0 until it is in this phase.
    pub(in crate::server) async fn rollout_in(&self, phase: Phase) -> Arc<Handle> {
        self.up.run(self.test.begin("canary"));
        let handle = self.up.rollout("web").expect("it runs");
        let mut live = handle.watch();
        live.wait_for(|live| live.record.phase == phase)
            .await
            .expect("it gets there");
        handle
    }

    #[track_caller]
    pub(in crate::server) fn until(
        &self,
        what: &str,
        holds: impl Fn(&TestProject) -> bool,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            while !holds(&self.test) {
                let waited = began.elapsed();
                assert!(waited < Duration::from_secs(60), "{caller}: not {what}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Four containers of each of these versions run, the proxy has them and no other, and
    /// nothing waits to be stopped.
    pub(in crate::server) async fn until_whole(&self, versions: &[&str]) {
        self.until(&format!("{versions:?} × 4"), |test| {
            let running = test.running();
            running.len() == versions.len()
                && versions.iter().all(|of| running.get(*of) == Some(&4))
                && test.proxy.addresses() == test.runtime.addresses()
                && test.project.journal.retired().expect("read").is_empty()
        })
        .await;
    }

    pub(in crate::server) fn healed(&self) -> usize {
        let events = self.test.project.journal.events(EventFilter::default());
        let events = events.expect("read");
        events.iter().filter(|event| event.kind == "healed").count()
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

/// The proxy's container: it runs, whether it responds or not.
pub(in crate::server) fn proxy() -> Container {
    Container {
        id: "id-proxy".into(),
        name: "crossfade-proxy".into(),
        image: "proxy".into(),
        labels: [(label::ROLE.to_owned(), "proxy".to_owned())].into(),
        state: ContainerState::Running,
        address: None,
    }
}

/// Far longer than anything here may take.
const LONG: Duration = Duration::from_secs(3600);

/// Another service.
const API: &str = r#"
[[services]]
name = "api"
image = "api:9.0.0"
hosts = ["api.test"]
"#;

fn deploy(version: &str) -> DeployRequest {
    DeployRequest {
        service: "web".into(),
        image: Some(format!("web:{version}")),
        version: None,
        env: Default::default(),
        rollout: Default::default(),
        dir: "/".into(),
        dry_run: false,
        replace: false,
    }
}

fn up(manifest: impl Into<String>) -> UpRequest {
    UpRequest {
        manifest: manifest.into(),
        path: "/crossfade.toml".into(),
        prune: false,
        adopt: false,
    }
}

fn scale(replicas: u32) -> ScaleRequest {
    ScaleRequest {
        service: "web".into(),
        replicas,
    }
}

#[tokio::test(start_paused = true)]
async fn what_dies_while_a_verb_is_at_work_is_replaced() {
    let tended = Tended::new().await;
    let _at_work = tended.controller.changing.lock().await;
    tended.test.runtime.exit("1.0.0", 1);
    tended.until_whole(&["1.0.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_waits_for_a_rollouts_end_delays_no_other_and_gives_up_in_the_end() {
    let tended = Tended::new().await;
    tended.test.proxy.set_in_flight("1.0.0", 3, 0);
    let handle = tended.rollout_in(Phase::Draining).await;
    let who = Caller::default();
    let deployed = tended.controller.deploy(deploy("3.0.0"), &who);
    let none_waits = async {
        drop(tended.controller.changing.lock().await);
        assert_eq!(handle.live().record.phase, Phase::Draining);
    };
    let deployed = async { tokio::join!(deployed, none_waits).0 };
    let error = timeout(LONG, deployed).await.expect("it gives up");
    let says =
        "rollout 1 (web 1.0.0 → 2.0.0) is draining and has not ended within 100 s; try again";
    assert_eq!(error.expect_err("it drains").to_string(), says);

    tended.test.proxy.set_in_flight("1.0.0", 0, 0);
    let again = tended.controller.deploy(deploy("3.0.0"), &who).await;
    assert_eq!(again.expect("it has ended").rollout, Some(2));
    tended.until_whole(&["3.0.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_waited_is_not_begun_on_what_is_up_no_more() {
    let tended = Tended::new().await;
    tended.test.proxy.set_in_flight("1.0.0", 3, 0);
    let handle = tended.rollout_in(Phase::Draining).await;
    let who = Caller::default();
    let deployed = tended.controller.deploy(deploy("3.0.0"), &who);
    let goes_down = async {
        let _alone = tended.controller.changing.lock().await;
        *lock(&tended.controller.up) = None;
        tended.test.proxy.set_in_flight("1.0.0", 0, 0);
        handle.ended().await;
    };
    let (deployed, ()) = tokio::join!(deployed, goes_down);
    let error = deployed.expect_err("it is down").to_string();
    assert!(error.contains("went down in the meantime"), "{error}");
    assert_eq!(tended.test.project.journal.unfinished().expect("read"), []);
}

#[tokio::test(start_paused = true)]
async fn an_up_that_waits_for_a_rollouts_end_heals_what_dies_and_gives_up_in_the_end() {
    let tended = Tended::new().await;
    tended.test.runtime.containers().push(proxy());
    tended.test.proxy.set_in_flight("1.0.0", 3, 0);
    tended.rollout_in(Phase::Draining).await;
    let who = Caller::default();
    let manifest = manifest().replace("web:1.0.0", "web:3.0.0");
    let upped = tended.controller.up_verb(up(manifest), &who);
    let dies = async {
        tended
            .until("begun", |test| {
                test.project.journal.applied().expect("read").is_some()
            })
            .await;
        tended.test.runtime.exit("2.0.0", 1);
        tended
            .until("2.0.0 × 4 again", |test| test.running()["2.0.0"] == 4)
            .await;
    };
    let upped = async { tokio::join!(upped, dies).0 };
    let error = timeout(LONG, upped).await.expect("it gives up");
    let error = error.expect_err("it drains").to_string();
    assert!(error.contains("has not ended within 100 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_scale_down_keeps_those_that_are_healthy() {
    let tended = Tended::new().await;
    let hung = "10.0.0.1:8080";
    tended.test.proxy.take_down(hung, "timed out");
    let who = Caller::default();
    let scaled = tended.controller.scale(scale(1), &who).await;
    scaled.expect("three of them are healthy");
    assert_eq!(tended.test.running()["1.0.0"], 1);
    assert!(!tended.test.runtime.addresses().contains(hung));
    assert_eq!(
        tended.test.proxy.addresses(),
        tended.test.runtime.addresses()
    );
}

#[tokio::test(start_paused = true)]
async fn a_scale_down_that_would_leave_none_is_taken_back() {
    let tended = Tended::new().await;
    tended.test.proxy.set_needs_all(true);
    let who = Caller::default();
    let scaled = tended.controller.scale(scale(1), &who).await;
    let error = scaled.expect_err("none would be left").to_string();
    assert!(error.contains("without endpoints"), "{error}");
    tended.test.proxy.set_needs_all(false);
    assert_eq!(
        tended.test.project.service("web").expect("there").replicas,
        4
    );
    tended.until_whole(&["1.0.0"]).await;
    assert_eq!(tended.healed(), 0, "they are the same");
}

#[tokio::test(start_paused = true)]
async fn an_up_that_failed_leaves_no_new_service_in_the_proxy() {
    let tended = Tended::new().await;
    tended.test.runtime.containers().push(proxy());
    tended.test.proxy.take_down("9.0.0", "responded with 503");
    let who = Caller::default();
    let upped = tended
        .controller
        .up_verb(up(format!("{}\n{API}", manifest())), &who);
    let error = upped.await.expect_err("it never gets healthy").to_string();
    assert!(error.contains("0 of 1 containers of api 9.0.0"), "{error}");
    assert_eq!(tended.test.proxy.others(), [""; 0]);
    tended.until_whole(&["1.0.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_removed_delays_no_other_by_what_lasts() {
    let tended = Tended::new().await;
    tended.test.runtime.containers().push(proxy());
    tended.test.proxy.set_in_flight("1.0.0", 0, 1);
    let who = Caller::default();
    let manifest = manifest();
    let (proxy_keys, _web) = manifest.split_once("[[").expect("it has services");
    let without_web = UpRequest {
        prune: true,
        ..up(format!("{proxy_keys}{API}"))
    };
    let upped = tended.controller.up_verb(without_web, &who);
    let upped = timeout(Duration::from_secs(60), upped).await;
    upped.expect("in time").expect("up");
    assert_eq!(tended.test.running()["1.0.0"], 4, "it is not cut");
    tended.test.proxy.set_in_flight("1.0.0", 0, 0);
    tended
        .until("stopped", |test| {
            let retired = test.project.journal.retired().expect("read");
            retired.is_empty() && !test.running().contains_key("1.0.0")
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_deploy_whose_label_is_taken_ends_no_rollout() {
    let tended = Tended::new().await;
    let handle = tended.rollout_in(Phase::Shifting).await;
    let who = Caller::default();
    let taken = DeployRequest {
        image: Some("web:other".into()),
        version: Some("1.0.0".into()),
        replace: true,
        ..deploy("1.0.0")
    };
    let error = tended.controller.deploy(taken, &who).await;
    let error = error.expect_err("it is taken").to_string();
    assert!(error.contains("another name with --version"), "{error}");
    handle.ended().await;
    assert_eq!(handle.live().record.phase, Phase::Done);
}

#[tokio::test(start_paused = true)]
async fn a_deploy_of_what_is_stable_ends_the_rollout_that_it_replaces() {
    let tended = Tended::new().await;
    let handle = tended.rollout_in(Phase::Shifting).await;
    let stable = DeployRequest {
        replace: true,
        ..deploy("1.0.0")
    };
    let back = tended.controller.deploy(stable, &Caller::default()).await;
    let text = back.expect("back to stable").text;
    assert!(text.contains("already runs 1.0.0"), "{text}");
    assert_eq!(handle.live().record.phase, Phase::RolledBack);
    tended.until_whole(&["1.0.0"]).await;
}

/// What `rollout 2 (web 1.0.0 → 1.0.0+2) begins` says that it brings.
fn begun(text: &str) -> &str {
    let to = text.split(" → ").nth(1).and_then(|to| to.split(')').next());
    to.unwrap_or_else(|| panic!("nothing was begun: {text}"))
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_was_built_again_is_a_revision_for_deploy_and_for_up() {
    let tended = Tended::new().await;
    tended.test.runtime.containers().push(proxy());
    let who = Caller::default();
    let as_in_the_manifest = || DeployRequest {
        image: None,
        ..deploy("1.0.0")
    };
    let build = |digest: &str| {
        lock(&tended.test.runtime.rebuilt).insert("web:1.0.0".into(), digest.into());
    };
    let upped = async || tended.controller.up_verb(up(manifest()), &who).await;
    upped().await.expect("as it runs");
    let same = tended.controller.deploy(as_in_the_manifest(), &who).await;
    let text = same.expect("nothing to do").text;
    assert!(text.contains("already runs 1.0.0"), "{text}");

    build("second");
    let deployed = tended.controller.deploy(as_in_the_manifest(), &who).await;
    assert_eq!(begun(&deployed.expect("begun").text), "1.0.0+2");
    tended.until_whole(&["1.0.0+2"]).await;
    for image in [None, Some("web:1.0.0".into())] {
        let again = DeployRequest {
            image,
            ..deploy("1.0.0")
        };
        let text = tended.controller.deploy(again, &who).await;
        let text = text.expect("nothing to do").text;
        assert!(text.contains("already runs 1.0.0+2"), "{text}");
    }
    let text = upped().await.expect("nothing to do").text;
    assert!(text.ends_with("nothing to do"), "{text}");

    build("third");
    let done = upped().await.expect("begun");
    assert_eq!(begun(&done.text), "1.0.0+3");
    tended.until_whole(&["1.0.0+3"]).await;
    let images: BTreeSet<String> = tended
        .test
        .runtime
        .containers()
        .iter()
        .filter(|one| one.labels.contains_key(label::VERSION))
        .map(|one| one.image.clone())
        .collect();
    assert_eq!(images, BTreeSet::from(["third".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_here_is_pulled_again_on_request_alone() {
    let tended = Tended::new().await;
    *lock(&tended.controller.up) = Some(Arc::new(Up::new(
        tended.test.project.clone(),
        RuntimeChoice::Podman,
    )));
    let pulls = async |newer| {
        tended.test.calls.clear();
        let request = PullRequest {
            manifest: None,
            path: "/crossfade.toml".into(),
            image: None,
            service: Some("web".into()),
            newer,
        };
        let mut lines = tended.controller.pull(request).await.expect("begun");
        while lines.recv().await.is_some() {}
        let calls = tended.test.calls.all();
        calls
            .iter()
            .filter(|call| *call == "pull web:1.0.0")
            .count()
    };
    assert_eq!(pulls(false).await, 0);
    assert_eq!(pulls(true).await, 1);
}

#[tokio::test(start_paused = true)]
async fn status_shows_a_crash_loop_with_its_last_error_and_what_is_waited_for() {
    let tended = Tended::new().await;
    sleep(Duration::from_secs(30)).await;
    let web = async || {
        tended
            .controller
            .status()
            .await
            .expect("known")
            .services
            .remove(0)
    };
    let well = web().await;
    assert_eq!((well.last_error, well.waits), (None, Vec::new()));
    let version = &well.versions[0];
    assert_eq!((version.restarts, version.restarted), (0, None));
    let recent = version.last_minute.expect("read before");
    assert!(recent.seconds > 10.0 && recent.requests > 0, "{recent:?}");

    for _ in 0..4 {
        tended.until_whole(&["1.0.0"]).await;
        tended.test.runtime.exit("1.0.0", 9);
        sleep(Duration::from_millis(500)).await;
    }
    let ill = web().await;
    let error = ill.last_error.expect("it died");
    assert!(error.contains(" exited with code 9"), "{error}");
    assert!(ill.last_error_at.is_some(), "it is over");
    assert!(
        (3..=4).contains(&ill.versions[0].restarts),
        "{:?}",
        ill.versions
    );
    assert!(ill.versions[0].restarted.is_some());
    let [waits] = ill.waits.as_slice() else {
        panic!("{:?}", ill.waits);
    };
    assert!(
        waits.what.starts_with("the next start in place of"),
        "{waits:?}"
    );
    assert!(
        waits.until > Some(tended.controller.clock.now()),
        "{waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn status_says_who_is_unhealthy_and_until_when_that_is_waited_for() {
    let tended = Tended::new().await;
    // It was healthy before.
    sleep(Duration::from_secs(4)).await;
    tended.test.proxy.take_down("10.0.0.3:8080", "timed out");
    sleep(Duration::from_secs(10)).await;
    let web = tended
        .controller
        .status()
        .await
        .expect("known")
        .services
        .remove(0);
    let [waits] = web.waits.as_slice() else {
        panic!("{:?}", web.waits);
    };
    assert!(
        waits.what.ends_with(", which is unhealthy, to recover"),
        "{waits:?}"
    );
    let left = waits.until.expect("replaced then") - tended.controller.clock.now();
    assert!((15_000..=25_000).contains(&left), "of 30 s: {left}");
    let error = web.last_error.expect("it is unhealthy");
    assert!(error.ends_with("is unhealthy: timed out"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn images_that_are_no_longer_kept_go_and_those_in_use_stay() {
    let tended = Tended::new().await;
    let up = Up::new(tended.test.project.clone(), RuntimeChoice::Podman);
    let mut manifest = (*up.project.manifest()).clone();
    manifest.services[0].keep_images = Some(2);
    up.project.set_manifest(manifest);
    let journal = &up.project.journal;
    let stable = up.project.service("web").expect("there").stable;
    for version in ["2.0.0", "3.0.0", "4.0.0", "5.0.0"] {
        let new = NewVersion {
            service: "web".into(),
            version: version.into(),
            image: format!("web:{version}"),
            resolved: format!("web:{version}"),
            pull_name: None,
            template: stable.template.clone(),
            by_hand: None,
        };
        let new = NewRollout {
            from: stable.id,
            to: new,
            settings: RolloutSettings::default(),
            steps: Vec::new(),
            who: None,
            requested: None,
        };
        let record = journal.begin_rollout(&new, 0).expect("recorded");
        let over = Transition::new(Phase::RolledBack, 0, "over");
        journal.enter(&record, &over, 1).expect("recorded");
        if version == "2.0.0" {
            journal.set_previous("web", &record.to).expect("recorded");
        }
    }
    let removed = async || {
        tended.test.calls.clear();
        tended.controller.forget_images(&up).await.expect("done");
        let mut calls = tended.test.calls.all();
        calls.retain(|call| call.starts_with("remove image"));
        calls
    };
    // 1.0.0 is stable, 2.0.0 the one before, and 4.0.0 and 5.0.0 are the last ones.
    assert_eq!(removed().await, ["remove image web:3.0.0"]);
    assert_eq!(removed().await, [""; 0], "once after each new version");
}
