//! The command line, and the checked selection.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::gate::GateOptions;
use crate::judge::JudgeOptions;
use crate::origin::OriginOptions;
use crate::peers::{Installed, Peer};
use crate::rounds::Effort;
use crate::work::Work;

/// Many short rounds: other activity of the machine then meets all contenders of a round alike.
const ROUNDS: u16 = 32;

/// Compares crossfade's proxy with its peers: the same work in the same run.
#[derive(Debug, Parser)]
#[command(name = "crossfade-bench", version)]
pub(crate) struct Options {
    /// Another task than the benchmark.
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) bench: BenchOptions,
}

/// The benchmark's options.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchOptions {
    /// The peers to compare with; default: all that are installed.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// The workloads; default: all.
    #[arg(long, value_enum, value_delimiter = ',')]
    work: Vec<Work>,
    /// The number of rounds.
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// The length of a round. Where latency is compared, and for uploads, rounds are four times as
    /// long and a quarter as many.
    #[arg(long, default_value = "250ms", value_parser = humantime::parse_duration)]
    round: Duration,
    /// Repeat the whole run this many times, and report how much the ratios differ.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(crate) repeat: u8,
    /// Folders with the programs; they come before PATH.
    #[arg(long = "programs", value_name = "FOLDER")]
    programs: Vec<PathBuf>,
    /// The first of the 100 ports on loopback that the benchmark uses.
    #[arg(long, default_value_t = 9600, value_parser = clap::value_parser!(u16).range(1024..=9900))]
    pub(crate) port: u16,
    /// Write results.json, RESULTS.md and results.svg into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) write: Option<PathBuf>,
}

/// The other tasks of this program.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Counts instructions per request with callgrind.
    Callgrind {
        #[command(flatten)]
        bench: BenchOptions,
    },
    /// Fails if the proxy needs more instructions per request than its parent commit.
    Gate {
        #[command(flatten)]
        gate: GateOptions,
    },
    /// Simulates the verdicts on rollouts.
    Judge {
        #[command(flatten)]
        judge: JudgeOptions,
    },
    /// Writes RESULTS.md and results.svg again from results.json, without a measurement.
    Report {
        /// The folder of the three files.
        folder: PathBuf,
    },
    /// Serves as the origin behind the proxies.
    #[command(hide = true)]
    Origin {
        #[command(flatten)]
        origin: OriginOptions,
    },
    /// Executes another program on certain cores.
    #[command(hide = true)]
    Launch {
        #[arg(long, value_delimiter = ',')]
        cores: Vec<usize>,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

/// The checked selection: what to measure.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The peers that take part, crossfade first.
    pub(crate) installed: Vec<Installed>,
    /// The peers that are not installed.
    pub(crate) absent: Vec<Peer>,
    /// The workloads.
    pub(crate) works: Vec<Work>,
    /// The number and length of rounds.
    pub(crate) effort: Effort,
}

impl BenchOptions {
    /// Finds the programs.
    ///
    /// # Errors
    /// If a peer that was named is not installed.
    pub(crate) fn check(&self) -> Result<Selection> {
        let mut installed = Vec::new();
        let mut absent = Vec::new();
        for peer in Peer::ALL {
            let named = self.peers.contains(&peer) || peer == Peer::Crossfade;
            if !named && !self.peers.is_empty() {
                continue;
            }
            match Installed::find(peer, &self.programs) {
                Some(found) => installed.push(found),
                None if named => {
                    let hint = match peer {
                        Peer::Crossfade => "make build",
                        _ => "make bench-setup",
                    };
                    let name = peer.name();
                    return Err(Error::Usage(format!("{name} is not installed: {hint}")));
                }
                None => absent.push(peer),
            }
        }
        let all = <Work as clap::ValueEnum>::value_variants();
        let mut works = match self.work.as_slice() {
            [] => all.to_vec(),
            some => some.to_vec(),
        };
        works.sort_unstable();
        works.dedup();
        Ok(Selection {
            installed,
            absent,
            works,
            effort: Effort {
                rounds: self.rounds.into(),
                round: self.round.max(Duration::from_millis(100)),
            },
        })
    }

    /// The make command that repeats this run.
    pub(crate) fn make_command(&self) -> String {
        let mut command = "make bench".to_owned();
        let names = |names: Vec<&str>| names.join(",");
        if !self.peers.is_empty() {
            let peers = self.peers.iter().map(|peer| peer.name()).collect();
            command.push_str(&format!(" PEERS={}", names(peers)));
        }
        if !self.work.is_empty() {
            let works = self.work.iter().map(|work| work.name()).collect();
            command.push_str(&format!(" WORK={}", names(works)));
        }
        if self.rounds != ROUNDS {
            command.push_str(&format!(" ROUNDS={}", self.rounds));
        }
        if self.repeat != 1 {
            command.push_str(&format!(" REPEAT={}", self.repeat));
        }
        if self.write.is_some() {
            command.push_str(" WRITE=1");
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn options(arguments: &[&str]) -> BenchOptions {
        let arguments = [&["crossfade-bench"], arguments].concat();
        Options::try_parse_from(arguments).unwrap().bench
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn every_work_and_peer_parses_from_its_name() {
        use clap::ValueEnum;
        for work in Work::value_variants() {
            assert_eq!(Work::from_str(work.name(), false), Ok(*work));
        }
        for peer in Peer::ALL {
            assert_eq!(Peer::from_str(peer.name(), false), Ok(peer));
        }
    }

    #[test]
    fn the_make_command_repeats_the_run() {
        assert_eq!(options(&[]).make_command(), "make bench");
        let short = options(&[
            "--peers",
            "nginx,haproxy",
            "--work",
            "small",
            "--rounds",
            "3",
            "--repeat",
            "2",
        ]);
        assert_eq!(
            short.make_command(),
            "make bench PEERS=nginx,haproxy WORK=small ROUNDS=3 REPEAT=2"
        );
    }
}
