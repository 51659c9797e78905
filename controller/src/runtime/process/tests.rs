//! The process runtime, with real processes.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use rustix::process::Signal;

use super::children::MARK;
use super::identity::Identity;
use super::*;
use crate::runtime::{Confinement, Network, Privileges, Publish, ResourceLimits, label};

/// A runtime in a folder of its own. What it started is killed at the end.
struct TestProcesses {
    runtime: Processes,
    folder: tempfile::TempDir,
}

impl TestProcesses {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            runtime: Processes::new("test", folder.path()).unwrap(),
            folder,
        }
    }

    /// The controller is killed and started again: children are no longer its own.
    fn next_controller(&mut self) {
        self.runtime = Processes::new("test", self.folder.path()).unwrap();
    }

    async fn sh(&self, script: &str) -> Container {
        self.runtime.start(&sh("web-1", script)).await.unwrap()
    }

    async fn only(&self) -> Container {
        let mut all = self.runtime.list().await.unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn record(&self) -> Record {
        self.runtime.inner.records.load("web-1").unwrap().unwrap()
    }

    async fn wait_until(&self, what: &str, holds: impl Fn(&Container) -> bool) -> Container {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.only().await;
            if holds(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "not {what} in time: {now:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn wait_for_output(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let path = self.runtime.inner.records.log_path("web-1");
        while !fs::read_to_string(&path).unwrap().contains(text) {
            assert!(
                Instant::now() < deadline,
                "`{text}` was not printed in time"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for TestProcesses {
    fn drop(&mut self) {
        for record in self.runtime.inner.records.all().unwrap_or_default() {
            for process in identity::marked(MARK, &record.instance) {
                process.signal(Signal::KILL);
            }
        }
        for (_, mut started) in self.runtime.inner.children().drain() {
            let _ = started.child.wait();
        }
    }
}

fn sh(name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: "/bin/sh".to_owned(),
        command: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]),
        labels: BTreeMap::from([(label::ROLE.to_owned(), "endpoint".to_owned())]),
        network: Network::Project {
            aliases: Vec::new(),
        },
        publish: Vec::new(),
        mounts: Vec::new(),
        secrets: BTreeMap::new(),
        limits: ResourceLimits::default(),
        privileges: Privileges::Kept,
        confinement: Confinement::default(),
        port: Some(8080),
        socket: None,
        stop_timeout: Duration::from_secs(5),
    }
}

const FOREVER: &str = "echo up; while :; do sleep 0.05; done";
const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 0.05; done";

async fn read_all(mut stream: LogStream) -> String {
    let mut text = Vec::new();
    while let Some(piece) = stream.recv().await {
        text.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(text).unwrap()
}

const ALL: LogOptions = LogOptions {
    tail: None,
    since: None,
    follow: false,
};
const FOLLOW: LogOptions = LogOptions {
    tail: None,
    since: None,
    follow: true,
};

#[tokio::test]
async fn a_process_is_told_its_port_and_little_else() {
    let test = TestProcesses::new();
    let started = test.sh("env; echo done; exec sleep 60").await;
    assert_eq!(started.state, ContainerState::Running);
    assert_eq!(started.labels[label::PROJECT], "test");
    assert_eq!(started.labels[label::ROLE], "endpoint");
    let address = started.address.unwrap().ip().unwrap();
    assert!(
        address.ip().is_loopback() && (7000..=7999).contains(&address.port()),
        "{address}"
    );

    test.wait_for_output("done").await;
    let output = read_all(test.runtime.logs("web-1", ALL).await.unwrap()).await;
    assert!(
        output.contains(&format!("PORT={}\n", address.port())),
        "{output}"
    );
    assert!(output.contains("ADDRESS=127.0.0.1\n"), "{output}");
    assert!(output.contains("COLOUR=green\n"), "{output}");
    assert!(!output.contains("CARGO"), "{output}");
}

#[tokio::test]
async fn the_next_controller_finds_and_stops_what_the_last_one_started() {
    let mut test = TestProcesses::new();
    let started = test.sh(FOREVER).await;
    test.next_controller();
    assert_eq!(test.only().await, started);
    assert_eq!(
        test.runtime.start(&sh("web-1", FOREVER)).await.unwrap(),
        started
    );

    let process = test.record().process.unwrap();
    test.runtime.stop("web-1").await.unwrap();
    assert!(!process.runs());
    assert_eq!(test.runtime.list().await.unwrap(), []);
    assert_eq!(
        fs::read_dir(test.folder.path().join("processes"))
            .unwrap()
            .count(),
        0
    );
    test.runtime.stop("web-1").await.unwrap();
}

#[tokio::test]
async fn a_process_started_just_before_the_controller_was_killed_is_found_by_its_mark() {
    let mut test = TestProcesses::new();
    let started = test.sh(FOREVER).await;
    let whole = test.record();
    test.next_controller();
    let mut intent = whole.clone();
    intent.process = None;
    test.runtime.inner.records.save(&intent).unwrap();
    assert_eq!(test.only().await, started);
    assert_eq!(test.record().process, whole.process);
}

#[tokio::test]
async fn an_intent_that_came_to_nothing_is_created_and_can_be_started() {
    let test = TestProcesses::new();
    let spec = sh("web-1", FOREVER);
    let intent = Record::intent(&spec, "test", "/bin/sh".into(), Some(7001));
    test.runtime.inner.records.save(&intent).unwrap();
    assert_eq!(test.only().await.state, ContainerState::Created);
    assert_eq!(
        test.runtime.start(&spec).await.unwrap().state,
        ContainerState::Running
    );
}

#[tokio::test]
async fn a_pid_that_was_used_again_is_not_taken_for_ours_nor_killed() {
    let mut test = TestProcesses::new();
    test.sh(FOREVER).await;
    let record = test.record();
    let process = record.process.clone().unwrap();
    test.next_controller();
    let mut older = record.clone();
    older.process = Some(Identity {
        start_time: process.start_time - 1,
        ..process.clone()
    });
    // Of another start, so that the mark does not lead to it either.
    older.instance = "0".to_owned();
    test.runtime.inner.records.save(&older).unwrap();

    assert_eq!(test.only().await.state, ContainerState::Exited(None));
    test.runtime.stop("web-1").await.unwrap();
    assert!(process.runs());
    // For the harness to clean up.
    test.runtime.inner.records.save(&record).unwrap();
}

#[tokio::test]
async fn an_exit_code_is_kept_for_the_next_controller() {
    let mut test = TestProcesses::new();
    test.sh("exit 7").await;
    let ended = |container: &Container| container.state == ContainerState::Exited(Some(7));
    let seen = test.wait_until("ended with 7", ended).await;
    assert_eq!(seen.address, None);
    test.next_controller();
    assert_eq!(test.only().await, seen);
}

#[tokio::test]
async fn what_has_ended_is_started_again_under_its_name() {
    let test = TestProcesses::new();
    test.sh("exit 7").await;
    test.wait_until("ended", |container| {
        container.state != ContainerState::Running
    })
    .await;
    assert_eq!(test.sh(FOREVER).await.state, ContainerState::Running);
    test.wait_for_output("up").await;
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_with_all_it_forked() {
    let test = TestProcesses::new();
    let script = format!("sleep 61 & {STUBBORN}");
    let spec = ContainerSpec {
        stop_timeout: Duration::from_millis(200),
        ..sh("web-1", &script)
    };
    test.runtime.start(&spec).await.unwrap();
    test.wait_for_output("up").await;
    let instance = test.record().instance;
    assert!(identity::marked(MARK, &instance).count() >= 2);

    let before = Instant::now();
    test.runtime.stop("web-1").await.unwrap();
    assert!(
        before.elapsed() >= Duration::from_millis(200),
        "it was not given its time"
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while identity::marked(MARK, &instance).count() > 0 {
        assert!(Instant::now() < deadline, "something of it still runs");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_is_left_behind() {
    let test = TestProcesses::new();
    let neighbour = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = neighbour.local_addr().unwrap();
    let publish = vec![Publish {
        host,
        container_port: 80,
    }];
    let spec = ContainerSpec {
        publish,
        ..sh("web-1", FOREVER)
    };
    let error = test.runtime.start(&spec).await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::PortTaken { address, .. } if address == host),
        "{error}"
    );
    assert_eq!(test.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn programs_that_are_missing_or_not_programs_are_not_found() {
    let test = TestProcesses::new();
    let text = test.folder.path().join("text");
    fs::write(&text, "no program").unwrap();
    for image in [
        "/no/such/program",
        "no-such-program",
        text.to_str().unwrap(),
    ] {
        let spec = ContainerSpec {
            image: image.to_owned(),
            ..sh("web-1", "")
        };
        let error = test.runtime.start(&spec).await.unwrap_err();
        assert!(
            matches!(error, RuntimeError::ImageNotFound { .. }),
            "{image}: {error}"
        );
    }
    assert!(
        test.runtime
            .resolve_image("sh")
            .await
            .unwrap()
            .ends_with("/sh")
    );
    assert_eq!(test.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_folder_is_refused() {
    let test = TestProcesses::new();
    let error = test
        .runtime
        .start(&sh("../web", FOREVER))
        .await
        .unwrap_err();
    assert!(matches!(error, RuntimeError::Refused { .. }), "{error}");
    test.runtime.stop("../web").await.unwrap();
}

#[tokio::test]
async fn what_another_project_started_is_left_alone() {
    let test = TestProcesses::new();
    test.sh(FOREVER).await;
    let other = Processes::new("other", test.folder.path()).unwrap();
    assert_eq!(other.list().await.unwrap(), []);
    let error = other.stop("web-1").await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotOurs { .. }), "{error}");
    let error = other.start(&sh("web-1", FOREVER)).await.unwrap_err();
    assert!(matches!(error, RuntimeError::NotOurs { .. }), "{error}");
    assert_eq!(test.only().await.state, ContainerState::Running);
}

#[tokio::test]
async fn a_process_whose_port_another_program_takes_first_is_started_again_on_another() {
    let test = TestProcesses::new();
    let folder = test.folder.path().display();
    // The first start says its port, and ends when that is taken, as a server that cannot listen.
    let script = format!(
        "cd {folder}; if [ -e port ]; then echo second; exit 0; fi; echo $PORT > new; mv new port; \
         until [ -e taken ]; do sleep 0.01; done; exit 1"
    );
    let path = test.folder.path().to_owned();
    let rival = std::thread::spawn(move || {
        let port = loop {
            if let Ok(text) = fs::read_to_string(path.join("port")) {
                break text.trim().parse::<u16>().unwrap();
            }
            std::thread::yield_now();
        };
        let rival = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        fs::write(path.join("taken"), "").unwrap();
        rival
    });
    let spec = sh("web-1", &script);
    let wait = StartWait {
        silent: Duration::from_secs(10),
        taken: Duration::from_secs(10),
    };
    let started = test.runtime.start_with(&spec, wait).await.unwrap();
    let rival = rival.join().unwrap().local_addr().unwrap();
    assert_ne!(started.address.unwrap().ip(), Some(rival));
    test.wait_for_output("second").await;
}

#[tokio::test]
async fn ports_differ_between_processes_that_do_not_listen_yet() {
    let test = TestProcesses::new();
    let mut ports = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ports.push(
            test.runtime
                .start(&sh(name, FOREVER))
                .await
                .unwrap()
                .address
                .unwrap()
                .ip()
                .unwrap()
                .port(),
        );
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 4);
}

#[tokio::test]
async fn a_followed_log_goes_on_until_the_process_ends() {
    let test = TestProcesses::new();
    let script = "echo one; until [ -e go ]; do sleep 0.02; done; echo two; echo three >&2";
    let go = test.folder.path().join("go");
    test.sh(&script.replace("go ]", &format!("{} ]", go.display())))
        .await;
    let mut stream = test.runtime.logs("web-1", FOLLOW).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap(), "one\n");
    fs::write(go, "").unwrap();
    assert_eq!(read_all(stream).await, "two\nthree\n");
}

#[tokio::test]
async fn the_tail_of_a_log_is_its_last_lines() {
    let test = TestProcesses::new();
    test.sh("i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line $i; done")
        .await;
    test.wait_until("ended", |container| {
        container.state != ContainerState::Running
    })
    .await;
    let tail = async |lines| {
        let options = LogOptions {
            tail: Some(lines),
            since: None,
            follow: false,
        };
        read_all(test.runtime.logs("web-1", options).await.unwrap()).await
    };
    assert_eq!(tail(0).await, "");
    assert_eq!(tail(2).await, "line 8999\nline 9000\n");
    assert_eq!(tail(5000).await.lines().next(), Some("line 4001"));
    assert_eq!(tail(20_000).await.lines().count(), 9000);
    let missing = test.runtime.logs("web-2", ALL).await.unwrap_err();
    assert!(
        matches!(missing, RuntimeError::NoSuchContainer { .. }),
        "{missing}"
    );
}
