//! Header compression (RFC 7541): an encoder of which every piece can be had, so that a case can
//! put them together wrongly, and a strict decoder.

use std::collections::VecDeque;

use super::huffman;

/// A field: its name and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// An integer with a prefix of so many bits, below these upper bits.
pub fn integer(upper: u8, prefix: u8, value: usize) -> Vec<u8> {
    let limit = (1 << prefix) - 1;
    if value < limit {
        return vec![upper | value as u8];
    }
    let mut bytes = vec![upper | limit as u8];
    let mut rest = value - limit;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// A string as it is.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&integer(0, 7, text.len())[..], text].concat()
}

/// A string that is said to be Huffman-coded: these bytes are sent.
pub fn coded(bytes: &[u8]) -> Vec<u8> {
    [&integer(0x80, 7, bytes.len())[..], bytes].concat()
}

/// A string, Huffman-coded.
pub fn huffman(text: &str) -> Vec<u8> {
    coded(&huffman::encode(text.as_bytes()))
}

/// A field that is in a table.
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A literal that goes into no table.
pub fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A literal that never may.
pub fn never_indexed(name: &str, value: &str) -> Vec<u8> {
    [vec![0x10], string(name), string(value)].concat()
}

/// A literal that goes into the dynamic table.
pub fn inserted(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// A literal that goes into the dynamic table, with the name of an entry.
pub fn inserted_under(index: usize, value: &str) -> Vec<u8> {
    [integer(0x40, 6, index), string(value)].concat()
}

/// A new size of the dynamic table.
pub fn resized(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

/// A block of literals.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// Decodes what a server sends.
pub struct Decoder {
    /// Newest first.
    entries: VecDeque<Field>,
    /// What the encoder has set.
    capacity: usize,
    /// Up to where it may go: our `SETTINGS_HEADER_TABLE_SIZE`.
    limit: usize,
    /// The limit has been lowered below the capacity: the next block has to begin with a resize.
    resize_due: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            capacity: 4096,
            limit: 4096,
            resize_due: false,
        }
    }
}

impl Decoder {
    /// Our `SETTINGS_HEADER_TABLE_SIZE`, once it is acknowledged.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.resize_due |= limit < self.capacity;
    }

    /// The fields of a whole block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        let mut input = Input(block);
        while let Some(&first) = input.0.first() {
            if first & 0xe0 == 0x20 {
                let size = input.integer(5)?;
                if !fields.is_empty() || size > self.limit {
                    return Err(format!("a dynamic table of {size} where it may not be"));
                }
                self.resize_due = false;
                self.capacity = size;
                self.evict();
                continue;
            }
            if self.resize_due {
                return Err("no resize of the dynamic table where one is due".to_owned());
            }
            if first & 0x80 != 0 {
                let index = input.integer(7)?;
                fields.push(self.entry(index)?);
                continue;
            }
            let is_inserted = first & 0x40 != 0;
            let field = match input.integer(if is_inserted { 6 } else { 4 })? {
                0 => (input.string()?, input.string()?),
                index => (self.entry(index)?.0, input.string()?),
            };
            if is_inserted {
                self.entries.push_front(field.clone());
                self.evict();
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<Field, String> {
        let entry = match index.checked_sub(1 + STATIC.len()) {
            Some(dynamic) => self.entries.get(dynamic).cloned(),
            None => index
                .checked_sub(1)
                .map(|at| (STATIC[at].0.into(), STATIC[at].1.into())),
        };
        entry.ok_or_else(|| format!("no entry {index} in the tables"))
    }

    fn evict(&mut self) {
        let sizes = |entries: &VecDeque<Field>| -> usize {
            let sizes = entries
                .iter()
                .map(|(name, value)| name.len() + value.len() + 32);
            sizes.sum()
        };
        while sizes(&self.entries) > self.capacity {
            self.entries.pop_back();
        }
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn octet(&mut self) -> Result<u8, String> {
        let (first, rest) = self.0.split_first().ok_or("a block that is cut short")?;
        self.0 = rest;
        Ok(*first)
    }

    fn integer(&mut self, prefix: u8) -> Result<usize, String> {
        let limit = (1 << prefix) - 1;
        let mut value = usize::from(self.octet()?) & limit;
        if value < limit {
            return Ok(value);
        }
        for shift in (0..28).step_by(7) {
            let octet = usize::from(self.octet()?);
            value += (octet & 127) << shift;
            if octet < 128 {
                return Ok(value);
            }
        }
        Err("an integer that is too long".to_owned())
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        let is_coded = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let Some((text, rest)) = self.0.split_at_checked(length) else {
            return Err("a string that is longer than its block".to_owned());
        };
        self.0 = rest;
        if is_coded {
            huffman::decode(text)
        } else {
            Ok(text.to_vec())
        }
    }
}

/// Appendix A; entry 1 is the first.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
