//! The folders in which a proxy's container has to see certificates. Folders and not files, since a
//! renewed certificate is a new file with the old one's name; and those that links lead to as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A link may lead to a link; a circle ends here.
const MOST_LINKS: usize = 8;

/// The folders of these files, none of them inside another.
pub(super) fn folders_of(files: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for mut file in files {
        for _ in 0..MOST_LINKS {
            if let Some(folder) = file.parent() {
                add(&mut folders, folder);
            }
            let Ok(target) = std::fs::read_link(&file) else {
                break;
            };
            let from = file.parent().unwrap_or(Path::new("/"));
            file = plain(&from.join(target));
        }
    }
    folders
}

fn add(folders: &mut BTreeSet<PathBuf>, folder: &Path) {
    let folder = plain(folder);
    if folders.iter().any(|known| folder.starts_with(known)) {
        return;
    }
    folders.retain(|known| !known.starts_with(&folder));
    folders.insert(folder);
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_the_folders_that_they_lead_to() {
        // As certbot has it.
        let root = tempfile::TempDir::new().expect("a folder");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("live/a")).expect("made");
        fs::create_dir_all(at("archive/a")).expect("made");
        fs::write(at("archive/a/cert1.pem"), "x").expect("written");
        symlink("../../archive/a/cert1.pem", at("live/a/cert.pem")).expect("linked");
        let folders = folders_of([at("live/a/cert.pem")].into_iter());
        assert_eq!(folders, BTreeSet::from([at("archive/a"), at("live/a")]));
    }

    #[test]
    fn a_folder_inside_another_is_seen_there() {
        let files = ["/a/b/c.pem", "/a/./c.key", "/a/b/../d.pem", "/ab/c.pem"];
        let folders = folders_of(files.into_iter().map(PathBuf::from));
        assert_eq!(folders, BTreeSet::from(["/a".into(), "/ab".into()]));
    }
}
