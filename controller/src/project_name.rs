//! Which project a manifest is of, and which manifest a project was made from.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::journal::{self, Journal};
use crate::manifest::{self, OLD_PROJECT};
use crate::state_dir;

/// The project of the manifest at `file`: as its text names it, else its folder's name, as compose has
/// it. One that an older release has brought up from there without a name is `crossfade`, and stays so.
pub(crate) fn of_manifest(file: &Path, text: &str) -> Result<String> {
    let old = state_dir::default_for(OLD_PROJECT).ok();
    name(file, text, old.as_deref())
}

fn name(file: &Path, text: &str, old: Option<&Path>) -> Result<String> {
    let named = manifest::project_named(text).map_err(Error::manifest(file))?;
    if let Some(named) = named {
        return Ok(named);
    }
    let file = std::path::absolute(file).map_err(Error::file(file))?;
    let made_from = old.and_then(made_from);
    if made_from.is_some_and(|made| is_same_folder(&made, &file)) {
        return Ok(OLD_PROJECT.to_owned());
    }
    manifest::name_of_folder(folder_of(&file)).map_err(Error::manifest(file.clone()))
}

/// The manifest that the project in this state folder was made from, if one is up.
pub(crate) fn made_from(state: &Path) -> Option<PathBuf> {
    Journal::applied_path(&state.join(journal::FILE))
}

/// Whether both manifests are in one folder.
pub(crate) fn is_same_folder(one: &Path, other: &Path) -> bool {
    let whole = |file: &Path| {
        let folder = folder_of(file);
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    };
    whole(one) == whole(other)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::journal::Applied;
    use crate::manifest::RuntimeChoice;

    #[test]
    fn a_project_has_the_name_of_its_folder_unless_it_was_made_before() {
        let dir = TempDir::new().expect("a folder");
        let shop = dir.path().join("My.Shop");
        let state = dir.path().join("state");
        for folder in [&shop, &state] {
            std::fs::create_dir(folder).expect("made");
        }
        let file = shop.join("crossfade.toml");
        let text = "[[services]]\nname = \"web\"\nimage = \"web:1\"\n";
        let name = |text: &str| name(&file, text, Some(&state)).expect("a name");
        assert_eq!(name(text), "myshop");
        assert_eq!(name(&format!("project = \"mine\"\n{text}")), "mine");
        assert_eq!(made_from(&state), None);

        let journal = Journal::open(&state.join(journal::FILE)).expect("a journal");
        let mut applied = Applied {
            text: text.to_owned(),
            path: file.clone(),
            runtime: RuntimeChoice::Process,
            boot: String::new(),
            kept: Vec::new(),
            project: OLD_PROJECT.to_owned(),
        };
        journal.apply(&applied, 0).expect("recorded");
        assert_eq!(name(text), "crossfade", "it is up under that name");
        assert_eq!(made_from(&state), Some(file.clone()));
        applied.path = dir.path().join("crossfade.toml");
        journal.apply(&applied, 0).expect("recorded");
        assert_eq!(name(text), "myshop", "another one is");
        let root = super::name(Path::new("/crossfade.toml"), text, None);
        let error = root.expect_err("it has no name").to_string();
        assert!(error.contains("write project = \"…\""), "{error}");
    }
}
