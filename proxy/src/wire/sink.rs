//! Where header fields are written to, on whatever wire.

use crate::wire::head::Line;

/// Where a head is written to, on whatever wire.
pub(crate) trait Sink {
    /// Adds a field whose value is these parts, one after the other.
    fn add(&mut self, name: &[u8], value: &[&[u8]]);

    /// Adds a field as it came.
    fn pass(&mut self, line: Line<'_>) {
        self.add(line.name, &[line.value]);
    }
}

/// As lines of HTTP/1.1.
impl Sink for Vec<u8> {
    fn add(&mut self, name: &[u8], value: &[&[u8]]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        for part in value {
            self.extend_from_slice(part);
        }
        self.extend_from_slice(b"\r\n");
    }

    fn pass(&mut self, line: Line<'_>) {
        match line.whole {
            Some(whole) => self.extend_from_slice(whole),
            None => self.add(line.name, &[line.value]),
        }
    }
}
