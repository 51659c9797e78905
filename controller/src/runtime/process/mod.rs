//! Child processes on loopback: the runtime of a machine without an engine.
//!
//! A process outlives the controller that started it, `kill -9` included, and the next controller
//! finds it again by its record. A record says what is to be started before it is, and which
//! process it became after. A controller killed between the two has left a process that no record
//! names: it is known by a mark in its environment.
//!
//! ```text
//!   (nothing) --start--> Created --spawned--> Running --ended--> Exited
//!       ^                   |                    |                  |
//!       +-------------------+---------stop-------+------------------+
//! ```

mod exits;
mod identity;
mod output;
mod place;
mod record;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::sync::Notify;

use self::identity::Identity;
use self::record::{Record, Store};
use crate::runtime::secret_files::variable_of;

use super::{
    Container, ContainerSpec, ContainerState, LogOptions, LogStream, PullStep, ResourceLimits,
    Runtime, RuntimeError, label,
};

/// The runtime's name.
const NAME: &str = "process";
/// In the environment of all that we start: tells which start it was.
const MARK: &str = "CROSSFADE_INSTANCE";
/// How often a process that is to end is looked at.
const POLL: Duration = Duration::from_millis(20);
/// After SIGKILL a process is gone as soon as the kernel gets to it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) use place::program as program_of;

/// One project's child processes.
#[derive(Debug)]
pub struct Processes {
    inner: Arc<Inner>,
}

impl Processes {
    /// Keeps records and logs in `state_dir/processes`, which is made if it is not there. Two
    /// controllers must not use one folder at the same time.
    ///
    /// # Errors
    /// [`RuntimeError::File`] where the folder cannot be made.
    pub fn new(project: &str, state_dir: &Path) -> Result<Self, RuntimeError> {
        let store = Store::open(&state_dir.join("processes"))?;
        let children = Mutex::new(HashMap::new());
        let project = project.to_owned();
        Ok(Self {
            inner: Arc::new(Inner {
                project,
                store,
                children,
                started: Notify::new(),
            }),
        })
    }

