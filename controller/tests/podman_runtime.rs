//! The podman runtime against a real podman, as the user who runs the tests; and, where that is
//! root, once more as an ordinary user.
//!
//! A test that is not listed in `main` is dead code, and fails the lints.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what went wrong by panicking; clippy knows only functions marked as tests"
)]

#[path = "podman_runtime/harness.rs"]
mod harness;
#[expect(
    unreachable_pub,
    reason = "for the harness of the other tests it is public"
)]
#[path = "../../tests/src/ports.rs"]
mod ports;
#[path = "../../tests/src/trials.rs"]
mod trials;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use controller::runtime::{
    ContainerState, LogOptions, LogStream, Mount, Network, Podman, Publish, Relabel, Runtime,
    RuntimeError, label,
};
use harness::{TestPodman, hello_from, podman, refused_with, wait_until, waiter};
use libtest_mimic::Completion;
use ports::free_address;
use trials::{Group, podman_is_required, trials};

/// Each test mostly waits for podman.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let exit = trials::run(vec![Group {
        at_once: AT_ONCE,
        trials: trials![harness::podman_works;
            a_container_is_started_found_again_reached_and_stopped,
            an_image_that_is_not_here_is_not_pulled,
            a_taken_port_is_named_and_the_container_taken_away_again,
            a_container_that_ends_at_once_tells_its_exit_code_and_its_last_words,
            a_container_that_looks_alike_is_left_alone,
            one_that_ignores_sigterm_gets_its_time_and_runs_until_it_is_over,
            one_that_joins_another_is_reached_at_its_address_and_its_published_port,
            a_network_goes_when_no_container_is_on_it_and_only_if_it_is_ours,
            a_folder_of_the_host_is_seen_inside,
            a_followed_log_has_both_outputs_and_ends_with_the_container,
            the_api_service_is_started_again_when_it_has_gone,
            all_of_this_holds_rootless_too,
        ],
    }]);
    harness::remove_image();
    exit
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

async fn read_all(mut stream: LogStream) -> String {
    let mut text = Vec::new();
    while let Some(piece) = stream.recv().await {
        text.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(text).unwrap()
}

async fn wait_for_exit(test: &TestPodman) -> Option<i64> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let [only] = &test.runtime.list().await.unwrap()[..]
            && let ContainerState::Exited(code) = only.state
        {
            return code;
        }
        assert!(Instant::now() < deadline, "it did not end in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_container_is_started_found_again_reached_and_stopped() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    test.runtime.ensure_network().await.unwrap();
    let host = free_address();
    let mut spec = test.spec("web", &["serve"]);
    spec.network = Network::Project {
        aliases: vec!["web.internal".to_owned()],
    };
    spec.publish = vec![Publish {
        host,
        container_port: 8080,
    }];
    spec.env
        .insert("COLOUR".to_owned(), "deep green".to_owned());
    spec.labels
        .insert(label::VERSION.to_owned(), "1.0.0".to_owned());

    let started = test.runtime.start(&spec).await.unwrap();
    assert_eq!(started.state, ContainerState::Running);
    assert_eq!(started.name, spec.name);
    assert_eq!(started.labels[label::VERSION], "1.0.0");
    assert_eq!(
        started.image,
        test.runtime.resolve_image(test.image()).await.unwrap()
    );
    let address = started.address.as_ref().unwrap().ip().unwrap();
    assert_eq!(address.port(), 8080);
    hello_from(host);
    // Rootless, the host has no way to container addresses.
    if rustix::process::geteuid().is_root() {
        hello_from(address);
    }
    let inspected = podman(&["inspect", &started.id]).unwrap();
    assert!(inspected.contains("web.internal"), "{inspected}");
    assert!(inspected.contains("COLOUR=deep green"), "{inspected}");

    assert_eq!(
        test.runtime.start(&spec).await.unwrap(),
        started,
        "starting is idempotent"
    );
    let next = Podman::connect(&test.project, &test.project, test.folder.path())
        .await
        .unwrap();
    assert_eq!(next.list().await.unwrap(), std::slice::from_ref(&started));

    let before = Instant::now();
    next.stop(&started.id).await.unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "it was killed, not asked to end"
    );
    assert_eq!(next.list().await.unwrap(), []);
    next.stop(&started.id).await.unwrap();
    next.remove_network().await.unwrap();
    next.remove_network().await.unwrap();
    assert!(podman(&["network", "exists", &test.project]).is_err());
}

