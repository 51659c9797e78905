//! A damaged journal is found at the start, kept aside, and restored from the last good copy, which is
//! made once a day and before a step of the format.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode};

use super::{Journal, make_private, open, schema, without_links};
use crate::error::{Error, Result};

/// How old the copy may be.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// Pages that are copied at a time.
const PAGES: i32 = 1000;
/// So many damaged journals are kept at most.
const MOST_KEPT: u32 = 100;

/// What has come of a journal that was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What was wrong with it.
    pub why: String,
    /// Where it is now.
    pub kept: PathBuf,
    /// When the copy was made that is in its place; `None`: there was none, and all is forgotten.
    pub copied: Option<SystemTime>,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, kept, copied } = self;
        write!(
            f,
            "the journal was damaged ({why}) and is kept as {}; ",
            kept.display()
        )?;
        match copied {
            Some(at) => {
                let at = humantime::format_rfc3339_seconds(*at);
                write!(
                    f,
                    "its copy of {at} is in its place, and what runs is taken from what runs"
                )
            }
            None => f.write_str("there is no copy: `crossfade up --adopt` takes up what runs"),
        }
    }
}

/// The journal's copy.
fn copy_of(path: &Path) -> PathBuf {
    with_suffix(path, ".good")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What is wrong with the journal at `path`; `None` where it is whole, or not there.
pub(super) fn damage(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file(path)(error)),
        // One that was made a moment before its maker was killed is as empty, and has no copy.
        Ok(found) if found.len() == 0 => {
            return Ok(copy_of(path).exists().then(|| "it is empty".to_owned()));
        }
        Ok(_) => {}
    }
    // Dropped before anything is done with its file.
    let connection = open(path)?;
    let checked = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match checked {
        Ok(said) if said == "ok" => {}
        Ok(said) => return Ok(Some(said)),
        Err(error) if is_damage(&error) => return Ok(Some(error.to_string())),
        Err(error) => return Err(error.into()),
    }
    let found = schema::check_release(&connection)?;
    if found < schema::newest() {
        return Ok(None);
    }
    // Its pages are whole; what is in them has to be readable, too.
    let read = Journal::over(connection).and_then(|journal| {
        journal.applied()?;
        journal.services()?;
        journal.unfinished()
    });
    match read {
        Err(Error::Journal(error)) if is_damage(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
        Ok(_) => Ok(None),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
        ),
        // The names of its tables and columns are in its pages, too.
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// Puts the damaged journal aside, with the files that SQLite has beside it, and the copy in its place.
pub(super) fn restore(path: &Path, why: String) -> Result<Restored> {
    let aside = |n: u32| match n {
        1 => with_suffix(path, ".damaged"),
        n => with_suffix(path, &format!(".damaged-{n}")),
    };
    let free = (1..=MOST_KEPT).map(aside).find(|aside| !aside.exists());
    let kept = free.ok_or_else(|| {
        Error::refused(format!(
            "{} is damaged ({why}), and so were {MOST_KEPT} before it: look at the disk",
            path.display()
        ))
    })?;
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&kept, suffix));
        match fs::rename(&from, to) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::file(from)(error));
            }
            _ => {}
        }
    }
    let copy = copy_of(path);
    let copied = match fs::metadata(&copy) {
        Ok(found) if damage(&copy)?.is_none() => Some(found),
        _ => None,
    };
    let copied = copied.and_then(|found| found.modified().ok());
    if copied.is_some() {
        let beside = with_suffix(path, ".new");
        let put = || -> io::Result<()> {
            fs::copy(&copy, &beside)?;
            File::open(&beside)?.sync_all()?;
            fs::rename(&beside, path)
        };
        put().map_err(Error::file(path))?;
    }
    Ok(Restored { why, kept, copied })
}

impl Journal {
    /// What has come of a journal that was damaged when this one was opened.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Makes a copy of the journal at `path`, which this is, unless there is one of today.
    pub fn copy_daily(&self, path: &Path) -> Result<()> {
        let age = fs::metadata(copy_of(path))
            .and_then(|found| found.modified())
            .map(|made| made.elapsed().unwrap_or_default());
        match age {
            Ok(age) if age < EVERY => Ok(()),
            _ => copy(&self.lock(), path),
        }
    }
}

