//! What a service does with its requests beside forwarding them, made ready for each of them.
//! `filter/` acts on it.

pub(crate) mod access;
pub(crate) mod basic_auth;
pub(crate) mod cors;
pub(crate) mod error_pages;
pub(crate) mod headers;
pub(crate) mod in_flight;
mod networks;
pub(crate) mod rate;
pub(crate) mod replies;
pub(crate) mod request_id;
pub(crate) mod rewrite;

use std::sync::Arc;

use admin_api::Variable;

use crate::table::definition::Definition;
use crate::table::filter::access::Access;
use crate::table::filter::basic_auth::BasicAuth;
use crate::table::filter::cors::Cors;
use crate::table::filter::error_pages::ErrorPages;
use crate::table::filter::headers::HeaderRules;
use crate::table::filter::in_flight::InFlight;
use crate::table::filter::rate::RequestRate;
use crate::table::filter::replies::{Maintenance, Redirect, Respond};
use crate::table::filter::request_id::RequestId;
use crate::table::filter::rewrite::Rewrite;

/// The filters of a service that has any, in their order.
#[derive(Debug)]
pub(crate) struct Filters {
    pub(crate) access: Option<Access>,
    pub(crate) rate: Option<RequestRate>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) maintenance: Option<Maintenance>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) cors: Option<Cors>,
    pub(crate) basic_auth: Option<Arc<BasicAuth>>,
    pub(crate) respond: Option<Respond>,
    /// The path that endpoints get.
    pub(crate) rewrite: Option<Rewrite>,
    /// Each request has an id.
    pub(crate) request_id: Option<RequestId>,
    pub(crate) request: HeaderRules,
    pub(crate) response: HeaderRules,
    /// In place of the proxy's errors.
    pub(crate) error_pages: ErrorPages,
}

impl Filters {
    /// Those of a service. `previous` has what stays the same: its definition, and its filters.
    pub(crate) fn of(
        definition: &Definition,
        previous: Option<(&Definition, &Option<Arc<Self>>)>,
    ) -> Option<Arc<Self>> {
        if let Some((before, filters)) = previous
            && before.traffic == definition.traffic
            && before.name == definition.name
            && before.users == definition.users
        {
            return filters.clone();
        }
        let previous = previous.and_then(|(_, filters)| filters.as_deref());
        let filters = Self::new(definition, previous);
        (!filters.is_empty()).then(|| Arc::new(filters))
    }

    /// Of settings that were checked. Limits that stay know of the requests before.
    fn new(definition: &Definition, previous: Option<&Self>) -> Self {
        let traffic = &definition.traffic;
        let mut request = HeaderRules::of(&traffic.headers.request);
        let response = HeaderRules::of(&traffic.headers.response);
        let request_id = traffic.request_id.as_ref();
        let mut request_id = request_id.map(RequestId::of);
        if let Some(header) = request_id.as_ref().and_then(|id| id.header.as_ref()) {
            request.set(header, Variable::RequestId);
        }
        let redirect = traffic.redirect.as_ref().map(Redirect::of);
        let spec = traffic.redirect.as_ref();
        let mut leads_to = spec.iter().flat_map(|spec| spec.to.variables());
        let is_used = [&request, &response].map(|rules| rules.has(&Variable::RequestId));
        if is_used.contains(&true) || leads_to.any(|one| *one == Variable::RequestId) {
            request_id.get_or_insert(RequestId::FOR_VARIABLES);
        }
        let rate = previous.and_then(|filters| filters.rate.as_ref());
        let in_flight = previous.and_then(|filters| filters.in_flight.as_ref());
        let limits = &traffic.limits;
        Self {
            rate: limits
                .requests
                .as_ref()
                .map(|spec| RequestRate::of(spec, rate)),
            in_flight: limits.in_flight.map(|most| InFlight::of(most, in_flight)),
            access: traffic.access.as_ref().and_then(Access::of),
            maintenance: traffic.maintenance.as_ref().map(Maintenance::of),
            redirect,
            cors: traffic.cors.as_ref().map(Cors::of),
            basic_auth: basic_auth(definition, previous),
            respond: traffic.respond.as_ref().map(Respond::of),
            rewrite: traffic.rewrite.as_ref().map(Rewrite::of),
            request_id,
            request,
            response,
            error_pages: ErrorPages::of(&traffic.error_pages),
        }
    }

    fn is_empty(&self) -> bool {
        let Self {
            access,
            rate,
            in_flight,
            maintenance,
            redirect,
            cors,
            basic_auth,
            respond,
            rewrite,
            request_id,
            request,
            response,
            error_pages,
        } = self;
        let has_reply = maintenance.is_some() || redirect.is_some() || respond.is_some();
        let changes = request_id.is_some()
            || rewrite.is_some()
            || cors.is_some()
            || !request.is_empty()
            || !response.is_empty()
            || !error_pages.is_empty();
        let refuses =
            access.is_some() || rate.is_some() || in_flight.is_some() || basic_auth.is_some();
        !refuses && !has_reply && !changes
    }
}

/// The users of a service that has some.
fn basic_auth(definition: &Definition, previous: Option<&Filters>) -> Option<Arc<BasicAuth>> {
    let spec = definition.traffic.basic_auth.as_ref()?;
    let users = definition.users.as_ref()?;
    let previous = previous.and_then(|filters| filters.basic_auth.as_ref());
    Some(BasicAuth::of(spec, users, &definition.name, previous))
}
