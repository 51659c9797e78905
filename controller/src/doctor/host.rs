//! What the host has: podman and what it needs, and limits.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::{Resource, geteuid, getrlimit};

use super::{Finding, addresses, first_line, is_in_path, run, wants_podman};
use crate::manifest::{Manifest, RuntimeChoice};
use crate::runtime::Podman;

/// The first release with the network that containers find each other on by name.
const OLDEST_PODMAN: u32 = 4;
/// Each client and each request in flight is an open file.
const ENOUGH_FILES: u64 = 4096;

/// Whether containers can be run here.
pub(super) async fn examine(
    kind: RuntimeChoice,
    manifest: Option<&Manifest>,
    findings: &mut Vec<Finding>,
) -> bool {
    files(findings);
    if !geteuid().is_root() {
        low_ports(manifest, findings);
    }
    if !wants_podman(kind) {
        findings.push(Finding::ok(
            "podman",
            "not needed: this project runs on processes",
        ));
        return false;
    }
    let version = podman_version().await;
    let found = version.is_ok();
    // A user who asked for podman cannot do without; all others get processes.
    let lacking = |text: String, fix: &str| match kind {
        RuntimeChoice::Podman => Finding::failed("podman", text, fix),
        _ => Finding::warning("podman", format!("{text}; processes are used instead"), fix),
    };
    findings.push(match version {
        Err(why) => lacking(
            why,
            "install it (`apt-get install podman`, `dnf install podman`), or set \
             `runtime = \"process\"`",
        ),
        Ok(version) if major(&version) < OLDEST_PODMAN => lacking(
            format!("podman {version} is too old"),
            "podman 4 or newer is needed",
        ),
        Ok(version) => Finding::ok("podman", format!("podman {version}")),
    });
    let elsewhere = std::env::var("CONTAINER_HOST").is_ok_and(|host| !host.is_empty());
    if !found && !elsewhere {
        return false;
    }
    if !geteuid().is_root() {
        rootless(findings);
    }
    match api().await {
        Ok(()) => {
            findings.push(Finding::ok("podman API", "it responds"));
            true
        }
        Err(why) => {
            let fix = "see the output of `podman info`; `systemctl start podman.socket` (with --user \
                        for other users than root) starts the API";
            findings.push(match kind {
                RuntimeChoice::Podman => Finding::failed("podman API", why, fix),
                _ => Finding::warning("podman API", why, fix),
            });
            false
        }
    }
}

