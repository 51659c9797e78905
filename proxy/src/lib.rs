//! Crossfade's proxy: a weighted HTTP reverse proxy whose whole upstream set is one snapshot,
//! swapped atomically while requests are in flight.
//!
//! Worker threads carry the traffic, each by itself. The calling thread runs everything else:
//! the admin API, health checks, the resolver, drains, and the config file's changes.

mod admin;
// For the micro benchmarks alone: no promise to anybody else.
#[doc(hidden)]
pub mod bench;
mod config;
mod control;
mod file;
mod forward;
// For the fuzzers, and tests that share their properties: no promise to anybody else.
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
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, oneshot, watch as channel};
use tokio::task::JoinSet;

pub use config::{Admin, AdminAddress, Config, ConfigError, Limits, Listener, ListenersTls};
pub use lifecycle::RunError;
pub use lifecycle::handover::{HandoverError, Predecessor};
pub use server::listeners::{BindError, Given, Listeners};
pub use server::systemd::from_systemd;
pub use wire::tls::{ClientAuth, KeyPair, ListenerSettings, Version};

use control::drain::Drains;
use control::state_file::StateFile;
use control::{Control, config_file, monitor};
use lifecycle::Life;
use lifecycle::handover::link::Links;
use server::accept;
use table::Table;
use wire::tls;
use worker::counters::Counters;
use worker::order::{Order, Stage};

/// Runs the proxy until `shutdown`; then finishes what is in flight, for `timeouts.drain` at
/// most. `file` is where `config` came from, and is followed from now on. With a `predecessor` it
/// goes on with what that has; and it ends when a successor has, and nothing is left to finish.
pub async fn run(
    config: Config,
    file: Option<PathBuf>,
    listeners: Listeners,
    predecessor: Option<Predecessor>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let started = Instant::now();
    let process = rand::random();
    raise_file_limit();
    let workers = listeners.workers.len();
    let addresses = listeners.addresses();
    let admin_address = listeners.admin_address();
    let tls = Arc::new(listeners.tls());
    let sockets = match &config.handover {
        Some(_) => listeners.handles().map_err(RunError::Sockets)?,
        None => Vec::new(),
    };
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
    let order = move |order: Order| {
        for sender in &senders {
            // A worker that has ended has nothing left to be told about.
            let _ = sender.send(order.clone());
        }
    };
    let end_all = order.clone();
    let drains = Arc::new(Drains::new(order));
    let table = Arc::new(ArcSwap::from_pointee(Table::empty(config.timeouts.clone())));
    let mut predecessor = predecessor;
    let control = begin(&config, &table, workers, &drains, predecessor.as_mut()).await?;
    listeners.listen().map_err(RunError::Listen)?;
    tokio::spawn(async move { drains.run().await });
    tokio::spawn(monitor::run(table.clone()));

    let counters = Arc::new(Counters::new(workers));
    let admissions = accept::admissions(&config);
    let (stage, at_stage) = channel::channel(Stage::Serving);
    let mut threads = Vec::new();
    for (index, (sockets, orders)) in listeners.workers.into_iter().zip(receivers).enumerate() {
        threads.push(start_worker(accept::Setup {
            index,
            table: table.clone(),
            listeners: sockets,
            limits: config.limits,
            admissions: admissions.clone(),
            counters: counters.clone(),
            orders,
            stage: at_stage.clone(),
        })?);
    }
    let links = Links::new(control.clone(), counters.clone());
    let taken_over = match predecessor {
        Some(predecessor) => match predecessor
            .ready(addresses.clone(), admin_address.clone())
            .await
        {
            Ok(elders) => {
                tracing::info!(elders = elders.len(), "has taken over");
                // Those that are not among them have ended meanwhile, or have not answered.
                let mut missing = control.drains.elders.all();
                missing.retain(|process| elders.iter().all(|elder| elder.process != *process));
                links.add(elders).await;
                if !missing.is_empty() {
                    let links = links.clone();
                    tokio::spawn(async move { links.expect(&missing).await });
                }
                Ok(())
            }
            // Some clients may have come already: they are served to their end.
            Err(error) => Err(RunError::from(error)),
        },
        None => Ok(()),
    };

    let config_valid = Arc::new(AtomicBool::new(true));
    if let (Some(file), Ok(())) = (file, &taken_over) {
        let (control, valid) = (control.clone(), config_valid.clone());
        tokio::spawn(config_file::follow(file, config.clone(), control, valid));
    }
    let admin = config.admin.as_ref().map(|settings| admin::Admin {
        control: control.clone(),
        counters: counters.clone(),
        token: settings.token.clone(),
        on_tcp: matches!(settings.listen, AdminAddress::Tcp(_)),
        process,
        started,
        workers,
        config_valid,
        stopping: AtomicBool::new(false),
        successor: channel::channel(None).0,
        tls: tls.clone(),
    });
    if !tls.is_empty() {
        tls.iter().for_each(|(_, listener)| listener.warn());
        tokio::spawn(tls::follow(tls.clone()));
    }
    let life = Life {
        process,
        control,
        counters,
        links,
        stage,
        end_all: Box::new(move || end_all(Order::End)),
        admin: admin.map(Arc::new).zip(listeners.admin),
        handover: config.handover.zip(listeners.handover),
    };
    let shutdown = std::pin::pin!(shutdown);
    let all_ended = std::pin::pin!(ended(threads));
    if let Err(error) = taken_over {
        life.stop(all_ended).await?;
        return Err(error);
    }
    for address in addresses {
        tracing::info!(%address, workers, "listening");
    }
    if let Some(address) = admin_address {
        tracing::info!(address, "admin API listening");
    }
    life.live(sockets, shutdown, all_ended).await
}

/// The table to begin with: that of the config file and what was saved, or the predecessor's.
async fn begin(
    config: &Config,
    table: &Arc<ArcSwap<Table>>,
    workers: usize,
    drains: &Arc<Drains>,
    predecessor: Option<&mut Predecessor>,
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
            let picture = predecessor.picture().await?;
            // Before anything of it is taken for drained.
            let elders = picture.others.iter().copied();
            for process in elders.chain([predecessor.process()]) {
                drains.elders.add(process);
            }
            Control::succeed(config, table, workers, drains, state, picture)
                .await
                .map_err(|error| HandoverError::Table(error.to_string()).into())
        }
    }
}

/// Starts a worker's thread. The receiver hears when it has ended, and how.
fn start_worker(setup: accept::Setup) -> Result<oneshot::Receiver<std::io::Result<()>>, RunError> {
    let (ended, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("worker-{}", setup.index))
        .spawn(move || {
            // Nobody waits any more: the whole process is about to end.
            let _ = ended.send(accept::run(setup));
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
