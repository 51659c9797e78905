//! Crossfade's proxy: a weighted HTTP reverse proxy whose whole upstream set is one snapshot,
//! swapped atomically while requests are in flight.
//!
//! Worker threads carry the traffic, each by itself. The calling thread runs everything else:
//! the admin API, health checks, the resolver, drains, and the config file's changes.

mod admin;
mod alarm;
mod balance;
// For the micro benchmarks alone: no promise to anybody else.
#[doc(hidden)]
pub mod bench;
mod budget;
mod claim;
mod config;
mod connection;
mod control;
mod counters;
mod definition;
mod desired;
mod drain;
mod ejection;
mod endpoint;
mod fields;
mod force;
mod forward;
mod h1;
mod h2;
mod head;
mod headers;
mod health;
mod hold;
mod listeners;
mod lookout;
mod metrics;
mod mirror;
mod pump;
mod reach;
mod relay;
mod rendezvous;
mod reply;
mod resolve;
mod route;
mod sequence;
mod service;
mod socket;
mod state;
mod stats;
mod sticky;
mod sync;
mod table;
mod target;
#[cfg(test)]
mod testing;
mod tls;
mod tunnel;
mod upstream;
mod version;
mod watch;
mod wire;
mod wish;
mod worker;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::TcpKeepalive;
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinSet;

pub use config::{Admin, AdminAddress, Config, ConfigError, Limits, Listener, ListenersTls};
pub use listeners::{BindError, Listeners};
pub use tls::{ClientAuth, KeyPair, ListenerSettings, Version};

use control::Control;
use counters::Counters;
use drain::Drains;
use state::StateFile;
use table::Table;
use worker::Order;

/// Why the proxy could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The services of the config file contradict each other.
    #[error("{0}")]
    Services(String),
    /// A worker could not be started.
    #[error("a worker thread cannot run: {0}")]
    Worker(#[source] std::io::Error),
}

/// Runs the proxy until `shutdown`; then finishes what is in flight, for `timeouts.drain` at
/// most. `file` is where `config` came from, and is followed from now on.
pub async fn run(
    config: Config,
    file: Option<PathBuf>,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let started = Instant::now();
    raise_file_limit();
    let workers = listeners.workers.len();
    let addresses = listeners.addresses();
    let admin_address = listeners.admin_address();
    let tls = Arc::new(listeners.tls());
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let order = move |order: Order| {
        for sender in &senders {
            // A worker that has ended has nothing left to be told about.
            let _ = sender.send(order);
        }
    };
    let end_all = order.clone();
    let drains = Arc::new(Drains::new(order));
    let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
    let state = config
        .admin
        .as_ref()
        .and_then(|admin| admin.state_file.clone());
    let control = Control::start(
        &config,
        table.clone(),
        workers,
        drains.clone(),
        state.map(StateFile::new),
    )
    .await
    .map_err(|error| RunError::Services(error.to_string()))?;
    tokio::spawn(async move { drains.run().await });
    tokio::spawn(lookout::run(table.clone()));

    let counters = Arc::new(Counters::new(workers));
    let (stop, stopping) = channel::channel(false);
    let mut threads = Vec::new();
    for (index, (sockets, orders)) in listeners.workers.into_iter().zip(receivers).enumerate() {
        threads.push(start_worker(worker::Setup {
            index,
            table: table.clone(),
            listeners: sockets,
            limits: config.limits,
            counters: counters.clone(),
            orders,
            stopping: stopping.clone(),
        })?);
    }

    let config_valid = Arc::new(AtomicBool::new(true));
    if let Some(file) = file {
        let (control, valid) = (control.clone(), config_valid.clone());
        tokio::spawn(watch::follow(file, config.clone(), control, valid));
    }
    let is_stopping = Arc::new(AtomicBool::new(false));
    if let (Some(settings), Some(socket)) = (&config.admin, listeners.admin) {
        let admin = admin::Admin {
            control: control.clone(),
            counters,
            token: settings.token.clone(),
            on_tcp: matches!(settings.listen, AdminAddress::Tcp(_)),
            started,
            workers,
            config_valid,
            stopping: is_stopping.clone(),
            tls: tls.clone(),
        };
        tokio::spawn(admin::serve(Arc::new(admin), socket));
    }
    if !tls.is_empty() {
        tls.iter().for_each(|(_, listener)| listener.warn());
        tokio::spawn(tls::follow(tls.clone()));
    }
    for address in addresses {
        tracing::info!(%address, workers, "listening");
    }
    if let Some(address) = admin_address {
        tracing::info!(address, "admin API listening");
    }

    tokio::pin!(shutdown);
    let mut all_ended = std::pin::pin!(ended(threads));
    tokio::select! {
        () = &mut shutdown => {}
        result = &mut all_ended => return result,
    }
    let within = control.table().timeouts.drain;
    tracing::info!("stopping: finishing what is in flight, for {within:?} at most");
    is_stopping.store(true, Ordering::Relaxed);
    // Fails only when every worker has ended already.
    let _ = stop.send(true);
    match tokio::time::timeout(within, &mut all_ended).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!("time is up: what is left is cut");
            end_all(Order::End);
            all_ended.await
        }
    }
}

/// Starts a worker's thread. The receiver hears when it has ended, and how.
fn start_worker(setup: worker::Setup) -> Result<oneshot::Receiver<std::io::Result<()>>, RunError> {
    let (ended, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("worker-{}", setup.index))
        .spawn(move || {
            // Nobody waits any more: the whole process is about to end.
            let _ = ended.send(worker::run(setup));
        })
        .map_err(RunError::Worker)?;
    Ok(receiver)
}

/// Waits until every worker has ended, or one has failed.
async fn ended(threads: Vec<oneshot::Receiver<std::io::Result<()>>>) -> Result<(), RunError> {
    let mut threads: JoinSet<_> = threads.into_iter().collect();
    while let Some(ended) = threads.join_next().await {
        let panicked = |_| Err(std::io::Error::other("it panicked"));
        let result = ended.map_or_else(|_| Ok(()), |thread| thread.unwrap_or_else(panicked));
        result.map_err(RunError::Worker)?;
    }
    Ok(())
}

/// As many open files as this process may have: each client takes one, and each connection to
/// an endpoint too.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// TCP's own probes, by which a peer that vanished without a word is noticed.
pub(crate) fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
}