async fn podman_version() -> Result<String, String> {
    let output = run("podman", &["version", "--format", "{{.Client.Version}}"])
        .await
        .map_err(|why| format!("podman cannot be run: {why}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !said.is_empty() {
        return Ok(said);
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("podman does not work: {}", first_line(&error)))
}

fn major(version: &str) -> u32 {
    let first = version.split('.').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

/// Asks podman's API, as the controller does, with a folder that is gone afterwards.
async fn api() -> Result<(), String> {
    let name = format!("crossfade-doctor-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let connected = Podman::connect("crossfade-doctor", "crossfade-doctor", &folder).await;
    let connected = connected.map(drop).map_err(|error| error.to_string());
    // What cannot be removed is of no use, and does no harm.
    let _ = std::fs::remove_dir_all(&folder);
    connected
}

/// What podman needs where it is not root's.
fn rootless(findings: &mut Vec<Finding>) {
    let user = crate::project::caller::name_of(geteuid().as_raw());
    ids(&user, findings);
    programs(findings);
    session(&user, findings);
}

/// Ids for the users that containers have.
fn ids(user: &str, findings: &mut Vec<Finding>) {
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let there = has_range(&text, user, geteuid().as_raw());
        findings.push(match there {
            true => Finding::ok("rootless", format!("{file} has a range for {user}")),
            false => Finding::failed(
                "rootless",
                format!("{file} has no range for {user}"),
                format!(
                    "as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
                     {user}`, then `podman system migrate`"
                ),
            ),
        });
    }
}

/// What gives containers their users and their network.
fn programs(findings: &mut Vec<Finding>) {
    for (programs, package) in [
        (&["newuidmap"][..], "uidmap (shadow-utils on Fedora)"),
        (&["newgidmap"], "uidmap (shadow-utils on Fedora)"),
        (&["pasta", "slirp4netns"], "passt or slirp4netns"),
    ] {
        let name = programs.join(" or ");
        findings.push(match programs.iter().any(|program| is_in_path(program)) {
            true => Finding::ok("rootless", format!("{name} is installed")),
            false => Finding::failed(
                "rootless",
                format!("{name} is not installed"),
                format!("install {package}"),
            ),
        });
    }
    let tun = "/dev/net/tun";
    if let Err(error) = OpenOptions::new().read(true).write(true).open(tun) {
        let fix = "as root: `modprobe tun`, and `chmod 666 /dev/net/tun` if udev does not set it";
        findings.push(Finding::failed("rootless", format!("{tun}: {error}"), fix));
    }
}

/// What the user's session gives podman, and takes from it at its end.
fn session(user: &str, findings: &mut Vec<Finding>) {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| !Path::new(&dir).is_dir()) {
        let text = "XDG_RUNTIME_DIR is not a folder: podman keeps its sockets elsewhere";
        let fix = format!("log in as {user} (not by `su`), or `loginctl enable-linger {user}`");
        findings.push(Finding::warning("rootless", text, fix));
    }
    let lingers = Path::new("/var/lib/systemd/linger").join(user).exists();
    if Path::new("/run/systemd/system").exists() && !lingers {
        let text = format!("the processes of {user} end when {user} logs out");
        let fix = format!("`loginctl enable-linger {user}`");
        findings.push(Finding::warning("rootless", text, fix));
    }
}

/// Listening ports that only root may have.
fn low_ports(manifest: Option<&Manifest>, findings: &mut Vec<Finding>) {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    let addresses = manifest.map(addresses).unwrap_or_default();
    let ports: BTreeSet<u16> = addresses.iter().map(SocketAddr::port).collect();
    findings.extend(low_port(&ports, first));
}

/// The ports below `first`, which other users than root may not have, and what lets them: a setting of
/// the kernel for all of them, or a capability for the controller alone.
fn low_port(ports: &BTreeSet<u16>, first: u16) -> Option<Finding> {
    let lowest = ports.first().filter(|port| **port < first)?;
    let low: Vec<String> = ports.range(..first).map(u16::to_string).collect();
    let low = low.join(", ");
    let plural = if low.contains(',') { "ports" } else { "port" };
    Some(Finding::failed(
        "low ports",
        format!("{plural} {low}: users other than root may listen on ports from {first} on"),
        format!(
            "as root, for every user: `echo net.ipv4.ip_unprivileged_port_start={lowest} > \
             /etc/sysctl.d/50-crossfade.conf && sysctl --system`; or for the controller alone: run \
             `crossfade serve` as a system service with `User=` and \
             `AmbientCapabilities=CAP_NET_BIND_SERVICE`; or choose another port"
        ),
    ))
}

/// Whether `/etc/subuid` or `/etc/subgid` gives the user ids of its own.
fn has_range(text: &str, user: &str, id: u32) -> bool {
    let id = id.to_string();
    text.lines().any(|line| {
        let mut parts = line.split(':');
        let whose = parts
            .next()
            .is_some_and(|whose| whose == user || whose == id);
        let count: u32 = parts
            .nth(1)
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        whose && count > 0
    })
}

fn files(findings: &mut Vec<Finding>) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    findings.push(match limit {
        u64::MAX => Finding::ok("open files", "no limit"),
        limit if limit < ENOUGH_FILES => Finding::warning(
            "open files",
            format!("the limit is {limit} per process: every client and every request takes one"),
            "`ulimit -n 65536`, or `LimitNOFILE=65536` in the unit",
        ),
        limit => Finding::ok("open files", format!("the limit is {limit} per process")),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_users_by_name_or_by_number() {
        let text = "ann:100000:65536\n1001:165536:65536\nbob:1:0\n";
        assert!(has_range(text, "ann", 7));
        assert!(has_range(text, "eve", 1001));
        assert!(!has_range(text, "bob", 7), "an empty one is none");
        assert!(!has_range(text, "an", 100_000));
    }

    #[test]
    fn a_low_port_is_named_with_both_ways_to_have_it() {
        assert_eq!(low_port(&[1024, 8080].into(), 1024), None);
        assert_eq!(low_port(&[80].into(), 80), None);
        let found = low_port(&[443, 80, 8080].into(), 1024).expect("two are low");
        assert!(found.text.starts_with("ports 80, 443: "), "{found:?}");
        let fix = found.fix.expect("a fix");
        assert!(
            fix.contains("ip_unprivileged_port_start=80 > /etc/sysctl.d/"),
            "{fix}"
        );
        assert!(
            fix.contains("AmbientCapabilities=CAP_NET_BIND_SERVICE"),
            "{fix}"
        );
        let one = low_port(&[443].into(), 1024).expect("it is low");
        assert!(one.text.starts_with("port 443: "), "{one:?}");
    }

    #[test]
    fn a_version_has_a_first_number() {
        assert_eq!(major("4.3.1"), 4);
        assert_eq!(major("5.0.0-rc1"), 5);
        assert_eq!(major("?"), 0);
    }
}
