//! The folders in which containers serve by unix socket: in the proxy's folder, where it sees them.
//! Each container that is started has one of its own, which no container had before, so that the
//! socket of one that has ended belongs to no other.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::proxy::INSIDE;
use crate::error::{Error, Result};
use crate::manifest::{MAX_SOCKET_PATH, RuntimeChoice};
use crate::runtime::{Container, EndpointAddress, EndpointSocket};
use crate::state_dir::{self, proxy_folder};

/// The folder in the proxy's.
const FOLDER: &str = "sockets";
/// The characters of the name of a container's folder.
const NAME_LEN: usize = 12;

/// The folders of one project.
#[derive(Debug, Clone)]
pub(crate) struct Sockets {
    folder: PathBuf,
    seen_as: PathBuf,
    kind: RuntimeChoice,
}

impl Sockets {
    /// Those in this state folder, for a proxy and containers that run on `kind`.
    pub(crate) fn new(state: &Path, kind: RuntimeChoice) -> Self {
        let folder = proxy_folder(state).join(FOLDER);
        let seen_as = match kind {
            RuntimeChoice::Podman => Path::new(INSIDE).join(FOLDER),
            _ => folder.clone(),
        };
        Self {
            folder,
            seen_as,
            kind,
        }
    }

    /// Whether a socket fits that containers have at `path`. The error is a sentence.
    pub(crate) fn check(&self, path: &Path) -> std::result::Result<(), String> {
        let name = path.file_name().unwrap_or_default();
        let longest = self.seen_as.join("x".repeat(NAME_LEN)).join(name);
        let length = longest.as_os_str().len();
        if length <= MAX_SOCKET_PATH {
            return Ok(());
        }
        Err(format!(
            "the proxy would see it as {}, which has {length} bytes, and the path of a socket may \
             have {MAX_SOCKET_PATH}: choose a shorter name, or a shorter state folder with `--state`",
            longest.display()
        ))
    }

    /// A socket in a folder that is new, for a container that has it at `path`.
    pub(super) fn make(&self, path: &Path) -> Result<EndpointSocket> {
        let name = format!("{:012x}", rand::random::<u64>() >> 16);
        let folder = self.folder.join(&name);
        state_dir::make(&folder)?;
        if self.kind == RuntimeChoice::Podman {
            // The container's program may be any user; other users of the host do not get this far.
            std::fs::set_permissions(&folder, Permissions::from_mode(0o777))
                .map_err(Error::file(&folder))?;
        }
        let file = path.file_name().unwrap_or_default();
        Ok(EndpointSocket {
            folder,
            path: path.to_owned(),
            seen_as: self.seen_as.join(name).join(file),
        })
    }

    /// Removes the folder of a container that is gone, if it had one. What cannot be removed stays
    /// and is in no other container's way.
    pub(super) fn forget(&self, container: &Container) {
        if let Some(name) = container
            .labels
            .get(crate::runtime::label::PORT)
            .and_then(|text| self.name_in(text))
        {
            remove(&self.folder.join(name));
        }
    }

    /// Removes the folder of a socket that no container was given.
    pub(super) fn discard(&self, socket: &EndpointSocket) {
        remove(&socket.folder);
    }

    /// Removes them all.
    pub(crate) fn forget_all(&self) {
        remove(&self.folder);
    }

    /// The name of the folder that an address is in, if it is one of ours. A label may say anything.
    fn name_in(&self, address: &str) -> Option<String> {
        let address: EndpointAddress = address.parse().ok()?;
        let folder = address.socket()?.parent()?;
        let name = folder.file_name()?.to_str()?;
        let is_ours = name.len() == NAME_LEN && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_ours && folder.parent() == Some(&self.seen_as)).then(|| name.to_owned())
    }
}

fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!("{} cannot be removed: {error}", folder.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ContainerState, label};

    fn container(serves_on: &str) -> Container {
        Container {
            id: String::new(),
            name: String::new(),
            image: String::new(),
            labels: [(label::PORT.to_owned(), serves_on.to_owned())].into(),
            state: ContainerState::Running,
            address: None,
        }
    }

    #[test]
    fn each_container_gets_a_new_folder_which_goes_with_it() {
        let state = tempfile::TempDir::new().expect("a folder");
        let sockets = Sockets::new(state.path(), RuntimeChoice::Podman);
        let path = Path::new("/run/app/app.sock");
        let (one, other) = (sockets.make(path), sockets.make(path));
        let (one, other) = (one.expect("made"), other.expect("made"));
        assert_ne!(one.folder, other.folder);
        assert_eq!(one.on_host(), one.folder.join("app.sock"));
        assert!(one.seen_as.starts_with(INSIDE), "{one:?}");
        sockets.forget(&container(&one.address().to_string()));
        assert!(!one.folder.exists() && other.folder.exists());
        sockets.forget_all();
        assert!(!other.folder.exists());
    }

    #[test]
    fn a_label_that_names_another_folder_removes_nothing() {
        let state = tempfile::TempDir::new().expect("a folder");
        let sockets = Sockets::new(state.path(), RuntimeChoice::Process);
        let seen_as = sockets.seen_as.display().to_string();
        for label in [
            "unix:/etc/passwd".to_owned(),
            format!("unix:{seen_as}/../app.sock"),
            format!("unix:{seen_as}/0123456789ab/../../token"),
            format!("unix:{seen_as}/app.sock"),
            "8080".to_owned(),
        ] {
            assert_eq!(sockets.name_in(&label), None, "{label}");
        }
        let good = format!("unix:{seen_as}/0123456789ab/app.sock");
        assert_eq!(sockets.name_in(&good).as_deref(), Some("0123456789ab"));
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_said_before_anything_is_started() {
        let deep = format!("/{}", "d".repeat(80));
        let path = Path::new("/run/app/app.sock");
        let of = |kind| Sockets::new(Path::new(&deep), kind).check(path);
        let error = of(RuntimeChoice::Process).expect_err("too long");
        assert!(error.contains("shorter state folder"), "{error}");
        of(RuntimeChoice::Podman).expect("inside it is short");
    }
}
