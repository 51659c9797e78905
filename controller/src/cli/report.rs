//! What `status` and `history` look like to people.

use std::time::{Duration, UNIX_EPOCH};

use super::stats;
use crate::api::{
    Explanation, HistoryReply, RolloutStatus, ServiceStatus, StatusReply, StepExplained,
    VersionStatus,
};
use crate::clock::Millis;
use crate::journal::Event;
use crate::print::table;

/// `status`.
pub(crate) fn status(reply: &StatusReply) -> String {
    let mut text = format!(
        "{} on {}, {}\n",
        reply.project,
        reply.runtime,
        reply.urls.join(", ")
    );
    if let Some(last_error) = &reply.last_error {
        text.push_str(&format!("! {last_error}\n"));
    }
    let mut rows = vec![
        [
            "SERVICE", "VERSION", "ROLE", "SPLIT", "HEALTHY", "REQUESTS", "SUCCESS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for service in &reply.services {
        rows.extend(service.versions.iter().map(|version| row(service, version)));
    }
    text.push('\n');
    text.push_str(&table(&rows));
    for service in &reply.services {
        if let Some(rollout) = &service.rollout {
            text.push_str(&format!("\n{}\n", self::rollout(rollout)));
        }
    }
    text
}

fn row(service: &ServiceStatus, version: &VersionStatus) -> Vec<String> {
    vec![
        service.name.clone(),
        version.version.clone(),
        version.role.clone(),
        format!("{:.0}%", version.share),
        format!("{}/{}", version.healthy, version.endpoints),
        version.requests.to_string(),
        version
            .success_rate
            .map_or("-".into(), |rate| format!("{rate:.2}%")),
    ]
}

/// `rollout 3 (web 1.0.0 → 2.0.0): shifting, step 1 of 3; 12 of 50 requests so far`.
pub(crate) fn rollout(rollout: &RolloutStatus) -> String {
    let mut text = format!(
        "rollout {} ({} {} → {}, {}): {}",
        rollout.id, rollout.service, rollout.from, rollout.to, rollout.strategy, rollout.phase
    );
    if rollout.phase == crate::journal::Phase::Shifting {
        text.push_str(&format!(", step {} of {}", rollout.step, rollout.steps));
    }
    for (before, said) in [
        ("paused: ", &rollout.paused),
        ("", &rollout.why),
        ("", &rollout.verdict),
        ("! ", &rollout.last_error),
    ] {
        if let Some(said) = said {
            text.push_str(&format!("; {before}{said}"));
        }
    }
    text
}

/// `history`.
pub(crate) fn history(reply: &HistoryReply) -> String {
    if reply.events.is_empty() {
        return "nothing has happened yet\n".into();
    }
    let mut text = String::new();
    let mut day = String::new();
    for event in &reply.events {
        let (date, _) = date_and_time(event.at);
        if date != day {
            text.push_str(&format!("{date} (UTC)\n"));
            day = date;
        }
        text.push_str(&self::event(event));
        text.push('\n');
    }
    text
}

/// `12:30:05 rollout 3: step 1 of 3: 10% to 2.0.0`.
pub(crate) fn event(event: &Event) -> String {
    let (_, time) = date_and_time(event.at);
    let who = match (event.rollout, &event.service) {
        (Some(rollout), _) => format!("rollout {rollout}: "),
        (None, Some(service)) => format!("{service}: "),
        (None, None) => String::new(),
    };
    // What began says itself which rollout it is.
    let who = if event.kind == "began" {
        String::new()
    } else {
        who
    };
    let by = event
        .who
        .as_ref()
        .map_or_else(String::new, |who| format!(" (by {who})"));
    format!("{time} {who}{}{by}", event.text)
}

/// `explain`.
pub(crate) fn explanation(reply: &Explanation) -> String {
    let (date, time) = date_and_time(reply.rollout.created);
    let mut text = format!("{}\nbegan {date} {time} (UTC)\n", rollout(&reply.rollout));
    let add = |text: &mut String, events: &[Event]| {
        for event in events {
            text.push_str(&format!("  {}\n", self::event(event)));
        }
    };
    add(&mut text, &reply.before);
    for step in &reply.steps {
        text.push_str(&self::step(step));
        add(&mut text, &step.events);
    }
    add(&mut text, &reply.after);
    text
}

fn step(step: &StepExplained) -> String {
    let plural = if step.replicas == 1 { "" } else { "s" };
    let what = match step.mirror {
        Some(percent) => format!("copies of {percent}%"),
        None => format!("{}%", step.share),
    };
    let mut text = format!(
        "\nstep {} of {}: {what} on {} container{plural}: {}",
        step.step, step.of, step.replicas, step.outcome
    );
    if let (Some(began), Some(ended)) = (step.began, step.ended) {
        text.push_str(&format!(" after {}", stats::lasted(began, ended)));
    }
    if let Some(why) = &step.why {
        text.push_str(&format!(": {why}"));
    }
    text.push('\n');
    for line in step.stats.iter().flat_map(stats::stats) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// `("2025-01-31", "12:30:05")`, in UTC.
fn date_and_time(at: Millis) -> (String, String) {
    let since = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    match text.trim_end_matches('Z').split_once('T') {
        Some((date, time)) => (date.to_owned(), time.to_owned()),
        None => (text.clone(), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        let (date, time) = date_and_time(1_738_326_605_000);
        assert_eq!((date.as_str(), time.as_str()), ("2025-01-31", "12:30:05"));
    }
}
