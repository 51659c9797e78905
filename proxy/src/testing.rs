//! What unit tests share: requests made of text, services made of JSON, and picks in them.

pub(crate) mod hot_path;

use std::collections::HashMap;
use std::sync::Arc;

use admin_api::ServiceSpec;
use admin_api::strict::from_json;

use crate::table::definition::Definition;
use crate::table::routing_hints::RoutingHints;
use crate::table::service::{Drained, Service};
use crate::table::timeouts::Timeouts;
use crate::table::version::Resolved;
use crate::wire::h1::head::{MAX_FIELDS, read_request};
use crate::wire::head::{Head, Message};

/// Reads a request's head with these field lines.
pub(crate) fn with_request<T>(lines: &str, read: impl FnOnce(Message<'_>) -> T) -> T {
    let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let mut head = Head::default();
    read_request(text.as_bytes(), MAX_FIELDS, &mut head).unwrap();
    read(head.over(text.as_bytes()))
}

/// The definition that this JSON asks for.
pub(crate) fn definition(json: &str) -> Arc<Definition> {
    let spec = from_json::<ServiceSpec>(json.as_bytes()).unwrap();
    Arc::new(Definition::check(&spec).unwrap())
}

/// The service of a proxy with one worker.
pub(crate) fn service(json: &str, previous: Option<&Service>) -> Service {
    service_without(json, previous, &Drained::new())
}

pub(crate) fn service_without(
    json: &str,
    previous: Option<&Service>,
    drained: &Drained,
) -> Service {
    Service::new(
        definition(json),
        &Timeouts::default(),
        previous,
        &Resolved::new(),
        1,
        drained,
    )
}

/// A request that is balanced by this key.
pub(crate) fn key_hints(key: u64) -> RoutingHints {
    RoutingHints {
        key: Some(key),
        ..RoutingHints::NONE
    }
}

/// How often each endpoint is picked in `n` picks, each ended at once.
pub(crate) fn picks(service: &Service, n: usize) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for _ in 0..n {
        let Some(pick) = service.claim(0, &RoutingHints::NONE) else {
            continue;
        };
        pick.endpoint.claims.release(0);
        *counts.entry(pick.endpoint.address.to_string()).or_default() += 1;
    }
    counts
}
