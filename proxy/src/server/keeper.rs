//! Sockets that another process keeps open for us, the *keeper*: the controller, for its proxy. They
//! outlive this process, and may belong to another network namespace.

use std::io;
use std::path::Path;

use program::sockets::{Given, copies_from};

use crate::config::Config;
use crate::server::bind_error::BindError;

/// Whether every named listener has its sockets already, and the keeper need not be asked.
pub fn are_all_given(config: &Config, given: &[Given]) -> bool {
    let mut names = config
        .listeners
        .iter()
        .filter_map(|one| one.name.as_deref());
    names.all(|name| {
        given
            .iter()
            .any(|one| one.label.name.as_deref() == Some(name))
    })
}

/// What the keeper has goes before what a process before has given: both may have the same ones. If
/// the keeper gives nothing, the named sockets of the process before will do.
///
/// # Errors
/// Where the keeper gives nothing, and no process before has given a named socket.
pub async fn from_keeper(keeper: &Path, mut given: Vec<Given>) -> Result<Vec<Given>, BindError> {
    let kept = match copies_from(keeper).await {
        Ok(kept) => kept.unwrap_or_default(),
        Err(error) if given.iter().any(|one| one.label.name.is_some()) => {
            tracing::warn!(%error, ?keeper, "the keeper of the sockets gives none: using those of the process before");
            return Ok(given);
        }
        Err(source) => {
            return Err(BindError {
                address: format!("handover.keeper: {}", keeper.display()),
                source: explained(source),
            });
        }
    };
    let is_kept = |one: &Given| {
        let name = &one.label.name;
        name.is_some() && kept.iter().any(|kept| kept.label.name == *name)
    };
    given.retain(|one| !is_kept(one));
    given.extend(kept);
    Ok(given)
}

/// A refusal of the system says nothing about what refuses.
fn explained(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let message = format!(
        "{error}: this process must be of the socket's owner; SELinux must allow this process's type \
         `unix_stream_socket connectto` to the keeper's and the use of its `tcp_socket` (`ausearch -m \
         avc -ts recent`), and AppArmor's profile `unix,` and `network,` (`journalctl -k`)"
    );
    io::Error::other(message)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use program::sockets::{Channel, Label, Role, bind, serve_copies};
    use tokio::net::UnixListener;

    use super::*;

    fn socket(name: Option<&str>, configured: &str) -> Given {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Given {
            label: Label {
                role: Role::Clients,
                configured: configured.into(),
                actual: None,
                name: name.map(str::to_owned),
            },
            fd: bind(any, true).unwrap().into(),
        }
    }

    #[tokio::test]
    async fn what_the_keeper_has_goes_before_what_a_process_before_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let kept = [socket(Some("web"), "kept"), socket(Some("new"), "kept")];
        let keeps = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut channel = Channel::new(stream, &path).unwrap();
            serve_copies(&mut channel, || Ok(kept.into()))
                .await
                .unwrap();
        };
        let before = [Some("web"), Some("gone"), None];
        let before = before.map(|name| socket(name, "before")).into();
        let (given, ()) = tokio::join!(from_keeper(&path, before), keeps);
        let given = given.unwrap();
        let labels = given.iter().map(|one| &one.label);
        let labels: Vec<_> = labels
            .map(|l| (l.name.as_deref(), &*l.configured))
            .collect();
        let want = [
            (Some("gone"), "before"),
            (None, "before"),
            (Some("web"), "kept"),
            (Some("new"), "kept"),
        ];
        assert_eq!(labels, want);
    }

    #[tokio::test]
    async fn without_a_keeper_the_process_before_will_do_and_a_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        let before = || vec![socket(Some("web"), "before")];
        assert_eq!(from_keeper(&path, before()).await.unwrap().len(), 1);
        std::fs::write(&path, "").unwrap();
        assert_eq!(from_keeper(&path, before()).await.unwrap().len(), 1);
        let refused = explained(io::ErrorKind::PermissionDenied.into()).to_string();
        for says in ["unix_stream_socket connectto", "`unix,` and `network,`"] {
            assert!(refused.contains(says), "{refused}");
        }
        let none = from_keeper(Path::new("/dev/null/keeper.sock"), Vec::new()).await;
        let error = none.unwrap_err().to_string();
        assert!(
            error.starts_with("handover.keeper: /dev/null/keeper.sock: "),
            "{error}"
        );
    }
}
