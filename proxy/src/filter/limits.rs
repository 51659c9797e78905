//! Requests that are too many: in a time, or at once.

use std::net::IpAddr;
use std::time::Duration;

use crate::filter::reply::FilterReply;
use crate::filter::subject::Subject;
use crate::table::filter::in_flight::{Counted, InFlight};
use crate::table::filter::rate::{Key, KeyOfLimit, RequestRate};
use crate::table::key::KeySource;
use crate::wire::fields::cookie;
use crate::wire::reply::LocalReply;

/// Bytes of an IPv6 address that one client has for itself.
const NETWORK: usize = 8;

/// Takes a request into account. Gives the response to one that is too much.
pub(super) fn take(rate: &RequestRate, subject: &Subject<'_>) -> Option<FilterReply> {
    let request = subject.request;
    let mut host = Vec::new();
    let value = match &rate.by {
        KeyOfLimit::Host => {
            subject.write_host(&mut host);
            Some(&*host)
        }
        KeyOfLimit::Of(KeySource::Address) => None,
        KeyOfLimit::Of(KeySource::Header(name)) => request.named(name.as_str()).next(),
        KeyOfLimit::Of(KeySource::Cookie(name)) => cookie(request, name),
    };
    let taken = match value {
        Some(value) => rate.take(Key::Value(value)),
        // To leave the value out is no way around the limit.
        None => match subject.client().unwrap_or(subject.peer.ip) {
            IpAddr::V4(ip) => rate.take(Key::Address(&ip.octets())),
            IpAddr::V6(ip) => rate.take(Key::Address(&ip.octets()[..NETWORK])),
        },
    };
    let wait = secs(taken.err()?.wait);
    let (burst, window) = (rate.burst(), secs(rate.window()));
    let reply = FilterReply::new(LocalReply::TooManyRequests);
    let reply = reply.with_field("retry-after", wait.to_string().into());
    let limit = format!("\"default\";r=0;t={wait}");
    let reply = reply.with_field("ratelimit", limit.into());
    let policy = format!("\"default\";q={burst};w={window}");
    Some(reply.with_field("ratelimit-policy", policy.into()))
}

/// Counts a request as long as it is under way.
///
/// # Errors
/// There are too many: the response to it.
pub(super) fn begin(in_flight: &InFlight) -> Result<Counted, FilterReply> {
    let reply = || FilterReply::new(LocalReply::TooManyInFlight);
    let begun = in_flight.begin();
    begun.ok_or_else(|| reply().with_field("retry-after", b"1".to_vec()))
}

/// Whole seconds, one at least.
fn secs(time: Duration) -> u64 {
    (time.as_millis().div_ceil(1000) as u64).max(1)
}
