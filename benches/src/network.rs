//! The network of a run: a network namespace of its own, in which no firewall rule and no
//! connection tracking is on the path of a request.
//!
//! The program executes itself again by `unshare`. If that is not permitted, it measures in the
//! namespace of the host, and says so.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context, Error, Result};

/// Set when the program executes itself again: the descriptor of the host's namespace.
const HOST: &str = "CROSSFADE_BENCH_HOST_NETWORK";
const THIS_NAMESPACE: &str = "/proc/self/ns/net";
/// Brings loopback up, then executes its arguments.
const SCRIPT: &str = "ip link set lo up && exec \"$@\"";
const CONNTRACK_COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Where a run takes place.
#[derive(Debug)]
pub(crate) enum Network {
    /// In a namespace of its own.
    Own {
        /// The namespace of the host.
        host: File,
    },
    /// In the namespace of the host.
    Host {
        /// Why.
        why: String,
    },
}

impl Network {
    /// Moves the run to a namespace of its own: executes this program again in one. Returns if it
    /// runs there already, or if that is not possible.
    pub(crate) fn enter() -> Result<Self> {
        if let Some(descriptor) = std::env::var_os(HOST) {
            let host = Path::new("/proc/self/fd").join(descriptor);
            let host = File::open(&host).context(|| host.display().to_string())?;
            return Ok(Self::Own { host });
        }
        let tried = unshare(&["true".into()]).stdin(Stdio::null()).output();
        let refused = match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(format!("unshare: {error}")),
        };
        if let Some(why) = refused {
            return Ok(Self::Host { why });
        }
        let host = File::open(THIS_NAMESPACE).context(|| THIS_NAMESPACE.into())?;
        // It stays open in the program that is executed.
        fcntl_setfd(&host, FdFlags::empty()).context(|| "fcntl".into())?;
        let this = std::env::current_exe().context(|| "this program's path".into())?;
        let mut command = vec![this.into_os_string()];
        command.extend(std::env::args_os().skip(1));
        let error = unshare(&command)
            .env(HOST, host.as_raw_fd().to_string())
            .exec();
        Err(error).context(|| "unshare".into())
    }

    /// In the namespace of the host, because a workload needs it.
    pub(crate) fn host(why: &str) -> Self {
        Self::Host { why: why.into() }
    }

    /// What the report says about it.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Own { .. } => "a network namespace of its own".into(),
            Self::Host { why } => format!("the network namespace of the host ({why})"),
        }
    }

    /// Moves the calling thread, and what it starts, to the namespace of the host.
    pub(crate) fn leave(&self) -> Result<()> {
        let Self::Own { host } = self else {
            return Ok(());
        };
        move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Error::Usage(format!("cannot return to the host's network: {error}")))
    }

    /// In a namespace of its own, makes room for many connections: more ephemeral ports, none of
    /// them a port of the benchmark.
    pub(crate) fn widen(&self, port: u16) {
        if matches!(self, Self::Own { .. }) {
            let folder = Path::new("/proc/sys/net/ipv4");
            let reserved = format!("{port}-{}", u32::from(port) + 99);
            // Without them a workload may run out of ports, which is an error then.
            let _ = fs::write(folder.join("ip_local_reserved_ports"), reserved);
            let _ = fs::write(folder.join("ip_local_port_range"), "10000 65535");
        }
    }
}

/// `unshare` for a command. An ordinary user needs a user namespace too, in which it keeps its id:
/// as root of that namespace, nginx would try to change its user.
fn unshare(command: &[OsString]) -> Command {
    let mut unshare = Command::new("unshare");
    if !geteuid().is_root() {
        unshare.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    unshare
        .args(["--net", "--", "sh", "-c", SCRIPT, "sh"])
        .args(command);
    unshare
}

/// Whether the kernel tracks connections on loopback.
pub(crate) fn is_tracked() -> Result<bool> {
    /// More than what other programs open meanwhile.
    const CONNECTIONS: usize = 64;
    let context = || "connections to oneself".into();
    let count = || match fs::read_to_string(CONNTRACK_COUNT) {
        Ok(text) => text.trim().parse::<usize>().map_err(io::Error::other),
        // The kernel has no connection tracking.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    let before = count().context(context)?;
    let listener = TcpListener::bind("127.0.0.1:0").context(context)?;
    let address = listener.local_addr().context(context)?;
    let connections: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(address).context(context))
        .collect::<Result<_>>()?;
    let after = count().context(context)?;
    Ok(after.saturating_sub(before) > connections.len() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_where_it_was_measured() {
        let host = File::open(THIS_NAMESPACE).unwrap();
        let own = Network::Own { host }.description();
        assert_eq!(own, "a network namespace of its own");
        let host = Network::host("not permitted").description();
        assert_eq!(host, "the network namespace of the host (not permitted)");
    }

    #[test]
    fn a_command_runs_in_a_namespace_of_its_own_with_loopback_up() {
        let output = unshare(&["cat".into(), "/proc/net/dev".into()])
            .stdin(Stdio::null())
            .output();
        // Where it is not permitted, the benchmark says so.
        if let Ok(output) = output
            && output.status.success()
        {
            let text = String::from_utf8(output.stdout).unwrap();
            let devices = text.lines().filter(|line| line.contains(':'));
            assert_eq!(devices.count(), 1, "{text}");
        }
    }

    #[test]
    fn in_a_new_namespace_no_connection_is_tracked() {
        // In the namespace of the host it depends on its rules; it must not fail there.
        is_tracked().unwrap();
    }
}
