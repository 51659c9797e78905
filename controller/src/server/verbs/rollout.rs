//! `promote`, `abort`, `pause` and `resume`: what people ask of a rollout that runs.

use crate::api::{Done, RolloutRequest};
use crate::error::{Error, Result};
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
        self.command(request, Command::Resume, caller).await
    }

    async fn command(
        &self,
        request: RolloutRequest,
        command: Command,
        caller: &Caller,
    ) -> Result<Done> {
        let up = self.up()?;
        let service = match request.service {
            Some(service) => up.project.service(&service)?.name,
            None => match self.journal.unfinished()?.as_slice() {
                [] => return Err(Error::refused("no rollout is running")),
                [one] => one.service.clone(),
                several => {
                    let names: Vec<&str> = several.iter().map(|r| r.service.as_str()).collect();
                    return Err(Error::usage(format!(
                        "{} have running rollouts: name one service",
                        names.join(" and ")
                    )));
                }
            },
        };
        let Some(handle) = up.rollout(&service) else {
            return Err(Error::refused(format!(
                "no rollout of {service} is running"
            )));
        };
        let _admitted = self.admit(&service, caller).await?;
        Ok(Done::say(handle.send_by(caller.who(), command).await?))
    }
}
