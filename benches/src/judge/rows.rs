//! The goals of the verdict: one row for each.

use super::trial::{RolledBack, Scenario};
use super::world::{Kind, Tail};

/// A kind of rollout, and the goal for it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) scenario: Scenario,
    goal: Goal,
}

#[derive(Debug, Clone, Copy)]
enum Goal {
    /// At most this share of the rollouts is rolled back.
    Rarely(f64),
    /// Half of the rollouts, and 99 of 100, are rolled back within so many requests to the candidate,
    /// or within so many seconds where that is later.
    Found {
        median: u64,
        most: Option<u64>,
        seconds: f64,
    },
}

/// The rollouts of a row that were rolled back.
#[derive(Debug)]
pub(super) struct RowResult {
    /// Requests to the candidate until each rollback, in ascending order.
    requests: Vec<u64>,
    /// Seconds, in ascending order.
    seconds: Vec<f64>,
    errors: u64,
    rollouts: usize,
}

/// The tolerated difference of failure rates, and the chance of a false rollback, by default.
const TOLERANCE: f64 = 0.001;
const CHANCE: f64 = 0.01;
/// Requests to both versions of a rollout that is not rolled back: 100 s.
const LONG: u64 = 50_000;
const SHARES: [u32; 2] = [10, 50];

/// All rows.
pub(super) fn all() -> Vec<Row> {
    let mut rows = good();
    rows.extend(bad());
    rows
}

/// Candidates without fault.
fn good() -> Vec<Row> {
    let both = |rate| Kind::Failures {
        candidate: rate,
        stable: rate,
    };
    let latency = Kind::Latency;
    let kinds = [
        ("both fail 0.1%", both(0.001)),
        ("both fail 2%", both(0.02)),
        ("both fail 10%", both(0.1)),
        ("shared bursts, seen 0-1 s apart", Kind::SharedBursts),
        ("both fail 0.1-5%, in waves", Kind::Drift),
        ("both are out for 5 s, seen 0-1 s apart", Kind::Outage),
        ("both fail 0.1%, each tried 3 times", Kind::Retries),
        ("clients keep theirs, 1% always fail", Kind::Clients),
        ("each 21st request fails", Kind::Periodic(21)),
        ("each 89th request fails", Kind::Periodic(89)),
        ("each 144th request fails", Kind::Periodic(144)),
        ("each 233rd request fails", Kind::Periodic(233)),
        ("the first 3 of the candidate fail", Kind::FirstFail),
        ("own bursts, 30% for 1 s of 5 min", Kind::OwnBursts(300.0)),
        ("rate and share rise together", Kind::RateAndShare),
        ("equally fast", latency(Tail::Same)),
        ("1.2 times slower", latency(Tail::Slower(1.2))),
        ("own pauses, 0.5 s of 30 s", latency(Tail::OwnPauses)),
    ];
    let mut rows = Vec::new();
    for (what, kind) in kinds {
        for share in SHARES {
            rows.push(row(what, kind, share, Goal::Rarely(0.01)));
        }
    }
    for share in SHARES {
        let kind = Kind::OwnBursts(15.0);
        let what = "own bursts, 30% for 1 s of 15 s";
        rows.push(row(what, kind, share, Goal::Rarely(0.05)));
    }
    rows
}

/// Candidates that have to be found.
fn bad() -> Vec<Row> {
    let failing = |rate| Kind::Failures {
        candidate: rate,
        stable: 0.001,
    };
    let slower = |factor| Kind::Latency(Tail::Slower(factor));
    let longer = Kind::Latency(Tail::Longer);
    let goals = [
        (
            "5% against 0.1%",
            failing(0.05),
            [(58, Some(240)), (100, Some(320))],
            3.0,
        ),
        (
            "50% against 0.1%",
            failing(0.5),
            [(6, None), (12, None)],
            2.0,
        ),
        (
            "1% against 0.1%",
            failing(0.01),
            [(700, None), (1_250, None)],
            0.0,
        ),
        (
            "ten times slower",
            slower(10.0),
            [(10, None), (25, None)],
            3.0,
        ),
        (
            "twice as slow",
            slower(2.0),
            [(40, Some(110)), (75, Some(200))],
            4.0,
        ),
        (
            "same median, p99 doubled",
            longer,
            [(450, Some(1_900)), (900, Some(2_500))],
            0.0,
        ),
    ];
    let mut rows = Vec::new();
    for (what, kind, within, seconds) in goals {
        for (share, (median, most)) in SHARES.into_iter().zip(within) {
            let goal = Goal::Found {
                median,
                most,
                seconds,
            };
            rows.push(row(what, kind, share, goal));
        }
    }
    rows
}

