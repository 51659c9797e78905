//! The comparison of all judges on the same requests.

use super::rivals::{Judge, Requests};
use crate::rng::Rng;

/// A candidate for all judges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison {
    pub(super) what: &'static str,
    candidate: f64,
    stable: f64,
}

/// The candidate's share of the requests.
pub(super) const SHARE: f64 = 0.1;

/// The decision of one judge in one rollout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// When it rolled back, in seconds.
    at: Option<f64>,
    /// Requests to the candidate until then, or until the end.
    requests: u64,
    /// The failed ones of these, which clients received.
    errors: u64,
}

/// The decisions of one judge in all rollouts.
#[derive(Debug)]
pub(super) struct JudgeStats {
    pub(super) judge: Judge,
    /// The share of rollouts that it rolled back.
    pub(super) rolled_back: f64,
    /// Medians of the rollouts that it rolled back.
    pub(super) requests: Option<u64>,
    pub(super) seconds: Option<f64>,
    /// The mean of all rollouts.
    pub(super) errors: f64,
}

pub(super) fn all() -> Vec<Comparison> {
    let comparison = |what, candidate, stable| Comparison {
        what,
        candidate,
        stable,
    };
    vec![
        comparison("half fail, 0.1% with stable", 0.5, 0.001),
        comparison("5% fail, 0.1% with stable", 0.05, 0.001),
        comparison("0.8% fail, 0.1% with stable", 0.008, 0.001),
        comparison("as good as stable: 0.1% fail", 0.001, 0.001),
        comparison("as bad as stable: 2% fail", 0.02, 0.02),
    ]
}

impl Comparison {
    /// Whether rolling back is right.
    pub(super) fn is_worse(self) -> bool {
        self.candidate > self.stable
    }

    pub(super) fn trial(self, seed: u64) -> Vec<Call> {
        let mut rng = Rng::new(seed);
        let requests = Requests::new(&mut rng, SHARE, self.candidate, self.stable);
        let call = |judge: Judge| {
            let (at, stats) = judge.rolls_back(&requests);
            Call {
                at,
                requests: stats.attempts,
                errors: stats.failures,
            }
        };
        Judge::ALL.map(call).to_vec()
    }

    /// The decisions of each judge in all trials.
    pub(super) fn stats(trials: &[Vec<Call>]) -> Vec<JudgeStats> {
        let of = |(index, judge): (usize, Judge)| {
            let calls = || trials.iter().filter_map(move |calls| calls.get(index));
            let mut ended: Vec<(f64, u64)> = calls()
                .filter_map(|call| call.at.map(|at| (at, call.requests)))
                .collect();
            ended.sort_by(|one, other| one.0.total_cmp(&other.0));
            let median = ended.get(ended.len() / 2);
            let count = trials.len().max(1) as f64;
            JudgeStats {
                judge,
                rolled_back: ended.len() as f64 / count,
                requests: median.map(|(_, requests)| *requests),
                seconds: median.map(|(at, _)| *at),
                errors: calls().map(|call| call.errors as f64).sum::<f64>() / count,
            }
        };
        Judge::ALL.into_iter().enumerate().map(of).collect()
    }
}
