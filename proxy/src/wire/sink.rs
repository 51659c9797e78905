//! Where header fields are written to, on whatever wire.

use http::HeaderName;

use crate::wire::head::{Line, is_alike};

/// Where a head is written to, on whatever wire.
pub(crate) trait Sink {
    /// Adds a field whose value is these parts, one after the other.
    fn add(&mut self, name: &[u8], value: &[&[u8]]);

    /// Takes out the fields with these names.
    fn take_out(&mut self, names: &[HeaderName]);

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

    fn take_out(&mut self, names: &[HeaderName]) {
        let (mut kept, mut start) = (0, 0);
        while start < self.len() {
            let length = memchr::memchr(b'\n', &self[start..]).map(|at| at + 1);
            let end = length.map_or(self.len(), |length| start + length);
            if !is_one_of(&self[start..end], names) {
                self.copy_within(start..end, kept);
                kept += end - start;
            }
            start = end;
        }
        self.truncate(kept);
    }

    fn pass(&mut self, line: Line<'_>) {
        match line.whole {
            Some(whole) => self.extend_from_slice(whole),
            None => self.add(line.name, &[line.value]),
        }
    }
}

/// Whether a line has the field of one of these names. CGI, WSGI and PHP take `_` for `-`, so one that
/// has that is the same field.
fn is_one_of(line: &[u8], names: &[HeaderName]) -> bool {
    names.iter().any(|name| {
        let name = name.as_str().as_bytes();
        line.get(name.len()) == Some(&b':') && is_alike(&line[..name.len()], name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_out_of_lines_by_their_names() {
        let names = ["x-a", "x-b"].map(HeaderName::from_static);
        let lines =
            "HTTP/1.1 200 x-a: 1\r\nx-a: 1\r\nX-A-B: x-a: 2\r\nX_b:\r\nx-c: x-b\r\nX-A: 3\r\n";
        let mut to = lines.as_bytes().to_vec();
        to.take_out(&names);
        let want = "HTTP/1.1 200 x-a: 1\r\nX-A-B: x-a: 2\r\nx-c: x-b\r\n";
        assert_eq!(String::from_utf8(to).unwrap(), want);
        let mut to = b"GET / HTTP/1.1\r\nx-a: 1\r\n".to_vec();
        to.take_out(&names);
        assert_eq!(to, b"GET / HTTP/1.1\r\n");
        to.clear();
        to.take_out(&names);
        assert!(to.is_empty());
    }
}
