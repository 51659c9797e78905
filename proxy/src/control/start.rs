//! The first table of a process that takes over from none.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::error::{ChangeError, conflict};
use super::{Checked, Control, DesiredState, ProcessRole, names_in};
use crate::config::Config;
use crate::control::desired::Desired;
use crate::control::drain::Drains;
use crate::control::health::Health;
use crate::control::resolve::{Family, NameListener, Resolver};
use crate::control::standbys::Standbys;
use crate::control::state_file::StateFile;
use crate::control::unsaved::{Unsaved, generation_after};
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::route::Routes;
use crate::table::service::Service;
use crate::table::version::Resolved;

/// How long the first clients wait for the health of every endpoint, and how long for one that
/// is up in each service whose requests do not wait for that by themselves.
const BURST: Duration = Duration::from_millis(50);
const BURST_AT_MOST: Duration = Duration::from_secs(1);
const POLL_EVERY: Duration = Duration::from_millis(5);

impl Control {
    /// Builds the first table from what is wanted, and swaps it in.
    pub(crate) async fn start(
        config: &Config,
        table: Arc<ArcSwap<Table>>,
        workers: usize,
        drains: Arc<Drains>,
        state: Option<StateFile>,
    ) -> Result<Arc<Self>, ChangeError> {
        let saved = state
            .as_ref()
            .map(StateFile::load)
            .transpose()
            .map_err(ChangeError::State)?;
        let saved = saved.unwrap_or_default();
        if saved.generation > 0 {
            let first = generation_after(saved.generation);
            table.store(Arc::new(table.load().numbered(first - 1)));
        }
        let mut holds = saved.holds();
        let saved_key = saved.cookie_key.clone();
        let cookie_key = config.cookie_key.clone().or(saved_key);
        let mut desired = Desired::at_start(&config.services, saved);
        let (checked, skipped) = leave_out_unfit(&mut desired, state.as_ref())?;
        holds.retain(|name, _| desired.get(name).is_some());
        let (health, burst) = Health::starting(drains.teller());
        let control = Self::new(config, table, workers, drains, state, health);
        {
            let mut wanted = control.wanted();
            (wanted.desired, wanted.holds) = (desired, holds);
            wanted.skipped = skipped;
        }
        if let Some(cookie_key) = cookie_key {
            let table = control.table().with_cookie_key(cookie_key);
            control.table.store(Arc::new(table));
        }
        // No other process has it.
        control.state.iter().for_each(StateFile::open);
        control
            .look_up(checked.values().flat_map(names_in).collect())
            .await;
        control.replace_all(&mut control.wanted(), &Desired::default(), checked)?;
        control.health.started();
        control.until_up(burst).await;
        Ok(control)
    }

    /// A control that wants nothing yet.
    pub(super) fn new(
        config: &Config,
        table: Arc<ArcSwap<Table>>,
        workers: usize,
        drains: Arc<Drains>,
        state: Option<StateFile>,
        health: Health,
    ) -> Arc<Self> {
        let wanted = DesiredState {
            desired: Desired::default(),
            resolved: Resolved::new(),
            drained: HashMap::new(),
            holds: BTreeMap::new(),
            timeouts: config.timeouts.clone(),
            unsaved: Unsaved::All,
            skipped: false,
        };
        Arc::new_cyclic(|control| Self {
            table,
            workers,
            wanted: Mutex::new(wanted),
            drains,
            standbys: Standbys::default(),
            health,
            resolver: Resolver::new(ToControl(control.clone()), config.timeouts.resolve),
            state,
            process_role: watch::channel(ProcessRole::Active).0,
            has_key_file: config.cookie_key.is_some(),
        })
    }

    /// Waits for the burst of probes at the start, so that no client is refused for want of a
    /// look: it waits in the listener's backlog. An endpoint that is gone delays no client where
    /// there are others.
    async fn until_up(&self, mut burst: mpsc::Receiver<Infallible>) {
        let mut over = std::pin::pin!(burst.recv());
        if timeout(BURST, over.as_mut()).await.is_ok() {
            return;
        }
        let serves = |service: &Arc<Service>| {
            let mut endpoints = service.endpoints().peekable();
            endpoints.peek().is_none()
                || service.timeouts.wait_for_endpoint.is_some()
                || endpoints.any(|endpoint| endpoint.is_up())
        };
        let all_serve = async {
            while !self.table().services().iter().all(serves) {
                tokio::time::sleep(POLL_EVERY).await;
            }
        };
        let _ = timeout(BURST_AT_MOST, async {
            tokio::select! {
                _ = over => {}
                () = all_serve => {}
            }
        })
        .await;
    }
}

/// What the resolver finds goes to this control, for as long as it is there.
struct ToControl(Weak<Control>);

impl NameListener for ToControl {
    fn family(&self, name: &str) -> Option<Family> {
        let control = self.0.upgrade()?;
        let wanted = control.wanted();
        let first = wanted.resolved.get(name)?.first();
        first.map(Family::of)
    }

    fn resolved(&self, name: &Arc<str>, addresses: Vec<IpAddr>) -> ControlFlow<()> {
        let Some(control) = self.0.upgrade() else {
            return ControlFlow::Break(());
        };
        if let Some(generation) = control.resolved(name, addresses) {
            tokio::spawn(async move { control.save_generation(generation).await });
        }
        ControlFlow::Continue(())
    }
}

/// Takes saved services out until those that are left are right and do not contradict each other:
/// what the config file says, or a file that they name, has changed since they were saved. Gives
/// those that are left, and whether any were taken out.
fn leave_out_unfit(
    desired: &mut Desired,
    state: Option<&StateFile>,
) -> Result<(Checked, bool), ChangeError> {
    let mut skipping = Skipped {
        state,
        skipped: false,
    };
    let (mut checked, mut wrong) = (Checked::new(), Vec::new());
    for spec in desired.specs() {
        match Definition::check(spec) {
            Ok(definition) => drop(checked.insert(definition.name.clone(), definition)),
            Err(error) if desired.is_by_admin(&spec.name) => wrong.push((spec.name.clone(), error)),
            Err(error) => return Err(error.into()),
        }
    }
    for (name, error) in wrong {
        skipping.skip(desired, &name, &format!("is invalid: {error}"));
    }
    while let Err(found) = Routes::new(checked.values()) {
        let name = found.services.iter().find(|name| desired.is_by_admin(name));
        let Some(name) = name else {
            return Err(conflict(&found));
        };
        skipping.skip(desired, name, &found.message(name));
        checked.remove(name);
    }
    Ok((checked, skipping.skipped))
}

/// Saved services that cannot be used.
struct Skipped<'s> {
    state: Option<&'s StateFile>,
    skipped: bool,
}

impl Skipped<'_> {
    /// Says what is wrong with a service, and leaves it out. The saved state is kept as it is.
    fn skip(&mut self, desired: &mut Desired, name: &str, why: &str) {
        if let (false, Some(state)) = (self.skipped, self.state) {
            state.keep_a_copy("conflicting");
        }
        self.skipped = true;
        tracing::error!("saved service `{name}` is skipped: it {why}");
        desired.forget(name);
    }
}
