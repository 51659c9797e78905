//! What `status` and `history` look like to people.

use std::time::{Duration, UNIX_EPOCH};

use super::stats;
use crate::api::{
    Explanation, HistoryReply, RolloutStatus, ServiceStatus, StatusReply, StepExplained,
    VersionStatus,
};
use crate::clock::{Clock, Millis};
use crate::journal::Event;
use crate::print::table;

/// `status`.
pub(crate) fn status(reply: &StatusReply) -> String {
    status_at(reply, Clock::new().now())
}

fn status_at(reply: &StatusReply, now: Millis) -> String {
    let mut text = format!(
        "{} on {}, {}\n",
        reply.project,
        reply.runtime,
        reply.urls.join(", ")
    );
    if let Some(why) = &reply.published {
        let runtime = &reply.runtime;
        text.push_str(&format!("ports are published by {runtime}: {why}\n"));
    }
    if let Some(last_error) = &reply.last_error {
        text.push_str(&format!("! {last_error}\n"));
    }
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    for service in &reply.services {
        let versions = service.versions.iter();
        rows.extend(versions.map(|version| row(service, version, now)));
    }
    text.push('\n');
    text.push_str(&table(&rows));
    for service in &reply.services {
        text.push_str(&about(service, now));
    }
    text
}

/// The columns of `status`; those from `REQ/S` on are about the last minute.
const COLUMNS: [&str; 11] = [
    "SERVICE", "VERSION", "ROLE", "SPLIT", "HEALTHY", "AGE", "RESTARTS", "REQ/S", "SUCCESS", "P50",
    "P99",
];

/// What there is to say of a service below the table.
fn about(service: &ServiceStatus, now: Millis) -> String {
    let mut text = String::new();
    let name = &service.name;
    if let Some(error) = &service.last_error {
        let at = service.last_error_at;
        let when = at.map_or("now".to_owned(), |at| format!("{} ago", age(at, now)));
        text.push_str(&format!("\n! {name}, {when}: {error}\n"));
    }
    if !service.differences.is_empty() {
        let differences = service.differences.join("; ");
        text.push_str(&format!(
            "\n{name} differs from the manifest: {differences}\n"
        ));
    }
    if let Some(rollout) = &service.rollout {
        text.push_str(&format!("\n{}\n", self::rollout(rollout)));
    }
    for wait in &service.waits {
        text.push_str(&format!("{name} waits for {}", wait.what));
        if let Some(until) = wait.until {
            let (_, time) = date_and_time(until);
            let left = age(now, until);
            text.push_str(&format!(", until {time} (UTC) at most, in {left}"));
        }
        text.push('\n');
    }
    text
}

fn row(service: &ServiceStatus, version: &VersionStatus, now: Millis) -> Vec<String> {
    let none = || "-".to_owned();
    let recent = version.last_minute;
    let millis = |of: Option<f64>| of.map_or_else(none, |ms| format!("{} ms", short(ms)));
    let restarts = match version.restarted {
        Some(at) => format!("{} ({} ago)", version.restarts, age(at, now)),
        None => version.restarts.to_string(),
    };
    vec![
        service.name.clone(),
        version.version.clone(),
        version.role.clone(),
        format!("{:.0}%", version.share),
        format!("{}/{}", version.healthy, version.endpoints),
        version.since.map_or_else(none, |since| age(since, now)),
        restarts,
        recent.map_or_else(none, |recent| short(recent.per_second)),
        recent
            .and_then(|recent| recent.success_rate)
            .map_or_else(none, |rate| format!("{rate:.2}%")),
        millis(recent.and_then(|recent| recent.p50_ms)),
        millis(recent.and_then(|recent| recent.p99_ms)),
    ]
}

/// Two places for small numbers, and whole ones for large: `0.25`, `7.5`, `120`.
fn short(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 1.0 => format!("{n:.1}"),
        n if n > 0.0 => format!("{n:.2}"),
        _ => "0".to_owned(),
    }
}

/// How long it is from one moment to the other, by its largest unit: `45 s`, `12 min`, `3 h`, `5 d`.
fn age(from: Millis, to: Millis) -> String {
    let seconds = (to - from).max(0) / 1000;
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
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
    let mut text = rollout(&reply.rollout);
    if !reply.not_judged.is_empty() {
        text.push_str(&format!("; not judged: {}", reply.not_judged.join("; ")));
    }
    text.push_str(&format!("\nbegan {date} {time} (UTC)\n"));
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
    use crate::api::{LastMinute, Waiting};

    #[test]
    fn a_service_that_crashes_again_and_again_does_not_look_fine() {
        let version = VersionStatus {
            version: "1.0.0".into(),
            role: "stable".into(),
            weight: 100,
            share: 100.0,
            healthy: 1,
            endpoints: 2,
            in_flight: 0,
            requests: 9000,
            failures: 12,
            success_rate: Some(99.87),
            since: Some(1_738_326_605_000),
            restarts: 9,
            restarted: Some(1_738_333_985_000),
            last_minute: Some(LastMinute {
                seconds: 60.0,
                requests: 450,
                per_second: 7.5,
                success_rate: Some(98.0),
                p50_ms: Some(3.25),
                p99_ms: Some(1203.0),
            }),
        };
        let service = ServiceStatus {
            name: "web".into(),
            generation: 7,
            stable: "1.0.0".into(),
            previous: None,
            replicas: 2,
            last_error: Some("web-1 exited with code 1; it said: no database".into()),
            last_error_at: Some(1_738_333_925_000),
            waits: vec![Waiting {
                what: "the next start".into(),
                until: Some(1_738_334_045_000),
            }],
            differences: Vec::new(),
            versions: vec![version],
            rollout: None,
        };
        let reply = StatusReply {
            published: None,
            project: "shop".into(),
            runtime: "podman".into(),
            listen: Vec::new(),
            urls: vec!["http://localhost:8080".into()],
            last_error: None,
            services: vec![service],
        };
        let text = status_at(&reply, 1_738_333_985_000 + 30_000);
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(lines[3]),
            "web 1.0.0 stable 100% 1/2 2 h 9 (30 s ago) 7.5 98.00% 3.2 ms 1203 ms"
        );
        let rest = lines[4..].join("\n");
        assert_eq!(
            rest,
            "\n! web, 90 s ago: web-1 exited with code 1; it said: no database\n\
             web waits for the next start, until 14:34:05 (UTC) at most, in 30 s"
        );
    }

    #[test]
    fn times_are_shown_in_utc() {
        let (date, time) = date_and_time(1_738_326_605_000);
        assert_eq!((date.as_str(), time.as_str()), ("2025-01-31", "12:30:05"));
    }
}
