//! The journal: what is wanted, what is being done about it, and what was decided and why.
//!
//! SQLite, synchronous to the disk: what has been written here survives `kill -9` and a power
//! cut, so every intent is written before its effect. Nothing else in the controller knows SQL.

mod copy;
mod events;
mod kept;
mod phase;
mod proxy;
mod records;
mod retired;
mod rollouts;
mod schema;
mod services;
mod windows;

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OpenFlags, Row};
use tokio::sync::watch;

pub use copy::Restored;
pub use events::{Event, EventFilter, NewEvent};
pub(crate) use kept::kept_by;
pub use phase::Phase;
pub use proxy::{ProxyRecord, ProxyUpgrade};
pub use records::{
    Applied, Checkpoint, NewVersion, RequestedService, RolloutRecord, ServiceRecord, Split,
    VersionRecord,
};
pub use retired::Retired;
pub(crate) use rollouts::SCALED;
pub use rollouts::{NewRollout, Transition};

use crate::error::{Error, Result};

/// The journal's file in the state folder.
pub const FILE: &str = "state.db";

/// The journal. Calls block for the time of one write to the disk.
#[derive(Debug)]
pub struct Journal {
    connection: Mutex<Connection>,
    /// The id of the newest event, for those who wait for news.
    newest: watch::Sender<i64>,
    restored: Option<Restored>,
}

impl Journal {
    /// Opens the journal at `path`, makes it if it is not there, and brings it to the present
    /// schema. It is its owner's alone. One that is damaged is kept aside, and the last good copy is
    /// in its place ([`restored`](Self::restored)).
    ///
    /// # Errors
    /// When the file cannot be opened, is no journal, or was written by a newer release.
    pub fn open(path: &Path) -> Result<Self> {
        let path = &without_links(path)?;
        let restored = match copy::damage(path)? {
            Some(why) => Some(copy::restore(path, why)?),
            None => None,
        };
        make_private(path).map_err(Error::file(path))?;
        let mut connection = open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        if schema::is_older(&connection)? {
            copy::copy(&connection, path)?;
        }
        schema::migrate(&mut connection)?;
        Ok(Self {
            restored,
            ..Self::over(connection)?
        })
    }

    /// The journal of a connection, as it is.
    fn over(connection: Connection) -> Result<Self> {
        let newest =
            connection.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| {
                row.get(0)
            })?;
        Ok(Self {
            connection: Mutex::new(connection),
            newest: watch::Sender::new(newest),
            restored: None,
        })
    }

    /// Looks whether the journal at `path` is whole and of a release that this one can read.
    /// Changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn examine(path: &Path) -> Result<()> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        schema::check_release(&connection)?;
        let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        match said.as_str() {
            "ok" => Ok(()),
            said => Err(corrupt(said).into()),
        }
    }

    /// Where the manifest was read from that is in force by the journal at `path`, if it can be read and
    /// there is one. Takes nothing from the controller that has it.
    pub fn applied_path(path: &Path) -> Option<PathBuf> {
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let found = connection.query_row("SELECT path FROM applied", [], |row| {
            row.get::<_, String>(0)
        });
        found.ok().map(PathBuf::from)
    }

    /// Changes whenever an event is written; holds the newest event's id.
    pub fn news(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held has left no transaction open: dropping one rolls it back.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal's path by its folder's own one: no part of it may be a link for what follows.
fn without_links(path: &Path) -> Result<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = folder.canonicalize().map_err(Error::file(folder))?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

/// Opens a journal, or a copy of one, that is not a link.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}

/// Makes the journal if it is not there, readable by its owner alone. SQLite gives the files
/// that it puts beside it the mode of this one, and leaves those that are there as they are.
fn make_private(path: &Path) -> io::Result<()> {
    let mut new = OpenOptions::new();
    match new.write(true).create_new(true).mode(0o600).open(path) {
        // Not opened: to close it again would take from SQLite's locks of this process.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => drop(made?),
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match narrow(Path::new(&file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

fn narrow(file: &Path) -> io::Result<()> {
    let mode = fs::metadata(file)?.permissions().mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(file, Permissions::from_mode(mode & 0o700)),
    }
}

/// An error for a column that holds what it cannot hold.
fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(corrupt)
}

/// A column that may be NULL.
fn optional<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.as_deref().map(from_json).transpose()
}

fn to_json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

#[cfg(test)]
mod tests;
