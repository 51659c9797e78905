//! A project's unit: its name, its text, and whether it was changed by hand.

use std::fmt::Write as _;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

use siphasher::sip::SipHasher13;

/// The line that says what the rest of the unit was when it was written.
const CHECKSUM: &str = "# Checksum: ";

/// What a controller under systemd needs to know.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) project: String,
    /// The manifest, which the unit names for its readers.
    pub(super) manifest: PathBuf,
    /// The program.
    pub(super) program: PathBuf,
    /// The state folder.
    pub(super) state: PathBuf,
    /// It belongs to a user's own manager, not to the system's.
    pub(super) is_of_user: bool,
    /// Containers are podman's; what the controller starts are else processes of its own.
    pub(super) on_podman: bool,
}

/// How a unit file that is there came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is as `install` wrote it.
    Ours,
    /// `install` wrote it, and it was changed since.
    Edited,
    /// It was not written by `install`.
    Foreign,
}

/// What no controller on podman needs, and so cannot be made to use. The score of `systemd-analyze
/// security` is tested.
const HARDENING: &str = "\
# The controller speaks with podman by its socket, and starts nothing but hooks.
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
";

impl Unit {
    /// `crossfade-shop.service`.
    pub(super) fn name(&self) -> String {
        match self.project.as_str() {
            "crossfade" => "crossfade.service".to_owned(),
            project => format!("crossfade-{project}.service"),
        }
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let body = self.body();
        format!(
            "# Written by `crossfade install` for {}.\n\
             # To change it, use `systemctl {}edit {}`: a changed file is overwritten only with --force.\n\
             {CHECKSUM}{}\n{body}",
            self.manifest.display(),
            if self.is_of_user { "--user " } else { "" },
            self.name(),
            checksum(&body),
        )
    }

    fn body(&self) -> String {
        let (program, state) = (quoted(&self.program), quoted(&self.state));
        let engine = match self.on_podman {
            true => "Wants=podman.socket\nAfter=podman.socket\n",
            false => "",
        };
        let target = match self.is_of_user {
            true => "default.target",
            false => "multi-user.target",
        };
        let mut body = format!(
            "[Unit]\n\
             Description=Crossfade: project {}\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             # However often it has to be started again.\n\
             StartLimitIntervalSec=0\n\
             {engine}\n\
             [Service]\n\
             Type=notify\n\
             ExecStart={program} --state {state} serve\n\
             Restart=always\n\
             RestartSec=1\n\
             WatchdogSec=30\n\
             # What it has started goes on without it.\n\
             KillMode=process\n\
             LimitNOFILE=1048576\n",
            self.project,
        );
        if self.on_podman && !self.is_of_user {
            let _ = writeln!(body, "{HARDENING}ReadWritePaths={state}");
        }
        let _ = write!(body, "\n[Install]\nWantedBy={target}\n");
        body
    }
}

/// Whether a unit file of this text is one of this state folder.
pub(super) fn is_of(text: &str, state: &Path) -> bool {
    text.contains(&format!(" --state {} serve\n", quoted(state)))
}

/// Who wrote a unit file of this text.
pub(super) fn origin(text: &str) -> Origin {
    let Some((_, rest)) = text.split_once(CHECKSUM) else {
        return Origin::Foreign;
    };
    match rest.split_once('\n') {
        Some((sum, body)) if sum == checksum(body) => Origin::Ours,
        _ => Origin::Edited,
    }
}

fn checksum(body: &str) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(body.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// As systemd reads an argument (`systemd.syntax(7)`, `systemd.service(5)`): in quotes, without
/// specifiers and variables.
fn quoted(path: &Path) -> String {
    let mut quoted = String::from("\"");
    for character in path.display().to_string().chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' | '$' => quoted.extend([character, character]),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit {
        Unit {
            project: "shop".into(),
            manifest: "/srv/shop/crossfade.toml".into(),
            program: "/usr/local/bin/crossfade".into(),
            state: "/var/lib/crossfade/shop".into(),
            is_of_user: false,
            on_podman: true,
        }
    }

    #[test]
    fn a_unit_that_was_changed_is_told_from_ours_and_from_others() {
        let text = unit().text();
        assert_eq!(origin(&text), Origin::Ours);
        assert_eq!(
            origin(&text.replace("RestartSec=1", "RestartSec=9")),
            Origin::Edited
        );
        assert_eq!(origin(&format!("{text}Nice=5\n")), Origin::Edited);
        assert_eq!(origin("[Service]\nExecStart=/bin/true\n"), Origin::Foreign);
    }

    #[test]
    fn paths_are_quoted_as_systemd_reads_them() {
        for (path, want) in [
            ("/srv/a b", "\"/srv/a b\""),
            ("/srv/100%", "\"/srv/100%%\""),
            ("/srv/$HOME", "\"/srv/$$HOME\""),
            ("/srv/\"x\"", "\"/srv/\\\"x\\\"\""),
        ] {
            assert_eq!(quoted(Path::new(path)), want);
        }
    }

    #[test]
    fn a_users_unit_and_one_of_processes_keep_their_privileges() {
        let system = unit().text();
        assert!(system.contains("ProtectSystem=strict") && system.contains("multi-user.target"));
        let user = Unit {
            is_of_user: true,
            ..unit()
        }
        .text();
        assert!(!user.contains("ProtectSystem") && user.contains("WantedBy=default.target"));
        let processes = Unit {
            on_podman: false,
            ..unit()
        }
        .text();
        assert!(!processes.contains("ProtectSystem") && !processes.contains("podman.socket"));
    }
}
