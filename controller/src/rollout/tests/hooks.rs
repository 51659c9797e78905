//! Hooks, in real time: to a clock that is paused a program that runs takes forever.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::hooks::{Action, Hook, Query};
use crate::http::one_shot::Target;
use crate::plan::RolloutSettings;
use crate::testing::listener;

/// A site whose hooks write into a file.
struct Hooked {
    test: TestProject,
    dir: TempDir,
}

impl Hooked {
    async fn new() -> Self {
        Self {
            test: TestProject::new().await,
            dir: TempDir::new().expect("a folder"),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A hook that writes down what it was told, and then does what `script` says.
    fn hook(&self, on: On, script: &str) -> Hook {
        let log = self.file("log");
        let told = "$CROSSFADE_HOOK $CROSSFADE_STEP/$CROSSFADE_STEPS $CROSSFADE_SHARE%";
        let script = format!("echo {told} >> {}; {script}", log.display());
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let timeout = Period::from_secs(20);
        Hook {
            on,
            action: Action::Command { command, timeout },
        }
    }

    /// Begins a rollout with these hooks that is over as soon as can be.
    fn begin(&self, strategy: &str, hooks: Vec<Hook>) -> Handle {
        let quick = |settings: &mut RolloutSettings| {
            settings.strategy = strategy.parse().expect("a strategy");
            settings.look_every = Period::from_millis(10);
            settings.min_healthy_time = Period::from_secs(0);
            settings.step_min_duration = Period::from_secs(0);
            settings.min_requests = 0;
            settings.bake = Period::from_secs(0);
            settings.hooks = hooks;
        };
        spawn(self.test.project.clone(), self.test.begin_with(quick))
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn said(&self) -> Vec<String> {
        let events = self.test.events().into_iter();
        let of_hooks = events.filter(|event| event.kind == "hook");
        of_hooks.map(|event| event.text).collect()
    }
}

#[tokio::test]
async fn hooks_run_around_every_step() {
    let project = Hooked::new().await;
    let hooks = [On::BeforeStep, On::Confirm, On::After, On::OnRollback];
    let hooks = hooks.map(|on| project.hook(on, "echo fine")).to_vec();
    project.begin("steps=10,100", hooks).ended().await;
    check_promoted(&project.test);
    assert_eq!(
        project.log(),
        [
            "before_step 1/2 10%",
            "confirm 1/2 10%",
            "before_step 2/2 100%",
            "confirm 2/2 100%",
            "after 2/2 100%",
        ]
    );
    let said = project.said();
    assert_eq!(said[0], "before_step /bin/sh begins");
    assert_eq!(said[1], "before_step /bin/sh passed: fine");
}

#[tokio::test]
async fn a_confirm_that_fails_rolls_back_and_says_why() {
    let project = Hooked::new().await;
    let told = format!("echo $CROSSFADE_WHY > {}", project.file("why").display());
    let hooks = vec![
        project.hook(On::Confirm, "echo the checkout is broken; exit 4"),
        project.hook(On::OnRollback, &told),
    ];
    project.begin("steps=10,100", hooks).ended().await;
    check_rolled_back(&project.test, "confirm /bin/sh failed: exit status: 4");
    check_rolled_back(&project.test, "the checkout is broken");
    assert_eq!(project.log(), ["confirm 1/2 10%", "on_rollback 1/2 10%"]);
    let why = std::fs::read_to_string(project.file("why")).expect("it ran");
    assert!(why.contains("the checkout is broken"), "{why}");
}

#[tokio::test]
async fn a_before_step_that_fails_pauses_until_it_passes() {
    let project = Hooked::new().await;
    let allowed = project.file("allowed");
    let script = format!("[ $CROSSFADE_STEP = 1 ] || [ -e {} ]", allowed.display());
    let handle = project.begin("steps=10,100", vec![project.hook(On::BeforeStep, &script)]);
    until_paused(&handle).await;
    let record = handle.live().record;
    assert_eq!((record.phase, record.step), (Phase::Shifting, 0));
    let paused = record.paused.expect("a reason");
    assert!(paused.contains("before_step /bin/sh failed"), "{paused}");
    std::fs::write(allowed, "").expect("written");
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&project.test);
    let second = "before_step 2/2 100%";
    assert_eq!(project.log(), ["before_step 1/2 10%", second, second]);
}

#[tokio::test]
async fn a_hook_that_passed_is_not_run_again_by_the_next_controller() {
    let project = Hooked::new().await;
    let hooks = [On::BeforeStep, On::Confirm, On::After];
    let hooks = hooks.map(|on| project.hook(on, "true")).to_vec();
    let handle = project.begin("steps=10:gate,100", hooks);
    until_paused(&handle).await;
    handle.stop();
    let handle = project.test.take_up().expect("unfinished");
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&project.test);
    let log = project.log();
    let firsts = log.iter().filter(|line| line.contains(" 1/2 ")).count();
    assert_eq!((firsts, log.len()), (2, 5), "{log:?}");
}

#[tokio::test]
async fn a_candidate_is_watched_while_a_hook_runs() {
    let project = Hooked::new().await;
    let handle = project.begin("steps=10,100", vec![project.hook(On::Confirm, "sleep 60")]);
    let begun = async {
        while project.log().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let begun = tokio::time::timeout(Duration::from_secs(30), begun).await;
    begun.expect("the hook runs");
    assert_eq!(handle.live().record.step, 0, "the step waits for it");
    project.test.proxy.fail("2.0.0", 90);
    handle.ended().await;
    check_rolled_back(&project.test, "requests failed");
}

#[tokio::test]
async fn what_comes_after_changes_nothing_when_it_fails() {
    let project = Hooked::new().await;
    project
        .begin("all-at-once", vec![project.hook(On::After, "exit 1")])
        .ended()
        .await;
    check_promoted(&project.test);
    assert_eq!(project.said()[1], "after /bin/sh failed: exit status: 1");
}

#[tokio::test]
async fn a_hook_by_http_is_sent_everything_and_called_again_while_it_is_away() {
    let project = Hooked::new().await;
    let (url, mut heard) = listener(vec![(503, "not yet"), (204, ""), (409, "too bad")]).await;
    std::fs::write(project.file("token"), "s3cret\n").expect("written");
    let confirm = Hook {
        on: On::Confirm,
        action: Action::Post(Target {
            url: url.parse().expect("an address"),
            token_file: Some(project.file("token")),
            timeout: Period::from_secs(20),
        }),
    };
    project.begin("steps=10,100", vec![confirm]).ended().await;
    check_rolled_back(&project.test, "responded with 409 Conflict: too bad");
    let first = heard.recv().await.expect("called");
    let (token, body) = first.split_once(" {").expect("a body");
    assert_eq!(token, "Bearer s3cret");
    let body: serde_json::Value = serde_json::from_str(&format!("{{{body}")).expect("JSON");
    assert_eq!(body["hook"], "confirm");
    assert_eq!(
        (&body["from"], &body["to"]),
        (&"1.0.0".into(), &"2.0.0".into())
    );
    assert_eq!((&body["step"], &body["share"]), (&1.into(), &10.into()));
    let again = heard.recv().await.expect("asked again");
    assert_eq!(again, first, "the same call");
    let journal = serde_json::to_string(&project.test.events()).expect("JSON");
    for secret in ["s3cret", "secret-path"] {
        assert!(!journal.contains(secret), "{journal}");
    }
}

#[tokio::test]
async fn a_prometheus_that_does_not_respond_pauses_and_is_queried_again_by_resume() {
    let project = Hooked::new().await;
    let number = r#"{"data":{"resultType":"scalar","result":[1,"0.5"]}}"#;
    let (url, _heard) = listener(vec![(400, "no such function"), (200, number)]).await;
    let hook = Hook {
        on: On::Confirm,
        action: Action::Query(Query {
            server: Target {
                url: url.parse().expect("an address"),
                token_file: None,
                timeout: Period::from_millis(500),
            },
            query: "errors".into(),
            min: None,
            max: Some(1.0),
        }),
    };
    let handle = project.begin("blue-green", vec![hook]);
    until_paused(&handle).await;
    let why = handle.live().record.paused.expect("a reason");
    assert!(
        why.contains("had no result") && why.contains("400"),
        "{why}"
    );
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&project.test);
}
