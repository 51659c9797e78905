//! The folder in which a project's controller keeps what it knows, and the lock that lets one
//! controller at a time have it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// How long the folder may still belong to a controller that was killed a moment ago: the system
/// takes its files from it last, and on a busy machine not at once.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(1);

/// Where a project's state is by default: `/var/lib/crossfade/<project>`
/// for root, else `$XDG_STATE_HOME/crossfade/<project>` or `~/.local/state/crossfade/<project>`.
pub fn default_for(project: &str) -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/var/lib/crossfade").join(project));
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .ok_or_else(|| {
            Error::usage("neither XDG_STATE_HOME nor HOME is set: give --state FOLDER")
        })?;
    Ok(base.join("crossfade").join(project))
}

/// The controller's socket in a state folder.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("controller.sock")
}

/// What a controller in the background prints.
pub fn log_file(dir: &Path) -> PathBuf {
    dir.join("controller.log")
}

/// The proxy's folder: its config, its token, what it remembers.
pub(crate) fn proxy_folder(state: &Path) -> PathBuf {
    state.join("proxy")
}

/// Makes the folder, for its owner alone.
pub fn make(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::file(dir))
}

/// Writes a file that its owner alone can read: beside `path`, then renamed.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(Error::file(path))
}

/// Held by the one controller of a state folder, until it is dropped or the process is gone.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the folder, or says which process has it.
pub fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("controller.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Error::file(&path))?;
    let start = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() < GIVEN_BACK_WITHIN {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut pid = String::new();
        // What cannot be read is not said.
        let _ = file.read_to_string(&mut pid);
        let who = match pid.trim() {
            "" => "another process".to_owned(),
            pid => format!("process {pid}"),
        };
        return Err(Error::unavailable(format!(
            "{} belongs to a running controller: {who}",
            dir.display()
        )));
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(Error::file(&path))?;
    Ok(Lock { _file: file })
}

/// Whether no controller has the folder.
pub fn is_free(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("controller.lock")) else {
        return true;
    };
    flock(&file, FlockOperation::NonBlockingLockShared).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_controller_is_told_who_has_the_folder() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let first = lock(dir.path()).expect("free");
        let error = lock(dir.path()).expect_err("taken");
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
        assert_eq!(error.exit(), crate::error::Exit::UNAVAILABLE);
        drop(first);
        lock(dir.path()).expect("free again");
    }

    #[test]
    fn a_folder_that_is_given_back_a_moment_later_is_taken() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let first = lock(dir.path()).expect("free");
        let gives_back = std::thread::spawn(move || {
            std::thread::sleep(GIVEN_BACK_WITHIN / 10);
            drop(first);
        });
        lock(dir.path()).expect("free in time");
        gives_back.join().expect("it does not panic");
    }
}
