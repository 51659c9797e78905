//! `systemctl`, for the system's manager or a user's own.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::error::{Error, Result};

/// `systemctl start` waits for the controller, which takes up what runs first.
const TIMEOUT: Duration = Duration::from_secs(100);
/// The first systemd with everything that the unit says (`ProtectHostname`, `ProtectClock`).
const OLDEST: u32 = 245;

/// A manager.
pub(super) struct Systemctl {
    is_of_user: bool,
}

impl Systemctl {
    /// The manager, if it responds.
    pub(super) async fn of(is_of_user: bool) -> Result<Self> {
        let systemctl = Self { is_of_user };
        let said = systemctl.output("systemctl", &["--version"]).await?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        match version(&text) {
            Some(version) if version >= OLDEST => Ok(systemctl),
            Some(version) => Err(Error::refused(format!(
                "systemd {version} is too old: {OLDEST} or newer is needed. `crossfade install --print` shows \
                 the unit, to be written by hand without the lines that this one does not know"
            ))),
            None => Err(Error::refused(format!(
                "`systemctl --version` said {:?}, and no version",
                text.lines().next().unwrap_or_default()
            ))),
        }
    }

    /// Has it done, or says what it said.
    pub(super) async fn run(&self, args: &[&str]) -> Result<()> {
        let all = self.with_manager(args);
        let output = self.output("systemctl", &all).await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "`systemctl {}` failed: {}",
                all.join(" "),
                last_line(&output)
            ))),
        }
    }

    pub(super) async fn is_active(&self, unit: &str) -> bool {
        let args = self.with_manager(&["is-active", "--quiet", unit]);
        let output = self.output("systemctl", &args).await;
        output.is_ok_and(|output| output.status.success())
    }

    /// Refuses where the manager has no such unit.
    pub(super) async fn must_have(&self, unit: &str) -> Result<()> {
        let args = self.with_manager(&["cat", "--no-pager", unit]);
        let output = self.output("systemctl", &args).await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "systemd has no {unit}, by which the controller speaks with podman: install podman's units \
                 (Debian and Fedora have them in the package podman)"
            ))),
        }
    }

    /// Lets the user's services start without a login. Gives whether that was not so before.
    pub(super) async fn enable_linger(&self) -> Result<bool> {
        let show = ["show-user", "--property=Linger", "--value"];
        // A user without a session is not known, and does not linger.
        let lingers = self.output("loginctl", &show).await?;
        if String::from_utf8_lossy(&lingers.stdout).trim() == "yes" {
            return Ok(false);
        }
        let output = self.output("loginctl", &["enable-linger"]).await?;
        match output.status.success() {
            true => Ok(true),
            false => Err(Error::refused(format!(
                "the unit runs, but starts only when you log in: `loginctl enable-linger` failed: {}; \
                 ask root for `loginctl enable-linger USER`",
                last_line(&output)
            ))),
        }
    }

    fn with_manager<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        let manager = self.is_of_user.then_some("--user");
        manager.into_iter().chain(args.iter().copied()).collect()
    }

    async fn output(&self, program: &str, args: &[&str]) -> Result<Output> {
        let command = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let shown = || format!("`{program} {}`", args.join(" "));
        match timeout(TIMEOUT, command).await {
            Err(_) => Err(Error::unavailable(format!(
                "{} did not end within {} s",
                shown(),
                TIMEOUT.as_secs()
            ))),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::unavailable(format!(
                    "this host has no `{program}`: without systemd, have your init system run the command of \
                     `crossfade install --print`"
                )))
            }
            Ok(output) => output.map_err(Error::caused(
                crate::error::Exit::UNAVAILABLE,
                format!("{} cannot be run", shown()),
            )),
        }
    }
}

/// Of `systemd 252 (252.22-1~deb12u1)`.
fn version(text: &str) -> Option<u32> {
    let rest = text.strip_prefix("systemd ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_distributions_write_it() {
        for (text, want) in [
            ("systemd 252 (252.22-1~deb12u1)\n+PAM +AUDIT", Some(252)),
            ("systemd 257~rc1\n", Some(257)),
            ("systemd 239\n", Some(239)),
            ("busybox", None),
        ] {
            assert_eq!(version(text), want, "{text}");
        }
    }
}
