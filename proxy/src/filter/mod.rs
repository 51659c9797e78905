//! What a service does with its requests beside forwarding them: the filters of one request, from its
//! head to the head of its response. `table/filter/` has what they do.
//!
//! ```text
//! access → limits → maintenance → redirect → CORS → users → respond → request headers → (forward)
//!    │        │          │           │        │       │        │            → response headers
//!    └────────┴──────────┴───────────┴────────┴───────┴────────┴── a response of the proxy's own
//! ```
//!
//! [`check`] is called as soon as the service of a request is known, by `forward/mod.rs`, in the table
//! by which the request is forwarded: so no request is forwarded by filters of an older table. What a
//! filter finds of a request stays with it ([`Filtered`]), also where it has to wait: for the check of a
//! password, which takes its time ([`Filtered::prove`]).

mod cors;
mod headers;
mod limits;
mod passwords;
mod reply;
mod request_id;
mod subject;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use admin_api::Scheme;
use bytes::Bytes;
use http::StatusCode;
use tokio::time::sleep;

use crate::filter::headers::Captured;
use crate::filter::reply::FilterReply;
use crate::filter::request_id::Id;
use crate::filter::template::fill;
use crate::table::endpoint::Endpoint;
use crate::table::filter::Filters;
use crate::table::filter::access::Access;
use crate::table::filter::basic_auth::{BasicAuth, Credentials, Unproven};
use crate::table::filter::in_flight::Counted;
use crate::table::filter::replies::{Maintenance, Redirect, Respond};
use crate::table::filter::rewrite::Rewrite;
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;

use crate::filter::subject::Found;
pub(crate) use crate::filter::subject::Subject;

/// How long a request waits for a place among the passwords that are checked, and how often it looks.
const PASSWORD_WAIT: Duration = Duration::from_secs(5);
const PASSWORD_AGAIN: Duration = Duration::from_millis(20);

/// A request whose service has filters: what they found of it.
pub(crate) struct Filtered {
    filters: Arc<Filters>,
    found: Found,
    /// What its response has of it.
    captured: Captured,
    /// How far it has come.
    state: FilterState,
    /// It is under way.
    counted: Option<Counted>,
}

/// How far a request has come.
enum FilterState {
    /// It may go on.
    Passed,
    /// It goes to no endpoint.
    Replied(FilterReply),
    /// Its password is not known.
    Unproven(Unproven),
    /// Its password was checked: this is its user, if it is right.
    Proven(Result<Vec<u8>, FilterReply>),
}

/// Why a request does not go on.
pub(crate) enum Stopped {
    /// It goes to no endpoint: its response is with it.
    Replied(LocalReply),
    /// What [`Filtered::prove`] finds out is needed first.
    Unproven,
}

impl Filtered {
    /// The id of the request, where its service gives or passes one on.
    pub(crate) fn request_id(&self) -> Option<&[u8]> {
        self.found.id.as_ref().map(Id::as_bytes)
    }
}

/// Checks a request by the filters of its service, if it has any and they have not checked it before.
/// What they find is in `filtered` from then on.
///
/// # Errors
/// It does not go on, or not yet.
pub(crate) fn check(
    filters: Option<&Arc<Filters>>,
    filtered: &mut Option<Box<Filtered>>,
    subject: &Subject<'_>,
) -> Result<(), Stopped> {
    let Some(filters) = filters else {
        *filtered = None;
        return Ok(());
    };
    let same = |filtered: &Filtered| Arc::ptr_eq(&filtered.filters, filters);
    let found = match filtered.take_if(|filtered| same(filtered)) {
        Some(found) => filtered.insert(found),
        None => filtered.insert(Box::new(Filtered::new(filters, subject))),
    };
    found.go_on(subject);
    match &found.state {
        FilterState::Passed => Ok(()),
        FilterState::Replied(reply) => Err(Stopped::Replied(reply.reason())),
        FilterState::Unproven(_) | FilterState::Proven(_) => Err(Stopped::Unproven),
    }
}

impl Filtered {
    fn new(filters: &Arc<Filters>, subject: &Subject<'_>) -> Self {
        let id = filters.request_id.as_ref();
        let id = id.map(|id| Id::of(id, subject.request, subject.peer));
        let cors = filters.cors.as_ref();
        let found = Found {
            id,
            user: Vec::new(),
            origin: cors.and_then(|cors| cors::origin(cors, subject)),
        };
        let state = match before_user(filters, subject, &found) {
            Some(reply) => FilterState::Replied(reply),
            None => user(filters, subject),
        };
        let mut filtered = Self {
            filters: filters.clone(),
            found,
            captured: Captured::default(),
            state,
            counted: None,
        };
        if !matches!(filtered.state, FilterState::Proven(_)) {
            // Otherwise it goes on at once, and its user belongs to it.
            filtered.capture(subject);
        }
        filtered
    }

    /// Takes what its response is to have of it.
    fn capture(&mut self, subject: &Subject<'_>) {
        self.captured = Captured::of(&self.filters.response, subject, &self.found);
    }

    /// Goes on where its user is known by now.
    fn go_on(&mut self, subject: &Subject<'_>) {
        let FilterState::Proven(user) = &mut self.state else {
            return;
        };
        let user = std::mem::replace(user, Ok(Vec::new()));
        let passed = user.and_then(|user| {
            self.found.user = user;
            after_user(&self.filters, subject)
        });
        self.state = match passed {
            Ok(counted) => {
                self.counted = counted;
                FilterState::Passed
            }
            Err(reply) => FilterState::Replied(reply),
        };
        self.capture(subject);
    }