/// Copies the journal at `path` page by page, in place of the copy before.
pub(super) fn copy(connection: &Connection, path: &Path) -> Result<()> {
    let (copy, beside) = (copy_of(path), with_suffix(path, ".copying"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::file(beside)(error));
        }
        _ => {}
    }
    make_private(&beside).map_err(Error::file(&beside))?;
    let mut to = open(&without_links(&beside)?)?;
    Backup::new(connection, &mut to)?.run_to_completion(PAGES, Duration::ZERO, None)?;
    // One file, whatever the original is.
    to.pragma_update(None, "journal_mode", "DELETE")?;
    to.close().map_err(|(_, error)| error)?;
    let put = || -> io::Result<()> {
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &copy)
    };
    put().map_err(Error::file(&copy))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::super::FILE;
    use super::*;
    use crate::journal::tests::{begun, version};

    /// A journal in a folder, with a copy of when it had one service, and two of them by now.
    fn with_copy(dir: &TempDir) -> PathBuf {
        let path = dir.path().join(FILE);
        let journal = Journal::open(&path).expect("a journal");
        begun(&journal);
        journal.copy_daily(&path).expect("copied");
        let mut api = version("9.0.0");
        api.service = "api".into();
        journal.add_service(&api, 1, 3).expect("recorded");
        // There is one of today.
        journal.copy_daily(&path).expect("nothing to do");
        let connection = journal.connection.into_inner().expect("not poisoned");
        connection.close().expect("closed");
        path
    }

    fn services(journal: &Journal) -> Vec<String> {
        let services = journal.services().expect("read").into_iter();
        services.map(|service| service.name).collect()
    }

    /// Opens a journal after `damage` was done to its file, and says what became of it.
    fn after(damage: impl FnOnce(&mut Vec<u8>)) -> (Vec<String>, Option<Restored>) {
        let dir = TempDir::new().expect("a folder");
        let path = with_copy(&dir);
        let mut bytes = fs::read(&path).expect("there");
        damage(&mut bytes);
        fs::write(&path, &bytes).expect("written");
        let journal = Journal::open(&path).expect("it opens whatever was done to it");
        let restored = journal.restored().cloned();
        if let Some(restored) = &restored {
            let kept = fs::read(&restored.kept).expect("kept aside");
            assert_eq!(kept, bytes);
        }
        (services(&journal), restored)
    }

    #[test]
    fn a_journal_that_is_empty_cut_short_or_no_journal_is_restored_from_its_copy() {
        let (services, restored) = after(|_| {});
        assert_eq!((services.len(), restored), (2, None), "it is whole");
        let damages: [fn(&mut Vec<u8>); 4] = [
            Vec::clear,
            |bytes| bytes.truncate(bytes.len() / 2),
            |bytes| bytes.truncate(300),
            |bytes| bytes[..16].fill(b'x'),
        ];
        for (n, damage) in damages.into_iter().enumerate() {
            let (services, restored) = after(damage);
            assert_eq!(services, ["web"], "damage {n}: as the copy has it");
            let restored = restored.unwrap_or_else(|| panic!("damage {n} is found"));
            assert!(restored.copied.is_some() && !restored.why.is_empty());
        }
    }

    #[test]
    fn whatever_bit_is_flipped_the_journal_opens_and_can_be_read() {
        let dir = TempDir::new().expect("a folder");
        let length = fs::metadata(with_copy(&dir)).expect("there").len() as usize;
        let mut found = 0;
        for at in (0..length).step_by(length / 150) {
            let (services, restored) = after(|bytes| bytes[at] ^= 1 << (at % 8));
            found += usize::from(restored.is_some());
            assert!(!services.is_empty() || restored.is_some(), "byte {at}");
        }
        assert!(found > 5, "{found} of 150 were found");
    }

    #[test]
    fn a_damaged_journal_without_a_copy_is_kept_aside_and_begun_anew() {
        let dir = TempDir::new().expect("a folder");
        let path = with_copy(&dir);
        fs::remove_file(copy_of(&path)).expect("removed");
        fs::write(&path, "this is no journal, and has never been one").expect("written");
        for n in ["damaged", "damaged-2"] {
            let journal = Journal::open(&path).expect("begun anew");
            let restored = journal.restored().expect("it was damaged");
            assert_eq!(restored.copied, None);
            assert!(
                restored.kept.ends_with(format!("{FILE}.{n}")),
                "{restored:?}"
            );
            assert_eq!(services(&journal), [""; 0]);
            drop(journal);
            fs::write(&path, "once more").expect("written");
        }
    }

    #[test]
    fn the_copy_is_its_owners_alone() {
        let dir = TempDir::new().expect("a folder");
        let path = with_copy(&dir);
        let mode = fs::metadata(copy_of(&path)).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
}
