//! How long the steps of a rollout will take by the traffic that there is, and what would be quicker.
//! Decisions only.

use std::time::Duration;

use super::{RolloutSettings, Step, Strategy};
use crate::verdict::AfterMaxHold;

/// Another way is worth a word if it takes at most this part of the time, in percent.
const QUICKER: u32 = 75;

/// How many requests a service gets, and how long that was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests a second.
    pub per_second: f64,
    /// The time that this is about, in seconds.
    pub seconds: f64,
}

/// How the steps go by some traffic.
#[derive(Debug, Default, PartialEq, Eq)]
struct Course {
    /// How long they take, up to the first that does not end by itself.
    takes: Duration,
    /// How long they would take if requests did not matter.
    least: Duration,
    /// The steps that go on without the requests that they lack, from 1 on.
    quiet: Vec<usize>,
    /// The first step that does not end by itself, and why.
    stops: Option<(usize, &'static str)>,
}

impl Course {
    fn of(settings: &RolloutSettings, steps: &[Step], per_second: f64) -> Self {
        let mut course = Self {
            takes: settings.min_healthy_time.get(),
            least: settings.min_healthy_time.get(),
            ..Self::default()
        };
        for (n, step) in (1..).zip(steps) {
            let least = step.hold.unwrap_or(settings.step_min_duration).get();
            let most = settings.max_hold.get().max(least);
            let requests = step.min_requests.unwrap_or(settings.min_requests);
            let wait = time_for(requests, per_second, step.mirror.unwrap_or(step.share));
            let has_enough = wait.is_some_and(|wait| wait <= most);
            let wait = wait.filter(|_| has_enough).unwrap_or(most);
            course.takes = course.takes.saturating_add(wait.max(least));
            course.least = course.least.saturating_add(least);
            if !has_enough {
                match settings.after_max_hold {
                    AfterMaxHold::Proceed => course.quiet.push(n),
                    AfterMaxHold::Pause => course.stops = Some((n, "pauses")),
                }
            }
            if step.gate && course.stops.is_none() {
                course.stops = Some((n, "waits at its gate"));
            }
            if course.stops.is_some() {
                break;
            }
        }
        course
    }
}

/// How long so many requests take, of which a version gets `share` percent; `None`: for ever.
fn time_for(requests: u64, per_second: f64, share: u8) -> Option<Duration> {
    if requests == 0 {
        return Some(Duration::ZERO);
    }
    let rate = per_second * f64::from(share) / 100.0;
    Duration::try_from_secs_f64(requests as f64 / rate).ok()
}

/// What to tell before a rollout begins. `None` for the traffic: it is not known.
pub fn forecast(
    settings: &RolloutSettings,
    steps: &[Step],
    stable_replicas: u32,
    traffic: Option<Traffic>,
) -> String {
    let rate = traffic.map_or(0.0, |traffic| traffic.per_second);
    let course = Course::of(settings, steps, rate);
    let about = match traffic {
        Some(_) => "about",
        None => "at most",
    };
    let takes = rounded(course.takes);
    let mut text = format!("{}, this takes {about} {takes}", with(traffic));
    let requests = settings.min_requests;
    let max_hold = settings.max_hold;
    if let Some((n, what)) = course.stops {
        text.push_str(&format!(", until step {n} {what}"));
    }
    if let [first, ..] = course.quiet.as_slice() {
        let last = course.quiet.last().unwrap_or(first);
        let (named, go) = match first == last {
            true => (format!("step {first}"), "goes"),
            false => (format!("steps {first} to {last}"), "go"),
        };
        let get = if first == last { "does" } else { "do" };
        text.push_str(&format!(
            ": {named} {get} not get {requests} requests within {max_hold}, and {go} on without them"
        ));
    }
    let quicker = quicker(settings, steps, stable_replicas, rate, &course);
    if !quicker.is_empty() {
        text.push_str(&format!(". Quicker: {}", quicker.join(", ")));
    }
    text
}

/// `with 0.4 requests/s, as in the last 60 s`.
fn with(traffic: Option<Traffic>) -> String {
    let Some(Traffic {
        per_second,
        seconds,
    }) = traffic
    else {
        return "as the traffic is not known yet".into();
    };
    let seconds = seconds.ceil();
    match per_second {
        rate if rate <= 0.0 => format!("without requests, as in the last {seconds} s"),
        rate if rate < 10.0 => format!("with {rate:.1} requests/s, as in the last {seconds} s"),
        rate => format!("with {rate:.0} requests/s, as in the last {seconds} s"),
    }
}

/// Flags of `deploy` by which it would take far less time, where it is traffic that takes it.
fn quicker(
    settings: &RolloutSettings,
    steps: &[Step],
    stable_replicas: u32,
    rate: f64,
    course: &Course,
) -> Vec<String> {
    if course.takes <= course.least {
        return Vec::new();
    }
    let no_minimum = RolloutSettings {
        min_requests: 0,
        ..settings.clone()
    };
    let other = |strategy: Strategy| {
        let settings = RolloutSettings {
            strategy: strategy.clone(),
            ..settings.clone()
        };
        Course::of(&settings, &strategy.steps(stable_replicas), rate)
    };
    let ways = [
        ("--min-requests 0", Course::of(&no_minimum, steps, rate)),
        ("--strategy blue-green", other(Strategy::BlueGreen)),
        ("--strategy all-at-once", other(Strategy::AllAtOnce)),
    ];
    let limit = course.takes * QUICKER / 100;
    let is_quicker =
        |way: &Course| way.stops.is_none() && (way.takes <= limit || course.stops.is_some());
    ways.into_iter()
        .filter(|(_, way)| is_quicker(way))
        .map(|(flags, way)| format!("`{flags}` (about {})", rounded(way.takes)))
        .collect()
}

/// Without digits that cannot be foreseen.
fn rounded(takes: Duration) -> humantime::FormattedDuration {
    let seconds = takes.as_secs_f64().ceil() as u64;
    let seconds = match seconds {
        s if s < 120 => s,
        s => s.div_ceil(10) * 10,
    };
    humantime::format_duration(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut RolloutSettings),
        strategy: &str,
        per_second: Option<f64>,
        want: &str,
    ) {
        let mut settings = RolloutSettings {
            strategy: strategy.parse().expect("a strategy"),
            ..RolloutSettings::default()
        };
        change(&mut settings);
        let steps = settings.strategy.steps(2);
        let traffic = per_second.map(|per_second| Traffic {
            per_second,
            seconds: 60.0,
        });
        assert_eq!(forecast(&settings, &steps, 2, traffic), want);
    }

