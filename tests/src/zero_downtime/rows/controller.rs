//! The controller is killed in the middle of rollouts, at moments that the dice choose, and then
//! at every write to its journal.

use super::{Extent, Row};
use crate::On;
use crate::controller_kills::{self, Survived};
use crate::zero_downtime::outcome::{Limit, Outcome};
use crate::zero_downtime::witness::Findings;

/// Kills in each round.
const KILLS: usize = 4;

pub(super) async fn run(row: Row, on: On, extent: Extent) -> Outcome {
    let Extent { rounds, seed, .. } = extent;
    let random = controller_kills::at_random_moments(on, rounds * KILLS, seed).await;
    let written = controller_kills::at_every_write(on).await;
    let (lost, requests) = [&random, &written]
        .iter()
        .fold((0, 0), |(lost, all), part| {
            (lost + part.lost(), all + part.seen.requests)
        });
    let examples = [&random, &written].into_iter().flat_map(|part| {
        let lines = part.seen.failure_lines.iter();
        lines.filter(|_| part.lost() > 0).take(3).cloned()
    });
    let findings = Findings {
        failed: lost,
        excused: failed(&random) + failed(&written) - lost,
        examples: examples.collect(),
        ..Findings::default()
    };
    let rollouts = random.rollouts + written.rollouts;
    Outcome::new(row.title(), requests, findings)
        .with("kills at random", random.kills as f64, "", Limit::None)
        .with("kills at a write", written.kills as f64, "", Limit::None)
        .with("rollouts", rollouts as f64, "", Limit::None)
        .with("seed", seed as f64, "", Limit::None)
}

fn failed(part: &Survived) -> u64 {
    part.seen.failed()
}
