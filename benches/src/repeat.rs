//! Compares repeated runs: how much their ratios differ. A ratio that does not repeat says nothing
//! about a proxy.

use crate::estimate::Estimate;
use crate::results::{Repeated, Results, Row, Workload, apart};

/// The difference within which ratios should repeat.
pub(crate) const WITHIN: f64 = 0.10;

/// Compares the ratios of all runs. A ratio that one run could not measure is left out.
pub(crate) fn compare(runs: &[Results]) -> Vec<Repeated> {
    let Some((first, others)) = runs.split_first() else {
        return Vec::new();
    };
    if others.is_empty() {
        return Vec::new();
    }
    let mut repeated = Vec::new();
    for workload in &first.workloads {
        for row in workload
            .rows
            .iter()
            .filter(|row| row.label != workload.base)
        {
            for (metric, of) in metrics(workload) {
                let again = others.iter().map(|run| {
                    let same = run.workloads.iter().find(|one| one.name == workload.name)?;
                    of(same.rows.iter().find(|one| one.label == row.label)?)
                });
                let ratios: Option<Vec<f64>> = std::iter::once(of(row))
                    .chain(again)
                    .map(|metric| Some(metric?.ratio).filter(|ratio| ratio.is_finite()))
                    .collect();
                repeated.extend(ratios.map(|ratios| Repeated {
                    work: workload.name.clone(),
                    label: row.label.clone(),
                    metric: metric.into(),
                    apart: apart(&ratios),
                    ratios,
                }));
            }
        }
    }
    repeated
}

type Of = fn(&Row) -> Option<Estimate>;

/// The metrics that are compared. At a fixed rate, requests a second are the same for all; in a
/// closed loop, latency follows from them.
fn metrics(workload: &Workload) -> Vec<(&'static str, Of)> {
    let cpu: (_, Of) = ("CPU", |row| row.cpu);
    match workload.fixed_rate {
        true => vec![cpu, ("p99", |row| row.p99), ("p99.9", |row| row.p999)],
        false => vec![cpu, ("req/s", |row| row.rate)],
    }
}

/// A line for each metric: how many of its ratios repeat, and which differs most.
pub(crate) fn summary(repeated: &[Repeated]) -> Vec<String> {
    ["CPU", "req/s", "p99", "p99.9"]
        .into_iter()
        .filter_map(|metric| {
            let of_it: Vec<&Repeated> =
                repeated.iter().filter(|one| one.metric == metric).collect();
            let worst = of_it.iter().max_by(|a, b| a.apart.total_cmp(&b.apart))?;
            let within = of_it.iter().filter(|one| one.apart <= WITHIN).count();
            Some(format!(
                "{metric}: {within} of {} ratios within {:.0}%; largest difference {:.1}% ({}, {})",
                of_it.len(),
                WITHIN * 100.0,
                worst.apart * 100.0,
                worst.work,
                worst.label,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::peers::Peer;
    use crate::rounds::Effort;
    use std::time::Duration;

    fn run(crossfade: f64, haproxy: f64, fixed_rate: bool) -> Results {
        let row = |peer: Peer, ratio: f64| {
            let estimate = Some(Estimate {
                value: 1.0,
                ratio,
                low: ratio,
                high: ratio,
            });
            Row {
                label: peer.name().into(),
                peer,
                cpu: estimate,
                user_share: 0.0,
                page_faults_per_request: 0.0,
                rate: estimate,
                p50: estimate,
                p99: estimate,
                p999: None,
                failed: 0,
                swaps_per_second: 0.0,
                busy_elsewhere: 0.0,
                disturbed: 0,
                load_was_limit: false,
            }
        };
        let effort = Effort {
            rounds: 8,
            round: Duration::from_secs(1),
        };
        let mut run = Results::new(String::new(), effort, &[], Vec::new(), Machine::this(2));
        run.workloads.push(Workload {
            name: "post".into(),
            title: String::new(),
            base: "nginx".into(),
            cpu_per_gigabyte: false,
            fixed_rate,
            rows: vec![
                row(Peer::Crossfade, crossfade),
                row(Peer::Nginx, 1.0),
                row(Peer::Haproxy, haproxy),
            ],
        });
        run
    }

    #[test]
    fn the_difference_is_that_of_the_largest_to_the_smallest_ratio() {
        let repeated = compare(&[run(1.08, 1.2, false), run(1.0, 1.5, false)]);
        let cpu: Vec<_> = repeated.iter().filter(|one| one.metric == "CPU").collect();
        assert_eq!(cpu.len(), 2);
        assert!((cpu[0].apart - 0.08).abs() < 1e-9 && (cpu[1].apart - 0.25).abs() < 1e-9);
        assert_eq!(
            summary(&repeated)[0],
            "CPU: 1 of 2 ratios within 10%; largest difference 25.0% (post, haproxy)"
        );
    }

    #[test]
    fn a_single_run_has_no_comparison() {
        assert!(compare(&[run(1.0, 1.0, false)]).is_empty());
        assert!(summary(&[]).is_empty());
    }

    #[test]
    fn a_ratio_that_one_run_lacks_is_left_out() {
        let repeated = compare(&[run(1.0, 1.0, true), run(1.0, f64::NAN, true)]);
        let named: Vec<_> = repeated
            .iter()
            .map(|one| (one.label.as_str(), one.metric.as_str()))
            .collect();
        assert_eq!(named, [("crossfade", "CPU"), ("crossfade", "p99")]);
    }
}
