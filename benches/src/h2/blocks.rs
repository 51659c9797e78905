//! Header blocks (RFC 7541), encoded beforehand.

use super::{GRPC_PATH, grpc_message};

/// The bytes of a request's message over gRPC.
const REQUEST_MESSAGE: u32 = 32;

/// A request: the header block of the first one on a connection, which adds its fields to the
/// dynamic table, and that of the later ones, which refer to them. Browsers do the same.
#[derive(Debug)]
pub(crate) struct Blocks {
    first: Vec<u8>,
    again: Vec<u8>,
    body: Vec<u8>,
    is_grpc: bool,
}

/// The name of a field.
enum Name {
    /// In the static table, at this index: RFC 7541, appendix A.
    Static(u8),
    Literal(&'static str),
}

impl Blocks {
    /// A GET over TLS.
    pub(crate) fn get(host: &str, path: &str) -> Self {
        // `:method: GET` and `:scheme: https`.
        let fixed = [0x82, 0x87];
        let fields = [
            // `:path`, `:authority`, `user-agent`, `accept`.
            (Name::Static(4), path),
            (Name::Static(1), host),
            (Name::Static(58), "crossfade-bench"),
            (Name::Static(19), "*/*"),
        ];
        Self::of(&fixed, &fields, Vec::new(), false)
    }

    /// A unary call of gRPC, without TLS.
    pub(crate) fn grpc(host: &str) -> Self {
        // `:method: POST` and `:scheme: http`.
        let fixed = [0x83, 0x86];
        let fields = [
            (Name::Static(4), GRPC_PATH),
            (Name::Static(1), host),
            // `content-type`.
            (Name::Static(31), "application/grpc"),
            (Name::Literal("te"), "trailers"),
            (Name::Static(58), "crossfade-bench"),
        ];
        Self::of(&fixed, &fields, grpc_message(REQUEST_MESSAGE), true)
    }

    fn of(fixed: &[u8], fields: &[(Name, &str)], body: Vec<u8>, is_grpc: bool) -> Self {
        let mut first = fixed.to_vec();
        let mut again = fixed.to_vec();
        for (index, (name, value)) in fields.iter().enumerate() {
            match name {
                Name::Static(index) => first.push(0x40 | index),
                Name::Literal(name) => {
                    first.push(0x40);
                    string(&mut first, name);
                }
            }
            string(&mut first, value);
            // The newest entry is 62, the one before it 63.
            again.push(0x80 | (62 + fields.len() - 1 - index) as u8);
        }
        Self {
            first,
            again,
            body,
            is_grpc,
        }
    }

    /// The header block of a request.
    pub(super) fn block(&self, is_first: bool) -> &[u8] {
        match is_first {
            true => &self.first,
            false => &self.again,
        }
    }

    /// The body of a request.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the response is one of gRPC, which has trailers.
    pub(super) const fn is_grpc(&self) -> bool {
        self.is_grpc
    }
}

/// A literal field without indexing: RFC 7541, section 6.2.2.
pub(super) fn literal(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    string(out, name);
    string(out, value);
}

/// A string without Huffman coding: RFC 7541, section 5.2.
fn string(out: &mut Vec<u8>, text: &str) {
    integer(out, text.len(), 7);
    out.extend_from_slice(text.as_bytes());
}

/// Encodes an integer (RFC 7541, section 5.1). The bits before the prefix are 0.
fn integer(out: &mut Vec<u8>, value: usize, prefix: u32) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(value as u8);
        return;
    }
    out.push(most as u8);
    let mut left = value - most;
    while left >= 128 {
        out.push((left % 128) as u8 | 128);
        left /= 128;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_requests_refer_to_the_fields_of_the_first() {
        let blocks = Blocks::get("bench.example", "/small");
        assert_eq!(blocks.again, [0x82, 0x87, 0xc1, 0xc0, 0xbf, 0xbe]);
        let path = [&[0x44, 6][..], b"/small"].concat();
        assert_eq!(blocks.first[2..10], path);
    }

    #[test]
    fn a_call_has_a_message_and_accepts_trailers() {
        let blocks = Blocks::grpc("bench.example");
        assert_eq!(blocks.body.len(), 5 + 32);
        assert_eq!(blocks.body[..5], [0, 0, 0, 0, 32]);
        let te = [&[0x40, 2][..], b"te", &[8], b"trailers"].concat();
        let has = |part: &[u8]| blocks.first.windows(part.len()).any(|bytes| bytes == part);
        assert!(has(&te) && has(b"application/grpc"));
        assert_eq!(blocks.again.len(), 2 + 5);
    }

    #[test]
    fn integers_are_those_of_the_rfc() {
        let mut out = Vec::new();
        // RFC 7541, appendix C.1.
        integer(&mut out, 10, 5);
        integer(&mut out, 1337, 5);
        assert_eq!(out, [10, 31, 154, 10]);
    }
}