fn row(what: &'static str, kind: Kind, share: u32, goal: Goal) -> Row {
    Row {
        what,
        scenario: Scenario {
            kind,
            share,
            requests: LONG,
        },
        goal,
    }
}

impl Row {
    /// Simulates one rollout.
    pub(super) fn trial(&self, seed: u64) -> Option<RolledBack> {
        self.scenario.trial(seed)
    }

    /// Shortens the row for a test of some seconds: fewer requests, and goals that a few
    /// rollouts can tell from a failure.
    #[cfg(test)]
    pub(super) fn shorten(&mut self) {
        match &mut self.goal {
            Goal::Rarely(part) => {
                *part = part.max(0.05) * 1.5;
                self.scenario.requests = 10_000;
            }
            Goal::Found { median, most, .. } => {
                *median *= 2;
                *most = None;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_bad(&self) -> bool {
        matches!(self.goal, Goal::Found { .. })
    }

    /// The goal as text.
    pub(super) fn goal(&self) -> String {
        match self.goal {
            Goal::Rarely(part) => format!("≤ {}% of steps", part * 100.0),
            Goal::Found {
                median,
                most,
                seconds,
            } => {
                let most = most.map_or(String::new(), |most| format!(", 99% ≤ {most}"));
                let or = match seconds > 0.0 {
                    true => format!(", or {seconds} s"),
                    false => String::new(),
                };
                format!("half ≤ {median}{most}{or}")
            }
        }
    }

    /// The mean of requests that no test can do with fewer, for this chance of a false rollback (Wald).
    pub(super) fn floor(&self) -> Option<f64> {
        let (Kind::Failures { candidate, stable }, Goal::Found { .. }) =
            (self.scenario.kind, self.goal)
        else {
            return None;
        };
        let share = f64::from(self.scenario.share) / 100.0;
        let information = |at: f64| {
            divergence(candidate, at + TOLERANCE) + (1.0 - share) / share * divergence(stable, at)
        };
        let steps = (1..2000).map(|step| stable + (candidate - stable) * f64::from(step) / 2000.0);
        let least = steps.map(information).fold(f64::INFINITY, f64::min);
        Some(-CHANCE.ln() / least)
    }

    /// The difference to the goal, if the goal is missed.
    pub(super) fn missed(&self, result: &RowResult) -> Option<String> {
        let fine = match self.goal {
            Goal::Rarely(part) => result.rolled_back() <= part,
            Goal::Found {
                median,
                most,
                seconds,
            } => {
                let found = |part, within: u64| {
                    let requests = result.requests(part).is_some_and(|at| at <= within);
                    requests || result.seconds(part).is_some_and(|at| at <= seconds)
                };
                found(0.5, median) && most.is_none_or(|most| found(0.99, most))
            }
        };
        (!fine).then(|| {
            format!(
                "{} at {}%: {:.2}%, half {:?}, 99% {:?}, but the goal is {}",
                self.what,
                self.scenario.share,
                result.rolled_back() * 100.0,
                result.requests(0.5),
                result.requests(0.99),
                self.goal()
            )
        })
    }
}

/// Kullback and Leibler, of two chances.
fn divergence(one: f64, other: f64) -> f64 {
    one * (one / other).ln() + (1.0 - one) * ((1.0 - one) / (1.0 - other)).ln()
}

impl RowResult {
    pub(super) fn of(trials: &[Option<RolledBack>]) -> Self {
        let ended: Vec<RolledBack> = trials.iter().flatten().copied().collect();
        let mut requests: Vec<u64> = ended.iter().map(|end| end.requests).collect();
        let mut seconds: Vec<f64> = ended.iter().map(|end| end.seconds).collect();
        requests.sort_unstable();
        seconds.sort_by(f64::total_cmp);
        Self {
            requests,
            seconds,
            errors: ended.iter().map(|end| end.errors).sum(),
            rollouts: trials.len(),
        }
    }

    /// The share that was rolled back.
    pub(super) fn rolled_back(&self) -> f64 {
        self.requests.len() as f64 / self.rollouts.max(1) as f64
    }

    /// The requests within which this share of all was rolled back; `None` if it was not.
    pub(super) fn requests(&self, part: f64) -> Option<u64> {
        self.requests.get(self.index(part)).copied()
    }

    /// The seconds within which it was.
    pub(super) fn seconds(&self, part: f64) -> Option<f64> {
        self.seconds.get(self.index(part)).copied()
    }

    /// Errors of the candidate in the mean of those that were rolled back.
    pub(super) fn errors(&self) -> Option<f64> {
        let count = self.requests.len();
        (count > 0).then(|| self.errors as f64 / count as f64)
    }

    fn index(&self, part: f64) -> usize {
        ((self.rollouts as f64 * part).ceil() as usize).saturating_sub(1)
    }
}
