//! Containers of a project end or hang by themselves: all of a new version at once, while it bakes;
//! one of two, which is then replaced.

use super::{Extent, Row};
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::witness::Findings;
use crate::{On, Seen, recovery};

/// How containers fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// All that have the requests are killed while another version is kept warm.
    DeadWhileBaking,
    /// One stops without an end (SIGSTOP).
    Hung,
}

impl How {
    fn row(self) -> Row {
        match self {
            Self::DeadWhileBaking => Row::BakingDeaths,
            Self::Hung => Row::Hangs,
        }
    }

    async fn once(self) -> Seen {
        match self {
            Self::DeadWhileBaking => recovery::all_die_while_they_bake(On::Processes).await,
            Self::Hung => recovery::one_hangs(On::Processes).await,
        }
    }

    /// Requests that each round may cost: those whose response had begun.
    fn most(self) -> u64 {
        match self {
            Self::DeadWhileBaking => recovery::MOST_LOST,
            Self::Hung => 0,
        }
    }
}

/// Each round is a project of its own.
pub(super) async fn run(how: How, extent: Extent) -> Outcome {
    let mut requests = 0;
    let mut findings = Findings::default();
    for _ in 0..extent.rounds {
        let seen = how.once().await;
        let excused = seen.failed().min(how.most());
        requests += seen.requests;
        findings.excused += excused;
        findings.failed += seen.failed() - excused;
        if seen.failed() > excused {
            findings
                .examples
                .extend(seen.failure_lines.into_iter().take(3));
        }
    }
    let rounds = extent.rounds as f64;
    Outcome::new(how.row().title(), requests, findings).with("rounds", rounds, "", Limit::None)
}
