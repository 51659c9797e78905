//! What a controller tells piece by piece, cut into lines.

use std::io::{self, Write};

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