async fn an_image_that_is_not_here_is_not_pulled() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let mut spec = test.spec("web", &["serve"]);
    spec.image = "localhost/no-such-image:1".to_owned();
    let is_missing = |error: &RuntimeError| matches!(error, RuntimeError::ImageNotFound { image } if *image == spec.image);
    refused_with(test.runtime.start(&spec).await, is_missing);
    refused_with(test.runtime.resolve_image(&spec.image).await, is_missing);
    assert!(podman(&["container", "exists", &spec.name]).is_err());
}

async fn a_taken_port_is_named_and_the_container_taken_away_again() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let host = free_address();
    let _neighbour = TcpListener::bind(host).unwrap();
    let mut spec = test.spec("web", &["serve"]);
    spec.publish = vec![
        Publish {
            host: free_address(),
            container_port: 8080,
        },
        Publish {
            host,
            container_port: 8081,
        },
    ];
    refused_with(
        test.runtime.start(&spec).await,
        |error| matches!(error, RuntimeError::PortTaken { address, .. } if *address == host),
    );
    assert!(podman(&["container", "exists", &spec.name]).is_err());
}

async fn a_container_that_ends_at_once_tells_its_exit_code_and_its_last_words() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let spec = test.spec("web", &["exit", "3"]);
    let first = test.runtime.start(&spec).await.unwrap();
    assert_eq!(wait_for_exit(&test).await, Some(3));
    assert_eq!(test.runtime.list().await.unwrap()[0].address, None);
    assert_eq!(
        read_all(test.runtime.logs(&first.id, ALL).await.unwrap()).await,
        "bye\n"
    );

    let mut again = spec.clone();
    again.command = vec!["serve".to_owned()];
    let second = test.runtime.start(&again).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(second.state, ContainerState::Running);
}

async fn a_container_that_looks_alike_is_left_alone() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let name = test.name("web");
    // Another project's label, so that the harness still does not miss it: by name, below.
    let other = format!("{}=other", label::PROJECT);
    let arguments = [
        "run",
        "--detach",
        "--network",
        "none",
        "--label",
        &other,
        "--name",
        &name,
    ];
    let id = podman(&[&arguments[..], &[test.image(), "stubborn"]].concat()).unwrap();

    let not_ours = |error: &RuntimeError| matches!(error, RuntimeError::NotOurs { name: found } if *found == name);
    refused_with(
        test.runtime.start(&test.spec("web", &["serve"])).await,
        not_ours,
    );
    refused_with(test.runtime.stop(&id).await, not_ours);
    refused_with(test.runtime.stop(&name).await, not_ours);
    assert_eq!(test.runtime.list().await.unwrap(), []);
    let running = podman(&["inspect", "--format", "{{.State.Running}}", &id]).unwrap();
    podman(&["rm", "--force", "--time", "0", &id]).unwrap();
    assert_eq!(running, "true");
}

async fn one_that_ignores_sigterm_gets_its_time_and_runs_until_it_is_over() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let mut spec = test.spec("web", &["stubborn"]);
    spec.stop_timeout = Duration::from_millis(1500);
    let started = test.runtime.start(&spec).await.unwrap();
    let before = Instant::now();
    let stop = test.runtime.stop(&started.id);
    let meanwhile = async {
        let id = started.id.clone();
        let look = move || podman(&["inspect", "--format", "{{.State.Status}}", &id]).ok();
        let stopping = move || look().filter(|state| state == "stopping");
        tokio::task::spawn_blocking(|| wait_until("stopping", stopping))
            .await
            .unwrap();
        test.runtime.list().await.unwrap()
    };
    let (stopped, listed) = tokio::join!(stop, meanwhile);
    stopped.unwrap();
    assert!(
        before.elapsed() >= spec.stop_timeout,
        "{:?}",
        before.elapsed()
    );
    assert_eq!(listed[0].state, ContainerState::Running);
    assert_eq!(test.runtime.list().await.unwrap(), []);
}

