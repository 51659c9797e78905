//! What this machine lends a process: file descriptors, ports and memory. What fails because it
//! has run out of them says nothing about the side that was to be reached.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

/// How many of so many files are kept for what has to go on when there are no others: the admin
/// API, health checks, the state file, a successor.
const fn reserve(files: u64) -> u64 {
    let eighth = files / 8;
    if eighth < MOST_RESERVED {
        eighth
    } else {
        MOST_RESERVED
    }
}

const MOST_RESERVED: u64 = 1_024;

/// How many files this process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFiles(u64);

impl OpenFiles {
    /// As many as the system lets this process have, from now on.
    pub(crate) fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
        let files = Self::now();
        let before = before.unwrap_or(u64::MAX);
        tracing::info!(files = files.0, before, "limit of open files");
        files
    }

    /// The limit that is in force.
    pub(crate) fn now() -> Self {
        Self(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    /// How many clients all listeners may have together: a client takes one file, and its request
    /// another one, to an endpoint.
    pub(crate) fn clients(self) -> usize {
        let for_clients = (self.0 - reserve(self.0)) / 2;
        usize::try_from(for_clients).unwrap_or(usize::MAX).max(1)
    }

    /// Whether this file is one of those that are kept: a new file gets the lowest free number.
    pub(crate) fn is_reserved(self, file: &impl AsRawFd) -> bool {
        let number = |fd: RawFd| u64::try_from(fd).unwrap_or(0);
        number(file.as_raw_fd()) >= self.0 - reserve(self.0)
    }
}

/// The error of one who finds no file but those that are kept.
pub(crate) fn no_file_left() -> io::Error {
    Errno::MFILE.into()
}

/// Whether this machine has run out of something that a connection needs.
pub(crate) fn are_exhausted(error: &io::Error) -> bool {
    let errnos = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    errnos
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_files_for_endpoints_and_a_reserve() {
        for (files, want) in [(1_024, 448), (4_096, 1_792), (1_048_576, 523_776), (1, 1)] {
            assert_eq!(OpenFiles(files).clients(), want, "{files} files");
        }
        assert!(OpenFiles(u64::MAX).clients() > 1_000_000);
    }

    #[test]
    fn the_last_files_are_kept() {
        struct Number(RawFd);
        impl AsRawFd for Number {
            fn as_raw_fd(&self) -> RawFd {
                self.0
            }
        }
        let files = OpenFiles(1_024);
        assert!(!files.is_reserved(&Number(895)));
        assert!(files.is_reserved(&Number(896)));
        assert!(!OpenFiles(u64::MAX).is_reserved(&Number(RawFd::MAX)));
    }

    #[test]
    fn what_is_ours_is_told_from_what_is_the_endpoints() {
        for (errno, want) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::HOSTUNREACH, false),
        ] {
            assert_eq!(are_exhausted(&errno.into()), want, "{errno}");
        }
        assert!(are_exhausted(&no_file_left()));
    }
}
