//! What people can ask of a running rollout, and what it makes of that.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Live, Phase, PhaseExit, PhaseResult, Rollout};
use crate::error::{Error, Result};
use crate::journal::{Checkpoint, SCALED, Split, Transition};
use crate::plan;

/// Something asked of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Give the candidate everything now; while it bakes, stop keeping the old version warm.
    Promote,
    /// Back to stable.
    Abort {
        /// What the history says about it.
        why: String,
    },
    /// Stay where it is.
    Pause,
    /// Go on.
    Resume,
    /// Set the split by hand, and stay there. Names the two versions and no other.
    Split(Split),
    /// Have the service carried by so many containers; both versions in proportion.
    Scale(u32),
}

/// An ask and the way back to who asked.
pub(super) struct Request {
    command: Command,
    who: Option<String>,
    reply: oneshot::Sender<Result<String>>,
}

/// A running rollout as others see it.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Request>,
    live: watch::Receiver<Live>,
    task: JoinHandle<()>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Request>,
        live: watch::Receiver<Live>,
        task: JoinHandle<()>,
    ) -> Self {
        Self {
            commands,
            live,
            task,
        }
    }

    /// Sends a command. The reply says what has been done, or why it cannot be.
    pub async fn send(&self, command: Command) -> Result<String> {
        self.send_by(None, command).await
    }

    /// The same, and who asks.
    pub async fn send_by(&self, who: Option<&str>, command: Command) -> Result<String> {
        let who = who.map(str::to_owned);
        let over = || Error::refused("the rollout has just ended");
        let (reply, response) = oneshot::channel();
        self.commands
            .send(Request {
                command,
                who,
                reply,
            })
            .await
            .map_err(|_| over())?;
        response.await.map_err(|_| over())?
    }

    /// What was seen last.
    pub fn live(&self) -> Live {
        self.live.borrow().clone()
    }

    /// Changes with every look.
    pub fn watch(&self) -> watch::Receiver<Live> {
        self.live.clone()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Drops the task where it is; the journal knows where to go on.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Until it has ended.
    pub async fn ended(&self) {
        let mut live = self.watch();
        // An error means that the task is gone, which is an end too.
        let _ = live.wait_for(|live| live.record.phase.is_over()).await;
    }
}

impl Rollout {
    /// Does what is asked, or says why not. What changes the phase gets its reply when it is in
    /// the journal.
    pub(super) fn obey(
        &mut self,
        Request {
            command,
            who,
            reply,
        }: Request,
    ) -> PhaseResult<()> {
        if let Some(response) = self.nothing_to_do(&command) {
            let _ = reply.send(response);
            return Ok(());
        }
        let title = self.record.title();
        let next = match command {
            Command::Abort { why } => {
                let text = format!("{title} is rolling back: {why}");
                self.on_enter.push((reply, text));
                self.roll_back(why, None)
            }
            Command::Promote if self.record.phase == Phase::Baking => {
                let version = &self.record.from.version;
                let text = format!("{title}: {version} is no longer kept warm");
                self.on_enter.push((reply, text));
                self.drain_old()
            }
            Command::Promote => {
                let text = format!("{title} is being promoted");
                self.on_enter.push((reply, text));
                self.shift_to(self.record.steps.len(), None)
            }
            Command::Split(split) => {
                self.on_split.push(reply);
                self.split_by_hand(split)
            }
            Command::Scale(replicas) => match self.rescale(replicas) {
                Ok(next) => {
                    self.on_enter.push((reply, next.text.clone()));
                    next
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                    return Ok(());
                }
            },
            Command::Pause => {
                // Not entered anew: the rollout goes on watching where it stands.
                let paused = self.pause_by(who, "asked for");
                let _ = reply.send(match &paused {
                    Ok(()) => Ok(format!("{title} is paused")),
                    Err(_) => Err(Error::refused("the journal cannot be written")),
                });
                return paused;
            }
            Command::Resume => {
                if self.record.has(Checkpoint::AtGate) {
                    self.mark(self.record.step, Checkpoint::Agreed)?;
                }
                self.on_enter.push((reply, format!("{title} continues")));
                let again = Transition::new(self.record.phase, self.record.step, "continues");
                Transition {
                    kind: "resumed",
                    ..again
                }
            }
        };
        Err(PhaseExit::Enter(Box::new(Transition { who, ..next })))
    }

