//! What the controller waits for, and until when: of a rollout, and of containers that are to be
//! replaced. Decisions only.

use std::time::Duration;

use crate::api::Waiting;
use crate::clock::Millis;
use crate::journal::{Phase, RolloutRecord};
use crate::verdict::AfterMaxHold;

/// What a rollout waits for; `None` where it is over. `verdict` is what its last look said, `attempts`
/// how many requests the candidate has had in this step.
pub(super) fn of_rollout(
    record: &RolloutRecord,
    verdict: Option<&str>,
    attempts: u64,
    drain_timeout: Duration,
    now: Millis,
) -> Option<Waiting> {
    let settings = &record.settings;
    let (from, to) = (&record.from.version, &record.to.version);
    let at = |after: Duration| Some(later(record.phase_since, after));
    let wait = |what: String, until| Some(Waiting { what, until });
    if record.phase.is_over() {
        return None;
    }
    if record.paused.is_some() {
        let what = "you: `crossfade resume`, `promote` or `abort`";
        return wait(what.to_owned(), None);
    }
    match record.phase {
        Phase::Starting => wait(format!("containers of {to} to start"), None),
        Phase::Checking => {
            let healthy_for = settings.min_healthy_time;
            let what = format!("containers of {to} to be healthy for {healthy_for}");
            wait(what, at(settings.start_timeout.get() + healthy_for.get()))
        }
        Phase::Shifting => {
            let step = record.steps.get(record.step);
            let hold = step.and_then(|step| step.hold);
            let hold = hold.unwrap_or(settings.step_min_duration).get();
            let ends = later(record.phase_since, hold);
            let (n, of) = (record.step + 1, record.steps.len());
            if now < ends {
                return wait(
                    format!("step {n} of {of} to last as long as it has to"),
                    Some(ends),
                );
            }
            let until = at(settings.max_hold.get().max(hold));
            if let Some(lacking) = lacking(record, attempts, now) {
                return wait(lacking, until);
            }
            let why = verdict.unwrap_or("enough requests");
            wait(format!("the end of step {n} of {of}: {why}"), until)
        }
        Phase::Promoting => wait(format!("containers of {to}, to give it all requests"), None),
        Phase::Baking => wait(
            format!("the end of the bake; {from} is warm"),
            at(settings.bake.get()),
        ),
        Phase::Draining => wait(format!("{from} to finish its requests"), at(drain_timeout)),
        Phase::RollingBack => wait(format!("{to} to finish its requests"), at(drain_timeout)),
        Phase::Done | Phase::RolledBack => None,
    }
}

/// The requests that a step lacks, how long they take at the rate of those that came, and what becomes
/// of the step without them.
fn lacking(record: &RolloutRecord, attempts: u64, now: Millis) -> Option<String> {
    let settings = &record.settings;
    let step = record.steps.get(record.step);
    let wanted = step.and_then(|step| step.min_requests);
    let wanted = wanted.unwrap_or(settings.min_requests);
    let left = wanted.checked_sub(attempts).filter(|left| *left > 0)?;
    let then = match settings.after_max_hold {
        AfterMaxHold::Proceed => "it goes on without them",
        AfterMaxHold::Pause => "it pauses without them",
    };
    let lasted = u64::try_from(now - record.phase_since).unwrap_or(0);
    let takes = (lasted * left).checked_div(attempts).map(|millis| {
        let takes = humantime::format_duration(Duration::from_secs(millis.div_ceil(1000)));
        format!("about {takes} at this rate; ")
    });
    Some(format!(
        "{left} of the {wanted} requests of step {} of {} ({}{then})",
        record.step + 1,
        record.steps.len(),
        takes.unwrap_or_default()
    ))
}

/// So much later.
pub(super) fn later(at: Millis, after: Duration) -> Millis {
    at.saturating_add(Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestProject;

    #[tokio::test(start_paused = true)]
    async fn every_phase_that_is_not_over_says_what_it_waits_for() {
        let test = TestProject::new().await;
        let mut record = test.begin("canary");
        record.phase_since = 1000;
        let mut says = |phase, now| {
            record.phase = phase;
            let drain = Duration::from_secs(30);
            let waits = of_rollout(&record, Some("in doubt"), 20, drain, now);
            waits.map(|waits| (waits.what, waits.until))
        };
        let until = |what: &str, until| Some((what.to_owned(), until));
        // The times are those of the test's manifest.
        assert_eq!(
            says(Phase::Checking, 1000),
            until("containers of 2.0.0 to be healthy for 1s", Some(12_000))
        );
        assert_eq!(
            says(Phase::Shifting, 1999),
            until("step 1 of 3 to last as long as it has to", Some(2000))
        );
        assert_eq!(
            says(Phase::Shifting, 2000),
            until("the end of step 1 of 3: in doubt", Some(21_000))
        );
        assert_eq!(
            says(Phase::Baking, 2000),
            until("the end of the bake; 1.0.0 is warm", Some(6000))
        );
        assert_eq!(
            says(Phase::Draining, 2000),
            until("1.0.0 to finish its requests", Some(31_000))
        );
        assert_eq!(says(Phase::Done, 2000), None);
        record.phase = Phase::Shifting;
        record.paused = Some("too few requests".into());
        let paused = of_rollout(&record, None, 0, Duration::ZERO, 2000).expect("it waits");
        assert!(
            paused.what.starts_with("you: `crossfade resume`"),
            "{paused:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_lacks_requests_says_how_long_they_take_and_what_comes_without_them() {
        let test = TestProject::new().await;
        let mut record = test.begin("canary");
        record.phase = Phase::Shifting;
        record.phase_since = 1000;
        let says = |record: &RolloutRecord, attempts| {
            let waits = of_rollout(record, None, attempts, Duration::ZERO, 5000);
            let waits = waits.expect("it waits");
            assert_eq!(waits.until, Some(21_000));
            waits.what
        };
        assert_eq!(
            says(&record, 5),
            "15 of the 20 requests of step 1 of 3 (about 12s at this rate; it goes on without them)"
        );
        record.settings.after_max_hold = AfterMaxHold::Pause;
        assert_eq!(
            says(&record, 0),
            "20 of the 20 requests of step 1 of 3 (it pauses without them)"
        );
    }
}
