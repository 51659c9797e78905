//! `promote`, `abort`, `pause` and `resume`: what people ask of a rollout that runs.

use crate::api::{Done, RolloutRequest};
use crate::error::{Error, Result};
use crate::project::caller::Caller;
use crate::rollout::Ask;
use crate::server::controller::Controller;

impl Controller {
    /// `promote`.
    pub(crate) async fn promote(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        self.ask(request, Ask::Promote, caller).await
    }

    /// `abort`.
    pub(crate) async fn abort(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        let why = "aborted by hand".into();
        self.ask(request, Ask::Abort { why }, caller).await
    }

    /// `pause`.
    pub(crate) async fn pause(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        self.ask(request, Ask::Pause, caller).await
    }

    /// `resume`.
    pub(crate) async fn resume(&self, request: RolloutRequest, caller: &Caller) -> Result<Done> {
        self.ask(request, Ask::Resume, caller).await
    }

    async fn ask(&self, request: RolloutRequest, ask: Ask, caller: &Caller) -> Result<Done> {
        let up = self.up()?;
        let service = match request.service {
            Some(service) => up.site.service(&service)?.name,
            None => match self.store.unfinished()?.as_slice() {
                [] => return Err(Error::refused("no rollout is running")),
                [one] => one.service.clone(),
                several => {
                    let names: Vec<&str> = several.iter().map(|r| r.service.as_str()).collect();
                    return Err(Error::usage(format!(
                        "{} have rollouts that run: say which one is meant",
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
        Ok(Done::say(handle.ask_by(caller.who(), ask).await?))
    }
}
