//! The file in which what the admin API has set is kept for the next start.
//!
//! It is written beside itself and renamed, so it is always whole. Calls that wait for it share
//! one write of the newest state: hundreds of changes a second cost a few writes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::control::desired::Saved;

/// The state file, and up to which generation it holds everything.
pub(crate) struct StateFile {
    path: PathBuf,
    /// Held by the task that writes; those that wait for it find their change written.
    written: tokio::sync::Mutex<u64>,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: tokio::sync::Mutex::new(0),
        }
    }

    /// What was kept. A file that is not whole is put aside and said so: the proxy starts all
    /// the same. One that cannot be read is an error, since the next write would replace it.
    pub(crate) fn load(&self) -> Result<Saved, String> {
        let path = self.path.display();
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(error) => return Err(format!("admin.state_file: {path}: {error}")),
        };
        let error = match admin_api::strict::from_json::<Saved>(&bytes) {
            Ok(saved) if saved.is_readable() => return Ok(saved),
            Ok(_) => "another release wrote it in an unknown format".to_owned(),
            Err(error) => error.to_string(),
        };
        let aside = self.beside("unreadable");
        tracing::error!(
            error,
            "{path} cannot be used; it is kept as {}",
            aside.display()
        );
        std::fs::rename(&self.path, &aside)
            .map_err(|error| format!("admin.state_file: {path} cannot be renamed: {error}"))?;
        Ok(Saved::default())
    }

    /// Copies the file aside, so that nothing of it is lost.
    pub(crate) fn keep_a_copy(&self) {
        let aside = self.beside("conflicting");
        match std::fs::copy(&self.path, &aside) {
            Ok(_) => tracing::warn!("the saved state is kept as {}", aside.display()),
            Err(error) => tracing::warn!(%error, "the saved state cannot be copied"),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.path, ending)
    }

    /// Returns when the file holds `generation` or a later one; `snapshot` gives the newest
    /// state.
    pub(crate) async fn save(
        &self,
        generation: u64,
        snapshot: impl FnOnce() -> (u64, Saved),
    ) -> Result<(), String> {
        let mut written = self.written.lock().await;
        if *written >= generation {
            return Ok(());
        }
        let (newest, saved) = snapshot();
        let path = self.path.clone();
        let write = tokio::task::spawn_blocking(move || write(&path, &saved)).await;
        match write {
            Ok(Ok(())) => {
                *written = newest;
                Ok(())
            }
            Ok(Err(error)) => {
                let message = format!("{}: {error}", self.path.display());
                tracing::error!(error = message, "the state cannot be saved");
                Err(message)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let beside = beside(path, "new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    // The rename itself is on disk once its folder is.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use admin_api::HoldSpec;

    use super::*;
    use crate::control::desired::Desired;
    use crate::table::hold::Hold;

    fn saved(services: usize) -> Saved {
        let mut desired = Desired::default();
        for i in 0..services {
            let json = format!(r#"{{"name":"s{i}","path_prefix":"/s{i}"}}"#);
            let spec = admin_api::strict::from_json(json.as_bytes()).unwrap();
            desired.set(&format!("s{i}"), Some(spec));
        }
        desired.to_save()
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFile::new(folder.path().join("state.json"));
        assert_eq!(state.load().unwrap(), Saved::default());
        state.save(3, || (3, saved(2))).await.unwrap();
        assert_eq!(state.load().unwrap(), saved(2));
        state
            .save(2, || panic!("generation 2 is in the file already"))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn services_that_are_held_are_held_after_a_restart() {
        let hold = HoldSpec::default();
        let holds = [("s1".to_owned(), Hold::new(hold.clone()))].into();
        let folder = tempfile::tempdir().unwrap();
        let state = StateFile::new(folder.path().join("state.json"));
        let write = || (1, saved(2).with_holds(&holds));
        state.save(1, write).await.unwrap();
        let held = state.load().unwrap().holds();
        let held: Vec<_> = held
            .iter()
            .map(|(name, hold)| (name.as_str(), hold.spec()))
            .collect();
        assert_eq!(held, [("s1", &hold)]);
    }

    #[tokio::test]
    async fn a_file_cut_off_anywhere_is_put_aside_and_never_half_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, &saved(3)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > 100, "so many points at which it is cut off");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(
                StateFile::new(path.clone()).load().unwrap(),
                Saved::default(),
                "{length} bytes"
            );
            assert!(!path.exists() && beside(&path, "unreadable").exists());
        }
    }
}
