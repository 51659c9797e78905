//! `promote`, `abort`, `pause` and `resume`: what people ask of a rollout that runs.

use crate::api::{Done, RolloutRequest};
use crate::error::{Error, Result};
use crate::journal::{Phase, RolloutRecord};
use crate::project::caller::Caller;
use crate::rollout::Command;
use crate::server::controller::Controller;

impl Controller {
    /// `promote`.
    pub(crate) async fn promote(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        self.command(request, Command::Promote, caller).await
    }

    /// `abort`.
    pub(crate) async fn abort(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        let why = "aborted by hand".into();
        self.command(request, Command::Abort { why }, caller).await
    }

    /// `pause`.
    pub(crate) async fn pause(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        self.command(request, Command::Pause, caller).await
    }

    /// `resume`.
    pub(crate) async fn resume(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        let service = self.rollout_of(request.service.clone())?;
        let live = self.up()?.rollout(&service).map(|handle| handle.live());
        let what = live.and_then(|live| falls_back(&live.record));
        if let (Some(what), false) = (what, request.yes) {
            return Ok(Done {
                needs_yes: Some(what.clone()),
                ..Done::say(what)
            });
        }
        self.command(request, Command::Resume, caller).await
    }

    /// The service that is meant.
    fn rollout_of(&self, service: Option<String>) -> Result<String> {
        if let Some(service) = service {
            return Ok(self.up()?.project.service(&service)?.name);
        }
        match self.journal.unfinished()?.as_slice() {
            [] => Err(Error::refused("no rollout is running")),
            [one] => Ok(one.service.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|r| r.service.as_str()).collect();
                Err(Error::usage(format!(
                    "{} have running rollouts: name one service",
                    names.join(" and ")
                )))
            }
        }
    }

    async fn command(
        &self,
        request: RolloutRequest,
        command: Command,
        caller: &Caller,
    ) -> Result<Done> {
        let up = self.up()?;
        let service = self.rollout_of(request.service)?;
        let Some(handle) = up.rollout(&service) else {
            return Err(Error::refused(format!(
                "no rollout of {service} is running"
            )));
        };
        let _admitted = self.admit(&service, caller).await?;
        Ok(Done::say(handle.send_by(caller.who(), command).await?))
    }
}

/// What `resume` takes from the candidate, where a split that was set by hand ends by it.
fn falls_back(rollout: &RolloutRecord) -> Option<String> {
    let split = rollout.hand_split.as_ref()?;
    let all: f64 = split.values().copied().map(f64::from).sum();
    let has = split.get(&rollout.to.version).copied().map(f64::from)? / all * 100.0;
    let share = match rollout.phase {
        Phase::Shifting => rollout.steps.get(rollout.step)?.share,
        _ => return None,
    };
    (f64::from(share) < has).then(|| {
        format!(
            "the split that was set by hand ends: {} falls back from {has:.0}% to {share}%, step {} of {}",
            rollout.to.version,
            rollout.step + 1,
            rollout.steps.len()
        )
    })
}
