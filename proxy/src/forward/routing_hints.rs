//! Reads from a request what it says about where it goes.
//!
//! Most say nothing, or are not asked: then nothing of them is read.

use std::net::IpAddr;

use http::HeaderValue;

use crate::table::balance::Balance;
use crate::table::cookie_key::CookieKey;
use crate::table::definition::Definition;
use crate::table::force::Force;
use crate::table::key::KeySource;
use crate::table::rendezvous::hash;
use crate::table::routing_hints::RoutingHints;
use crate::wire::fields::cookie;
use crate::wire::head::Message;
use crate::wire::peer::Peer;

/// Balancing by hash has to agree between workers, restarts and proxies.
const BALANCE_KEY: (u64, u64) = (0x6372_6f73_7366_6164, 0x652e_6261_6c61_6e63);

/// Reads what the service listens to of a request. Sticky cookies are of this key.
pub(crate) fn of(
    definition: &Definition,
    cookie_key: &CookieKey,
    request: Message<'_>,
    peer: &Peer,
) -> RoutingHints {
    let mut hints = RoutingHints::NONE;
    if let Some(force) = &definition.force {
        // Versions of a service are in the order of its split.
        let place = |label: &[u8]| {
            let mut labels = definition.split.keys();
            labels.position(|known| known.as_bytes() == label)
        };
        hints.version = label(force, request, peer).and_then(place);
    }
    if let (Some(sticky), None) = (&definition.sticky, hints.version) {
        let value = value(&sticky.source, request);
        hints.client = sticky.client(value, cookie_key, rand::random);
    }
    if let Balance::Hash(source) = &definition.balance {
        hints.key = key(source, request, peer);
    }
    hints
}

/// The `Set-Cookie` that the response has to carry.
pub(crate) fn set_cookie(
    hints: &RoutingHints,
    definition: &Definition,
    cookie_key: &CookieKey,
) -> Option<HeaderValue> {
    let id = hints.client.to_tell()?;
    definition.sticky.as_ref()?.set_cookie(id, cookie_key)
}

/// The label that a request names, if its client is known and may name one.
fn label<'m>(force: &Force, request: Message<'m>, peer: &Peer) -> Option<&'m [u8]> {
    let header = force.header.as_ref();
    let by_cookie = || cookie(request, force.cookie.as_deref()?);
    let label = header
        .and_then(|name| request.named(name.as_str()).next())
        .or_else(by_cookie)?;
    force.allows(peer.client(request)?).then_some(label)
}

fn key(source: &KeySource, request: Message<'_>, peer: &Peer) -> Option<u64> {
    let hashed = |bytes: &[u8]| hash(BALANCE_KEY, &[bytes]);
    match source {
        KeySource::Address => Some(match peer.client(request)? {
            IpAddr::V4(ip) => hashed(&ip.octets()),
            IpAddr::V6(ip) => hashed(&ip.octets()),
        }),
        KeySource::Header(_) | KeySource::Cookie(_) => value(source, request).map(hashed),
    }
}

/// What a request has in a header field or a cookie.
fn value<'m>(source: &KeySource, request: Message<'m>) -> Option<&'m [u8]> {
    match source {
        KeySource::Address => None,
        KeySource::Header(name) => request.named(name.as_str()).next(),
        KeySource::Cookie(name) => cookie(request, name),
    }
}
