//! A version of a service at one moment.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use admin_api::{EndpointView, HealthState, VersionSpec, VersionView};

use crate::table::balance::Endpoints;
use crate::table::balance::sequence::Sequence;
use crate::table::counts::stats::Stats;
use crate::table::endpoint::Endpoint;
use crate::table::transport::Transport;
use crate::wire::address::{Address, SocketAddress};

/// What names stand for at the moment. A name that is missing has no address.
pub(crate) type Resolved = HashMap<Arc<str>, Vec<IpAddr>>;

/// One version of a service, at one moment.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) label: Arc<str>,
    pub(crate) weight: u32,
    pub(crate) endpoints: Endpoints,
    /// Names without an address, with their weights.
    unresolved: Vec<(Address, u32)>,
    pub(crate) stats: Arc<Stats>,
}

/// A version that is being put together.
pub(crate) struct Draft {
    label: Arc<str>,
    weight: u32,
    endpoints: Vec<(Arc<Endpoint>, u32)>,
    unresolved: Vec<(Address, u32)>,
    sequence: Arc<Sequence>,
    pub(crate) stats: Arc<Stats>,
}

impl Draft {
    /// A version without endpoints; it keeps the sequence of `previous`.
    pub(crate) fn new(
        label: Arc<str>,
        weight: u32,
        previous: Option<&Version>,
        stats: Arc<Stats>,
        workers: usize,
    ) -> Self {
        Self {
            label,
            weight,
            endpoints: Vec::new(),
            unresolved: Vec::new(),
            sequence: previous.map_or_else(
                || Arc::new(Sequence::new(workers)),
                |version| version.endpoints.sequence.clone(),
            ),
            stats,
        }
    }

    pub(crate) fn label(&self) -> &Arc<str> {
        &self.label
    }

    pub(crate) fn add(&mut self, endpoint: Arc<Endpoint>, weight: u32) {
        self.endpoints.push((endpoint, weight));
    }

    /// An endpoint whose name has no address.
    pub(crate) fn add_unresolved(&mut self, address: Address, weight: u32) {
        self.unresolved.push((address, weight));
    }

    pub(crate) fn finish(self) -> Version {
        Version {
            label: self.label,
            weight: self.weight,
            endpoints: Endpoints::new(self.endpoints, self.sequence),
            unresolved: self.unresolved,
            stats: self.stats,
        }
    }
}

impl Version {
    /// Its endpoints that may get requests by their weight, health aside.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let Endpoints { list, weights, .. } = &self.endpoints;
        let both = list.iter().zip(weights);
        both.filter(|(_, weight)| **weight > 0)
            .map(|(endpoint, _)| endpoint)
    }

    /// Whether anything of it gets requests.
    pub(crate) fn is_up(&self) -> bool {
        self.weighted()
            .any(|endpoint| endpoint.is_up() && !endpoint.claims.is_retired())
    }

    /// Whether nothing of it gets requests, and something of it did before.
    pub(crate) fn is_down(&self) -> bool {
        let mut open = self.weighted().filter(|e| !e.claims.is_retired());
        !self.is_up() && open.any(|endpoint| endpoint.is_proven())
    }

    /// Whether an endpoint of it may come up that gets requests then.
    pub(crate) fn may_come_up(&self) -> bool {
        let mut weighted = self.weighted();
        weighted.any(|endpoint| !endpoint.claims.is_retired())
            || self.unresolved.iter().any(|(_, weight)| *weight > 0)
    }

    pub(crate) fn view(&self, transport: &Transport) -> VersionView {
        let VersionSpec { protocol, tls } = transport.spec();
        let unresolved = |(address, weight): &(Address, u32)| EndpointView {
            address: address.to_string(),
            resolved: None,
            weight: *weight,
            health: HealthState::Unresolved,
            reason: Some("its name has no address".into()),
            in_flight: 0,
            streams: 0,
            upgraded: 0,
            requests: 0,
        };
        let endpoints: Vec<EndpointView> = self
            .endpoints
            .list
            .iter()
            .zip(&self.endpoints.weights)
            .map(|(endpoint, weight)| endpoint.view(*weight))
            .chain(self.unresolved.iter().map(unresolved))
            .collect();
        VersionView {
            weight: self.weight,
            protocol,
            tls,
            in_flight: endpoints.iter().map(|endpoint| endpoint.in_flight).sum(),
            streams: endpoints.iter().map(|endpoint| endpoint.streams).sum(),
            upgraded: endpoints.iter().map(|endpoint| endpoint.upgraded).sum(),
            endpoints,
        }
    }
}

/// The addresses that an endpoint's address stands for.
pub(crate) fn targets(address: &Address, resolved: &Resolved) -> Vec<SocketAddress> {
    match address {
        Address::Ip(target) => vec![SocketAddress::Ip(*target)],
        Address::Unix(path) => vec![SocketAddress::Unix(path.clone())],
        Address::Name(name, port) => resolved
            .get(name)
            .into_iter()
            .flatten()
            .map(|ip| SocketAddress::Ip(SocketAddr::new(*ip, *port)))
            .collect(),
    }
}
