//! Crossfade's proxy: a weighted HTTP reverse proxy whose whole upstream set is one snapshot,
//! swapped atomically while requests are in flight.
//!
//! Worker threads carry the traffic, each by itself. The calling thread runs everything else:
//! the admin API, health checks, the resolver, drains, and the config file's changes.

mod access_log;
mod admin;
// For the micro benchmarks alone: not a stable interface.
#[doc(hidden)]
pub mod bench;
mod config;
mod control;
mod file;
mod filter;
mod forward;
// For the fuzzers, and tests that share their properties: not a stable interface.
#[doc(hidden)]
pub mod fuzz;
mod lifecycle;
mod server;
mod table;
#[cfg(test)]
mod testing;
mod wire;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use program::sockets::Given;
use program::systemd::Notifier;

pub use config::{
    AdminAddress, AdminSettings, Config, ConfigError, Limits, Listener, ListenersTls,
};
pub use lifecycle::handover::{HandoverError, HeldLock, Predecessor, Standby};
pub use lifecycle::{Before, RunError};
pub use server::bind_error::BindError;
pub use server::keeper::{are_all_given, from_keeper};
pub use server::listeners::Listeners;
pub use server::systemd::from_systemd;
pub use wire::tls::{ClientAuth, KeyPair, ListenerSettings, Version};

use access_log::{AccessLog, Writing};
use admin::About;
use control::drain::Drains;
use control::{Control, config_file, monitor};
use lifecycle::handover::active_lock::ActiveLock;
use lifecycle::handover::link::Links;
use lifecycle::{Lifecycle, start};
use program::signals;
use server::accept::Shared;
use server::threads::Threads;
use table::Table;
use wire::resources::OpenFiles;
use wire::tls::{self, Listening};
use worker::order::Orders;

/// Runs the proxy until `shutdown`; then finishes what is in flight, for `timeouts.drain` at
/// most. `file` is where `config` came from, and is followed from now on. With a predecessor it
/// goes on with what that has; and it ends when a successor has, and all requests are finished.
pub async fn run(
    config: Config,
    file: Option<PathBuf>,
    listeners: Listeners,
    before: Before,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (mut predecessor, held_lock) = before.parts();
    let limits = limits_within(&config, OpenFiles::raise());
    let workers = listeners.workers.len();
    let about = About::new(workers);
    let (addresses, ids) = (listeners.addresses(), listeners.ids());
    let admin_address = listeners.admin_address();
    let tls = certificates(&listeners, predecessor.as_ref());
    let sockets = sockets_for_successor(&config, &listeners)?;

    // The table: what the config file has and what was saved, or the predecessor's.
    let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
    let (orders, received) = Orders::to(workers);
    let drains = Arc::new(Drains::new(orders.teller()));
    let control = start::first_table(&config, &table, workers, &drains, &mut predecessor).await?;

    // From here on clients are served.
    listeners.listen().map_err(RunError::Listen)?;
    tokio::spawn(async move { drains.run().await });
    tokio::spawn(monitor::run(table.clone()));
    let (mut shared, shutdown_phase) = Shared::new(&config, limits, table, workers);
    let access_log = start_access_log(&config, &mut shared)?;
    let threads = Threads::start(listeners.workers, received, &shared);
    let threads = threads.map_err(RunError::Worker)?;
    let counters = shared.counters;

    // From here on the predecessor accepts no connection, and this process is the active one.
    let links = Links::new(control.clone(), counters.clone());
    let own = ((addresses.clone(), ids), admin_address.clone());
    let active_lock = ActiveLock::beside(config.handover.as_deref());
    active_lock.hold().await;
    drop(held_lock);
    let taken_over = start::take_over(predecessor, own, &control, &links).await;
    if taken_over.is_ok() {
        control.begin_saving().await;
    }

    // Files and callers may change the table.
    let file = file.filter(|_| taken_over.is_ok());
    let config_valid = follow_files(file, &config, &control, &tls);
    let admin = admin::AdminApi::of(
        &config,
        about,
        &control,
        &counters,
        tls.clone(),
        config_valid,
    );

    // Until a successor, or the end.
    let lifecycle = Lifecycle {
        process: about.process,
        control,
        counters,
        links,
        shutdown_phase,
        orders,
        admin: admin.zip(listeners.admin),
        handover: config.handover.zip(listeners.handover),
        active_lock: Arc::new(active_lock),
        tls,
    };
    let all_ended = pin!(async { threads.ended().await.map_err(RunError::Worker) });
    if let Err(error) = taken_over {
        // Some clients may have come already: they are served to their end.
        lifecycle.stop(all_ended).await?;
        finish(access_log).await;
        return Err(error);
    }
    let shutdown = ready(&addresses, admin_address.as_deref(), workers, shutdown);
    let lived = lifecycle.live(sockets, pin!(shutdown), all_ended).await;
    finish(access_log).await;
    lived
}

