//! What lines are written to.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use admin_api::LogTarget;

use super::lost::Failed;
use super::syslog::Syslog;

/// Others may not read who asked for what.
const MODE: u32 = 0o640;
/// How often it is looked whether a file is still where it was, and a missing one is tried again.
const LOOK: Duration = Duration::from_secs(1);
/// How long a target that takes nothing at the moment is tried again, and how often.
const MAX_BLOCKED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// What lines are written to.
pub(super) enum Output {
    Stdout(Appended),
    File(LogFile),
    Syslog(Syslog),
}

/// Lines that are added to something.
pub(super) struct Appended {
    to: File,
    /// The last line is not whole: the next one begins on a line of its own.
    is_broken: bool,
}

/// A file, which may be moved away or be missing.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<Opened>,
    /// When it was last looked for.
    looked: Option<Instant>,
    /// Why it is not open.
    why: String,
}

struct Opened {
    to: Appended,
    /// Which file it is, whatever its name.
    id: (u64, u64),
}

impl Output {
    /// What a config asks for.
    pub(super) fn to(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => {
                let stdout = rustix::io::dup(io::stdout())?;
                Self::Stdout(Appended::new(stdout.into()))
            }
            LogTarget::File(path) => Self::File(LogFile {
                path: path.clone(),
                file: None,
                looked: None,
                why: String::new(),
            }),
            LogTarget::Syslog(path) => Self::Syslog(Syslog::new(path.clone())),
        })
    }

    /// Writes lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        match self {
            Self::Stdout(stdout) => stdout.write(lines),
            Self::File(file) => file.write(lines),
            Self::Syslog(syslog) => syslog.write(lines),
        }
    }

    /// Begins with a new file, if it is one.
    pub(super) fn reopen(&mut self) {
        if let Self::File(file) = self {
            (file.file, file.looked) = (None, None);
            // It is there at once, for those who wait for it. An error is said with the next line.
            file.look();
        }
    }
}

impl Appended {
    fn new(to: File) -> Self {
        Self {
            to,
            is_broken: false,
        }
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        if self.is_broken {
            let mut ended = 0;
            write_all(&mut self.to, b"\n", &mut ended).map_err(|error| Failed::new(0, &error))?;
            self.is_broken = false;
        }
        let mut written = 0;
        write_all(&mut self.to, lines, &mut written).map_err(|error| {
            self.is_broken = written > 0 && lines[written - 1] != b'\n';
            Failed::new(written, &error)
        })
    }
}

/// Writes all of it. `written` counts what was.
fn write_all(to: &mut impl Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    let mut since = None;
    while *written < bytes.len() {
        match to.write(&bytes[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => {
                *written += more;
                since = None;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program that has the same pipe has made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if since.get_or_insert_with(Instant::now).elapsed() > MAX_BLOCKED {
                    return Err(error);
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl LogFile {
    fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.look();
        }
        let of_file = |why: &str| format!("{}: {why}", self.path.display());
        match &mut self.file {
            Some(opened) => opened.to.write(lines).map_err(|failed| Failed {
                why: of_file(&failed.why),
                ..failed
            }),
            None => Err(Failed {
                written: 0,
                why: of_file(&self.why),
            }),
        }
    }

    /// Looks whether the file is still where it was; if not, another one is made.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let there = std::fs::metadata(&self.path).ok().map(|at| id(&at));
        let own = self.file.as_ref().map(|opened| opened.id);
        if own.is_some() && own == there {
            return;
        }
        match open(&self.path) {
            Ok(opened) => self.file = Some(opened),
            // What is open takes lines, whatever its name is: none is lost for that.
            Err(_) if own.is_some() => {}
            Err(error) => self.why = error.to_string(),
        }
    }
}

fn open(path: &Path) -> io::Result<Opened> {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(MODE).open(path)?;
    let id = id(&file.metadata()?);
    Ok(Opened {
        to: Appended::new(file),
        id,
    })
}

fn id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path) -> Output {
        Output::to(&LogTarget::File(path.into())).unwrap()
    }

    /// A second has passed for it.
    fn later(output: &mut Output) {
        if let Output::File(file) = output {
            file.looked = None;
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn lines_are_added_to_a_file_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        file(&path).write(b"one\n").unwrap();
        assert_eq!(read(&path), "before\none\n");
        std::fs::remove_file(&path).unwrap();
        file(&path).write(b"two\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o007, 0);
    }

    #[test]
    fn a_file_that_was_moved_or_deleted_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a"), folder.path().join("a.1"));
        let mut output = file(&path);
        output.write(b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        output.write(b"two\n").unwrap();
        assert_eq!(read(&moved), "one\ntwo\n", "it was looked a moment ago");
        later(&mut output);
        output.write(b"three\n").unwrap();
        assert_eq!(
            (read(&moved), read(&path)),
            ("one\ntwo\n".into(), "three\n".into())
        );
        std::fs::remove_file(&path).unwrap();
        output.reopen();
        assert_eq!(read(&path), "", "it is there at once");
        output.write(b"four\n").unwrap();
        assert_eq!(read(&path), "four\n");
    }

    #[test]
    fn a_folder_that_is_missing_costs_lines_until_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/access.log");
        let mut output = file(&path);
        let failed = output.write(b"one\n").unwrap_err();
        assert_eq!(failed.written, 0);
        assert!(
            failed.why.contains("logs/access.log: No such file"),
            "{failed:?}"
        );
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        assert!(
            output.write(b"two\n").is_err(),
            "it is not looked for each line"
        );
        later(&mut output);
        output.write(b"three\n").unwrap();
        assert_eq!(read(&path), "three\n");
        // Gone with its folder, it goes on taking lines.
        std::fs::remove_dir_all(folder.path().join("logs")).unwrap();
        later(&mut output);
        output.write(b"four\n").unwrap();
    }

    #[test]
    fn what_a_full_disk_has_cut_is_not_joined_to_the_next_line() {
        struct Full(usize, Vec<u8>);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = bytes.len().min(self.0);
                if count == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                self.0 -= count;
                self.1.extend_from_slice(&bytes[..count]);
                Ok(count)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut disk, mut written) = (Full(6, Vec::new()), 0);
        let error = write_all(&mut disk, b"one\ntwo\n", &mut written).unwrap_err();
        assert_eq!((error.kind(), written), (io::ErrorKind::StorageFull, 6));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut opened = open(&path).unwrap().to;
        opened.write(b"one\ntw").unwrap();
        opened.is_broken = true;
        opened.write(b"three\n").unwrap();
        assert_eq!(read(&path), "one\ntw\nthree\n");
    }

    #[test]
    fn a_disk_that_is_full_is_said_with_the_name_of_the_file() {
        let mut output = file(Path::new("/dev/full"));
        let failed = output.write(b"one\n").unwrap_err();
        assert!(
            failed.why.starts_with("/dev/full: No space left"),
            "{failed:?}"
        );
    }
}
