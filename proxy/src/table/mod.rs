//! The table: the immutable snapshot of all services. Every attempt of a request reads one
//! table and no other; a change makes a new table, and swaps it in.

pub(crate) mod balance;
pub(crate) mod cookie_key;
pub(crate) mod counts;
pub(crate) mod definition;
pub(crate) mod endpoint;
pub(crate) mod endpoint_id;
pub(crate) mod filter;
pub(crate) mod force;
pub(crate) mod hold;
pub(crate) mod key;
pub(crate) mod mirror;
pub(crate) mod probes;
pub(crate) mod rendezvous;
pub(crate) mod retry;
pub(crate) mod retry_budget;
pub(crate) mod route;
pub(crate) mod routing_hints;
pub(crate) mod service;
pub(crate) mod services;
pub(crate) mod snapshot;
pub(crate) mod sticky;
pub(crate) mod timeouts;
pub(crate) mod transport;
pub(crate) mod version;
pub(crate) mod waiting_room;

use std::sync::Arc;
use std::time::Duration;

use crate::table::cookie_key::CookieKey;
use crate::table::definition::PathMatch;
use crate::table::route::{Conflict, Rest, Routes};
use crate::table::service::Service;
use crate::table::services::Services;
use crate::table::timeouts::Timeouts;
use crate::wire::head::Message;
use crate::wire::reply::LocalReply;
use crate::wire::target::Target;

/// All services, at one moment.
#[derive(Debug)]
pub(crate) struct Table {
    /// Each swap adds one.
    pub(crate) generation: u64,
    pub(crate) timeouts: Timeouts,
    /// Of its services' sticky cookies.
    pub(crate) cookie_key: CookieKey,
    services: Services,
    routes: Arc<Routes>,
}

impl Table {
    /// The table before anything is known, with a key that no other has.
    pub(crate) fn empty(timeouts: Timeouts) -> Self {
        Self {
            generation: 0,
            timeouts,
            cookie_key: CookieKey::random(),
            services: Services::default(),
            routes: Arc::default(),
        }
    }

    /// The same table with this key.
    pub(crate) fn with_cookie_key(&self, cookie_key: CookieKey) -> Self {
        Self {
            generation: self.generation,
            timeouts: self.timeouts.clone(),
            cookie_key,
            services: self.services.clone(),
            routes: self.routes.clone(),
        }
    }

    /// The next table: these services, and these timeouts.
    pub(crate) fn with_all(
        &self,
        services: Vec<Arc<Service>>,
        timeouts: Timeouts,
    ) -> Result<Self, Conflict> {
        let routes = Routes::new(services.iter().map(|service| &*service.definition))?;
        Ok(Self {
            generation: self.generation + 1,
            timeouts,
            cookie_key: self.cookie_key.clone(),
            services: Services::new(services),
            routes: Arc::new(routes),
        })
    }

    /// The same table with another number.
    pub(crate) fn numbered(&self, generation: u64) -> Self {
        Self {
            generation,
            timeouts: self.timeouts.clone(),
            cookie_key: self.cookie_key.clone(),
            services: self.services.clone(),
            routes: self.routes.clone(),
        }
    }

    /// The table as another process has it: of that number, with these services by name.
    pub(crate) fn of(
        generation: u64,
        services: Vec<Arc<Service>>,
        timeouts: Timeouts,
        cookie_key: CookieKey,
    ) -> Result<Self, Conflict> {
        let table = Self::empty(timeouts.clone()).with_all(services, timeouts)?;
        let table = table.with_cookie_key(cookie_key);
        Ok(table.numbered(generation))
    }

    /// The next table: with `service` in place of the one with its name.
    pub(crate) fn with(&self, service: Arc<Service>) -> Result<Self, Conflict> {
        let place = self.services.place_of(&service.definition.name);
        if let Ok(place) = place
            && self.services[place]
                .definition
                .same_routes(&service.definition)
        {
            return Ok(Self {
                generation: self.generation + 1,
                timeouts: self.timeouts.clone(),
                cookie_key: self.cookie_key.clone(),
                services: self.services.replaced(place, service),
                routes: self.routes.clone(),
            });
        }
        let mut services: Vec<Arc<Service>> = self.services.iter().cloned().collect();
        match place {
            Ok(place) => services[place] = service,
            Err(place) => services.insert(place, service),
        }
        self.with_all(services, self.timeouts.clone())
    }

    /// The same table with this service, and without those of these names.
    pub(crate) fn with_in_place_of(
        &self,
        service: Arc<Service>,
        names: &[String],
    ) -> Result<Self, Conflict> {
        let is_replaced = |one: &Arc<Service>| {
            let name = &*one.definition.name;
            *name == *service.definition.name || names.iter().any(|gone| gone == name)
        };
        let rest = self.services.iter().filter(|one| !is_replaced(one));
        let mut services: Vec<Arc<Service>> = rest.cloned().collect();
        let place = services.partition_point(|one| one.definition.name < service.definition.name);
        services.insert(place, service);
        self.with_all(services, self.timeouts.clone())
    }

    /// How long anything may stay that is in flight; `None`: for ever.
    pub(crate) fn longest_drain(&self) -> Option<Duration> {
        let of_services = self.services.iter().map(|service| &service.timeouts);
        let all = of_services.chain([&self.timeouts]);
        all.map(Timeouts::longest)
            .try_fold(Duration::ZERO, |most, one| Some(most.max(one?)))
    }

    /// The service with this name.
    pub(crate) fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.place_of(name).map(|at| &self.services[at])
    }

    /// The place of the service with this name, for [`Table::at`].
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.services.place_of(name).ok()
    }

    /// Whether a service tells its clients apart by a cookie of the proxy.
    pub(crate) fn sets_cookies(&self) -> bool {
        let mut services = self.services.iter();
        services.any(|service| service.definition.sets_cookie())
    }

    /// All services, by name.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// The place of the service that a request is for. A path that leads out of the prefix that it begins
    /// with is refused: a filter before the proxy may have let it pass by its beginning.
    pub(crate) fn route(
        &self,
        target: &Target<'_>,
        request: Message<'_>,
    ) -> Result<usize, LocalReply> {
        let query = target.query();
        let rest = Some(Rest { request, query });
        let path = target.path.normal();
        let found = self.routes.find(target.host, path, rest);
        if let Some(dotted) = target.path.dotted()
            && let Some(begins) = self.routes.find(target.host, dotted, rest)
        {
            let definition = &self.at(begins).definition;
            let stays = match definition.path {
                PathMatch::Prefix => route::is_below(path, &definition.path_prefix),
                PathMatch::Exact(_) | PathMatch::Pattern(_) => found == Some(begins),
            };
            if !stays {
                return Err(LocalReply::BadPath);
            }
        }
        found.ok_or(LocalReply::NoRoute)
    }

    /// The place of the service for a host, without port and dot at its end, and a path in its normal
    /// form, whatever else a request has.
    pub(crate) fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        self.routes.find(host, path, None)
    }

    /// The service at a place that [`Table::route`] or [`Table::place_of`] gave.
    pub(crate) fn at(&self, place: usize) -> &Service {
        &self.services[place]
    }
}
