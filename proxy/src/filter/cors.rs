//! What browsers are told of a service that pages of other sites may use (the Fetch standard, 3.3).

use http::HeaderName;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
};

use crate::filter::reply::FilterReply;
use crate::filter::subject::{Found, Subject};
use crate::table::filter::cors::Cors;
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;

/// What endpoints may say of it, in place of which the proxy does.
const OWN: [HeaderName; 3] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
];

/// What the response to a request says, where it comes from a page of an origin that is allowed.
pub(super) fn origin(cors: &Cors, subject: &Subject<'_>) -> Option<Vec<u8>> {
    let mut origins = subject.request.named("origin");
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    cors.allows(origin).map(<[u8]>::to_vec)
}

/// The response to a preflight (3.3.5), which goes to no endpoint, whatever it asks for.
pub(super) fn preflight(cors: &Cors, subject: &Subject<'_>, found: &Found) -> Option<FilterReply> {
    let request = subject.request;
    let method = request.named("access-control-request-method").next();
    if request.method() != b"OPTIONS"
        || method.is_none()
        || request.named("origin").next().is_none()
    {
        return None;
    }
    let reply = FilterReply::new(LocalReply::Preflight);
    if found.origin.is_none() {
        return Some(reply);
    }
    let methods = cors.methods.clone().into_bytes();
    let mut reply = reply
        .with_field("access-control-allow-methods", methods)
        .with_field("access-control-max-age", cors.max_age.clone().into_bytes());
    let named = request.named("access-control-request-headers").next();
    let headers = match &cors.headers {
        Some(headers) => headers.as_bytes(),
        // `*` itself stands for none where there are credentials.
        None => named.unwrap_or_default(),
    };
    if !headers.is_empty() {
        reply = reply.with_field("access-control-allow-headers", headers.to_vec());
    }
    Some(reply)
}

/// Writes what a response says to a page of this origin.
pub(super) fn write(cors: &Cors, origin: Option<&[u8]>, to: &mut impl Sink) {
    to.take_out(&OWN);
    if cors.varies() {
        to.add(b"vary", &[b"origin"]);
    }
    let Some(origin) = origin else { return };
    to.add(b"access-control-allow-origin", &[origin]);
    if cors.credentials {
        to.add(b"access-control-allow-credentials", &[b"true"]);
    }
    if !cors.expose.is_empty() {
        to.add(b"access-control-expose-headers", &[cors.expose.as_bytes()]);
    }
}
