//! What a service tells systemd (`sd_notify(3)`): that it is ready, that it ends, and that it is alive.
//! Without `NOTIFY_SOCKET` in the environment nothing is said.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

/// What systemd gives a service in its environment.
const VARIABLES: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// Keeps from a program what systemd has told this one: it would speak in its name.
pub fn keep_from(command: &mut Command) {
    for name in VARIABLES {
        command.env_remove(name);
    }
}

/// The service's end of systemd's notify socket.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// `None` where systemd does not wait for this process.
    ///
    /// # Errors
    /// If `NOTIFY_SOCKET` names no socket.
    pub fn from_env() -> io::Result<Option<Self>> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(address) = var("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let number = |name| var(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let watchdog = match number("WATCHDOG_PID") {
            Some(pid) if pid != u64::from(std::process::id()) => None,
            _ => number("WATCHDOG_USEC").map(Duration::from_micros),
        };
        Self::to(&address, watchdog).map(Some)
    }

    fn to(address: &OsString, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that hangs is not to hang what it manages.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, watchdog })
    }

    /// How often systemd is to be told that the process is alive: twice in the time after which it
    /// kills it. `None` without a watchdog.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The service serves.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// It is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: &str) {
        if let Err(error) = self.socket.send(text.as_bytes()) {
            tracing::debug!(%error, "systemd was not told: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn a_socket_of_a_path_and_one_without_are_told_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("crossfade-test-{}", std::process::id());
        let unnamed = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, address) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&unnamed).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            let notifier = Notifier::to(&address, Some(Duration::from_secs(30))).unwrap();
            notifier.ready("all is well");
            assert_eq!(received(&manager), "READY=1\nSTATUS=all is well");
            notifier.alive();
            assert_eq!(received(&manager), "WATCHDOG=1");
            notifier.stopping();
            assert_eq!(received(&manager), "STOPPING=1");
            assert_eq!(notifier.watchdog_every(), Some(Duration::from_secs(15)));
        }
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        let nowhere = OsString::from("/nowhere/notify");
        let error = Notifier::to(&nowhere, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