    #[test]
    fn with_enough_traffic_the_steps_last_as_long_as_they_have_to() {
        let want = "with 120 requests/s, as in the last 60 s, this takes about 1m 35s";
        check(|_| {}, "canary", Some(120.0), want);
        let want = "with 120 requests/s, as in the last 60 s, this takes about 1m 5s, until step 2 \
                    waits at its gate";
        check(|_| {}, "steps=10,50:gate,100", Some(120.0), want);
    }

    #[test]
    fn without_traffic_each_step_goes_on_after_max_hold_and_what_is_quicker_is_named() {
        let want = "without requests, as in the last 60 s, this takes about 9m 10s: steps 1 to 3 do \
                    not get 50 requests within 3m, and go on without them. Quicker: \
                    `--min-requests 0` (about 1m 35s), `--strategy blue-green` (about 3m 10s), \
                    `--strategy all-at-once` (about 5s)";
        check(|_| {}, "canary", Some(0.0), want);
        let want = "as the traffic is not known yet, this takes at most 3m 10s: step 1 \
                    does not get 50 requests within 3m, and goes on without them. Quicker: \
                    `--min-requests 0` (about 35s), `--strategy all-at-once` (about 5s)";
        check(|_| {}, "blue-green", None, want);
    }

    #[test]
    fn with_little_traffic_the_steps_wait_for_their_requests() {
        // 500 s for the first 50, which is too long; then 100 s and 50 s.
        let want = "with 1.0 requests/s, as in the last 60 s, this takes about 5m 40s: step 1 does \
                    not get 50 requests within 3m, and goes on without them. Quicker: \
                    `--min-requests 0` (about 1m 35s), `--strategy blue-green` (about 55s), \
                    `--strategy all-at-once` (about 5s)";
        check(|_| {}, "canary", Some(1.0), want);
    }

    #[test]
    fn a_step_that_will_pause_is_named() {
        let pause = |settings: &mut RolloutSettings| {
            settings.after_max_hold = AfterMaxHold::Pause;
        };
        let want = "without requests, as in the last 60 s, this takes about 3m 10s, until step 1 \
                    pauses. Quicker: `--min-requests 0` (about 1m 35s), `--strategy all-at-once` \
                    (about 5s)";
        check(pause, "canary", Some(0.0), want);
    }
}
