//! What a controller tells piece by piece, cut into lines.

use std::io::{self, IsTerminal, Write};

use program::text::plain_lines;
use serde::Serialize;

/// Gives every whole line, without its end, to `take`.
pub(super) struct Lines<F> {
    rest: Vec<u8>,
    take: F,
}

impl<F: FnMut(&[u8]) -> io::Result<()>> Lines<F> {
    pub(super) fn new(take: F) -> Self {
        Self {
            rest: Vec::new(),
            take,
        }
    }
}

impl<F: FnMut(&[u8]) -> io::Result<()>> Write for Lines<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            (self.take)(&line[..end])?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the output of containers goes: to a terminal it goes without anything that steers it,
/// and elsewhere as it is.
pub(super) struct Shown<W> {
    out: W,
    is_terminal: bool,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl<W: Write + IsTerminal> Shown<W> {
    pub(super) fn new(out: W) -> Self {
        let is_terminal = out.is_terminal();
        Self {
            out,
            is_terminal,
            rest: Vec::new(),
        }
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            self.out.write_all(bytes)?;
            return Ok(bytes.len());
        }
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        let whole: Vec<u8> = self.rest.drain(..whole).collect();
        let text = String::from_utf8_lossy(&whole);
        self.out.write_all(plain_lines(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line of `logs`, for programs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct LogLine {
    container: String,
    line: String,
}

impl LogLine {
    /// Of `web-1 | listening`.
    pub(super) fn of(line: &[u8]) -> Self {
        let line = String::from_utf8_lossy(line);
        let (container, line) = line.split_once(" | ").unwrap_or(("", &line));
        Self {
            container: container.trim_end().to_owned(),
            line: line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_goes_as_it_is_but_to_a_terminal() {
        let shown = |is_terminal, pieces: &[&[u8]]| {
            let rest = Vec::new();
            let out = Vec::new();
            let mut shown = Shown {
                out,
                is_terminal,
                rest,
            };
            for piece in pieces {
                shown.write_all(piece).expect("taken");
            }
            String::from_utf8(shown.out).expect("text")
        };
        let (first, second) = "web-1 | \u{1b}[31mgrüße\u{202e}\n".as_bytes().split_at(16);
        assert!(
            std::str::from_utf8(first).is_err(),
            "cut within a character"
        );
        let pieces = [first, second];
        assert_eq!(shown(false, &pieces), "web-1 | \u{1b}[31mgrüße\u{202e}\n");
        assert_eq!(shown(true, &pieces), "web-1 | \\u{1b}[31mgrüße\\u{202e}\n");
    }

    #[test]
    fn lines_may_come_in_pieces() {
        let mut seen = Vec::new();
        let mut lines = Lines::new(|line: &[u8]| {
            seen.push(LogLine::of(line));
            Ok(())
        });
        for piece in ["web-1 | a", " | b\nweb", "-2 | \nrest"] {
            lines.write_all(piece.as_bytes()).expect("taken");
        }
        let of = |container: &str, line: &str| LogLine {
            container: container.into(),
            line: line.into(),
        };
        assert_eq!(seen, [of("web-1", "a | b"), of("web-2", "")]);
    }
}
