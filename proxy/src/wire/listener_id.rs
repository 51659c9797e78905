//! Where a listener is, as processes of the proxy tell each other: its name, or its address.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What tells a listener from others. Addresses alone would not: those of named listeners belong to
/// another network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub(crate) enum ListenerId {
    Address(SocketAddr),
    Named(Arc<str>),
}

/// For people.
impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl From<ListenerId> for String {
    fn from(id: ListenerId) -> Self {
        match id {
            ListenerId::Address(address) => address.to_string(),
            // A name may look like an address.
            ListenerId::Named(name) => format!("={name}"),
        }
    }
}

impl From<String> for ListenerId {
    fn from(text: String) -> Self {
        match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Named(text.strip_prefix('=').unwrap_or(&text).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_an_address_stays_a_name_and_addresses_are_as_they_were() {
        let address: SocketAddr = "0.0.0.0:80".parse().unwrap();
        for (id, text) in [
            (ListenerId::Address(address), "\"0.0.0.0:80\""),
            (ListenerId::Named("0.0.0.0:80".into()), "\"=0.0.0.0:80\""),
            (ListenerId::Named("=web".into()), "\"==web\""),
        ] {
            assert_eq!(serde_json::to_string(&id).unwrap(), text);
            assert_eq!(serde_json::from_str::<ListenerId>(text).unwrap(), id);
        }
    }
}