    /// Finds out what its filters have to know before it goes on.
    pub(crate) async fn prove(&mut self) {
        let state = std::mem::replace(&mut self.state, FilterState::Proven(Err(passwords_wait())));
        self.state = match state {
            FilterState::Unproven(unproven) => FilterState::Proven(self.user_of(unproven).await),
            state => state,
        };
    }

    /// The user whose password this is.
    async fn user_of(&self, mut unproven: Unproven) -> Result<Vec<u8>, FilterReply> {
        let auth = self.filters.basic_auth.as_ref();
        let auth = auth.ok_or_else(passwords_wait)?;
        let began = Instant::now();
        let proving = loop {
            if auth.knows(&unproven) {
                return Ok(unproven.user);
            }
            match passwords::prove(auth.clone(), unproven) {
                Ok(proving) => break proving,
                Err(_) if began.elapsed() >= PASSWORD_WAIT => return Err(passwords_wait()),
                Err(again) => unproven = *again,
            }
            sleep(PASSWORD_AGAIN).await;
        };
        match proving.await {
            Ok((proven, true)) => Ok(proven.user),
            Ok((_, false)) => Err(unauthorized(auth)),
            Err(_) => Err(passwords_wait()),
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
        headers::apply(&self.filters.request, to, |variable, to| {
            subject.write(variable, &self.found, to);
        });
    }

    /// Changes the header fields that the client gets of the response of this endpoint.
    pub(crate) fn change_response(&self, endpoint: Option<&Endpoint>, to: &mut impl Sink) {
        if let Some(cors) = &self.filters.cors {
            cors::write(cors, self.found.origin.as_deref(), to);
        }
        let rules = &self.filters.response;
        headers::apply(rules, to, |variable, to| {
            self.captured.write(rules, variable, endpoint, to);
        });
    }

    fn reply(&self) -> Option<&FilterReply> {
        match &self.state {
            FilterState::Replied(reply) => Some(reply),
            _ => None,
        }
    }

    /// The status of its response, where it goes to no endpoint.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.reply().map(FilterReply::status)
    }

    /// Writes the header fields of the response of a request that goes to no endpoint, and gives its
    /// body. `reply` is why; a filter may have more to say.
    pub(crate) fn write_reply(&self, reply: LocalReply, json: bool, to: &mut impl Sink) -> Bytes {
        let pages = &self.filters.error_pages;
        match self.reply() {
            Some(own) => {
                let body = own.write(pages, json, to);
                self.change_response(None, to);
                body
            }
            None => reply::write(reply, pages.page(reply.status()), json, to),
        }
    }
}

/// The response to a request, of the filters that do not ask for its user.
fn before_user(filters: &Filters, subject: &Subject<'_>, found: &Found) -> Option<FilterReply> {
    let is_refused = |access: &Access| !access.takes(subject.client());
    if filters.access.as_ref().is_some_and(is_refused) {
        return Some(FilterReply::new(LocalReply::AccessDenied));
    }
    let rate = filters.rate.as_ref();
    let too_many = rate.and_then(|rate| limits::take(rate, subject));
    let maintenance = filters.maintenance.as_ref();
    let is_closed = || maintenance.and_then(|maintenance| closed(maintenance, subject));
    let redirect = filters.redirect.as_ref();
    let is_elsewhere = || redirect.and_then(|redirect| elsewhere(redirect, subject, found));
    let cors = filters.cors.as_ref();
    let preflight = || cors.and_then(|cors| cors::preflight(cors, subject, found));
    let reply = too_many.or_else(is_closed);
    reply.or_else(is_elsewhere).or_else(preflight)
}

/// What is known of the user of a request.
fn user(filters: &Filters, subject: &Subject<'_>) -> FilterState {
    let Some(auth) = &filters.basic_auth else {
        return FilterState::Proven(Ok(Vec::new()));
    };
    let mut values = subject.request.named("authorization");
    match auth.read(values.next().filter(|_| values.next().is_none())) {
        Credentials::None => FilterState::Proven(Err(unauthorized(auth))),
        Credentials::Proven(user) => FilterState::Proven(Ok(user)),
        Credentials::Unproven(unproven) => FilterState::Unproven(unproven),
    }
}

/// Passes a request through the filters behind its user.
///
/// # Errors
/// One of them responds to it.
fn after_user(filters: &Filters, subject: &Subject<'_>) -> Result<Option<Counted>, FilterReply> {
    if let Some(respond) = &filters.respond {
        return Err(fixed(respond));
    }
    let rewrite = filters.rewrite.as_ref();
    let rewrite = rewrite.filter(|rewrite| rewrite.has_groups);
    if let Some(reply) = rewrite.and_then(|rewrite| bad_path(rewrite, subject)) {
        return Err(reply);
    }
    // What is responded to at once is not under way.
    filters.in_flight.as_ref().map(limits::begin).transpose()
}

/// The response to a request without the right password.
fn unauthorized(auth: &BasicAuth) -> FilterReply {
    let reply = FilterReply::new(LocalReply::Unauthorized);
    reply.with_field("www-authenticate", auth.challenge.clone().into_bytes())
}

/// The response where no more passwords can be checked.
fn passwords_wait() -> FilterReply {
    FilterReply::new(LocalReply::PasswordsWait).with_field("retry-after", b"1".to_vec())
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
fn elsewhere(redirect: &Redirect, subject: &Subject<'_>, found: &Found) -> Option<FilterReply> {
    let scheme = redirect.scheme.map(Scheme::text);
    if scheme.is_some_and(|scheme| scheme != subject.scheme()) {
        return None;
    }
    let mut location = Vec::new();
    fill(
        &redirect.to,
        |variable, to| subject.write(variable, found, to),
        &mut location,
    );
    let reply = FilterReply::new(LocalReply::Redirected).with_status(redirect.status);
    Some(reply.with_field("location", location.trim_ascii().to_vec()))
}
