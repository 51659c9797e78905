//! What a service does with its requests beside forwarding them: the filters of one request, from its
//! head to the head of its response. `table/filter/` has what they do.
//!
//! ```text
//! access → limits → maintenance → redirect → respond → request headers → (forward) → response headers
//!    │        │          │           │          │                                          ↑
//!    └────────┴──────────┴───────────┴──────────┴── a response of the proxy's own ─────────┘
//! ```
//!
//! [`check`] is called as soon as the service of a request is known, by `forward/mod.rs`, in the table
//! by which the request is forwarded: so no request is forwarded by filters of an older table. What a
//! filter finds of a request stays with it ([`Filtered`]), also where it has to wait.

mod headers;
mod limits;
mod reply;
mod request_id;
mod subject;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use admin_api::Scheme;
use bytes::Bytes;
use http::StatusCode;

use crate::filter::headers::Captured;
use crate::filter::reply::FilterReply;
use crate::filter::request_id::Id;
use crate::filter::template::fill;
use crate::table::endpoint::Endpoint;
use crate::table::filter::Filters;
use crate::table::filter::access::Access;
use crate::table::filter::in_flight::Counted;
use crate::table::filter::replies::{Maintenance, Redirect, Respond};
use crate::table::filter::rewrite::Rewrite;
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;

pub(crate) use crate::filter::subject::Subject;

/// A request whose service has filters: what they found of it.
pub(crate) struct Filtered {
    filters: Arc<Filters>,
    id: Option<Id>,
    /// What its response has of it.
    captured: Captured,
    /// It goes to no endpoint.
    reply: Option<FilterReply>,
    /// It is under way.
    _counted: Option<Counted>,
}

impl Filtered {
    /// The id of the request, where its service gives or passes one on.
    pub(crate) fn request_id(&self) -> Option<&[u8]> {
        self.id.as_ref().map(Id::as_bytes)
    }
}

/// Checks a request by the filters of its service, if it has any and they have not checked it before.
/// What they find is in `filtered` from then on.
///
/// # Errors
/// It goes to no endpoint: `filtered` has its response.
pub(crate) fn check(
    filters: Option<&Arc<Filters>>,
    filtered: &mut Option<Box<Filtered>>,
    subject: &Subject<'_>,
) -> Result<(), LocalReply> {
    let Some(filters) = filters else {
        *filtered = None;
        return Ok(());
    };
    let same = |filtered: &Filtered| Arc::ptr_eq(&filtered.filters, filters);
    if filtered.as_deref().is_some_and(same) {
        return Ok(());
    }
    let found = filtered.insert(Box::new(Filtered::new(filters, subject)));
    match &found.reply {
        Some(reply) => Err(reply.reason()),
        None => Ok(()),
    }
}

impl Filtered {
    fn new(filters: &Arc<Filters>, subject: &Subject<'_>) -> Self {
        let id = filters.request_id.as_ref();
        let id = id.map(|id| Id::of(id, subject.request, subject.peer));
        let (counted, reply) = match pass(filters, subject, id.as_ref()) {
            Ok(counted) => (counted, None),
            Err(reply) => (None, Some(reply)),
        };
        Self {
            captured: Captured::of(&filters.response, subject, id.as_ref()),
            reply,
            _counted: counted,
            filters: filters.clone(),
            id,
        }
    }

    /// Writes the target that an endpoint gets of the request, if it gets another one.
    pub(crate) fn write_target(&self, subject: &Subject<'_>, to: &mut Vec<u8>) -> bool {
        let Some(rewrite) = self.filters.rewrite.as_ref() else {
            return false;
        };
        subject.write_target(&rewrite.path, to)
    }

    /// Changes the header fields that an endpoint gets of the request.
    pub(crate) fn change_request(&self, subject: &Subject<'_>, to: &mut Vec<u8>) {
        let id = self.id.as_ref();
        headers::apply(&self.filters.request, to, |variable, to| {
            subject.write(variable, id, to);
        });
    }

