//! Who signs the certificates of containers: copies in the proxy's folder, where it sees them, each
//! named by what is in it. A version keeps what it had, though the file has another content by then.

use std::hash::Hasher;
use std::path::{Path, PathBuf};

use siphasher::sip128::{Hasher128, SipHasher24};

use super::proxy::INSIDE;
use crate::error::{Error, Result};
use crate::manifest::RuntimeChoice;
use crate::state_dir::{self, proxy_folder, write_private};

/// The folder in the proxy's.
const FOLDER: &str = "authorities";

/// The copies of one project.
#[derive(Debug)]
pub(crate) struct Authorities {
    folder: PathBuf,
    seen_as: PathBuf,
}

impl Authorities {
    /// Those in this state folder, for a proxy that runs on `kind`.
    pub(crate) fn new(state: &Path, kind: RuntimeChoice) -> Self {
        let folder = proxy_folder(state);
        let seen_as = match kind {
            RuntimeChoice::Podman => Path::new(INSIDE).join(FOLDER),
            _ => folder.join(FOLDER),
        };
        Self {
            folder: folder.join(FOLDER),
            seen_as,
        }
    }

    /// Keeps what the file has now, and says where the proxy sees it. Can be repeated.
    pub(crate) fn keep(&self, file: &Path) -> Result<PathBuf> {
        let text = std::fs::read_to_string(file).map_err(Error::file(file))?;
        let mut hasher = SipHasher24::new();
        hasher.write(text.as_bytes());
        let name = format!("{:032x}.pem", hasher.finish128().as_u128());
        let copy = self.folder.join(&name);
        if !copy.exists() {
            state_dir::make(&self.folder)?;
            write_private(&copy, &text)?;
        }
        Ok(self.seen_as.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_had_is_kept_under_a_name_of_its_own() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let file = dir.path().join("ca.pem");
        let authorities = Authorities::new(dir.path(), RuntimeChoice::Process);
        let keep = |text: &str| {
            std::fs::write(&file, text).expect("written");
            authorities.keep(&file).expect("kept")
        };
        let (first, second) = (keep("first"), keep("second"));
        assert_ne!(first, second);
        assert_eq!(keep("first"), first);
        let kept = |path| std::fs::read_to_string(path).expect("there");
        assert_eq!(
            (kept(first), kept(second)),
            ("first".into(), "second".into())
        );
        let in_container = Authorities::new(dir.path(), RuntimeChoice::Podman);
        let seen = in_container.keep(&file).expect("kept");
        assert!(seen.starts_with(INSIDE), "{}", seen.display());
    }
}
