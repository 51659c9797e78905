//! Lines as datagrams for syslog, in the form that programs on the same host send (RFC 3164).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::lost::Failed;

/// Facility local7, severity info, as nginx has them: 23 × 8 + 6.
const PRIORITY: u32 = 190;
/// How long one line may take until the socket has room for it.
const MAX_BLOCKED: Duration = Duration::from_secs(1);

/// A unix socket on which syslog listens.
pub(super) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    clock: Clock,
    datagram: Vec<u8>,
}

impl Syslog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            socket: None,
            clock: Clock::new(),
            datagram: Vec::new(),
        }
    }

    /// Sends each line as a datagram. One that is refused costs those behind it, too: the next lines
    /// find out whether syslog is back.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let mut written = 0;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.frame(line.strip_suffix(b"\n").unwrap_or(line));
            // syslog may have been started anew since the last line.
            let sent = self.send().or_else(|_| {
                self.socket = None;
                self.send()
            });
            sent.map_err(|error| {
                self.socket = None;
                Failed {
                    written,
                    why: format!("{}: {error}", self.path.display()),
                }
            })?;
            written += line.len();
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            socket.set_write_timeout(Some(MAX_BLOCKED))?;
            self.socket = Some(socket);
        }
        match &self.socket {
            Some(socket) => socket.send(&self.datagram).map(drop),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn frame(&mut self, line: &[u8]) {
        self.datagram.clear();
        let moment = self.clock.at(Instant::now());
        let head = format!(
            "<{PRIORITY}>{} crossfade-proxy[{}]: ",
            moment.syslog,
            std::process::id()
        );
        self.datagram.extend_from_slice(head.as_bytes());
        self.datagram.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn each_line_is_a_datagram_and_a_syslog_that_comes_back_gets_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut syslog = Syslog::new(path.clone());
        let failed = syslog.write(b"lost\n").unwrap_err();
        assert!(failed.why.contains("No such file"), "{failed:?}");

        let daemon = UnixDatagram::bind(&path).unwrap();
        syslog.write(b"one\ntwo\n").unwrap();
        let (one, two) = (received(&daemon), received(&daemon));
        let tag = format!(" crossfade-proxy[{}]: one", std::process::id());
        assert!(one.starts_with("<190>") && one.ends_with(&tag), "{one}");
        assert!(two.ends_with(": two"), "{two}");
        // `Nov 30 10:04:05`, the day padded with a space.
        assert_eq!(one.len() - tag.len() - "<190>".len(), 15, "{one}");

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(syslog.write(b"three\nfour\n").unwrap_err().written, 0);
        let daemon = UnixDatagram::bind(&path).unwrap();
        syslog.write(b"five\n").unwrap();
        assert!(received(&daemon).ends_with(": five"));
    }
}
