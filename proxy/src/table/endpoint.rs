//! One address that serves a version.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin_api::{Cut, EndpointReceipt, EndpointView, HealthState};

use crate::table::counts::age::Ages;
use crate::table::counts::claim::{Claims, InFlight, Kind};
use crate::table::counts::remote::RemoteCounts;
use crate::table::counts::stats::{ChosenBy, Failure, Outcome, Stats};
use crate::table::counts::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::table::counts::values::EndpointCounts;
use crate::table::endpoint_id::{EndpointId, skip_ids, take_id};
use crate::table::probes::Probes;
use crate::table::rendezvous;
use crate::table::snapshot::EndpointSnapshot;
use crate::table::transport::Transport;
use crate::wire::address::{Address, SocketAddress};

/// What is known of an endpoint's health. Written by the control thread alone.
#[derive(Debug, Default)]
struct Condition {
    /// The part of its weight that its health check allows, of [`FULL`].
    share: u32,
    /// Why the last probe failed, while it is down.
    reason: Option<String>,
    /// Why it is ejected, while it is.
    ejected: Option<String>,
}

/// Why a probe of an endpoint failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeError {
    pub(crate) kind: ProbeErrorKind,
    /// As people read it.
    pub(crate) reason: String,
}

/// How far a probe came that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeErrorKind {
    /// The endpoint did something, and not what it should.
    Response,
    /// The connection was refused: nothing listens at the address. What the endpoint has accepted
    /// before, it may still finish.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// This machine has run out of what a connection needs, which says nothing of the endpoint.
    Exhausted,
}

/// The whole of an endpoint's weight.
pub(crate) const FULL: u32 = 1 << 16;

/// An endpoint. It is the same one in every table that has the same service, version and
/// address, reached in the same way, until it is retired.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) version: Arc<str>,
    /// As it was given.
    pub(crate) address: Address,
    /// What `address` stands for.
    pub(crate) target: SocketAddress,
    pub(crate) transport: Arc<Transport>,
    /// By which keys find it.
    pub(crate) seed: u64,
    pub(crate) claims: Claims,
    /// The figures of its version.
    pub(crate) stats: Arc<Stats>,
    /// The part of its weight that it gets, of [`FULL`]; 0 while it is down.
    share: AtomicU32,
    /// It was up at least once.
    proven: AtomicBool,
    /// Requests that wait for a response of it wait in vain.
    silent: AtomicBool,
    /// Nothing came back from it lately.
    unreachable: AtomicBool,
    condition: Mutex<Condition>,
    pub(crate) probes: Probes,
    cut_requests: AtomicU64,
    cut_streams: AtomicU64,
    cut_upgraded: AtomicU64,
    /// As this process's workers said it when they were last asked.
    ages: Mutex<Ages>,
    /// What older processes have at it.
    pub(crate) remote: RemoteCounts<EndpointCounts>,
}

impl Endpoint {
    pub(crate) fn new(
        version: Arc<str>,
        address: Address,
        target: SocketAddress,
        transport: Arc<Transport>,
        stats: Arc<Stats>,
        workers: usize,
        up: bool,
    ) -> Self {
        let text = address.to_string();
        let share = if up { FULL } else { 0 };
        let seed = rendezvous::hash((0, 0), &[text.as_bytes(), target.to_string().as_bytes()]);
        Self {
            id: take_id(),
            version,
            address,
            target,
            transport,
            seed,
            claims: Claims::new(workers),
            stats,
            share: AtomicU32::new(share),
            proven: AtomicBool::new(up),
            silent: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            condition: Mutex::new(Condition {
                share,
                ..Condition::default()
            }),
            probes: Probes::default(),
            cut_requests: AtomicU64::new(0),
            cut_streams: AtomicU64::new(0),
            cut_upgraded: AtomicU64::new(0),
            ages: Mutex::default(),
            remote: RemoteCounts::default(),
        }
    }

