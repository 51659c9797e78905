//! What the verdict has to hold to: one row for each promise.

use super::trial::{Assignment, Stream, Tail, trial};

/// Rollouts of one kind, and what is to come of them.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) what: &'static str,
    /// The candidate's share of the requests.
    pub(super) share: f64,
    assignment: Assignment,
    stream: Stream,
    /// So many requests the candidate gets at most.
    requests: u64,
    goal: Goal,
}

#[derive(Debug, Clone, Copy)]
enum Goal {
    /// Rolled back in no more than this part of the rollouts.
    Hardly(f64),
    /// Rolled back within so many requests in at least this part, half of them within `median`.
    Found {
        within: u64,
        part: f64,
        median: Option<u64>,
    },
    /// It is what it is.
    Shown,
}

/// After how many requests to the candidate each rollout was rolled back: the earliest first,
/// then those that never were.
#[derive(Debug)]
pub(super) struct RowResult {
    after: Vec<Option<u64>>,
}

/// Every promise.
pub(super) fn all() -> Vec<Row> {
    let failing = |what, share, candidate, stable, requests, goal| Row {
        what,
        share,
        assignment: Assignment::Sequence,
        stream: Stream::Failures { candidate, stable },
        requests,
        goal,
    };
    let good = |what, share, rate| failing(what, share, rate, rate, 5000, Goal::Hardly(0.01));
    let coin = |row| Row {
        assignment: Assignment::Coin,
        ..row
    };
    let found = |within, part, median| Goal::Found {
        within,
        part,
        median,
    };
    let late = |what, share, tail, requests, goal| Row {
        what,
        share,
        assignment: Assignment::Sequence,
        stream: Stream::Latency(tail),
        requests,
        goal,
    };
    let quick = found(20, 0.99, Some(8));
    vec![
        good("both fail 0.1%", 0.1, 0.001),
        good("both fail 2%", 0.1, 0.02),
        good("both fail 10%", 0.1, 0.1),
        good("both fail 0.1%", 0.5, 0.001),
        good("both fail 2%", 0.5, 0.02),
        good("both fail 10%", 0.5, 0.1),
        coin(good("both fail 2%, dealt by a coin", 0.1, 0.02)),
        failing(
            "5% against 0.1%",
            0.1,
            0.05,
            0.001,
            5000,
            found(250, 0.99, Some(80)),
        ),
        failing(
            "5% against 0.1%",
            0.5,
            0.05,
            0.001,
            5000,
            found(400, 0.97, None),
        ),
        failing("50% against 0.1%", 0.1, 0.5, 0.001, 5000, quick),
        failing("50% against 0.1%", 0.5, 0.5, 0.001, 5000, Goal::Shown),
        failing("1% against 0.1%", 0.1, 0.01, 0.001, 5000, Goal::Shown),
        late("equally fast", 0.1, Tail::Same, 5000, Goal::Hardly(0.01)),
        late("equally fast", 0.5, Tail::Same, 5000, Goal::Hardly(0.01)),
        late(
            "twice as slow",
            0.1,
            Tail::TwiceAsSlow,
            2000,
            found(2000, 0.99, None),
        ),
        late(
            "twice as slow",
            0.5,
            Tail::TwiceAsSlow,
            2000,
            found(2000, 0.99, None),
        ),
        late(
            "same median, p99 doubled",
            0.1,
            Tail::Longer,
            2000,
            found(2000, 0.99, None),
        ),
        late(
            "same median, p99 doubled",
            0.5,
            Tail::Longer,
            2000,
            found(2000, 0.99, None),
        ),
    ]
}

impl Row {
    /// One rollout: after how many requests to the candidate it was rolled back.
    pub(super) fn trial(&self, seed: u64) -> Option<u64> {
        trial(
            self.share,
            self.assignment,
            &self.stream,
            self.requests,
            seed,
        )
    }

    /// For a test that is to take seconds: fewer requests, and goals that a few hundred rollouts
    /// can tell from what they should not be.
    #[cfg(test)]
    pub(super) fn shorten(&mut self) {
        match &mut self.goal {
            Goal::Hardly(part) => {
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

    /// What is said about the goal.
    pub(super) fn goal(&self) -> String {
        match self.goal {
            Goal::Hardly(part) => format!("≤ {}% in {}", part * 100.0, self.requests),
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

    /// What came of it, in the goal's words.
    pub(super) fn got(&self, result: &RowResult) -> String {
        let per_cent = |part: f64| format!("{:.2}%", part * 100.0);
        match self.goal {
            Goal::Found { within, .. } => per_cent(result.within(within)),
            Goal::Hardly(_) | Goal::Shown => per_cent(result.within(u64::MAX)),
        }
    }

    /// What is missing to the goal.
    pub(super) fn missed(&self, result: &RowResult) -> Option<String> {
        let fine = match self.goal {
            Goal::Hardly(part) => result.within(u64::MAX) <= part,
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
                "{} at {}%: {}, median {:?}, where the goal is {}",
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

    /// The part that was rolled back within so many requests.
    fn within(&self, requests: u64) -> f64 {
        let found = self.after.iter().flatten().filter(|at| **at <= requests);
        found.count() as f64 / self.after.len().max(1) as f64
    }

    /// The requests within which this part was rolled back; `None`: it never was.
    pub(super) fn at(&self, part: f64) -> Option<u64> {
        let index = (self.after.len() as f64 * part).ceil() as usize;
        self.after.get(index.saturating_sub(1)).copied().flatten()
    }
}
