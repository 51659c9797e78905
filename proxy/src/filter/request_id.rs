//! The id of a request: the one that it came with, where that is passed on, or a new one.

use std::io::Write;

use admin_api::AcceptId;

use crate::table::filter::request_id::RequestId;
use crate::wire::head::Message;
use crate::wire::peer::Peer;

/// Longer ids than this are replaced.
const MAX_LENGTH: usize = 128;

/// The id of one request.
#[derive(Debug)]
pub(super) struct Id(Vec<u8>);

impl Id {
    /// The id of this request.
    pub(super) fn of(setting: &RequestId, request: Message<'_>, peer: &Peer) -> Self {
        let is_passed_on = match setting.accept {
            AcceptId::Always => true,
            AcceptId::Trusted => peer.is_trusted(),
            AcceptId::Never => false,
        };
        let header = setting.header.as_ref().filter(|_| is_passed_on);
        let came = header.and_then(|header| {
            let mut values = request.named(header.as_str());
            // Two would be no id.
            values.next().filter(|_| values.next().is_none())
        });
        match came.filter(|id| is_id(id)) {
            Some(id) => Self(id.to_vec()),
            None => Self::new(rand::random()),
        }
    }

    /// An id as nginx makes it: 32 digits.
    fn new(random: u128) -> Self {
        let mut id = Vec::with_capacity(32);
        // Memory takes whatever is written.
        let _ = write!(id, "{random:032x}");
        Self(id)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether a log can have it as it is: no spaces, no quotes, no end of a line.
fn is_id(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:;=+/@~".contains(byte);
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_plain() {
        for id in ["1", "0af7651916cd43dd", "Root=1-67891233-abc", "a:b/c+d=="] {
            assert!(is_id(id.as_bytes()), "{id}");
        }
        for id in ["", "a b", "a\"b", "a,b", "é", "a\tb", &"a".repeat(129)] {
            assert!(!is_id(id.as_bytes()), "{id}");
        }
        assert!(is_id(Id::new(0).as_bytes()) && Id::new(1).as_bytes().len() == 32);
    }
}
