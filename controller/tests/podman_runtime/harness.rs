//! A project of its own in podman for each test, of which nothing is left afterwards.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use controller::runtime::{
    Confinement, ContainerSpec, Network, Podman, Privileges, ResourceLimits, RuntimeError, label,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// The file name of the program in the images. `.ci/rootless` copies what is named like this.
const WAITER: &str = "crossfade-test-waiter";

/// One project with a network, and an image to start.
pub(crate) struct TestPodman {
    pub(crate) runtime: Podman,
    pub(crate) project: String,
    pub(crate) folder: tempfile::TempDir,
    image: String,
}

impl TestPodman {
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let project = format!("cf-test-{}-{next}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let runtime = Podman::connect(&project, &project, folder.path())
            .await
            .unwrap();
        Self {
            runtime,
            project,
            folder,
            image: image().unwrap(),
        }
    }

    /// A container of this project; `name` is made unique.
    pub(crate) fn spec(&self, name: &str, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            name: self.name(name),
            image: self.image.clone(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::new(),
            labels: BTreeMap::from([(label::PROJECT.to_owned(), self.project.clone())]),
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

    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.project)
    }

    pub(crate) fn image(&self) -> &str {
        &self.image
    }
}

impl Drop for TestPodman {
    fn drop(&mut self) {
        let filter = format!("label={}={}", label::PROJECT, self.project);
        let left = podman(&["ps", "--all", "--quiet", "--filter", &filter]).unwrap_or_default();
        for id in left.split_whitespace() {
            let _ = podman(&["rm", "--force", "--time", "0", "--volumes", id]);
        }
        let _ = podman(&["network", "rm", "--force", &self.project]);
    }
}

/// Builds the image and starts a container of it, once: nothing else shows that containers start.
pub(crate) fn podman_works() -> Result<(), String> {
    let works = image().and_then(|image| {
        static RUNS: OnceLock<Result<(), String>> = OnceLock::new();
        let try_one =
            || podman(&["run", "--rm", "--network", "none", &image, "exit", "0"]).map(|_| ());
        RUNS.get_or_init(try_one).clone()
    });
    works.map_err(|why| format!("podman does not work here: {why}"))
}

/// The image of this run of the tests. `main` removes it.
static IMAGE: OnceLock<Result<String, String>> = OnceLock::new();

fn image() -> Result<String, String> {
    IMAGE.get_or_init(build).clone()
}

fn build() -> Result<String, String> {
    let context = tempfile::tempdir().map_err(|error| error.to_string())?;
    std::fs::copy(waiter()?, context.path().join(WAITER)).map_err(|error| error.to_string())?;
    let template = context.path().join("Containerfile");
    let text = format!("FROM scratch\nCOPY {WAITER} /waiter\nENTRYPOINT [\"/waiter\"]\n");
    std::fs::write(&template, text).map_err(|error| error.to_string())?;
    let tag = format!("localhost/cf-test:{}", std::process::id());
    let folder = context.path().to_str().ok_or("a path that is not UTF-8")?;
    podman(&["build", "--quiet", "--layers=false", "--tag", &tag, folder])?;
    Ok(tag)
}

/// Removes the image, where a test has built it.
pub(crate) fn remove_image() {
    if let Some(Ok(tag)) = IMAGE.get() {
        let _ = podman(&["image", "rm", "--force", tag]);
    }
}

/// The static program inside the images: from `CROSSFADE_BIN_DIR` if it is there, else compiled.
pub(crate) fn waiter() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("CROSSFADE_BIN_DIR") {
        let there = Path::new(&folder).join(WAITER);
        if there.exists() {
            return Ok(there);
        }
    }
    static COMPILED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    COMPILED.get_or_init(compile).clone()
}

fn compile() -> Result<PathBuf, String> {
    // A folder of its own, whose programs `.ci/rootless` can copy.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("podman-runtime");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let program = folder.join(WAITER);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/podman_runtime/waiter.c");
    let mut cc = Command::new("cc");
    run(cc.args(["-static", "-O1", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// Runs podman's command line: another way to look than the one under test.
pub(crate) fn podman(arguments: &[&str]) -> Result<String, String> {
    run(Command::new("podman").args(arguments))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// Polls until `look` gives something.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a container says hello at this address.
#[track_caller]
pub(crate) fn hello_from(address: SocketAddr) {
    wait_until(&format!("hello from {address}"), || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (text == "hello\n").then_some(())
    });
}

/// What a call must not have done.
#[track_caller]
pub(crate) fn refused_with<T: std::fmt::Debug>(
    response: Result<T, RuntimeError>,
    expected: impl Fn(&RuntimeError) -> bool,
) {
    match response {
        Err(error) if expected(&error) => {}
        other => panic!("{other:?}"),
    }
}
