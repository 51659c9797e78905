//! `--wait`: shows how a rollout goes, line by line, until it is promoted or rolled back.

use std::time::Duration;

use super::say;
use crate::api::{Done, Progress, ProgressRequest, RolloutStatus};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::report;
use crate::rollout::Phase;

/// From one line of figures to the next.
const EVERY: Duration = Duration::from_secs(2);
/// A controller that was killed may be started again meanwhile.
const PATIENCE: u32 = 15;

/// Shows what was done, and with `wait` how the rollout that it began ends.
pub(super) async fn finish(client: &Client, done: Done, wait: bool) -> Result<()> {
    say(&done.text)?;
    let (Some(rollout), true) = (done.rollout, wait) else {
        return Ok(());
    };
    let mut request = ProgressRequest {
        rollout,
        after: 0,
        wait_ms: u64::try_from(EVERY.as_millis()).unwrap_or(2000),
    };
    let mut shown = String::new();
    let mut away = 0;
    loop {
        let progress: Progress = match client.ask("rollout", &request).await {
            Ok(progress) => progress,
            Err(Error::Unavailable(why)) if away < PATIENCE => {
                if away == 0 {
                    say(&format!("         {why}; waiting for it"))?;
                }
                away += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        away = 0;
        for event in &progress.events {
            request.after = request.after.max(event.id);
            if event.kind != "began" {
                say(&report::event(event))?;
            }
        }
        let figures = figures(&progress.rollout);
        if progress.events.is_empty() && figures != shown {
            say(&format!("         {figures}"))?;
            shown = figures;
        }
        match progress.rollout.phase {
            Phase::Baking | Phase::Draining | Phase::Done => return Ok(()),
            Phase::RolledBack => {
                let rollout = progress.rollout;
                let why = rollout.why.unwrap_or_else(|| "no reason was kept".into());
                return Err(Error::Refused(format!(
                    "{} was rolled back: {why}",
                    rollout.to
                )));
            }
            _ => {}
        }
    }
}

fn figures(rollout: &RolloutStatus) -> String {
    let mut text = match (rollout.phase, &rollout.verdict) {
        (Phase::Shifting, verdict) => {
            let (candidate, stable) = (rollout.candidate, rollout.stable);
            let verdict = verdict.as_deref().unwrap_or("watching");
            format!(
                "{} of {} requests failed, stable {} of {}: {verdict}",
                candidate.failures, candidate.tries, stable.failures, stable.tries
            )
        }
        (phase, _) => phase.to_string(),
    };
    if let Some(paused) = &rollout.paused {
        text.push_str(&format!("; paused: {paused}"));
    }
    if let Some(trouble) = &rollout.trouble {
        text.push_str(&format!("; {trouble}"));
    }
    text
}
