//! The command line.

use std::path::PathBuf;

use clap::Parser;

const EXIT_CODES: &str = "Exit codes:
  0    stopped after SIGTERM or SIGINT, everything in flight finished
  1    a port is taken, or the proxy could not run
  64   wrong flags or a wrong config; the message names file, line and field
  130  a second SIGINT, 143: a second SIGTERM; what was in flight was cut

CROSSFADE_LOG sets the log level: error, warn, info (default) or debug.";

/// A weighted HTTP reverse proxy whose upstream set is swapped while requests are in flight.
#[derive(Debug, Parser)]
#[command(name = "crossfade-proxy", version, after_help = EXIT_CODES)]
pub(crate) struct Flags {
    /// The config file (TOML). It is read again whenever it changes
    #[arg(long, value_name = "FILE", required_unless_present = "hold")]
    pub(crate) config: Option<PathBuf>,

    /// Threads that carry traffic [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,

    /// Wait until the proxy that serves behind `handover.socket` has ended, and serve in its place
    /// then, by the config file as it is then. Where none serves, serve at once
    #[arg(long, conflicts_with = "check")]
    pub(crate) standby: bool,

    /// Check the config, and end
    #[arg(long)]
    pub(crate) check: bool,

    /// Serve nothing and wait for SIGTERM: the process of the container that owns the published
    /// ports of the proxy's containers
    #[arg(long, conflicts_with_all = ["config", "workers", "check", "standby"])]
    pub(crate) hold: bool,
}
