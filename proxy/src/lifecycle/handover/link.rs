//! The owner's side of its links to older processes: tells each of them of every change, and
//! takes in what they have in flight.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::message::Telling;
use super::predecessor::Elder;
use crate::control::Control;
use crate::control::snapshot::{Picture, Report};
use crate::table::Table;
use crate::table::counts::elsewhere::ProcessId;
use crate::worker::counters::Counters;

/// How often an elder is asked for its figures.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// The same while a drain waits for it.
const REPORT_SOON: Duration = Duration::from_millis(5);
/// How long a successor waits for a first word of every elder before it answers for them.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long a link may take until it is between two messages.
const LET_GO: Duration = Duration::from_secs(2);

/// The links to all elders.
pub(crate) struct Links {
    control: Arc<Control>,
    counters: Arc<Counters>,
    list: Mutex<Vec<Link>>,
}

struct Link {
    process: ProcessId,
    /// Ends the task between two messages.
    let_go: oneshot::Sender<LetGo>,
    task: JoinHandle<Option<Elder>>,
}

#[derive(Debug, Clone, Copy)]
enum LetGo {
    /// Somebody else goes on with it.
    Pass,
    /// The owner stops, and nobody takes its place.
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

    /// Takes elders on. Returns when each of them has been told of the table and has said what it
    /// has in flight, or takes long for it.
    pub(crate) async fn add(&self, elders: Vec<Elder>) {
        let mut first_words = Vec::new();
        for elder in elders {
            let process = elder.process;
            self.control.drains.elders.add(process);
            let (let_go, told) = oneshot::channel();
            let (heard, first_word) = oneshot::channel();
            let is_heir = self.list().is_empty();
            let keeping = keep(
                elder,
                is_heir,
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

    /// Waits a while for elders that have lost their owner to come back by themselves. Until then
    /// no drain is done without them.
    pub(crate) async fn expect(&self, elders: &[ProcessId]) {
        for process in elders {
            self.control.drains.elders.add(*process);
        }
        tokio::time::sleep(FIRST_WORD).await;
        let is_back = |process: &ProcessId| self.list().iter().any(|l| l.process == *process);
        for process in elders.iter().filter(|process| !is_back(process)) {
            self.control.elder_ended(&self.counters, *process);
        }
    }

    /// Ends the links, and gives the elders that are left.
    pub(crate) async fn pass(&self) -> Vec<Elder> {
        self.end(LetGo::Pass).await
    }

    /// Tells every elder that the owner stops.
    pub(crate) async fn stop(&self) {
        self.end(LetGo::Stop).await;
    }

    async fn end(&self, how: LetGo) -> Vec<Elder> {
        let links = std::mem::take(&mut *self.list());
        let mut elders = Vec::new();
        for Link {
            process,
            let_go,
            task,
        } in links
        {
            // An error: the elder has ended.
            let _ = let_go.send(how);
            match timeout(LET_GO, task).await {
                Ok(Ok(elder)) => elders.extend(elder),
                Ok(Err(_)) => {}
                Err(_) => tracing::error!(process, "an older process does not answer"),
            }
        }
        elders
    }

    fn list(&self) -> MutexGuard<'_, Vec<Link>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one link until the elder has ended or somebody else goes on with it.
async fn keep(
    mut elder: Elder,
    is_heir: bool,
    control: Arc<Control>,
    counters: Arc<Counters>,
    mut told: oneshot::Receiver<LetGo>,
    heard: oneshot::Sender<()>,
) -> Option<Elder> {
    let process = elder.process;
    let mut news = control.drains.elders.news();
    let mut heard = Some(heard);
    let mut last: Option<Arc<Table>> = None;
    loop {
        news.mark_unchanged();
        let (table, picture) = control.picture(last.as_deref());
        let retired = picture.retired.clone();
        let mut picture = Picture { is_heir, ..picture };
        picture.others.retain(|other| *other != process);
        let exchanged = exchange(&mut elder, picture).await;
        let report = match exchanged {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(%error, "an older process has died: nothing of it is in flight");
                control.elder_ended(&counters, process);
                return None;
            }
        };
        last = Some(table);
        let is_over = report.last;
        let waits_for_it = retired.iter().any(|id| {
            let figures = report.endpoints.get(id);
            !figures.is_some_and(|figures| figures.is_drained())
        });
        control.note(&counters, process, report);
        if is_over {
            tracing::info!("an older process has finished what it had");
            control.elder_ended(&counters, process);
            return None;
        }
        // Fails when whoever waited for it has given up.
        let _ = heard.take().map(|heard| heard.send(()));
        let pause = if waits_for_it {
            REPORT_SOON
        } else {
            REPORT_EVERY
        };
        tokio::select! {
            biased;
            how = &mut told => match how {
                Ok(LetGo::Pass) => return Some(elder),
                Ok(LetGo::Stop) | Err(_) => {
                    // It goes on by itself, whether it hears this or not.
                    let _ = elder.channel.send(&Telling::Stopping).await;
                    return None;
                }
            },
            _ = news.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn exchange(elder: &mut Elder, picture: Picture) -> io::Result<Report> {
    let telling = Telling::Picture(Box::new(picture));
    elder.channel.send(&telling).await?;
    elder.channel.receive().await
}
