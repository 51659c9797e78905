//! What is known of each process, one file each: what the next controller goes by.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::{file_error, refused};
use crate::no_link;
use crate::runtime::{ContainerSpec, EndpointAddress, EndpointSocket, RuntimeError, label};

/// The end of the name of a record's file while it is being written.
const DRAFT: &str = "draft";

/// One process: what was to be started, and what became of it. The environment is left out, since
/// it may hold secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) port: Option<u16>,
    /// The unix socket on which it serves, as the proxy sees it, which is where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<PathBuf>,
    stop_timeout_ms: u64,
    /// Another one for every start: the mark in the process's environment.
    pub(super) instance: String,
    /// `None` until it has been started.
    pub(super) process: Option<Identity>,
    pub(super) exit_code: Option<i64>,
}

impl Record {
    /// What is to be started, before it is.
    pub(super) fn intent(
        spec: &ContainerSpec,
        project: &str,
        program: PathBuf,
        port: Option<u16>,
    ) -> Self {
        let mut labels = spec.labels.clone();
        labels.insert(label::PROJECT.to_owned(), project.to_owned());
        let socket = spec.socket.as_ref().map(EndpointSocket::on_host);
        let address = socket.clone().map(EndpointAddress::Unix);
        let serves_on = match &address {
            Some(address) => Some(address.to_string()),
            None => port.map(|port| port.to_string()),
        };
        labels.extend(serves_on.map(|serves_on| (label::PORT.to_owned(), serves_on)));
        Self {
            name: spec.name.clone(),
            program,
            labels,
            port,
            socket,
            stop_timeout_ms: u64::try_from(spec.stop_timeout.as_millis()).unwrap_or(u64::MAX),
            instance: format!("{:032x}", rand::random::<u128>()),
            process: None,
            exit_code: None,
        }
    }

    pub(super) fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.stop_timeout_ms)
    }
}

/// The folder of records and logs.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(super) fn open(dir: &Path) -> Result<Self, RuntimeError> {
        let dir = std::path::absolute(dir).map_err(file_error(dir))?;
        fs::create_dir_all(&dir).map_err(file_error(&dir))?;
        let records = Self { dir };
        records.remove_drafts()?;
        Ok(records)
    }

    /// Removes what a controller was writing when it was killed.
    fn remove_drafts(&self) -> Result<(), RuntimeError> {
        for entry in fs::read_dir(&self.dir).map_err(file_error(&self.dir))? {
            let path = entry.map_err(file_error(&self.dir))?.path();
            if path.extension().is_some_and(|end| end == DRAFT) {
                fs::remove_file(&path).map_err(file_error(&path))?;
            }
        }
        Ok(())
    }

    /// Where the output goes of the process with this name.
    pub(super) fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    pub(super) fn load(&self, name: &str) -> Result<Option<Record>, RuntimeError> {
        if must_be_a_file_name(name).is_err() {
            return Ok(None);
        }
        let path = self.record_path(name);
        match no_link::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| file_error(&path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error(&path)(error)),
        }
    }

    /// Every record, by name.
    pub(super) fn all(&self) -> Result<Vec<Record>, RuntimeError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(file_error(&self.dir))? {
            let file = entry.map_err(file_error(&self.dir))?.file_name();
            names.extend(
                file.to_str()
                    .and_then(|file| file.strip_suffix(".json"))
                    .map(str::to_owned),
            );
        }
        names.sort();
        let mut records = Vec::with_capacity(names.len());
        for name in names {
            records.extend(self.load(&name)?);
        }
        Ok(records)
    }

    /// Writes a record so that a crash at any point leaves the old one or the new one.
    pub(super) fn save(&self, record: &Record) -> Result<(), RuntimeError> {
        must_be_a_file_name(&record.name)?;
        let path = self.record_path(&record.name);
        let draft = self.dir.join(format!("{}.{DRAFT}", record.name));
        let write = || -> io::Result<()> {
            let mut file = no_link::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(record)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(file_error(&path))
    }

    /// Removes log and record, the record last: while it is there, this can be done again.
    pub(super) fn remove(&self, name: &str) -> Result<(), RuntimeError> {
        for path in [self.log_path(name), self.record_path(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names become file names here, so they are held to what podman allows of its names.
fn must_be_a_file_name(name: &str) -> Result<(), RuntimeError> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.chars().all(allowed) {
        return Ok(());
    }
    let reason = format!("`{name}` is not a name: use letters, digits, `_`, `.` and `-`");
    Err(refused("name a process", reason))
}
