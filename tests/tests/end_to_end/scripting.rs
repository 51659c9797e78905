//! What scripts rely on: exit codes, JSON, plans, and not being overwritten by another user.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::{On, Settings, TestProject};

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn quick() -> Settings {
    Settings {
        step: "200ms",
        bake: "0s",
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_rollouts_own_exit_code() {
    let project = TestProject::up(On::Processes, &quick()).await;
    let load = project.load();
    // Held at its gate: another user has to decide.
    let gated = ["--strategy", "steps=50:gate,100", "--wait"];
    project
        .refused(
            &project.deploy("2.0.0", &gated),
            3,
            &["rollout 1 is paused: at a gate", "`crossfade resume`"],
        )
        .await;
    project.must(&["resume"]).await;
    project.until_phase("done").await;

    let json = ["--strategy", "blue-green", "--wait", "--output", "json"];
    let rolled_back = project.run(&project.deploy("3.0.0", &json)).await;
    assert_eq!(rolled_back.code, Some(2), "{rolled_back:#?}");
    let told = lines(&rolled_back.stdout);
    let kinds: Vec<&str> = told
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "began",
            "checking",
            "shifting",
            "rolling-back",
            "rolled-back"
        ]
    );
    assert_eq!(told.last().unwrap()["phase"], "rolled-back", "{told:#?}");

    let promoted = project
        .run(&project.deploy("2.1.0", &["--strategy", "all-at-once", "--wait"]))
        .await;
    assert_eq!(promoted.code, Some(0), "{promoted:#?}");
    load.stop().await;
}

#[tokio::test]
async fn a_rollout_explains_itself_and_names_its_caller() {
    let project = TestProject::up(On::Processes, &quick()).await;
    let load = project.load();
    project
        .must(&project.deploy("2.0.0", &["--strategy", "steps=20,100", "--wait"]))
        .await;
    project.until_phase("done").await;
    load.stop().await.expect_no_failure();

    let explained = project.must(&["explain", "--output", "json"]).await;
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["rollout"]["phase"], "done");
    let steps = explained["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    for (step, share) in steps.iter().zip([20, 100]) {
        assert_eq!(
            (&step["share"], &step["outcome"]),
            (&share.into(), &"good".into())
        );
        let attempts = step["stats"]["candidate"]["tries"].as_u64();
        assert!(attempts >= Some(20), "{step:#}");
        assert!(step["stats"]["limits"]["success_rate"].is_f64(), "{step:#}");
    }
    let words = project.must(&["explain", "1"]).await;
    assert!(
        words.contains("step 1 of 2: 20% on 1 container: good after "),
        "{words}"
    );
    assert!(words.contains("candidate: 0 of "), "{words}");
    project
        .refused(
            &["explain", "7"],
            64,
            &["there is no rollout 7", "crossfade history"],
        )
        .await;

    let events = lines(&project.must(&["events", "--output", "json"]).await);
    let began = events
        .iter()
        .find(|event| event["kind"] == "began")
        .unwrap();
    let up = events.iter().find(|event| event["kind"] == "up").unwrap();
    let whoami = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    let whoami = String::from_utf8(whoami.stdout).unwrap();
    assert_eq!(
        (&began["who"], &up["who"]),
        (&whoami.trim().into(), &whoami.trim().into())
    );

    let last = events.last().unwrap()["id"].to_string();
    let follow = project.start(&[
        "events", "web", "--after", &last, "--follow", "--output", "json",
    ]);
    project.must(&["scale", "web", "1"]).await;
    let line = follow.line_with("\"scale\"").await;
    assert_eq!(lines(&line)[0]["who"], whoami.trim(), "{line}");
}