    /// An endpoint as another process knows it: the same one, with its number.
    pub(crate) fn of_snapshot(
        snapshot: &EndpointSnapshot,
        address: Address,
        transport: Arc<Transport>,
        stats: Arc<Stats>,
        workers: usize,
    ) -> Self {
        skip_ids(snapshot.id + 1);
        let version = snapshot.version.as_str().into();
        let target = snapshot.target.clone();
        let new = Self::new(version, address, target, transport, stats, workers, false);
        let endpoint = Self {
            id: snapshot.id,
            proven: AtomicBool::new(snapshot.proven),
            unreachable: AtomicBool::new(snapshot.unreachable),
            ..new
        };
        endpoint.change(|condition| {
            *condition = Condition {
                share: snapshot.share,
                reason: snapshot.reason.clone(),
                ejected: snapshot.ejected.clone(),
            };
        });
        endpoint
    }

    /// As another process has to know it.
    pub(crate) fn snapshot(&self) -> EndpointSnapshot {
        let condition = self.condition();
        EndpointSnapshot {
            id: self.id,
            version: self.version.to_string(),
            address: self.address.to_string(),
            target: self.target.clone(),
            retired: self.claims.is_retired(),
            share: condition.share,
            proven: self.is_proven(),
            unreachable: self.is_unreachable(),
            reason: condition.reason.clone(),
            ejected: condition.ejected.clone(),
        }
    }

    /// Whether it gets requests: its health check passes, or it has none, and it is not ejected.
    pub(crate) fn is_up(&self) -> bool {
        self.share() > 0
    }

    /// The part of its weight that it gets, of [`FULL`]; 0 while it is down or ejected.
    pub(crate) fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Whether it was up at least once. One that never was is not tried even in a panic: it may
    /// not have begun to serve.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// What the health check found: up, or down and why.
    pub(crate) fn set_health(&self, health: Result<(), String>) {
        let share = if health.is_ok() { FULL } else { 0 };
        self.change(|condition| {
            condition.share = share;
            condition.reason = health.err();
        });
    }

    /// It is up, and gets this part of its weight, of [`FULL`].
    pub(crate) fn set_share(&self, share: u32) {
        self.change(|condition| {
            condition.share = share;
            condition.reason = None;
        });
    }

    /// Why the last probe failed; does not change whether it is up.
    pub(crate) fn note(&self, reason: Option<String>) {
        self.change(|condition| condition.reason = reason);
    }

    /// Its health check found whether it is silent. Gives whether it has just become so.
    pub(crate) fn set_silent(&self, silent: bool) -> bool {
        let before = self.silent.swap(silent, Ordering::Relaxed);
        silent && !before
    }

    /// Whether the last probes of it, as many as take it down, got nothing back.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Its health check found whether anything comes back from it.
    pub(crate) fn set_unreachable(&self, unreachable: bool) {
        self.unreachable.store(unreachable, Ordering::Relaxed);
    }

    /// Whether nothing came back from it lately: its last probe was refused or got no response, and
    /// no request had a good response since the probe before.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// It gets nothing until it is readmitted, whatever its health check finds.
    pub(crate) fn eject(&self, reason: String) {
        self.change(|condition| condition.ejected = Some(reason));
    }

    pub(crate) fn readmit(&self) {
        self.change(|condition| condition.ejected = None);
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.condition().ejected.is_some()
    }

