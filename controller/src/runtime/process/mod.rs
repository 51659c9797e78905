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

mod children;
mod exits;
mod identity;
mod output;
mod place;
mod record;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;

use self::children::{Inner, StartOf};
use self::record::{Record, Records};

use super::{
    Container, ContainerSpec, ContainerState, LogOptions, LogStream, PullStep, Runtime,
    RuntimeError,
};

/// The runtime's name.
const NAME: &str = "process";
/// The folder of their records and logs in the state folder.
const FOLDER: &str = "processes";
/// How often a process that is to end is looked at.
const POLL: Duration = Duration::from_millis(20);
/// After SIGKILL a process is gone as soon as the kernel gets to it.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) use place::program as program_of;

/// How many ports a process is given, at most, before its end counts as its own.
const PORT_ATTEMPTS: usize = 5;

/// How long a start waits for a process.
#[derive(Debug, Clone, Copy)]
struct StartWait {
    /// To listen, where its port is free: programs may take as long as they like, and the wait only
    /// serves to see those that lose their port.
    silent: Duration,
    /// To end, where its port is taken.
    taken: Duration,
}

impl Default for StartWait {
    fn default() -> Self {
        Self {
            silent: Duration::from_millis(200),
            taken: Duration::from_secs(1),
        }
    }
}

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
        let records = Records::open(&state_dir.join(FOLDER))?;
        let children = Mutex::new(HashMap::new());
        let project = project.to_owned();
        Ok(Self {
            inner: Arc::new(Inner {
                project,
                records,
                children,
                started: Notify::new(),
            }),
        })
    }

    /// Whether this folder has had processes.
    pub(crate) fn are_in(state_dir: &Path) -> bool {
        state_dir.join(FOLDER).exists()
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

    /// Starts a process, and once more on another port where another program took its port before
    /// it could listen.
    async fn start_with(
        &self,
        spec: &ContainerSpec,
        wait: StartWait,
    ) -> Result<Container, RuntimeError> {
        for _ in 1..PORT_ATTEMPTS {
            let this = spec.clone();
            let started = self
                .blocking("start a process", move |inner| inner.start(&this))
                .await?;
            if started.address.is_none() || !self.has_lost_its_port(&spec.name, wait).await? {
                return Ok(started);
            }
            tracing::warn!(
                name = spec.name,
                "another program took its port; choosing another port"
            );
        }
        let spec = spec.clone();
        self.blocking("start a process", move |inner| inner.start(&spec))
            .await
    }

    /// Waits until a process listens on its port, or ends, or time is over. True where it has ended
    /// and another program listens there.
    async fn has_lost_its_port(&self, name: &str, wait: StartWait) -> Result<bool, RuntimeError> {
        let began = Instant::now();
        loop {
            let name = name.to_owned();
            let look = move |inner: &Inner| inner.start_of(&name);
            let time = match self.blocking("look at a port", look).await? {
                StartOf::Settled => return Ok(false),
                StartOf::PortLost => return Ok(true),
                StartOf::Silent => wait.silent,
                StartOf::PortTaken => wait.taken,
            };
            if began.elapsed() >= time {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
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
        self.start_with(spec, StartWait::default()).await
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.blocking("list processes", Inner::list).await
    }

    async fn stop(&self, id: &str) -> Result<(), RuntimeError> {
        let name = id.to_owned();
        let signalled = move |inner: &Inner| inner.signal_to_end(&name);
        let Some(record) = self.blocking("stop a process", signalled).await? else {
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
                // The next list shows it, too.
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
        let Some(record) = self.inner.records.load(id)? else {
            return Err(RuntimeError::NoSuchContainer { id: id.to_owned() });
        };
        let path = self.inner.records.log_path(id);
        let inner = Arc::clone(&self.inner);
        // A removed or restarted one has ended as far as this stream goes.
        let runs = move || {
            let now = inner.records.load(&record.name).ok().flatten();
            now.filter(|now| now.instance == record.instance)
                .is_some_and(|mut now| matches!(inner.state(&mut now), Ok(ContainerState::Running)))
        };
        output::stream(&path, options, runs).await
    }
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
