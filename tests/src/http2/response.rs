//! What a server sends on one stream, and what its heads and trailers may be.

use super::Wrong;
use super::frame::Code;
use super::hpack::Field;

/// What came on one stream.
#[derive(Default, Clone)]
pub struct Response {
    /// `:status`, not counting interim responses.
    pub status: Option<u16>,
    /// The fields of the response's head.
    pub fields: Vec<Field>,
    /// Its body, so far.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<Field>,
    /// END_STREAM has come.
    pub ended: bool,
    /// RST_STREAM has come.
    pub reset: Option<Code>,
}

impl Response {
    /// Takes a head or trailers (RFC 9113, 8.2 and 8.3.2).
    pub(super) fn take(&mut self, fields: Vec<Field>, ends: bool) -> Result<(), Wrong> {
        let text = |field: &Field| {
            let (name, value) = field;
            format!(
                "{}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            )
        };
        let is_head = self.status.is_none();
        for (place, field) in fields.iter().enumerate() {
            let (name, value) = field;
            let is_right = match name.strip_prefix(b":") {
                Some(pseudo) => {
                    is_head
                        && place == 0
                        && pseudo == b"status"
                        && value.len() == 3
                        && value.iter().all(u8::is_ascii_digit)
                }
                None => {
                    let plain = |octet: &u8| octet.is_ascii_graphic() && !b":".contains(octet);
                    !name.is_empty()
                        && name.iter().all(plain)
                        && !name.iter().any(u8::is_ascii_uppercase)
                        && !value.iter().any(|octet| b"\0\r\n".contains(octet))
                        && !CONNECTION_SPECIFIC.contains(&&name[..])
                }
            };
            if !is_right {
                return Err(Wrong(format!("a field that may not be: {}", text(field))));
            }
        }
        if !is_head {
            if !ends {
                return Err(Wrong("trailers that do not end their stream".to_owned()));
            }
            self.trailers = fields;
            return self.end();
        }
        let Some((_, status)) = fields.first().filter(|(name, _)| name == b":status") else {
            return Err(Wrong("a response without :status".to_owned()));
        };
        let status = status
            .iter()
            .fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        if status == 101 || status < 200 && ends {
            return Err(Wrong(format!("a response that may not be: {status}")));
        }
        if status >= 200 {
            self.status = Some(status);
            self.fields = fields;
        }
        if ends { self.end() } else { Ok(()) }
    }

    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        self.ended = true;
        let declared = self.field("content-length");
        let length = self.body.len().to_string();
        // A response to HEAD, and a 304, declare what they do not have.
        if !self.body.is_empty() && declared.as_ref().is_some_and(|value| *value != length) {
            return Err(Wrong(format!(
                "a body of {length} bytes with content-length {declared:?}"
            )));
        }
        Ok(())
    }

    /// A field of the head.
    pub fn field(&self, wanted: &str) -> Option<String> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(name, _)| name == wanted.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

/// Fields that speak of an HTTP/1.1 connection (RFC 9113, 8.2.2).
const CONNECTION_SPECIFIC: [&[u8]; 5] = [
    b"connection",
    b"proxy-connection",
    b"keep-alive",
    b"transfer-encoding",
    b"upgrade",
];
