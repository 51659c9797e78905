//! Sockets that systemd has opened for us (`sd_listen_fds(3)`): those of a unit's `.socket` file,
//! which keeps them open while the proxy is replaced.

use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use program::sockets::{Given, Label, Role};

use crate::config::Config;

/// Takes what was passed to this process, if anything was.
///
/// # Errors
/// Where what was passed is not a listening socket of a kind that is used here.
pub fn from_systemd(config: &Config) -> io::Result<Vec<Given>> {
    let mut passed = ListenFd::from_env();
    let mut given = Vec::new();
    for number in 0..passed.len() {
        if let Ok(Some(socket)) = passed.take_tcp_listener(number) {
            let actual = socket.local_addr()?;
            let label = Label {
                role: Role::Clients,
                configured: actual.to_string(),
                actual: Some(actual),
                name: None,
            };
            given.push(Given {
                label,
                fd: OwnedFd::from(socket),
            });
        } else if let Ok(Some(socket)) = passed.take_unix_listener(number) {
            let address = socket.local_addr()?;
            let path = address.as_pathname().unwrap_or(std::path::Path::new(""));
            let is_handover = config.handover.as_deref() == Some(path);
            let label = Label {
                role: if is_handover {
                    Role::Handover
                } else {
                    Role::Admin
                },
                configured: format!("unix:{}", path.display()),
                actual: None,
                name: None,
            };
            given.push(Given {
                label,
                fd: OwnedFd::from(socket),
            });
        } else {
            let message = format!(
                "socket {number} of those that systemd passes is neither a listening TCP socket nor a listening unix stream socket"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    }
    Ok(given)
}
