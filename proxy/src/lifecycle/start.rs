//! How a process begins: with a table of its own, or with what the one before it has.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::control::Control;
use crate::control::drain::Drains;
use crate::control::state_file::StateFile;
use crate::lifecycle::error::RunError;
use crate::lifecycle::handover::link::Links;
use crate::lifecycle::handover::{HandoverError, HeldLock, Predecessor};
use crate::table::Table;
use crate::wire::listener_id::ListenerId;

/// What was before a process.
#[derive(Debug)]
pub enum Before {
    /// No process that serves.
    Nothing,
    /// A process that serves, and hands over.
    Predecessor(Predecessor),
    /// A process that has ended, for which this one was the standby.
    Ended(HeldLock),
}

impl Before {
    /// The process that hands over, and the lock that is held already.
    pub(crate) fn parts(self) -> (Option<Predecessor>, Option<HeldLock>) {
        match self {
            Self::Nothing => (None, None),
            Self::Predecessor(predecessor) => (Some(predecessor), None),
            Self::Ended(lock) => (None, Some(lock)),
        }
    }
}

/// The table to begin with: that of the config file and what was saved, or the predecessor's.
pub(crate) async fn first_table(
    config: &Config,
    table: &Arc<ArcSwap<Table>>,
    workers: usize,
    drains: &Arc<Drains>,
    predecessor: &mut Option<Predecessor>,
) -> Result<Arc<Control>, RunError> {
    let (table, drains) = (table.clone(), drains.clone());
    let admin = config.admin.as_ref();
    let state = admin.and_then(|admin| admin.state_file.clone());
    let state = state.map(StateFile::new);
    match predecessor {
        None => Control::start(config, table, workers, drains, state)
            .await
            .map_err(|error| RunError::Services(error.to_string())),
        Some(predecessor) => {
            let snapshot = predecessor.snapshot().await?;
            // Before anything of it is taken for drained.
            let draining_processes = snapshot.others.iter().copied();
            for process in draining_processes.chain([predecessor.process()]) {
                drains.draining_processes.add(process);
            }
            Control::succeed(config, table, workers, drains, state, snapshot)
                .await
                .map_err(|error| HandoverError::Table(error.to_string()).into())
        }
    }
}

/// Connections are accepted at these addresses, which are these listeners: what the predecessor has is ours from here on,
/// and the older processes are ours to tell.
pub(crate) async fn take_over(
    predecessor: Option<Predecessor>,
    (kept, admin_address): ((Vec<SocketAddr>, Vec<ListenerId>), Option<String>),
    control: &Control,
    links: &Arc<Links>,
) -> Result<(), RunError> {
    let Some(predecessor) = predecessor else {
        return Ok(());
    };
    let draining_processes = predecessor.ready(kept, admin_address).await?;
    tracing::info!(
        draining_processes = draining_processes.len(),
        "has taken over"
    );
    // Those that are not among them have ended meanwhile, or have not responded.
    let mut missing = control.drains.draining_processes.all();
    missing.retain(|process| {
        draining_processes
            .iter()
            .all(|draining_process| draining_process.process != *process)
    });
    links.add(draining_processes).await;
    if !missing.is_empty() {
        let links = links.clone();
        tokio::spawn(async move { links.expect(&missing).await });
    }
    Ok(())
}
