//! Which process is meant: a pid alone comes to mean another one when it is used again.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::clock::boot;

/// A process, and no later one that was given the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// Clock ticks from the machine's start to the process's.
    pub(super) start_time: u64,
    /// Of which start of the machine.
    pub(super) boot_id: String,
}

impl Identity {
    /// The process that has this pid now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            start_time: stat.start_time,
            boot_id: boot(),
        })
    }

    /// Whether it runs. One that has ended and was not waited for does not.
    pub(super) fn runs(&self) -> bool {
        let stat = Stat::read(self.pid);
        stat.is_some_and(|stat| !stat.ended && stat.start_time == self.start_time)
            && boot() == self.boot_id
    }

    /// Sends a signal, to this process or to none.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(handle) = self.handle() {
            // It may end by itself in between, which is what was wanted.
            let _ = pidfd_send_signal(handle, signal);
        }
    }

    /// What cannot come to mean another process; `None` where this one has ended.
    pub(super) fn handle(&self) -> Option<OwnedFd> {
        let handle = pidfd_open(self.raw()?, PidfdFlags::empty()).ok()?;
        // The handle is of whatever has the pid. If that is still ours now, it is ours for good.
        self.runs().then_some(handle)
    }

    /// SIGKILL to it and to what it has forked. It must be the leader of its group.
    pub(super) fn kill_group(&self) {
        if let Some(pid) = self.raw()
            && self.runs()
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Whether it has one of these sockets open. Other users' processes are closed to us.
    pub(super) fn holds(&self, inodes: &[u64]) -> bool {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let links = files.into_iter().flatten().flatten();
        links
            .filter_map(|file| fs::read_link(file.path()).ok())
            .filter_map(|link| {
                let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
                inode.parse().ok()
            })
            .any(|inode: u64| inodes.contains(&inode))
    }

    fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

/// Every running process that has `name=value` in the environment it was started with.
pub(super) fn marked(name: &str, value: &str) -> impl Iterator<Item = Identity> {
    let mark = format!("{name}={value}").into_bytes();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(move |pid| {
            // Other users' are closed to us, and not ours.
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|pair| pair == mark))
        })
        .filter_map(Identity::of)
        .filter(Identity::runs)
}

/// The one that was started itself, among those with the mark: it leads their process group.
pub(super) fn leader_marked(name: &str, value: &str) -> Option<Identity> {
    marked(name, value)
        .find(|process| Stat::read(process.pid).is_some_and(|stat| stat.group == process.pid))
}

struct Stat {
    ended: bool,
    group: u32,
    start_time: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// proc_pid_stat(5): the second field is a name in parentheses, with anything in it, so
    /// fields are counted from the last parenthesis. State is field 3, group 5, start time 22.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let start_time = fields.nth(16)?.parse().ok()?;
        Some(Self {
            ended: matches!(state, "Z" | "X" | "x"),
            group,
            start_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 77 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 9000 20 21";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.ended, stat.group, stat.start_time), (false, 77, 9000));
    }

    #[test]
    fn this_process_runs_and_an_older_one_with_its_pid_does_not() {
        let here = Identity::of(std::process::id()).unwrap();
        assert!(here.runs());
        assert!(
            !Identity {
                start_time: here.start_time - 1,
                ..here.clone()
            }
            .runs()
        );
        assert!(
            !Identity {
                boot_id: "another".to_owned(),
                ..here
            }
            .runs()
        );
    }
}
