//! What is to be run, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use tests::zero_downtime::{Extent, Row};

/// The soak's own flags.
#[derive(Debug, Parser)]
#[command(about, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// How long all rows that go on for a time take together; the first takes 30% of it
    #[arg(long, default_value = "33m", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How often each thing is done that happens once
    #[arg(long, default_value_t = 50)]
    pub(crate) rounds: usize,
    /// What dice are thrown by; another one each time without this
    #[arg(long)]
    seed: Option<u32>,
    /// Only these rows
    #[arg(long, value_delimiter = ',', value_parser = names())]
    rows: Vec<String>,
    /// This machine does other things too: less load, and only what clients lose is a failure
    #[arg(long)]
    pub(crate) shared: bool,
    /// Write the report there, as JSON
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Be an origin that can be killed: what a row of this program starts
    #[command(hide = true)]
    Origin { number: u32, port: u16 },
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(Row::ALL.map(Row::name))
}

impl Options {
    /// What is to be run, in the order of the table.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let is_named = |row: &Row| self.rows.iter().any(|name| name == row.name());
        let all = Row::ALL.into_iter();
        all.filter(|row| self.rows.is_empty() || is_named(row))
            .collect()
    }

    /// How much of a row.
    pub(crate) fn extent(&self, row: Row) -> Extent {
        Extent {
            time: self.duration * row.share().unwrap_or(0) / 100,
            rounds: self.rounds,
            seed: self.seed.unwrap_or_else(std::process::id).into(),
        }
    }
}