async fn one_that_joins_another_is_reached_at_its_address_and_its_published_port() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let host = free_address();
    let mut infra = test.spec("infra", &["stubborn"]);
    infra.publish = vec![Publish {
        host,
        container_port: 8080,
    }];
    infra.port = None;
    let infra = test.runtime.start(&infra).await.unwrap();
    assert_eq!(infra.address, None);

    let mut proxy = test.spec("proxy", &["serve"]);
    proxy.network = Network::Container(infra.id.clone());
    let proxy = test.runtime.start(&proxy).await.unwrap();
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let ip = podman(&["inspect", "--format", format, &infra.id]).unwrap();
    assert_eq!(proxy.address.unwrap().to_string(), format!("{ip}:8080"));
    hello_from(host);
}

async fn a_network_goes_when_no_container_is_on_it_and_only_if_it_is_ours() {
    let test = TestPodman::new().await;
    let exists = || podman(&["network", "exists", &test.project]).is_ok();
    test.runtime.ensure_network().await.unwrap();
    let started = test
        .runtime
        .start(&test.spec("web", &["serve"]))
        .await
        .unwrap();
    test.runtime.remove_network().await.unwrap();
    assert!(exists(), "a container was on it");
    test.runtime.stop(&started.id).await.unwrap();
    test.runtime.remove_network().await.unwrap();
    assert!(!exists());

    podman(&["network", "create", &test.project]).unwrap();
    test.runtime.ensure_network().await.unwrap();
    test.runtime.remove_network().await.unwrap();
    assert!(exists(), "another program made it");
}

async fn a_folder_of_the_host_is_seen_inside() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let shared = test.folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host\n").unwrap();
    let mut spec = test.spec("web", &["read", "/inside/file"]);
    spec.mounts = vec![Mount {
        host: shared,
        container: "/inside".into(),
        read_only: true,
        relabel: Relabel::Shared,
    }];
    let started = test.runtime.start(&spec).await.unwrap();
    assert_eq!(wait_for_exit(&test).await, Some(0));
    let output = read_all(test.runtime.logs(&started.id, ALL).await.unwrap()).await;
    assert_eq!(output, "from the host\n");
}

async fn a_followed_log_has_both_outputs_and_ends_with_the_container() {
    let test = TestPodman::new().await;
    test.runtime.ensure_network().await.unwrap();
    let started = test
        .runtime
        .start(&test.spec("web", &["serve"]))
        .await
        .unwrap();
    let mut stream = test.runtime.logs(&started.id, FOLLOW).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < "up\nto stderr\n".len() {
        seen.extend_from_slice(&stream.recv().await.unwrap().unwrap());
    }
    let last = LogOptions {
        tail: Some(1),
        since: None,
        follow: false,
    };
    let tail = read_all(test.runtime.logs(&started.id, last).await.unwrap()).await;
    assert_eq!(tail.lines().count(), 1, "{tail}");

    test.runtime.stop(&started.id).await.unwrap();
    assert_eq!(read_all(stream).await, "");
    let text = String::from_utf8(seen).unwrap();
    assert!(
        text.contains("up\n") && text.contains("to stderr\n"),
        "{text}"
    );
    refused_with(test.runtime.logs(&started.id, ALL).await, |error| {
        matches!(error, RuntimeError::NoSuchContainer { .. })
    });
}

async fn the_api_service_is_started_again_when_it_has_gone() -> Completion {
    let test = TestPodman::new().await;
    let socket = test.folder.path().join("podman.sock");
    if !socket.exists() {
        return Completion::ignored_with("podman's API runs here already: it is not ours to stop");
    }
    std::fs::remove_file(&socket).unwrap();
    let (first, second) = tokio::join!(test.runtime.list(), test.runtime.ensure_network());
    assert_eq!(first.unwrap(), []);
    second.unwrap();
    assert!(socket.exists());
    Completion::Completed
}

async fn all_of_this_holds_rootless_too() -> Completion {
    if !rustix::process::geteuid().is_root() {
        return Completion::ignored_with("only root can run tests as another user");
    }
    if std::env::var_os("CROSSFADE_ROOTLESS_USER").is_none() {
        assert!(
            !podman_is_required(),
            "CROSSFADE_ROOTLESS_USER must name a user"
        );
        return Completion::ignored_with("CROSSFADE_ROOTLESS_USER names no user");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/rootless");
    let bin_dir = waiter().unwrap().parent().unwrap().to_owned();
    let output = Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .env("CROSSFADE_BIN_DIR", bin_dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    eprintln!("the same tests, rootless:");
    for line in text.lines().chain(errors.lines()) {
        eprintln!("rootless: {line}");
    }
    Completion::Completed
}
