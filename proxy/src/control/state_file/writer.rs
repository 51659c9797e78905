//! Writes the state file: a record behind what it has, or all of it anew, beside itself.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::pace::Pace;
use super::{beside, text};
use crate::control::saved::{Saved, SavedChanges};

/// The records behind a snapshot may be as long as it is, but always so long. A start reads them,
/// so they are worth no more than that.
const RECORDS_AT_LEAST: u64 = 1024 * 1024;

/// What is done with the disk, step by step.
pub(super) trait Disk: Send + 'static {
    /// A new file, or an empty one in the place of another.
    fn create(&self, path: &Path) -> io::Result<File>;
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Returns when the disk has what was written.
    fn sync(&self, file: &File) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the disk has the names of the files in a folder.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The disk that there is.
pub(super) struct RealDisk;

/// The one who writes the file.
pub(super) struct Writer<D = RealDisk> {
    path: PathBuf,
    disk: D,
    /// What can be written behind; `None`: the file has to be written anew.
    log: Option<Log>,
    /// Everything up to this generation is on the disk.
    pub(super) durable: u64,
    pub(super) pace: Pace,
}

/// The file, ready for records.
struct Log {
    file: File,
    /// It is the one that has the name.
    inode: (u64, u64),
    snapshot: u64,
    length: u64,
}

/// How the whole file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Ready for records.
    Log,
    /// As releases that knew no records read it.
    Plain,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(path: PathBuf, disk: D) -> Self {
        Self {
            path,
            disk,
            log: None,
            durable: 0,
            pace: Pace::default(),
        }
    }

    /// Whether records can be written behind what there is.
    pub(super) fn is_open(&self) -> bool {
        self.log.is_some()
    }

    /// Whether the next record is to be written behind what there is: not where those before it
    /// have become long.
    pub(super) fn has_room(&self) -> bool {
        let has_room = |log: &Log| log.length - log.snapshot < log.snapshot.max(RECORDS_AT_LEAST);
        self.log.as_ref().is_some_and(has_room)
    }

    /// The next changes go into a file that is written anew.
    pub(super) fn close(&mut self) {
        self.log = None;
    }

    /// Writes one record. After an error the file has to be written anew: it may have a part of the
    /// record at its end.
    pub(super) fn append(&mut self, changes: &SavedChanges) -> io::Result<()> {
        let Some(mut log) = self.log.take() else {
            return Err(io::Error::other("no snapshot was written"));
        };
        let there = std::fs::metadata(&self.path)?;
        if !log.is(&there) {
            return Err(io::Error::other("another program has changed it"));
        }
        let line = text::record(changes)?;
        self.disk.write(&mut log.file, &line)?;
        self.disk.sync(&log.file)?;
        log.length += line.len() as u64;
        self.log = Some(log);
        self.durable = changes.generation;
        Ok(())
    }

    /// Writes everything, beside what there is, and puts it in its place.
    pub(super) fn rewrite(&mut self, saved: &Saved, form: Form) -> io::Result<()> {
        self.log = None;
        let new = beside(&self.path, "new");
        let written = self.write_beside(&new, saved, form);
        if written.is_err() {
            // The disk may be full. An error: the next one writes over it.
            let _ = std::fs::remove_file(&new);
        }
        self.log = Some(written?).filter(|_| form == Form::Log);
        self.durable = saved.generation;
        Ok(())
    }

    fn write_beside(&self, new: &Path, saved: &Saved, form: Form) -> io::Result<Log> {
        let mut text = text::snapshot(saved)?;
        let snapshot = text.len() as u64;
        if form == Form::Log {
            text::seal(&mut text)?;
        }
        let mut file = self.disk.create(new)?;
        self.disk.write(&mut file, &text)?;
        self.disk.sync(&file)?;
        let there = file.metadata()?;
        self.disk.rename(new, &self.path)?;
        // The rename itself is on disk once its folder is.
        let folder = self.path.parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        self.disk.sync_folder(folder.unwrap_or(Path::new(".")))?;
        Ok(Log {
            file,
            inode: (there.dev(), there.ino()),
            snapshot,
            length: text.len() as u64,
        })
    }
}

impl Log {
    /// Whether this is the file, as it was left.
    fn is(&self, there: &Metadata) -> bool {
        (there.dev(), there.ino()) == self.inode && there.len() == self.length
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        // There may be a key in it.
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}
