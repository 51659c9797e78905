//! The folder in which a project's controller keeps what it knows, and the lock that lets one
//! controller at a time have it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};
use crate::no_link;

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

/// The file that says which systemd unit runs the controller.
fn unit_file(dir: &Path) -> PathBuf {
    dir.join("unit")
}

/// systemd's arguments for the unit that runs this folder's controller, if one does: `--user`, where it
/// is a user's, and its name.
pub(crate) fn unit(dir: &Path) -> Option<Vec<String>> {
    let text = read(&unit_file(dir)).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// From now on this unit runs it.
pub(crate) fn set_unit(dir: &Path, is_of_user: bool, name: &str) -> Result<()> {
    let manager = if is_of_user { "--user " } else { "" };
    write_private(&unit_file(dir), &format!("{manager}{name}\n"))
}

/// No unit runs it any more.
pub(crate) fn unset_unit(dir: &Path) -> Result<()> {
    match std::fs::remove_file(unit_file(dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file(unit_file(dir))(error))
        }
        _ => Ok(()),
    }
}

/// Makes the folder, for its owner alone.
pub fn make(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::file(dir))
}

/// Refuses a state folder into which other users can write, or that has links among its files:
/// a user who can place a file there can have the controller do anything.
pub fn check(dir: &Path) -> Result<()> {
    let metadata = std::fs::metadata(dir).map_err(Error::file(dir))?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let shown = dir.display();
    if mode & 0o022 != 0 {
        return Err(Error::refused(format!(
            "other users can write into the state folder {shown} (mode {:o}): \
             `chmod go-w {shown}`, or choose another with --state",
            mode & 0o777
        )));
    }
    let user = rustix::process::geteuid().as_raw();
    if owner != user && owner != 0 {
        return Err(Error::refused(format!(
            "the state folder {shown} belongs to another user (uid {owner}, and this is uid {user}): \
             choose another with --state"
        )));
    }
    for entry in std::fs::read_dir(dir).map_err(Error::file(dir))? {
        let entry = entry.map_err(Error::file(dir))?;
        let kind = entry.file_type().map_err(Error::file(entry.path()))?;
        if kind.is_symlink() {
            return Err(Error::refused(format!(
                "{} is a symbolic link, and nothing in the state folder is opened through one: put \
                 the file itself there, or move the whole folder with --state",
                entry.path().display()
            )));
        }
    }
    Ok(())
}

/// Options that open no file through a link.
pub(crate) fn no_link() -> OpenOptions {
    no_link::options()
}

/// Reads a file that is not a link.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    String::from_utf8(no_link::read(path)?).map_err(std::io::Error::other)
}

/// Writes a file that its owner alone can read: beside `path`, then renamed.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = no_link()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(Error::file(path))
}

/// What a full disk leaves for the end: it is given back so that what is wanted can be written.
const RESERVE: &str = "reserve";
/// A journal that says that nothing is wanted any more needs a part of this.
const RESERVE_BYTES: usize = 512 * 1024;

/// Keeps room on the disk, where there is some and none is kept yet.
pub(crate) fn keep_reserve(dir: &Path) {
    let path = dir.join(RESERVE);
    let new = no_link().write(true).create_new(true).open(&path);
    let Ok(mut file) = new else { return };
    // Bytes that are no hole, and that no file system leaves out.
    let bytes = [0xA5; 4096];
    let blocks = RESERVE_BYTES / bytes.len();
    let written = (0..blocks).try_for_each(|_| file.write_all(&bytes));
    if written.and_then(|()| file.sync_all()).is_err() {
        give_reserve(dir);
    }
}

/// Gives the room back. Whether there was any.
pub(crate) fn give_reserve(dir: &Path) -> bool {
    std::fs::remove_file(dir.join(RESERVE)).is_ok()
}

/// Held by the one controller of a state folder, until it is dropped or the process is gone.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the folder, or says which process has it.
pub fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("controller.lock");
    let mut file = no_link()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
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
    // Over what is there, which needs no room on a disk that is full.
    let line = format!("{}\n", std::process::id());
    let write = |file: &mut File| {
        file.rewind()?;
        file.write_all(line.as_bytes())?;
        file.set_len(line.len() as u64)
    };
    if let Err(error) = write(&mut file) {
        // The lock holds all the same.
        tracing::warn!("{}: {error}", path.display());
    }
    Ok(Lock { _file: file })
}

/// The process that took the folder last.
pub(crate) fn process_of(dir: &Path) -> Option<u32> {
    read(&dir.join("controller.lock")).ok()?.trim().parse().ok()
}

/// Whether no controller has the folder.
pub fn is_free(dir: &Path) -> bool {
    let Ok(file) = no_link().read(true).open(dir.join("controller.lock")) else {
        return true;
    };
    flock(&file, FlockOperation::NonBlockingLockShared).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that the rest of the tests may have as theirs alone.
    fn refused(dir: &Path) -> String {
        let error = check(dir).expect_err("not safe");
        assert_eq!(error.exit(), crate::error::Exit::FAILED);
        error.to_string()
    }

    #[test]
    fn a_folder_that_others_can_write_into_or_with_a_link_is_refused() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let state = dir.path().join("state");
        make(&state).expect("made");
        check(&state).expect("its owner's alone");
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&state, mode).expect("ours");
        };
        set(0o755);
        check(&state).expect("others may look");
        for mode in [0o770, 0o777, 0o1777] {
            set(mode);
            let error = refused(&state);
            assert!(error.contains("chmod go-w"), "{error}");
        }
        set(0o700);
        let target = dir.path().join("elsewhere");
        std::fs::write(&target, "of another").expect("written");
        let link = state.join("state.db");
        std::os::unix::fs::symlink(&target, &link).expect("made");
        let error = refused(&state);
        assert!(error.contains("state.db is a symbolic link"), "{error}");
        // Nor is it opened where it comes later.
        assert!(read(&link).is_err());
        let beside = state.join("token.new");
        std::os::unix::fs::symlink(&target, &beside).expect("made");
        write_private(&state.join("token"), "secret").expect_err("through a link");
        let text = std::fs::read_to_string(&target).expect("there");
        assert_eq!(text, "of another");
    }

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

    #[test]
    fn the_reserve_has_room_and_is_given_once() {
        let dir = tempfile::TempDir::new().expect("a folder");
        assert!(!give_reserve(dir.path()), "there is none");
        keep_reserve(dir.path());
        keep_reserve(dir.path());
        let kept = std::fs::metadata(dir.path().join(RESERVE)).expect("there");
        assert_eq!(kept.blocks() * 512, RESERVE_BYTES as u64, "no hole");
        assert!(give_reserve(dir.path()));
        assert!(!give_reserve(dir.path()));
    }
}