    /// Runs what reads and writes files, away from the threads that serve others.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => done,
            Err(error) => Err(failed(action, error.to_string())),
        }
    }

    /// Waits until the process has ended; false if it has not when the time is over.
    async fn ends_within(&self, record: &Record, time: Duration) -> Result<bool, RuntimeError> {
        let deadline = Instant::now() + time;
        loop {
            let mut look = record.clone();
            let state = self
                .blocking("look", move |inner| inner.state(&mut look))
                .await?;
            if state != ContainerState::Running {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

#[async_trait]
impl Runtime for Processes {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn resolve_image(&self, image: &str) -> Result<String, RuntimeError> {
        Ok(place::program(image)?.display().to_string())
    }

    async fn pull_image(
        &self,
        image: &str,
        _progress: &(dyn Fn(PullStep) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        // Programs come from nowhere.
        self.resolve_image(image).await.map(|_| ())
    }

    async fn pull_name(&self, _image: &str) -> Result<Option<String>, RuntimeError> {
        Ok(None)
    }

    async fn ensure_network(&self) -> Result<(), RuntimeError> {
        // Loopback is there.
        Ok(())
    }

    async fn remove_network(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        let spec = spec.clone();
        self.blocking("start a process", move |inner| inner.start(&spec))
            .await
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.blocking("list processes", Inner::list).await
    }

    async fn stop(&self, id: &str) -> Result<(), RuntimeError> {
        let name = id.to_owned();
        let asked = move |inner: &Inner| inner.ask_to_end(&name);
        let Some(record) = self.blocking("stop a process", asked).await? else {
            return Ok(());
        };
        if !self.ends_within(&record, record.stop_timeout()).await? {
            tracing::warn!(
                name = record.name,
                "still runs after its stop timeout; killing it"
            );
            if let Some(process) = &record.process {
                process.kill_group();
            }
            if !self.ends_within(&record, KILL_DEADLINE).await? {
                return Err(failed("stop a process", format!("{id} survived SIGKILL")));
            }
        }
        self.blocking("clean up after a process", move |inner| {
            inner.forget(&record)
        })
        .await
    }

    async fn watch(&self, changed: &Notify) {
        loop {
            let running = self.blocking("list processes", Inner::running).await;
            let running = running.unwrap_or_else(|error| {
                // Whoever lists them next is told, too.
                tracing::debug!("{error}");
                Vec::new()
            });
            tokio::select! {
                () = exits::first(&running) => changed.notify_one(),
                () = self.inner.started.notified() => {}
            }
        }
    }

    async fn logs(&self, id: &str, options: LogOptions) -> Result<LogStream, RuntimeError> {
        let Some(record) = self.inner.store.load(id)? else {
            return Err(RuntimeError::NoSuchContainer { id: id.to_owned() });
        };
        let path = self.inner.store.log_path(id);
        let inner = Arc::clone(&self.inner);
        // A removed or restarted one has ended as far as this stream goes.
        let runs = move || {
            let now = inner.store.load(&record.name).ok().flatten();
            now.filter(|now| now.instance == record.instance)
                .is_some_and(|mut now| matches!(inner.state(&mut now), Ok(ContainerState::Running)))
        };
        output::stream(&path, options, runs).await
    }
}

#[derive(Debug)]
struct Inner {
    project: String,
    store: Store,
    /// Those that this controller started itself, by instance: they must be waited for, and only
    /// their exit codes can be known. The lock also makes starts and looks take turns.
    children: Mutex<HashMap<String, Child>>,
    /// Told at each start: there is one more whose end matters.
    started: Notify,
}

type Children<'a> = MutexGuard<'a, HashMap<String, Child>>;

impl Inner {
    fn children(&self) -> Children<'_> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        let mut children = self.children();
        if let Some(mut found) = self.store.load(&spec.name)? {
            self.must_be_ours(&found)?;
            if self.state_with(&mut children, &mut found)? == ContainerState::Running {
                return Ok(container(found, ContainerState::Running));
            }
        }
        if spec.limits != ResourceLimits::default() {
            let reason = format!(
                "{}: processes have no limits of memory, cpus or pids",
                spec.name
            );
            return Err(refused("start a process", reason));
        }
        let program = place::program(&spec.image)?;
        for publish in &spec.publish {
            place::must_be_free(publish.host)?;
        }
        let port = match spec.port {
            Some(_) => Some(place::free_port(&self.taken_ports(&mut children, spec)?)?),
            None => None,
        };
        let mut record = Record::intent(spec, &self.project, program, port);
        self.store.save(&record)?;
        match self.spawn(&mut children, spec, &mut record) {
            Ok(()) => Ok(container(record, ContainerState::Running)),
            Err(error) => {
                self.store.remove(&record.name)?;
                Err(error)
            }
        }
    }

    fn spawn(
        &self,
        children: &mut Children<'_>,
        spec: &ContainerSpec,
        record: &mut Record,
    ) -> Result<(), RuntimeError> {
        let log_path = self.store.log_path(&record.name);
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|source| RuntimeError::File {
            path: log_path,
            source,
        })?;
        let mut command = Command::new(&record.program);
        command
            .args(&spec.command)
            // Clean, as a container's is: what the controller was given is not for them.
            .env_clear()
            .env("PATH", place::search_path())
            .envs(
                spec.secrets
                    .iter()
                    .map(|(name, file)| (variable_of(name), file)),
            )
            .envs(&spec.env)
            .env("ADDRESS", Ipv4Addr::LOCALHOST.to_string())
            .env(MARK, &record.instance)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is for the controller alone, and what it forks can be killed with it.
            .process_group(0);
        if let Some(port) = record.port {
            command.env("PORT", port.to_string());
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => RuntimeError::ImageNotFound {
                image: spec.image.clone(),
            },
            _ => refused(
                "start a process",
                format!("{}: {error}", record.program.display()),
            ),
        })?;
        // Not waited for yet, so the kernel keeps it for us to look at even if it ended.
        record.process = Identity::of(child.id());
        if let Err(error) = self.store.save(record) {
            // Nobody would find it again.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        children.insert(record.instance.clone(), child);
        self.started.notify_one();
        Ok(())
    }

    fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let mut children = self.children();
        let mut containers = Vec::new();
        for mut record in self.store.all()? {
            if self.must_be_ours(&record).is_ok() {
                let state = self.state_with(&mut children, &mut record)?;
                containers.push(container(record, state));
            }
        }
        Ok(containers)
    }

    fn running(&self) -> Result<Vec<Identity>, RuntimeError> {
        let mut children = self.children();
        let mut running = Vec::new();
        for mut record in self.store.all()? {
            if self.state_with(&mut children, &mut record)? == ContainerState::Running {
                running.extend(record.process);
            }
        }
        Ok(running)
    }

    fn state(&self, record: &mut Record) -> Result<ContainerState, RuntimeError> {
        self.state_with(&mut self.children(), record)
    }

    /// Whether it runs now. What is learnt on the way goes into the record.
    fn state_with(
        &self,
        children: &mut Children<'_>,
        record: &mut Record,
    ) -> Result<ContainerState, RuntimeError> {
        if let Some(child) = children.get_mut(&record.instance) {
            // Should waiting fail, /proc still tells whether it runs.
            if let Ok(Some(status)) = child.try_wait() {
                children.remove(&record.instance);
                record.exit_code = Some(exit_code(status));
                self.store.save(record)?;
            }
        }
        if record.exit_code.is_some() {
            return Ok(ContainerState::Exited(record.exit_code));
        }
        if record.process.is_none() {
            record.process = identity::leader_marked(MARK, &record.instance);
            if record.process.is_none() {
                return Ok(ContainerState::Created);
            }
            self.store.save(record)?;
        }
        match &record.process {
            Some(process) if process.runs() => Ok(ContainerState::Running),
            _ => Ok(ContainerState::Exited(None)),
        }
    }

    /// Sends SIGTERM. `None` where there is nothing to stop.
    fn ask_to_end(&self, name: &str) -> Result<Option<Record>, RuntimeError> {
        let Some(mut record) = self.store.load(name)? else {
            return Ok(None);
        };
        self.must_be_ours(&record)?;
        if self.state(&mut record)? == ContainerState::Running
            && let Some(process) = &record.process
        {
            process.signal(Signal::TERM);
        }
        Ok(Some(record))
    }

    /// Takes away what is left of a process that has ended: what it forked, its log, its record.
    fn forget(&self, record: &Record) -> Result<(), RuntimeError> {
        for left in identity::marked(MARK, &record.instance) {
            left.signal(Signal::KILL);
        }
        self.store.remove(&record.name)
    }

    fn must_be_ours(&self, record: &Record) -> Result<(), RuntimeError> {
        match record.labels.get(label::PROJECT) {
            Some(project) if *project == self.project => Ok(()),
            _ => Err(RuntimeError::NotOurs {
                name: record.name.clone(),
            }),
        }
    }

    /// Ports that a process of ours has been given, though it may not listen yet, and those that
    /// this one is to listen on itself.
    fn taken_ports(
        &self,
        children: &mut Children<'_>,
        spec: &ContainerSpec,
    ) -> Result<Vec<u16>, RuntimeError> {
        let mut ports: Vec<u16> = spec
            .publish
            .iter()
            .map(|publish| publish.host.port())
            .collect();
        for mut record in self.store.all()? {
            if self.state_with(children, &mut record)? == ContainerState::Running {
                ports.extend(record.port);
            }
        }
        Ok(ports)
    }
}

fn container(record: Record, state: ContainerState) -> Container {
    let port = record.port.filter(|_| state == ContainerState::Running);
    Container {
        id: record.name.clone(),
        name: record.name,
        image: record.program.display().to_string(),
        labels: record.labels,
        state,
        address: port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    }
}

/// As a shell counts: 128 and the signal's number for one that a signal ended.
fn exit_code(status: ExitStatus) -> i64 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(-1).into()
}

fn refused(action: &'static str, reason: String) -> RuntimeError {
    RuntimeError::Refused {
        runtime: NAME,
        action,
        reason,
    }
}

fn failed(action: &'static str, reason: String) -> RuntimeError {
    RuntimeError::Failed {
        runtime: NAME,
        action,
        reason,
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RuntimeError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| RuntimeError::File { path, source }
}

#[cfg(test)]
mod tests;