/// The certificates of the listeners, and the keys of the predecessor's tickets.
fn certificates(listeners: &Listeners, predecessor: Option<&Predecessor>) -> Arc<Listening> {
    let tls = Arc::new(listeners.tls());
    if let Some(before) = predecessor {
        before.give_tickets(&tls);
    }
    tls
}

/// Waits until the last lines of the access log are written.
async fn finish(access_log: Option<Writing>) {
    if let Some(access_log) = access_log {
        access_log.finish().await;
    }
}

/// Starts the access log, if there is one.
fn start_access_log(config: &Config, shared: &mut Shared) -> Result<Option<Writing>, RunError> {
    let Some(spec) = &config.access_log else {
        return Ok(None);
    };
    let writing = AccessLog::start(spec, shared.counters.lost_lines.clone());
    let writing = writing.map_err(RunError::AccessLog)?;
    writing.reopen_at(signals::hang_up().map_err(RunError::AccessLog)?);
    shared.access_log = Some(writing.log());
    Ok(Some(writing))
}

/// The listening sockets once more, where a successor may ask for them.
fn sockets_for_successor(config: &Config, listeners: &Listeners) -> Result<Vec<Given>, RunError> {
    match &config.handover {
        Some(_) => listeners.handles().map_err(RunError::Sockets),
        None => Ok(Vec::new()),
    }
}

/// Follows the files that may change while the process lives. Gives whether the newest text of the
/// config file is in force.
fn follow_files(
    file: Option<PathBuf>,
    config: &Config,
    control: &Arc<Control>,
    tls: &Arc<Listening>,
) -> Arc<AtomicBool> {
    let config_valid = Arc::new(AtomicBool::new(true));
    if let Some(file) = file {
        let (config, control, valid) = (config.clone(), control.clone(), config_valid.clone());
        tokio::spawn(config_file::follow(file, config, control, valid));
    }
    if !tls.is_empty() {
        tls.iter().for_each(|(_, listener)| listener.warn());
        tokio::spawn(tls::follow(tls.clone()));
    }
    config_valid
}

/// Says that the proxy serves, in its log and to systemd; and to systemd that it ends, at `shutdown`.
fn ready(
    addresses: &[SocketAddr],
    admin: Option<&str>,
    workers: usize,
    shutdown: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    say_where(addresses, admin, workers);
    let manager = Notifier::from_env().unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET: systemd cannot be told that the proxy is ready");
        None
    });
    if let Some(manager) = &manager {
        manager.ready(&format!("{} listeners, {workers} workers", addresses.len()));
    }
    async move {
        shutdown.await;
        manager.iter().for_each(Notifier::stopping);
    }
}

fn say_where(addresses: &[SocketAddr], admin: Option<&str>, workers: usize) {
    for address in addresses {
        tracing::info!(%address, workers, "listening");
    }
    if let Some(address) = admin {
        tracing::info!(address, "admin API listening");
    }
}

/// The limits of the config file, and how many clients all listeners may have together: no more than
/// the process may have files open for.
fn limits_within(config: &Config, files: OpenFiles) -> (Limits, usize) {
    let mut limits = config.limits;
    let allowed = files.clients();
    if limits.connections > allowed {
        let connections = limits.connections;
        tracing::warn!(
            connections,
            allowed,
            "limits.connections is more than the limit of open files allows for all listeners together"
        );
        limits.connections = allowed;
    }
    (limits, allowed)
}
