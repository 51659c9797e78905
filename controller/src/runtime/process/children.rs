//! Processes that are started, looked at and ended, each by its record.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;
use tokio::sync::Notify;

use super::identity::{self, Identity};
use super::place::{self, ReservedPort};
use super::record::{Record, Records};
use super::refused;
use crate::no_link;
use crate::runtime::address::SOCKET;
use crate::runtime::secret_files::variable_of;
use crate::runtime::{
    Container, ContainerSpec, ContainerState, EndpointAddress, ResourceLimits, RuntimeError, label,
};

/// In the environment of all that we start: tells which start it was.
pub(super) const MARK: &str = "CROSSFADE_INSTANCE";

/// What the runtime has: records, and the processes that this controller started itself.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) project: String,
    pub(super) records: Records,
    /// Those that this controller started itself, by instance: they must be waited for, and only
    /// their exit codes can be known. The lock also makes starts and looks take turns.
    pub(super) children: Mutex<HashMap<String, Started>>,
    /// Told at each start: there is one more whose end matters.
    pub(super) started: Notify,
}

/// A process that this controller started itself.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    _port: Option<ReservedPort>,
}

type Children<'a> = MutexGuard<'a, HashMap<String, Started>>;

impl Inner {
    pub(super) fn children(&self) -> Children<'_> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, spec: &ContainerSpec) -> Result<Container, RuntimeError> {
        let mut children = self.children();
        if let Some(mut found) = self.records.load(&spec.name)? {
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
        if !spec.confinement.is_default() {
            let reason = format!(
                "{}: processes have no user, cap_drop, read_only or tmpfs",
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
        let number = port.as_ref().map(|port| port.number);
        let mut record = Record::intent(spec, &self.project, program, number);
        self.records.save(&record)?;
        match self.spawn(spec, &mut record) {
            Ok(child) => {
                let started = Started { child, _port: port };
                children.insert(record.instance.clone(), started);
                self.started.notify_one();
                Ok(container(record, ContainerState::Running))
            }
            Err(error) => {
                self.records.remove(&record.name)?;
                Err(error)
            }
        }
    }

    fn spawn(&self, spec: &ContainerSpec, record: &mut Record) -> Result<Child, RuntimeError> {
        let log_path = self.records.log_path(&record.name);
        let log = no_link::options().create(true).append(true).open(&log_path);
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
        if let Some(socket) = &record.socket {
            command.env(SOCKET, socket);
        }
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
        if let Err(error) = self.records.save(record) {
            // It could not be found again.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(child)
    }

    /// How a process that was started a moment ago gets on with its port.
    pub(super) fn start_of(&self, name: &str) -> Result<StartOf, RuntimeError> {
        let Some(mut record) = self.records.load(name)? else {
            return Ok(StartOf::Settled);
        };
        // In this order: a process that has ended has closed its sockets.
        let runs = self.state(&mut record)? == ContainerState::Running;
        let Some(port) = record.port else {
            return Ok(StartOf::Settled);
        };
        let listeners = place::listeners_on(port);
        let own = || identity::marked(MARK, &record.instance).any(|one| one.holds(&listeners));
        Ok(match (runs, listeners.is_empty()) {
            (true, true) => StartOf::Silent,
            (false, true) => StartOf::Settled,
            _ if own() => StartOf::Settled,
            (true, false) => StartOf::PortTaken,
            (false, false) => StartOf::PortLost,
        })
    }

    pub(super) fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let mut children = self.children();
        let mut containers = Vec::new();
        for mut record in self.records.all()? {
            if self.must_be_ours(&record).is_ok() {
                let state = self.state_with(&mut children, &mut record)?;
                containers.push(container(record, state));
            }
        }
        Ok(containers)
    }

    pub(super) fn running(&self) -> Result<Vec<Identity>, RuntimeError> {
        let mut children = self.children();
        let mut running = Vec::new();
        for mut record in self.records.all()? {
            if self.state_with(&mut children, &mut record)? == ContainerState::Running {
                running.extend(record.process);
            }
        }
        Ok(running)
    }

    pub(super) fn state(&self, record: &mut Record) -> Result<ContainerState, RuntimeError> {
        self.state_with(&mut self.children(), record)
    }

    /// Whether it runs now. What is learnt on the way goes into the record.
    fn state_with(
        &self,
        children: &mut Children<'_>,
        record: &mut Record,
    ) -> Result<ContainerState, RuntimeError> {
        if let Some(started) = children.get_mut(&record.instance) {
            // Should waiting fail, /proc still tells whether it runs.
            if let Ok(Some(status)) = started.child.try_wait() {
                children.remove(&record.instance);
                record.exit_code = Some(exit_code(status));
                if let Err(error) = self.records.save(record) {
                    // It has ended all the same: a disk that is full keeps nothing from being stopped.
                    tracing::warn!("how {} ended is not kept: {error}", record.name);
                }
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
            self.records.save(record)?;
        }
        match &record.process {
            Some(process) if process.runs() => Ok(ContainerState::Running),
            _ => Ok(ContainerState::Exited(None)),
        }
    }

    /// Sends SIGTERM. `None` where there is nothing to stop.
    pub(super) fn signal_to_end(&self, name: &str) -> Result<Option<Record>, RuntimeError> {
        let Some(mut record) = self.records.load(name)? else {
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
    pub(super) fn forget(&self, record: &Record) -> Result<(), RuntimeError> {
        for left in identity::marked(MARK, &record.instance) {
            left.signal(Signal::KILL);
        }
        self.records.remove(&record.name)
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
        for mut record in self.records.all()? {
            if self.state_with(children, &mut record)? == ContainerState::Running {
                ports.extend(record.port);
            }
        }
        Ok(ports)
    }
}

/// How the start of a process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartOf {
    /// It listens, has no port, or has ended for a reason of its own.
    Settled,
    /// It runs, and does not listen on its port yet.
    Silent,
    /// It runs, and another program listens on its port.
    PortTaken,
    /// It has ended, and another program listens on its port.
    PortLost,
}

fn container(record: Record, state: ContainerState) -> Container {
    let on_port = |port| EndpointAddress::Ip((Ipv4Addr::LOCALHOST, port).into());
    let address = match record.socket {
        Some(path) => Some(EndpointAddress::Unix(path)),
        None => record.port.map(on_port),
    };
    Container {
        id: record.name.clone(),
        name: record.name,
        image: record.program.display().to_string(),
        labels: record.labels,
        state,
        address: address.filter(|_| state == ContainerState::Running),
    }
}

/// As a shell counts: 128 and the signal's number for one that a signal ended.
fn exit_code(status: ExitStatus) -> i64 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.unwrap_or(-1).into()
}