#[tokio::test]
async fn a_plan_is_shown_and_nothing_is_done() {
    let project = TestProject::up(On::Processes, &quick()).await;
    project.until_standby().await;
    let (traces, history) = (project.traces(), project.history().await);
    let plan = ["--strategy", "steps=10:5m,50:gate,100", "--dry-run"];
    let said = project.must(&project.deploy("2.0.0", &plan)).await;
    for says in [
        "web 1.0.0 → 2.0.0: steps=10:5m,50:gate,100",
        "step 1 of 3: 10% on 1 container, for at least 5m and 20 requests",
        "step 2 of 3: 50% on 1 container, for at least 200ms and 20 requests; then it waits for `crossfade resume`",
        "nothing was changed",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let json = ["--dry-run", "--output", "json"];
    let plan: Value =
        serde_json::from_str(&project.must(&project.deploy("2.0.0", &json)).await).unwrap();
    assert_eq!(
        plan["plan"][0],
        serde_json::json!({ "share": 10, "replicas": 1 })
    );
    let same = project.must(&project.deploy("1.0.0", &["--dry-run"])).await;
    assert_eq!(same.trim(), "web already runs 1.0.0: nothing to do");
    assert_eq!(
        (project.traces(), project.history().await),
        (traces, history)
    );
}

#[tokio::test]
async fn two_deploys_at_once_and_two_people_at_once_do_not_overwrite_each_other() {
    let settings = Settings {
        step: "60s",
        bake: "0s",
        ..Settings::default()
    };
    let project = TestProject::up(On::Processes, &settings).await;
    let load = project.load();
    let same = project.must(&project.deploy("1.0.0", &[])).await;
    assert_eq!(same.trim(), "web already runs 1.0.0: nothing to do");

    let seen = project.web().await["generation"].to_string();
    project.must(&project.deploy("2.0.0", &[])).await;
    project.until_share("2.0.0", 10.0).await;
    for version in ["2.0.0", "2.1.0"] {
        project
            .refused(
                &project.deploy(version, &[]),
                1,
                &["rollout 1 (web 1.0.0 → 2.0.0) is running", "--replace"],
            )
            .await;
    }
    // A look before the rollout began does not get in its way.
    for verb in [
        vec!["split", "web", "1.0.0=1", "2.0.0=1"],
        vec!["abort", "web"],
        vec!["rollback", "web"],
        vec!["scale", "web", "3"],
        project.deploy("2.1.0", &["--replace"]),
    ] {
        let verb = [verb.as_slice(), &["--if-generation", &seen]].concat();
        project
            .refused(
                &verb,
                4,
                &["web is at generation ", "another change came first"],
            )
            .await;
    }
    let now = project.web().await["generation"].to_string();
    project
        .must(&["pause", "web", "--if-generation", &now])
        .await;
    project
        .refused(
            &["resume", "web", "--if-generation", &now],
            4,
            &["at generation"],
        )
        .await;

    project.must(&project.deploy("2.1.0", &["--replace"])).await;
    let web = project.until_share("2.1.0", 10.0).await;
    assert_eq!(web["rollout"]["id"], 2, "{web:#}");
    let history = project.history().await;
    assert_eq!(history["rollouts"][1]["why"], "replaced by 2.1.0");
    assert_eq!(project.serving("2.0.0"), [""; 0]);
    load.stop().await.expect_no_failure();
}

#[tokio::test]
async fn shells_learn_the_verbs_and_slips_are_guessed() {
    let project = TestProject::new(On::Processes, &quick());
    for shell in ["bash", "zsh", "fish"] {
        let script = project.must(&["completions", shell]).await;
        assert!(
            script.contains("crossfade") && script.contains("rollback"),
            "{script}"
        );
    }
    let slip = project.run(&["deplyo", "web"]).await;
    assert_eq!(slip.code, Some(64));
    assert!(slip.stderr.contains("'deploy'"), "{slip:#?}");
    let slip = project.run(&["status", "--ouput", "json"]).await;
    assert!(slip.stderr.contains("'--output'"), "{slip:#?}");
    let help = project.must(&["deploy", "--help"]).await;
    assert!(
        help.contains("Examples:") && help.contains("\n  2   rolled back"),
        "{help}"
    );
}

/// The verbs that `crossfade --help` names.
async fn verbs(project: &TestProject) -> Vec<String> {
    let help = project.must(&["--help"]).await;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    let verbs = listed.filter_map(|line| line.split_whitespace().next());
    verbs.map(str::to_owned).collect()
}

/// Whether it is JSON: one value, or one on each line.
fn is_json(text: &str) -> bool {
    let parses = |text: &str| serde_json::from_str::<Value>(text).is_ok();
    parses(text) || !text.is_empty() && text.lines().all(parses)
}

/// Runs commands with `--output json`, and checks what they print.
struct JsonCommands {
    project: TestProject,
    /// The verbs that were run.
    seen: BTreeSet<String>,
}

impl JsonCommands {
    async fn check(&mut self, args: &[&str], code: i32) {
        self.seen.insert(args[0].to_owned());
        let args_of_all = [&["--output", "json"], args].concat();
        let said = self.project.run(&args_of_all).await;
        assert_eq!(said.code, Some(code), "{args:?}: {said:#?}");
        if code == 0 {
            assert!(said.stderr.is_empty(), "{args:?}: {said:#?}");
            assert!(is_json(&said.stdout), "{args:?}: {said:#?}");
            return;
        }
        // A verb that has findings prints them, though it fails.
        let found = said.stdout.is_empty() || is_json(&said.stdout);
        assert!(found, "{args:?}: {said:#?}");
        let error: Value = serde_json::from_str(&said.stderr).unwrap();
        assert_eq!(error["error"]["exit"], code, "{args:?}: {error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(
            !message.is_empty() && !message.starts_with("error"),
            "{error}"
        );
    }

    async fn before_anything_is_up(&mut self) {
        self.check(&["status"], 69).await;
        self.check(&["completions", "bash"], 0).await;
        self.check(&["demo"], 64).await;
        self.check(&["doctor"], 0).await;
        self.check(&["down"], 0).await;
        self.check(&["config"], 0).await;
        // There is a manifest.
        self.check(&["init"], 1).await;
        let good = self.project.manifest(&quick());
        self.project
            .write_manifest(&good.replace("replicas", "replcas"));
        self.check(&["up"], 64).await;
        self.check(&["doctor"], 1).await;
        self.project.write_manifest(&good);
    }

    async fn that_succeed(&mut self) {
        self.check(&["up"], 0).await;
        self.check(&["up", "--wait"], 0).await;
        self.check(&["status"], 0).await;
        let load = self.project.load();
        self.check(&["scale", "web", "1"], 0).await;
        self.check(&["maintenance", "web", "--off"], 0).await;
        self.check(&["install", "--print"], 0).await;
        self.check(&["logs", "web"], 0).await;
        let slow = ["--strategy", "steps=50,100", "--step-min-duration", "60s"];
        let deploy = self.project.deploy("2.0.0", &slow);
        self.check(&[&deploy[..], &["--dry-run"]].concat(), 0).await;
        self.check(&deploy, 0).await;
        self.project.until_share("2.0.0", 50.0).await;
        self.check(&["pause"], 0).await;
        self.check(&["resume"], 0).await;
        self.check(&["split", "web", "1.0.0=1", "2.0.0=1"], 0).await;
        self.check(&["promote"], 0).await;
        self.project.until_phase("done").await;
        self.check(&["rollback", "web", "--wait"], 0).await;
        self.check(&["proxy", "upgrade"], 0).await;
        self.check(&["history"], 0).await;
        self.check(&["explain"], 0).await;
        self.check(&["events"], 0).await;
        self.project.until_phase("done").await;
        let gated = ["--strategy", "steps=50:gate,100", "--wait"];
        let deploy = self.project.deploy("2.1.0", &gated);
        self.check(&deploy, 3).await;
        self.check(&["abort"], 0).await;
        self.project.until_phase("rolled-back").await;
        load.stop().await.expect_no_failure();
    }

    async fn that_are_refused(&mut self) {
        for verb in ["abort", "pause", "promote", "resume"] {
            self.check(&[verb], 1).await;
        }
        let no_image = ["proxy", "upgrade", "--image", "./none"];
        self.check(&no_image, 69).await;
    }

    async fn that_are_wrong(&mut self) {
        for args in [
            &["deploy", "wbe", "--image", "x", "--version", "3"][..],
            &["deploy", "web", "--image", "x"],
            &["explain", "99"],
            &["history", "wbe"],
            &["events", "wbe"],
            &["logs", "wbe"],
            &["rollback", "wbe"],
            &["scale", "web", "many"],
            &["split", "web", "1.0.0"],
            &["completions", "bsh"],
            &["uninstall", "--now"],
            &["stauts"],
        ] {
            self.check(args, 64).await;
        }
    }
}

#[tokio::test]
async fn every_verb_prints_json_for_programs_when_it_fails_too() {
    let mut commands = JsonCommands {
        project: TestProject::new(On::Processes, &quick()),
        seen: BTreeSet::from(["help".to_owned(), "serve".to_owned()]),
    };
    commands.before_anything_is_up().await;
    commands.that_succeed().await;
    commands.that_are_refused().await;
    commands.that_are_wrong().await;
    commands.check(&["down"], 0).await;

    for verb in verbs(&commands.project).await {
        assert!(commands.seen.contains(&verb), "{verb} was not run");
    }
}