    /// Changes the header fields that the client gets of the response of this endpoint.
    pub(crate) fn change_response(&self, endpoint: Option<&Endpoint>, to: &mut impl Sink) {
        let rules = &self.filters.response;
        headers::apply(rules, to, |variable, to| {
            self.captured.write(rules, variable, endpoint, to);
        });
    }

    /// The status of its response, where it goes to no endpoint.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.reply.as_ref().map(FilterReply::status)
    }

    /// Writes the header fields of the response of a request that goes to no endpoint, and gives its
    /// body.
    pub(crate) fn write_reply(&self, json: bool, to: &mut impl Sink) -> Option<Bytes> {
        let body = self.reply.as_ref()?.write(json, to);
        self.change_response(None, to);
        Some(body)
    }
}

/// Passes a request through the filters that may respond to it.
///
/// # Errors
/// One of them does.
fn pass(
    filters: &Filters,
    subject: &Subject<'_>,
    id: Option<&Id>,
) -> Result<Option<Counted>, FilterReply> {
    let is_refused = |access: &Access| !access.takes(subject.client());
    if filters.access.as_ref().is_some_and(is_refused) {
        return Err(FilterReply::new(LocalReply::AccessDenied));
    }
    let rate = filters.rate.as_ref();
    let too_many = || rate.and_then(|rate| limits::take(rate, subject));
    let maintenance = filters.maintenance.as_ref();
    let is_closed = || maintenance.and_then(|maintenance| closed(maintenance, subject));
    let redirect = filters.redirect.as_ref();
    let is_elsewhere = || redirect.and_then(|redirect| elsewhere(redirect, subject, id));
    let respond = || filters.respond.as_ref().map(fixed);
    let reply = too_many().or_else(is_closed);
    let rewrite = filters.rewrite.as_ref();
    let rewrite = rewrite.filter(|rewrite| rewrite.has_groups);
    let is_bad = || rewrite.and_then(|rewrite| bad_path(rewrite, subject));
    let reply = reply.or_else(is_elsewhere).or_else(respond);
    match reply.or_else(is_bad) {
        Some(reply) => Err(reply),
        // What is responded to at once is not under way.
        None => filters.in_flight.as_ref().map(limits::begin).transpose(),
    }
}

/// The response to a request whose parts make no path of what a service has for its endpoints: one of
/// them may be `..`.
fn bad_path(rewrite: &Rewrite, subject: &Subject<'_>) -> Option<FilterReply> {
    let is_bad = !subject.makes_path(&rewrite.path);
    is_bad.then(|| FilterReply::new(LocalReply::BadPath))
}

/// The response that every request gets.
fn fixed(respond: &Respond) -> FilterReply {
    let reply = FilterReply::new(LocalReply::Responded).with_status(respond.status);
    reply.with_page(Some(respond.page.clone()))
}

/// The response of a service that is under maintenance, but to clients that are served.
fn closed(maintenance: &Maintenance, subject: &Subject<'_>) -> Option<FilterReply> {
    let is_allowed = |ip| maintenance.allow.contain(ip);
    if subject.client().is_some_and(is_allowed) {
        return None;
    }
    let after = maintenance.retry_after.to_string();
    let reply = FilterReply::new(LocalReply::Maintenance);
    let reply = reply.with_field("retry-after", after.into_bytes());
    Some(reply.with_page(maintenance.page.clone()))
}

/// The response that sends a request to another address.
fn elsewhere(redirect: &Redirect, subject: &Subject<'_>, id: Option<&Id>) -> Option<FilterReply> {
    let scheme = redirect.scheme.map(Scheme::text);
    if scheme.is_some_and(|scheme| scheme != subject.scheme()) {
        return None;
    }
    let mut location = Vec::new();
    fill(
        &redirect.to,
        |variable, to| subject.write(variable, id, to),
        &mut location,
    );
    let reply = FilterReply::new(LocalReply::Redirected).with_status(redirect.status);
    Some(reply.with_field("location", location.trim_ascii().to_vec()))
}