    /// Whether its health check passes, or it has none.
    pub(crate) fn is_healthy(&self) -> bool {
        self.condition().share > 0
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes its condition, and tells the workers.
    fn change(&self, change: impl FnOnce(&mut Condition)) {
        let mut condition = self.condition();
        change(&mut condition);
        let share = match condition.ejected {
            Some(_) => 0,
            None => condition.share,
        };
        let before = self.share.swap(share, Ordering::Relaxed);
        if before == 0 && share > 0 {
            // It came up anew, whatever has brought it up.
            self.probes.was_good(self.probes.begin());
        }
        if share > 0 {
            self.proven.store(true, Ordering::Relaxed);
        }
    }

    /// A response was passed on whole.
    pub(crate) fn responded(&self, worker: usize, chosen_by: ChosenBy, status: u16) {
        let outcome = Outcome::Responded(status);
        self.stats.count(worker, chosen_by, outcome);
        if status >= 500 {
            self.claims.went_bad(worker);
        }
    }

    /// An attempt failed, and the endpoint is to blame.
    pub(crate) fn failed(&self, worker: usize, chosen_by: ChosenBy, failure: Failure) {
        let outcome = Outcome::Failed(failure);
        self.stats.count(worker, chosen_by, outcome);
        self.claims.went_bad(worker);
    }

    /// An attempt failed, and its version is to blame, but this endpoint no more than others.
    pub(crate) fn unserved(&self, worker: usize, chosen_by: ChosenBy, failure: Failure) {
        let outcome = Outcome::Failed(failure);
        self.stats.count(worker, chosen_by, outcome);
        self.claims.excuse(worker);
    }

    /// An attempt ended, and neither side is at fault.
    pub(crate) fn excused(&self, worker: usize) {
        self.claims.excuse(worker);
    }

    /// A client went away before its response was whole.
    pub(crate) fn client_gone(&self, worker: usize, chosen_by: ChosenBy) {
        self.stats.count(worker, chosen_by, Outcome::ClientGone);
        self.claims.excuse(worker);
    }

    /// How old the oldest is that this process has in flight at it.
    pub(crate) fn set_ages(&self, ages: Ages) {
        *self.ages() = ages;
    }

    fn ages(&self) -> MutexGuard<'_, Ages> {
        self.ages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker cut something of this kind that a drain had no more time for.
    pub(crate) fn count_cut(&self, kind: Kind) {
        let counter = match kind {
            Kind::Request => &self.cut_requests,
            Kind::Stream => &self.cut_streams,
            Kind::Upgraded => &self.cut_upgraded,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What this process and older ones have at it.
    pub(crate) fn counts(&self) -> EndpointCounts {
        let in_flight = self.claims.in_flight();
        let mut counts = EndpointCounts {
            retired: self.claims.is_retired(),
            requests: in_flight.requests + in_flight.streams,
            streams: in_flight.streams,
            upgraded: in_flight.upgraded,
            taken: self.claims.taken(),
            cut_requests: self.cut_requests.load(Ordering::Relaxed),
            cut_streams: self.cut_streams.load(Ordering::Relaxed),
            cut_upgraded: self.cut_upgraded.load(Ordering::Relaxed),
            ages: *self.ages(),
        };
        self.remote.add_to(&mut counts);
        counts
    }

    /// It is retired and this process has nothing in flight at it.
    pub(crate) fn is_drained(&self) -> bool {
        self.claims.is_retired() && self.claims.in_flight().is_empty()
    }

    pub(crate) fn receipt(&self) -> EndpointReceipt {
        let counts = self.counts();
        EndpointReceipt {
            address: self.address.to_string(),
            version: self.version.to_string(),
            drained: counts.is_drained(),
            in_flight: counts.requests,
            streams: counts.streams,
            upgraded: counts.upgraded,
            oldest: counts.ages.oldest(InFlight {
                requests: counts.requests.saturating_sub(counts.streams),
                streams: counts.streams,
                upgraded: counts.upgraded,
            }),
            cut: Cut {
                requests: counts.cut_requests,
                streams: counts.cut_streams,
                upgraded: counts.cut_upgraded,
            },
        }
    }

    pub(crate) fn view(&self, weight: u32) -> EndpointView {
        let counts = self.counts();
        let condition = self.condition();
        let (health, reason) = match &*condition {
            _ if self.claims.is_retired() => (HealthState::Draining, None),
            Condition {
                share: 0, reason, ..
            } => (HealthState::Down, reason.clone()),
            Condition {
                ejected: Some(why), ..
            } => (HealthState::Ejected, Some(why.clone())),
            _ => (HealthState::Up, None),
        };
        EndpointView {
            address: self.address.to_string(),
            resolved: matches!(self.address, Address::Name(..)).then(|| self.target.to_string()),
            weight,
            health,
            reason,
            in_flight: counts.requests,
            streams: counts.streams,
            upgraded: counts.upgraded,
            requests: counts.taken,
        }
    }
}
