//! Standard output: lines, tables and JSON.

use std::ffi::OsString;
use std::io::Write;

use clap::ValueEnum;
use program::text::plain_lines;
use serde::Serialize;

use crate::error::{Error, Exit, Result};

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Output {
    /// What a line asks for, also one that is wrong elsewhere.
    pub fn of_line(line: impl Iterator<Item = OsString>) -> Self {
        let line: Vec<OsString> = line.collect();
        let apart = line.windows(2).any(|two| two == ["--output", "json"]);
        match apart || line.iter().any(|one| one == "--output=json") {
            true => Self::Json,
            false => Self::Table,
        }
    }
}

/// Prints `value`: as `table` writes it, or as JSON.
pub(crate) fn print<T: Serialize>(
    output: Output,
    value: &T,
    table: fn(&T) -> String,
) -> Result<()> {
    match output {
        Output::Table => say_raw(&plain_lines(&table(value))),
        Output::Json => {
            let json = serde_json::to_string_pretty(value)
                .map_err(Error::caused(Exit::FAILED, "cannot be shown"))?;
            say(&json)
        }
    }
}

/// A line of JSON.
pub(crate) fn print_line(value: &impl Serialize) -> Result<()> {
    let json =
        serde_json::to_string(value).map_err(Error::caused(Exit::FAILED, "cannot be shown"))?;
    say(&json)
}

/// Prints a line, or several. What steers a terminal is escaped: it came from elsewhere.
pub(crate) fn say(text: &str) -> Result<()> {
    say_raw(&format!("{}\n", plain_lines(text)))
}

/// Prints `text` as it is. A reader that has gone away is no error.
pub(crate) fn say_raw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Error::file("standard output")),
    }
}

/// Columns as wide as their widest cell.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [
            vec!["A".to_owned(), "B".to_owned()],
            vec!["long".to_owned(), "x".to_owned()],
        ];
        assert_eq!(table(&rows), "A     B\nlong  x\n");
    }
}
