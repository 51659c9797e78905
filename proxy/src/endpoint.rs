//! One address that serves a version.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use admin_api::{Cut, EndpointReceipt, EndpointView, HealthState};

use crate::claim::Claims;
use crate::definition::Address;
use crate::stats::Stats;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The number of an endpoint, never used twice in a process.
pub(crate) type EndpointId = u64;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An endpoint. It is the same one in every table that has the same service, version and
/// address, until it is retired.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) version: Arc<str>,
    /// As it was given.
    pub(crate) address: Address,
    /// What `address` stands for.
    pub(crate) target: SocketAddr,
    pub(crate) claims: Claims,
    /// The figures of its version.
    pub(crate) stats: Arc<Stats>,
    up: AtomicBool,
    /// Why the last probe failed, while it is down.
    reason: Mutex<Option<String>>,
    cut_requests: AtomicU64,
    cut_upgraded: AtomicU64,
}

impl Endpoint {
    pub(crate) fn new(
        version: Arc<str>,
        address: Address,
        target: SocketAddr,
        stats: Arc<Stats>,
        workers: usize,
        up: bool,
    ) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            version,
            address,
            target,
            claims: Claims::new(workers),
            stats,
            up: AtomicBool::new(up),
            reason: Mutex::new(None),
            cut_requests: AtomicU64::new(0),
            cut_upgraded: AtomicU64::new(0),
        }
    }

    /// Whether its health check passes, or it has none.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// What the health check found: up, or down and why.
    pub(crate) fn set_health(&self, health: Result<(), String>) {
        self.up.store(health.is_ok(), Ordering::Relaxed);
        self.note(health.err());
    }

    /// Why the last probe failed; does not change whether it is up.
    pub(crate) fn note(&self, reason: Option<String>) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// A worker cut a request, or an upgraded connection, that a drain had no more time for.
    pub(crate) fn count_cut(&self, upgraded: bool) {
        let counter = if upgraded {
            &self.cut_upgraded
        } else {
            &self.cut_requests
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// It is retired and has nothing in flight.
    pub(crate) fn is_drained(&self) -> bool {
        self.claims.is_retired() && self.claims.in_flight().is_empty()
    }

    pub(crate) fn receipt(&self) -> EndpointReceipt {
        let in_flight = self.claims.in_flight();
        EndpointReceipt {
            address: self.address.to_string(),
            version: self.version.to_string(),
            drained: self.claims.is_retired() && in_flight.is_empty(),
            in_flight: in_flight.requests,
            upgraded: in_flight.upgraded,
            cut: Cut {
                requests: self.cut_requests.load(Ordering::Relaxed),
                upgraded: self.cut_upgraded.load(Ordering::Relaxed),
            },
        }
    }

    pub(crate) fn view(&self, weight: u32) -> EndpointView {
        let in_flight = self.claims.in_flight();
        let health = if self.claims.is_retired() {
            HealthState::Draining
        } else if self.is_up() {
            HealthState::Up
        } else {
            HealthState::Down
        };
        let reason = self
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        EndpointView {
            address: self.address.to_string(),
            resolved: matches!(self.address, Address::Name(..)).then(|| self.target.to_string()),
            weight,
            health,
            reason: reason.filter(|_| health == HealthState::Down),
            in_flight: in_flight.requests,
            upgraded: in_flight.upgraded,
            requests: self.claims.taken(),
        }
    }
}
