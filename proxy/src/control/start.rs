//! The first table of a process that takes over from none.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use admin_api::ServiceSpec;
use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::error::{ChangeError, conflict};
use super::{Control, DesiredState, ProcessRole};
use crate::config::Config;
use crate::control::desired::Desired;
use crate::control::drain::Drains;
use crate::control::health::Health;
use crate::control::resolve::Resolver;
use crate::control::state_file::StateFile;
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::route::Routes;
use crate::table::service::Service;
use crate::table::version::Resolved;

/// How long the first clients wait for the health of every endpoint, and how long for one that
/// is up in each service.
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
        let holds = saved.holds();
        let mut desired = Desired::at_start(&config.services, saved);
        leave_out_unfit(&mut desired, state.as_ref())?;
        let specs: Vec<ServiceSpec> = desired.specs().cloned().collect();
        let (health, burst) = Health::starting(drains.teller());
        let control = Self::new(config, table, workers, drains, state, health);
        {
            let mut wanted = control.wanted();
            (wanted.desired, wanted.holds) = (desired, holds);
        }
        control.look_up(&specs).await;
        control.replace_all(&mut control.wanted(), &Desired::default())?;
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
        };
        Arc::new_cyclic(|control| Self {
            table,
            workers,
            wanted: Mutex::new(wanted),
            drains,
            health,
            resolver: Resolver::new(reports_to(control.clone()), config.timeouts.resolve),
            state,
            process_role: watch::channel(ProcessRole::Active).0,
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
            endpoints.peek().is_none() || endpoints.any(|endpoint| endpoint.is_up())
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
fn reports_to(
    control: Weak<Control>,
) -> impl Fn(&Arc<str>, Vec<IpAddr>) -> ControlFlow<()> + Send + Sync + 'static {
    move |name, addresses| match control.upgrade() {
        Some(control) => {
            control.resolved(name, addresses);
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    }
}

/// Takes saved services out until those that are left are right and do not contradict each other:
/// what the config file says, or a file that they name, has changed since they were saved.
fn leave_out_unfit(desired: &mut Desired, state: Option<&StateFile>) -> Result<(), ChangeError> {
    let mut copied = false;
    loop {
        let checked: Vec<_> = desired
            .specs()
            .map(|spec| (spec.name.clone(), Definition::check(spec)))
            .collect();
        let wrong = checked.iter().find(|(_, checked)| checked.is_err());
        let (name, why, error) = if let Some((name, Err(error))) = wrong {
            let why = format!("is invalid: {error}");
            (Some(name.clone()), why, error.clone().into())
        } else {
            let definitions: Vec<_> = checked.into_iter().flat_map(|(_, good)| good).collect();
            let Err(found) = Routes::new(&definitions) else {
                return Ok(());
            };
            let name = found.services.iter().find(|name| desired.is_by_admin(name));
            let why = name.map_or_else(String::new, |name| found.message(name));
            (name.map(ToString::to_string), why, conflict(&found))
        };
        let Some(name) = name.filter(|name| desired.is_by_admin(name)) else {
            return Err(error);
        };
        if let (false, Some(state)) = (copied, state) {
            state.keep_a_copy();
            copied = true;
        }
        tracing::error!("saved service `{name}` is skipped: it {why}");
        desired.forget(&name);
    }
}
