//! Secrets that containers are given as files: copies in the state folder, each named by a keyed
//! hash of what is in it. A version that is started again gets what it had, though the file has
//! another content by then; and a reader of the journal learns only whether two are the same.

use std::collections::BTreeSet;
use std::fs;
use std::hash::Hasher;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::error::{Error, Result};
use crate::no_link;
use crate::state_dir;

/// As podman has it for its own secrets.
const MAX_BYTES: u64 = 512_000;
/// The file of the key, among the secrets.
const KEY: &str = "key";

/// The secrets of one project.
#[derive(Debug)]
pub struct Secrets {
    dir: PathBuf,
}

impl Secrets {
    /// Those in this state folder.
    pub fn new(state: &Path) -> Self {
        Self {
            dir: state.join("secrets"),
        }
    }

    /// Keeps what the file has now, and says by which name. Can be repeated.
    ///
    /// # Errors
    /// When the file cannot be read, is empty or too large. Nothing of its content is said.
    pub fn keep(&self, file: &Path) -> Result<String> {
        let content = read(file)?;
        state_dir::make(&self.dir)?;
        let mut hasher = SipHasher24::new_with_key(&self.key()?);
        hasher.write(&content);
        let id = format!("{:032x}", hasher.finish128().as_u128());
        let path = self.file(&id);
        if !path.exists() {
            // The folder is for its owner alone; in a container every user may read it, as with
            // podman's own secrets.
            write(&path, &content, 0o444)?;
        }
        Ok(id)
    }

    /// Where what was kept by this name is.
    pub fn file(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Takes away what none of these names is for.
    pub fn retain(&self, used: &BTreeSet<String>) -> Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(Error::file(&self.dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::file(&self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != KEY && !used.contains(&name) {
                fs::remove_file(entry.path()).map_err(Error::file(entry.path()))?;
            }
        }
        Ok(())
    }

    fn key(&self) -> Result<[u8; 16]> {
        let path = self.dir.join(KEY);
        if let Some(key) = no_link::read(&path)
            .ok()
            .and_then(|key| key.try_into().ok())
        {
            return Ok(key);
        }
        let key: [u8; 16] = rand::random();
        write(&path, &key, 0o600)?;
        Ok(key)
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let refuse = |why: &str| Err(Error::usage(format!("{}: {why}", file.display())));
    let mut content = Vec::new();
    let opened = fs::File::open(file).map_err(Error::file(file))?;
    opened
        .take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(Error::file(file))?;
    match content.len() as u64 {
        0 => refuse("it is empty"),
        n if n > MAX_BYTES => refuse("it is longer than 500 kB"),
        _ => Ok(content),
    }
}

/// Written beside and renamed, so that no reader ever gets half of it.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = no_link::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        // Whatever the umask says.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_keeps_its_content_and_only_those_in_use_stay() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let secrets = Secrets::new(dir.path());
        let file = dir.path().join("password");
        fs::write(&file, "first").expect("written");
        let first = secrets.keep(&file).expect("kept");
        assert_eq!(secrets.keep(&file).expect("again"), first);
        fs::write(&file, "second").expect("written");
        let second = Secrets::new(dir.path()).keep(&file).expect("kept");
        assert_ne!(first, second);
        let content = |id: &str| fs::read_to_string(secrets.file(id)).ok();
        assert_eq!(content(&first).as_deref(), Some("first"));

        secrets.retain(&[second.clone()].into()).expect("tidied");
        assert_eq!(content(&first), None);
        assert_eq!(content(&second).as_deref(), Some("second"));
        assert_eq!(secrets.keep(&file).expect("the same key"), second);
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused_by_its_path_alone() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let secrets = Secrets::new(dir.path());
        let file = dir.path().join("password");
        fs::write(&file, "").expect("written");
        let empty = secrets.keep(&file).expect_err("empty").to_string();
        assert!(empty.contains("password: it is empty"), "{empty}");
        fs::write(&file, vec![b'x'; 600_000]).expect("written");
        let large = secrets.keep(&file).expect_err("large").to_string();
        assert!(
            large.contains("500 kB") && !large.contains("xxx"),
            "{large}"
        );
        let missing = secrets.keep(&dir.path().join("no")).expect_err("missing");
        assert!(missing.to_string().contains("/no: "), "{missing}");
    }
}
