//! Why a rollout went as it went: its history, sorted by the steps that it belongs to.

use crate::api::{Explanation, RolloutStatus, StepExplained};
use crate::journal::Event;
use crate::plan::Step;
use crate::verdict::NOT_JUDGED;

/// The outcome of a step whose figures let it end.
const GOOD: &str = "good";

/// Sorts the events of a rollout, oldest first, by its steps.
pub(crate) fn explain(rollout: RolloutStatus, steps: &[Step], events: Vec<Event>) -> Explanation {
    let mut explained: Vec<StepExplained> = steps
        .iter()
        .enumerate()
        .map(|(n, step)| planned(n, steps.len(), *step))
        .collect();
    let mut before = Vec::new();
    let mut after = Vec::new();
    // The step that is under way: each begins by an event of its own, and ends by the next.
    let mut now: Option<usize> = None;
    for event in events {
        let next = now.map_or(0, |step| step + 1);
        let ends = ends_a_step(&event.kind);
        if let (Some(step), true) = (now.and_then(|now| explained.get_mut(now)), ends)
            && step.ended.is_none()
        {
            end(step, &event);
        }
        if event.kind == "shifting" && next < explained.len() {
            explained[next].began = Some(event.at);
            now = Some(next);
        } else if ends {
            now = now.map(|_| explained.len());
            after.push(event);
        } else if let Some(step) = now.and_then(|now| explained.get_mut(now)) {
            step.events.push(event);
        } else if now.is_some() || !after.is_empty() {
            after.push(event);
        } else {
            before.push(event);
        }
    }
    if let Some(step) = now.and_then(|now| explained.get_mut(now))
        && step.ended.is_none()
    {
        step.outcome = "running".into();
        step.why.clone_from(&rollout.verdict);
        step.stats = serde_json::to_value([rollout.candidate, rollout.stable])
            .ok()
            .map(|pair| serde_json::json!({ "candidate": pair[0], "stable": pair[1] }));
    }
    Explanation {
        rollout,
        not_judged: not_judged(&explained),
        before,
        steps: explained,
        after,
    }
}

/// What the steps that ended well ended without.
fn not_judged(steps: &[StepExplained]) -> Vec<String> {
    let ended = steps.iter().filter(|step| step.outcome == GOOD);
    let of = |step: &StepExplained| {
        let stats = step.stats.as_ref()?;
        let text = stats["not_judged"].as_str()?;
        let text = text.strip_prefix(NOT_JUDGED).unwrap_or(text);
        Some(format!("step {}: {text}", step.step))
    };
    ended.filter_map(of).collect()
}

fn planned(n: usize, of: usize, step: Step) -> StepExplained {
    StepExplained {
        step: n + 1,
        of,
        share: step.share,
        mirror: step.mirror,
        replicas: step.replicas,
        stable: step.stable,
        hold: step.hold,
        gate: step.gate,
        began: None,
        ended: None,
        outcome: "not reached".into(),
        why: None,
        stats: None,
        events: Vec::new(),
    }
}

/// Whether a step that is under way is over with an event of this kind.
fn ends_a_step(kind: &str) -> bool {
    [
        "shifting",
        "promoting",
        "baking",
        "draining",
        "done",
        "rolling-back",
        "rolled-back",
    ]
    .contains(&kind)
}

fn end(step: &mut StepExplained, event: &Event) {
    step.ended = Some(event.at);
    step.stats.clone_from(&event.stats);
    let went_back = event.kind.starts_with("roll");
    let (outcome, why) = match (went_back, &event.stats) {
        (true, _) => ("rolled back", Some(event.text.clone())),
        (false, Some(_)) => (GOOD, None),
        // It was not judged: a user promoted it.
        (false, None) => (
            "promoted by hand",
            event.who.clone().map(|who| format!("by {who}")),
        ),
    };
    step.outcome = outcome.into();
    step.why = why;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Strategy;
    use crate::rollout::Live;
    use crate::server::verbs::status_of;
    use crate::testing::TestProject;

    async fn explained(strategy: &str, play: &[(&str, Option<Value>)]) -> Explanation {
        let test = TestProject::new().await;
        let record = test.begin(strategy);
        let events = play.iter().zip(1..).map(|((kind, stats), id)| Event {
            id,
            rollout: Some(record.id),
            service: Some("web".into()),
            at: id * 1000,
            kind: (*kind).to_owned(),
            text: format!("{kind}!"),
            who: Some("ann".into()),
            stats: stats.clone(),
        });
        let steps = strategy.parse::<Strategy>().expect("a strategy").steps(4);
        explain(status_of(&Live::of(&record)), &steps, events.collect())
    }

    fn outcomes(explanation: &Explanation) -> Vec<&str> {
        explanation
            .steps
            .iter()
            .map(|step| step.outcome.as_str())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_step_has_what_was_seen_and_decided_in_it() {
        let not_judged = "not judged: failures (12 of 50 requests)";
        let good = json!({
            "candidate": { "tries": 12, "failures": 0 },
            "not_judged": not_judged,
        });
        let bad = json!({
            "candidate": { "tries": 9, "failures": 5 },
            "not_judged": not_judged,
        });
        let play = [
            ("began", None),
            ("checking", None),
            ("shifting", None),
            ("paused", None),
            ("resumed", None),
            ("shifting", Some(good.clone())),
            ("rolling-back", Some(bad.clone())),
            ("rolled-back", None),
        ];
        let explanation = explained("canary", &play).await;
        assert_eq!(
            outcomes(&explanation),
            ["good", "rolled back", "not reached"]
        );
        let [first, second, _] = explanation.steps.as_slice() else {
            panic!("three steps");
        };
        assert_eq!(
            explanation.not_judged,
            ["step 1: failures (12 of 50 requests)"],
            "not of the step that was rolled back"
        );
        assert_eq!((first.began, first.ended), (Some(3000), Some(6000)));
        assert_eq!(first.stats, Some(good));
        let kinds: Vec<&str> = first
            .events
            .iter()
            .map(|event| event.kind.as_str())
            .collect();
        assert_eq!(kinds, ["paused", "resumed"]);
        assert_eq!((second.share, second.stats.clone()), (50, Some(bad)));
        assert_eq!(second.why.as_deref(), Some("rolling-back!"));
        assert_eq!((explanation.before.len(), explanation.after.len()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_under_way_and_one_that_was_skipped_say_so() {
        let running = explained("canary", &[("began", None), ("shifting", None)]).await;
        assert_eq!(
            outcomes(&running),
            ["running", "not reached", "not reached"]
        );
        let play = [
            ("began", None),
            ("shifting", None),
            ("promoting", None),
            ("baking", None),
        ];
        let promoted = explained("canary", &play).await;
        assert_eq!(
            outcomes(&promoted),
            ["promoted by hand", "not reached", "not reached"]
        );
        assert_eq!(promoted.steps[0].why.as_deref(), Some("by ann"));
        let play = [
            ("began", None),
            ("rolling-back", None),
            ("rolled-back", None),
        ];
        let never = explained("blue-green", &play).await;
        assert_eq!(outcomes(&never), ["not reached"]);
        assert_eq!((never.before.len(), never.after.len()), (1, 2));
    }
}
