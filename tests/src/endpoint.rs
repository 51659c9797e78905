//! An endpoint under test: a real sample server.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;

use crate::{Finished, Running};

/// A running `crossfade-sample-server`.
pub struct TestEndpoint {
    running: Running,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it says its version is.
    pub version: String,
}

impl TestEndpoint {
    /// A good server of this version.
    pub async fn start(version: &str) -> Self {
        Self::with(version, &[]).await
    }

    /// A server of this version, with these flags beside.
    pub async fn with(version: &str, flags: &[&str]) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), version, flags).await
    }

    /// The same at this address.
    pub async fn at(address: SocketAddr, version: &str, flags: &[&str]) -> Self {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let mut args = vec!["--address", &ip, "--port", &port];
        args.extend(["--version-label", version]);
        args.extend(flags);
        let running = Running::start("crossfade-sample-server", &args, &[]);
        let line = running.line_with("listening on ").await;
        let address = line.trim_start_matches("listening on ").split(',').next();
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in `{line}`"));
        Self {
            running,
            address,
            version: version.to_owned(),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits until it has ended.
    pub async fn finished(self) -> Finished {
        self.running.finished().await
    }
}
