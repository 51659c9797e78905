//! What people can ask of a running rollout, and what it makes of that.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Leave, Live, Phase, Rollout, Stay};
use crate::error::{Error, Result};
use crate::journal::{Entering, Mark, Split};

/// Something asked of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
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
}

/// An ask and the way back to who asked.
pub(super) struct Command {
    ask: Ask,
    who: Option<String>,
    reply: oneshot::Sender<Result<String>>,
}

/// A running rollout as others see it.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    live: watch::Receiver<Live>,
    task: JoinHandle<()>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        live: watch::Receiver<Live>,
        task: JoinHandle<()>,
    ) -> Self {
        Self {
            commands,
            live,
            task,
        }
    }

    /// Asks for something. The answer says what has been done, or why it cannot be.
    pub async fn ask(&self, ask: Ask) -> Result<String> {
        self.ask_by(None, ask).await
    }

    /// The same, and who asks.
    pub async fn ask_by(&self, who: Option<&str>, ask: Ask) -> Result<String> {
        let who = who.map(str::to_owned);
        let over = || Error::refused("the rollout has just ended");
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command { ask, who, reply })
            .await
            .map_err(|_| over())?;
        answer.await.map_err(|_| over())?
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
    /// Does what is asked, or says why not. What changes the phase is answered when it is in
    /// the journal.
    pub(super) fn obey(&mut self, Command { ask, who, reply }: Command) -> Stay<()> {
        if let Some(answer) = self.nothing_to_do(&ask) {
            let _ = reply.send(answer);
            return Ok(());
        }
        let title = self.record.title();
        let next = match ask {
            Ask::Abort { why } => {
                let text = format!("{title} is rolling back: {why}");
                self.on_enter.push((reply, text));
                self.roll_back(why, None)
            }
            Ask::Promote if self.record.phase == Phase::Baking => {
                let version = &self.record.from.version;
                let text = format!("{title}: {version} is kept warm no longer");
                self.on_enter.push((reply, text));
                self.drain_old()
            }
            Ask::Promote => {
                let text = format!("{title} is being promoted");
                self.on_enter.push((reply, text));
                self.shift_to(self.record.steps.len(), None)
            }
            Ask::Split(split) => {
                self.on_split.push(reply);
                self.split_by_hand(split)
            }
            Ask::Pause => {
                // Not entered anew: the rollout goes on watching where it stands.
                let paused = self.pause_by(who, "asked for");
                let _ = reply.send(match &paused {
                    Ok(()) => Ok(format!("{title} is paused")),
                    Err(_) => Err(Error::refused("the journal cannot be written")),
                });
                return paused;
            }
            Ask::Resume => {
                if self.record.has(Mark::AtGate) {
                    self.mark(self.record.step, Mark::Agreed)?;
                }
                self.on_enter.push((reply, format!("{title} goes on")));
                let again = Entering::new(self.record.phase, self.record.step, "goes on");
                Entering {
                    kind: "resumed",
                    ..again
                }
            }
        };
        Err(Leave::Enter(Box::new(Entering { who, ..next })))
    }

    /// The answer to what has been done already, or cannot be done in this phase.
    fn nothing_to_do(&self, ask: &Ask) -> Option<Result<String>> {
        let title = self.record.title();
        let refuse = |why: String| Some(Err(Error::refused(why)));
        let already = |what: &str| Some(Ok(format!("{title} is {what} already")));
        let is_paused = self.record.paused.is_some();
        match (ask, self.record.phase) {
            (Ask::Abort { .. }, Phase::RollingBack | Phase::RolledBack) => already("rolling back"),
            (_, Phase::RollingBack | Phase::RolledBack) => {
                refuse(format!("{title} is rolling back"))
            }
            (Ask::Promote, Phase::Draining | Phase::Done) => already("promoted"),
            (_, Phase::Draining | Phase::Done) => refuse(format!(
                "{title} is promoted, and {} is being stopped: `crossfade rollback {}` brings it back",
                self.record.from.version, self.record.service
            )),
            (Ask::Promote, Phase::Promoting) => already("being promoted"),
            (Ask::Split(_) | Ask::Pause, Phase::Promoting) => {
                refuse(format!("{title} is being promoted"))
            }
            (Ask::Pause, _) if is_paused => already("paused"),
            (Ask::Resume, _) if !is_paused => Some(Ok(format!("{title} is not paused"))),
            _ => None,
        }
    }

    /// Writes down that it does not go on by itself, and stays where it is.
    pub(super) fn pause(&mut self, why: &str) -> Stay<()> {
        self.pause_by(None, why)
    }

    fn pause_by(&mut self, who: Option<String>, why: &str) -> Stay<()> {
        let paused = Entering {
            who,
            paused: Some(why.to_owned()),
            hand_split: self.record.hand_split.clone(),
            kind: "paused",
            ..Entering::new(
                self.record.phase,
                self.record.step,
                format!("paused: {why}"),
            )
        };
        self.record = self
            .site
            .store
            .enter(&self.record, &paused, self.site.clock.now())?;
        self.live
            .send_modify(|live| live.record = self.record.clone());
        Ok(())
    }

    fn split_by_hand(&self, split: Split) -> Entering {
        let phase = match self.record.phase {
            Phase::Baking => Phase::Baking,
            _ => Phase::Shifting,
        };
        let text = format!("split set by hand: {}; paused", super::split_text(&split));
        Entering {
            paused: Some("split set by hand".into()),
            hand_split: Some(split),
            kind: "split",
            ..Entering::new(phase, self.record.step, text)
        }
    }
}
