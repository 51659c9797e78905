//! The owner's side of its links to older processes: tells each of them of every change, and
//! takes in what they have in flight.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::message::Update;
use super::predecessor::DrainingProcess;
use crate::control::Control;
use crate::control::snapshot::{HandoverSnapshot, Report};
use crate::table::Table;
use crate::table::counts::remote::ProcessId;
use crate::worker::counters::Counters;

/// How often a draining process is asked for a report.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// The same while a drain waits for it.
const REPORT_SOON: Duration = Duration::from_millis(5);
/// How long a successor waits for a first report of every draining process before it goes on
/// without.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long a link may take until it is between two messages.
const LET_GO: Duration = Duration::from_secs(2);

/// The links to all draining processes.
pub(crate) struct Links {
    control: Arc<Control>,
    counters: Arc<Counters>,
    list: Mutex<Vec<Link>>,
}

struct Link {
    process: ProcessId,
    /// Ends the task between two messages.
    let_go: oneshot::Sender<LetGo>,
    task: JoinHandle<Option<DrainingProcess>>,
}

#[derive(Debug, Clone, Copy)]
enum LetGo {
    /// Another process goes on with it.
    Pass,
    /// The active process stops, and no process takes its place.
    Stop,
}

impl Links {
    pub(crate) fn new(control: Arc<Control>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            control,
            counters,
            list: Mutex::default(),
        })
    }

    /// Takes draining processes on. Returns when each of them has the table and has reported what
    /// it has in flight, or takes long for it.
    pub(crate) async fn add(&self, draining_processes: Vec<DrainingProcess>) {
        let mut first_words = Vec::new();
        for draining_process in draining_processes {
            let process = draining_process.process;
            self.control.drains.draining_processes.add(process);
            let (let_go, told) = oneshot::channel();
            let (heard, first_word) = oneshot::channel();
            let is_standby = self.list().is_empty();
            let keeping = keep(
                draining_process,
                is_standby,
                self.control.clone(),
                self.counters.clone(),
                told,
                heard,
            );
            let task = tokio::spawn(keeping);
            self.list().push(Link {
                process,
                let_go,
                task,
            });
            first_words.push(first_word);
        }
        let _ = timeout(FIRST_WORD, async {
            for word in first_words {
                // An error: it has ended meanwhile.
                let _ = word.await;
            }
        })
        .await;
    }

    /// Waits a while for draining processes that have lost their active process to come back by
    /// themselves. Until then no drain is done without them.
    pub(crate) async fn expect(&self, draining_processes: &[ProcessId]) {
        for process in draining_processes {
            self.control.drains.draining_processes.add(*process);
        }
        tokio::time::sleep(FIRST_WORD).await;
        let is_back = |process: &ProcessId| self.list().iter().any(|l| l.process == *process);
        for process in draining_processes
            .iter()
            .filter(|process| !is_back(process))
        {
            self.control.process_ended(&self.counters, *process);
        }
    }

    /// Ends the links, and gives the draining processes that are left.
    pub(crate) async fn pass(&self) -> Vec<DrainingProcess> {
        self.end(LetGo::Pass).await
    }

    /// Tells every draining process that the active process stops.
    pub(crate) async fn stop(&self) {
        self.end(LetGo::Stop).await;
    }

    async fn end(&self, how: LetGo) -> Vec<DrainingProcess> {
        let links = std::mem::take(&mut *self.list());
        let mut draining_processes = Vec::new();
        for Link {
            process,
            let_go,
            task,
        } in links
        {
            // An error: the draining process has ended.
            let _ = let_go.send(how);
            match timeout(LET_GO, task).await {
                Ok(Ok(draining_process)) => draining_processes.extend(draining_process),
                Ok(Err(_)) => {}
                Err(_) => tracing::error!(process, "a draining process does not respond"),
            }
        }
        draining_processes
    }

    fn list(&self) -> MutexGuard<'_, Vec<Link>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one link until the draining process has ended or another process goes on with it.
async fn keep(
    mut draining_process: DrainingProcess,
    is_standby: bool,
    control: Arc<Control>,
    counters: Arc<Counters>,
    mut told: oneshot::Receiver<LetGo>,
    heard: oneshot::Sender<()>,
) -> Option<DrainingProcess> {
    let process = draining_process.process;
    let mut news = control.drains.draining_processes.news();
    let mut heard = Some(heard);
    let mut last: Option<Arc<Table>> = None;
    loop {
        news.mark_unchanged();
        let (table, snapshot) = control.snapshot(last.as_deref());
        let retired = snapshot.retired.clone();
        let mut snapshot = HandoverSnapshot {
            is_standby,
            ..snapshot
        };
        snapshot.others.retain(|other| *other != process);
        let exchanged = exchange(&mut draining_process, snapshot).await;
        let report = match exchanged {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(%error, "a draining process has died: it has no requests in flight");
                control.process_ended(&counters, process);
                return None;
            }
        };
        last = Some(table);
        let is_over = report.last;
        let waits_for_it = retired.iter().any(|id| {
            let counts = report.endpoints.get(id);
            !counts.is_some_and(|counts| counts.is_drained())
        });
        control.note(&counters, process, report);
        if is_over {
            tracing::info!("a draining process has finished its requests");
            control.process_ended(&counters, process);
            return None;
        }
        // Fails when its receiver has given up.
        let _ = heard.take().map(|heard| heard.send(()));
        let pause = if waits_for_it {
            REPORT_SOON
        } else {
            REPORT_EVERY
        };
        tokio::select! {
            biased;
            how = &mut told => match how {
                Ok(LetGo::Pass) => return Some(draining_process),
                Ok(LetGo::Stop) | Err(_) => {
                    // It goes on by itself, whether it hears this or not.
                    let _ = draining_process.channel.send(&Update::Stopping).await;
                    return None;
                }
            },
            _ = news.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn exchange(
    draining_process: &mut DrainingProcess,
    snapshot: HandoverSnapshot,
) -> io::Result<Report> {
    let update = Update::Snapshot(Box::new(snapshot));
    draining_process.channel.send(&update).await?;
    draining_process.channel.receive().await
}