    /// The response to what has been done already, or cannot be done in this phase.
    fn nothing_to_do(&self, command: &Command) -> Option<Result<String>> {
        let title = self.record.title();
        let refuse = |why: String| Some(Err(Error::refused(why)));
        let already = |what: &str| Some(Ok(format!("{title} is {what} already")));
        let is_paused = self.record.paused.is_some();
        match (command, self.record.phase) {
            (Command::Abort { .. }, Phase::RollingBack | Phase::RolledBack) => {
                already("rolling back")
            }
            (_, Phase::RollingBack | Phase::RolledBack) => {
                refuse(format!("{title} is rolling back"))
            }
            (Command::Promote, Phase::Draining | Phase::Done) => already("promoted"),
            (_, Phase::Draining | Phase::Done) => refuse(format!(
                "{title} is promoted, and {} is being stopped: `crossfade rollback {}` brings it back",
                self.record.from.version, self.record.service
            )),
            (Command::Promote, Phase::Promoting) => already("being promoted"),
            (Command::Split(_) | Command::Pause, Phase::Promoting) => {
                refuse(format!("{title} is being promoted"))
            }
            (Command::Pause, _) if is_paused => already("paused"),
            (Command::Resume, _) if !is_paused => Some(Ok(format!("{title} is not paused"))),
            _ => None,
        }
    }

    /// Writes down another number of containers, which is seen to as the phase is entered again.
    fn rescale(&mut self, replicas: u32) -> Result<Transition> {
        let before = self.project.service(&self.record.service)?.replicas;
        let strategy = &self.record.settings.strategy;
        let steps = plan::rescaled(strategy, &self.record.steps, before, replicas);
        self.project
            .journal
            .rescale(&self.record, replicas, &steps)?;
        self.record.steps = steps;
        self.is_scaled = true;
        let text = format!(
            "{} is scaled from {before} to {replicas} containers, {} and {} in proportion",
            self.record.service, self.record.from.version, self.record.to.version
        );
        Ok(Transition {
            kind: SCALED,
            paused: self.record.paused.clone(),
            hand_split: self.record.hand_split.clone(),
            ..Transition::new(self.record.phase, self.record.step, text)
        })
    }

    /// Writes down that it does not go on by itself, and stays where it is.
    pub(super) fn pause(&mut self, why: &str) -> PhaseResult<()> {
        self.pause_by(None, why)
    }

    fn pause_by(&mut self, who: Option<String>, why: &str) -> PhaseResult<()> {
        let paused = Transition {
            who,
            paused: Some(why.to_owned()),
            hand_split: self.record.hand_split.clone(),
            kind: "paused",
            ..Transition::new(
                self.record.phase,
                self.record.step,
                format!("paused: {why}"),
            )
        };
        self.record =
            self.project
                .journal
                .enter(&self.record, &paused, self.project.clock.now())?;
        self.live
            .send_modify(|live| live.record = self.record.clone());
        Ok(())
    }

    fn split_by_hand(&self, split: Split) -> Transition {
        let phase = match self.record.phase {
            Phase::Baking => Phase::Baking,
            _ => Phase::Shifting,
        };
        let text = format!("split set by hand: {}; paused", super::split_text(&split));
        Transition {
            paused: Some("split set by hand".into()),
            hand_split: Some(split),
            kind: "split",
            ..Transition::new(phase, self.record.step, text)
        }
    }
}
