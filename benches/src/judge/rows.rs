//! The goals of the verdict: one row for each.

use super::trial::{Assignment, Stream, Tail, trial};

/// A kind of rollout, and the goal for it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) what: &'static str,
    /// The candidate's share of the requests.
    pub(super) share: f64,
    assignment: Assignment,
    stream: Stream,
    /// The most requests that the candidate gets.
    requests: u64,
    goal: Goal,
}

#[derive(Debug, Clone, Copy)]
enum Goal {
    /// At most this share of the rollouts is rolled back.
    Rarely(f64),
    /// At least this share is rolled back within this many requests, half of them within `median`.
    Found {
        within: u64,
        part: f64,
        median: Option<u64>,
    },
    /// No goal: the result is only shown.
    Shown,
}

/// The requests to the candidate until each rollback, in ascending order. `None`, for a rollout that
/// was not rolled back, comes last.
#[derive(Debug)]
pub(super) struct RowResult {
    after: Vec<Option<u64>>,
}

/// All rows.
pub(super) fn all() -> Vec<Row> {
    let mut rows = failures();
    rows.extend(latencies());
    rows
}

/// Rollouts whose versions fail some of their requests.
fn failures() -> Vec<Row> {
    let good = |what, share, rate| failing(what, share, (rate, rate), Goal::Rarely(0.01));
    let quick = found(20, 0.99, Some(8));
    vec![
        good("both fail 0.1%", 0.1, 0.001),
        good("both fail 2%", 0.1, 0.02),
        good("both fail 10%", 0.1, 0.1),
        good("both fail 0.1%", 0.5, 0.001),
        good("both fail 2%", 0.5, 0.02),
        good("both fail 10%", 0.5, 0.1),
        Row {
            assignment: Assignment::Coin,
            ..good("both fail 2%, assigned by chance", 0.1, 0.02)
        },
        failing(
            "5% against 0.1%",
            0.1,
            (0.05, 0.001),
            found(250, 0.99, Some(80)),
        ),
        failing(
            "5% against 0.1%",
            0.5,
            (0.05, 0.001),
            found(400, 0.97, None),
        ),
        failing("50% against 0.1%", 0.1, (0.5, 0.001), quick),
        failing("50% against 0.1%", 0.5, (0.5, 0.001), Goal::Shown),
        failing("1% against 0.1%", 0.1, (0.01, 0.001), Goal::Shown),
    ]
}

/// Rollouts whose versions take their time.
fn latencies() -> Vec<Row> {
    let same = |share| {
        let goal = Goal::Rarely(0.01);
        late("equally fast", share, Tail::Same, 5000, goal)
    };
    let slower = |what, share, tail| late(what, share, tail, 2000, found(2000, 0.99, None));
    vec![
        same(0.1),
        same(0.5),
        slower("twice as slow", 0.1, Tail::TwiceAsSlow),
        slower("twice as slow", 0.5, Tail::TwiceAsSlow),
        slower("same median, p99 doubled", 0.1, Tail::Longer),
        slower("same median, p99 doubled", 0.5, Tail::Longer),
    ]
}

/// A row of up to 5000 requests, with the failure rates of candidate and stable.
fn failing(what: &'static str, share: f64, (candidate, stable): (f64, f64), goal: Goal) -> Row {
    Row {
        what,
        share,
        assignment: Assignment::Sequence,
        stream: Stream::Failures { candidate, stable },
        requests: 5000,
        goal,
    }
}

fn late(what: &'static str, share: f64, tail: Tail, requests: u64, goal: Goal) -> Row {
    Row {
        what,
        share,
        assignment: Assignment::Sequence,
        stream: Stream::Latency(tail),
        requests,
        goal,
    }
}

fn found(within: u64, part: f64, median: Option<u64>) -> Goal {
    Goal::Found {
        within,
        part,
        median,
    }
}

impl Row {
    /// Simulates one rollout. Returns the requests to the candidate until the rollback.
    pub(super) fn trial(&self, seed: u64) -> Option<u64> {
        trial(
            self.share,
            self.assignment,
            &self.stream,
            self.requests,
            seed,
        )
    }

    /// Shortens the row for a test of some seconds: fewer requests, and goals that a few hundred
    /// rollouts can tell from a failure.
    #[cfg(test)]
    pub(super) fn shorten(&mut self) {
        match &mut self.goal {
            Goal::Rarely(part) => {
                *part *= 1.5;
                self.requests = self.requests.min(1500);
            }
            Goal::Found { part, .. } => *part -= 0.02,
            Goal::Shown => self.requests = self.requests.min(500),
        }
    }

    #[cfg(test)]
    pub(super) fn is_bad(&self) -> bool {
        matches!(self.goal, Goal::Found { .. })
    }

    /// The goal as text.
    pub(super) fn goal(&self) -> String {
        match self.goal {
            Goal::Rarely(part) => format!("≤ {}% in {}", part * 100.0, self.requests),
            Goal::Found {
                within,
                part,
                median,
            } => {
                let median = median.map_or(String::new(), |median| format!(", median ≤ {median}"));
                format!("≥ {}% within {within}{median}", part * 100.0)
            }
            Goal::Shown => "–".into(),
        }
    }

    /// The result as text, in the unit of the goal.
    pub(super) fn got(&self, result: &RowResult) -> String {
        let per_cent = |part: f64| format!("{:.2}%", part * 100.0);
        match self.goal {
            Goal::Found { within, .. } => per_cent(result.within(within)),
            Goal::Rarely(_) | Goal::Shown => per_cent(result.within(u64::MAX)),
        }
    }

    /// The difference to the goal, if the goal is missed.
    pub(super) fn missed(&self, result: &RowResult) -> Option<String> {
        let fine = match self.goal {
            Goal::Rarely(part) => result.within(u64::MAX) <= part,
            Goal::Found {
                within,
                part,
                median,
            } => {
                let median = median.is_none_or(|most| result.at(0.5).is_some_and(|at| at <= most));
                result.within(within) >= part && median
            }
            Goal::Shown => true,
        };
        (!fine).then(|| {
            format!(
                "{} at {}%: {}, median {:?}, but the goal is {}",
                self.what,
                self.share * 100.0,
                self.got(result),
                result.at(0.5),
                self.goal()
            )
        })
    }
}

impl RowResult {
    pub(super) fn of(mut after: Vec<Option<u64>>) -> Self {
        after.sort_by_key(|after| after.unwrap_or(u64::MAX));
        Self { after }
    }

    /// The share that was rolled back within this many requests.
    fn within(&self, requests: u64) -> f64 {
        let found = self.after.iter().flatten().filter(|at| **at <= requests);
        found.count() as f64 / self.after.len().max(1) as f64
    }

    /// The requests within which this share was rolled back; `None` if it was not.
    pub(super) fn at(&self, part: f64) -> Option<u64> {
        let index = (self.after.len() as f64 * part).ceil() as usize;
        self.after.get(index.saturating_sub(1)).copied().flatten()
    }
}
