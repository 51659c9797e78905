//! The fields of a message of HTTP/2, as they are written.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::sink::Sink;

/// Fields of a usual message, and the bytes of their values.
const USUAL_FIELDS: usize = 16;
const USUAL_BYTES: usize = 512;

/// Fields whose values share one buffer.
pub(crate) struct Fields {
    map: HeaderMap,
    values: BytesMut,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            map: HeaderMap::with_capacity(USUAL_FIELDS),
            values: BytesMut::with_capacity(USUAL_BYTES),
        }
    }
}

impl Fields {
    pub(crate) fn into_map(self) -> HeaderMap {
        self.map
    }
}

/// A name or value that came over the wire is one here too.
impl Sink for Fields {
    fn add(&mut self, name: &[u8], value: &[&[u8]]) {
        for part in value {
            self.values.extend_from_slice(part);
        }
        let value = HeaderValue::from_maybe_shared(self.values.split().freeze());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            self.map.append(name, value);
        }
    }

    fn take_out(&mut self, names: &[HeaderName]) {
        for name in names {
            self.map.remove(name);
        }
    }
}
