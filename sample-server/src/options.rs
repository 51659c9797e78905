//! The command line and the environment variables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::server::ListenAddress;
use crate::share::Share;

/// The exit code for an invalid command line or environment (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

const DEFAULT_VERSION: &str = "1.0.0";

/// A sample service whose responses carry its version.
///
/// `/healthz` is the health check, `/slow?for=2s` responds after that time, `POST /echo` returns
/// the request's body, `/headers` returns the request's head as JSON, `/ws` is a WebSocket that
/// sends the version and then echoes. Every other path returns a message and the version. The
/// options below inject faults into these responses.
#[derive(Debug, Clone, Parser)]
#[command(name = "crossfade-sample-server", version)]
pub struct Options {
    /// The version in responses [default: $CROSSFADE_VERSION, else 1.0.0]
    #[arg(long, env = "VERSION", value_name = "LABEL", hide_env_values = true)]
    version_label: Option<String>,

    /// Set by images of Crossfade; used if VERSION is not set.
    #[arg(long, env = "CROSSFADE_VERSION", hide = true)]
    crossfade_version: Option<String>,

    /// The address to listen on
    #[arg(long, env = "ADDRESS", value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    address: IpAddr,

    /// The port to listen on; 0: a free port, which the first line of output names
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

    /// A unix socket to listen on, in place of an address and a port
    #[arg(long, env = "SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,

    /// The share of responses, 0 to 1, that have status 500, spread evenly
    #[arg(long, env = "ERROR_RATE", value_name = "SHARE", default_value_t = Share::NONE)]
    error_rate: Share,

    /// Wait this long before each response, such as 20ms
    #[arg(long, env = "LATENCY", value_name = "TIME", default_value = "0", value_parser = humantime::parse_duration)]
    latency: Duration,

    /// /healthz is 503 for this long after the start
    #[arg(long, env = "READY_AFTER", value_name = "TIME", default_value = "0", value_parser = humantime::parse_duration)]
    ready_after: Duration,

    /// /healthz is 503 again from this time after the start
    #[arg(long, env = "UNHEALTHY_AFTER", value_name = "TIME", value_parser = humantime::parse_duration)]
    unhealthy_after: Option<Duration>,

    /// Crash, with exit code 1, at the request after this many; health checks do not count
    #[arg(long, env = "CRASH_AFTER", value_name = "REQUESTS")]
    crash_after: Option<u64>,

    /// Send the body in pieces over this time
    #[arg(long, env = "SLOW_BODY", value_name = "TIME", default_value = "0", value_parser = humantime::parse_duration)]
    slow_body: Duration,

    /// The share of responses, 0 to 1, whose body ends half-way
    #[arg(long, env = "CUT_BODY_RATE", value_name = "SHARE", default_value_t = Share::NONE)]
    cut_body_rate: Share,

    /// Pad the body to this many bytes, with a field named `padding`
    #[arg(long, env = "BODY_BYTES", value_name = "BYTES", default_value_t = 0)]
    body_bytes: usize,
}

/// How the server behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The label in every response.
    pub version: String,
    /// The share of responses with status 500.
    pub error_rate: Share,
    /// The wait before each response.
    pub latency: Duration,
    /// `/healthz` is 503 until this time after the start.
    pub ready_after: Duration,
    /// `/healthz` is 503 from this time after the start.
    pub unhealthy_after: Option<Duration>,
    /// The number of requests before the one that crashes the server.
    pub crash_after: Option<u64>,
    /// The time over which a body is sent.
    pub slow_body: Duration,
    /// The share of responses whose body ends half-way.
    pub cut_body_rate: Share,
    /// The size to which a body is padded; 0: no padding.
    pub body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: DEFAULT_VERSION.to_owned(),
            error_rate: Share::NONE,
            latency: Duration::ZERO,
            ready_after: Duration::ZERO,
            unhealthy_after: None,
            crash_after: None,
            slow_body: Duration::ZERO,
            cut_body_rate: Share::NONE,
            body_bytes: 0,
        }
    }
}

impl Options {
    /// Where to listen.
    pub fn listen_address(&self) -> ListenAddress {
        // `SOCKET=` without a value counts as not set.
        match &self.socket {
            Some(path) if !path.as_os_str().is_empty() => ListenAddress::Unix(path.clone()),
            _ => ListenAddress::Ip(SocketAddr::new(self.address, self.port)),
        }
    }

    /// Checks the options.
    pub fn config(self) -> Config {
        // `VERSION=` without a value counts as not set.
        let version = [self.version_label, self.crossfade_version]
            .into_iter()
            .flatten()
            .find(|label| !label.is_empty())
            .unwrap_or_else(|| DEFAULT_VERSION.to_owned());
        Config {
            version,
            error_rate: self.error_rate,
            latency: self.latency,
            ready_after: self.ready_after,
            unhealthy_after: self.unhealthy_after,
            crash_after: self.crash_after,
            slow_body: self.slow_body,
            cut_body_rate: self.cut_body_rate,
            body_bytes: self.body_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(arguments: &[&str]) -> Options {
        let program = std::iter::once(&"crossfade-sample-server");
        Options::try_parse_from(program.chain(arguments)).unwrap()
    }

    #[test]
    fn the_label_of_the_image_counts_only_without_another() {
        assert_eq!(parse(&["--crossfade-version", "3"]).config().version, "3");
        assert_eq!(
            parse(&["--crossfade-version", "3", "--version-label", "2"])
                .config()
                .version,
            "2"
        );
        assert_eq!(
            parse(&["--crossfade-version", "3", "--version-label", ""])
                .config()
                .version,
            "3"
        );
    }

    #[test]
    fn durations_have_a_unit_or_are_zero() {
        assert_eq!(
            parse(&["--latency", "20ms"]).config().latency,
            Duration::from_millis(20)
        );
        assert_eq!(parse(&["--latency", "0"]).config().latency, Duration::ZERO);
        assert!(Options::try_parse_from(["x", "--latency", "20"]).is_err());
    }

    #[test]
    fn a_share_above_one_is_refused() {
        let error = Options::try_parse_from(["x", "--error-rate", "1.5"]).unwrap_err();
        assert!(error.to_string().contains("--error-rate"), "{error}");
    }

    #[test]
    fn an_address_may_be_ipv6() {
        let options = parse(&["--address", "::1", "--port", "0"]);
        assert_eq!(options.listen_address().to_string(), "[::1]:0");
    }
}
