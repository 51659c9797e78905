//! Compares repeated runs: how much their ratios differ. A ratio that does not repeat says nothing
//! about a proxy.

use crate::metric::Metric;
use crate::results::{Repeated, Results, apart};

/// The difference within which ratios should repeat.
pub(crate) const WITHIN: f64 = 0.05;

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
            for metric in workload.metrics() {
                let again = others.iter().map(|run| {
                    let same = run.workloads.iter().find(|one| one.name == workload.name)?;
                    let same = same.rows.iter().find(|one| one.label == row.label)?;
                    same.estimates.get(metric)
                });
                let ratios: Option<Vec<f64>> = std::iter::once(row.estimates.get(metric))
                    .chain(again)
                    .map(|estimate| Some(estimate?.ratio).filter(|ratio| ratio.is_finite()))
                    .collect();
                repeated.extend(ratios.map(|ratios| Repeated {
                    work: workload.name.clone(),
                    label: row.label.clone(),
                    metric: metric.name().into(),
                    apart: apart(&ratios),
                    ratios,
                }));
            }
        }
    }
    repeated
}

/// A line for each metric: how many of its ratios repeat, and which differs most.
pub(crate) fn summary(repeated: &[Repeated]) -> Vec<String> {
    Metric::ALL
        .into_iter()
        .map(Metric::name)
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
    use crate::metric::Estimates;
    use crate::network::Network;
    use crate::peers::Peer;
    use crate::results::{Workload, examples};
    use crate::rounds::Effort;
    use std::time::Duration;

    fn run(crossfade: f64, haproxy: f64, fixed_rate: bool) -> Results {
        let row = |peer: Peer, ratio: f64| {
            let estimate = examples::estimate(ratio, 0.0);
            let estimates = Estimates {
                p999: None,
                ..Estimates::of(|_| estimate)
            };
            examples::row(peer, estimates)
        };
        let effort = Effort {
            rounds: 8,
            round: Duration::from_secs(1),
        };
        let mut run = Results::new(
            String::new(),
            effort,
            &[],
            Vec::new(),
            Machine::this(2, &Network::host("a test")),
        );
        let rows = vec![
            row(Peer::Crossfade, crossfade),
            row(Peer::Nginx, 1.0),
            row(Peer::Haproxy, haproxy),
        ];
        run.workloads.push(Workload {
            name: "post".into(),
            fixed_rate,
            ..examples::workload(rows)
        });
        run
    }

    #[test]
    fn the_difference_is_that_of_the_largest_to_the_smallest_ratio() {
        let repeated = compare(&[run(1.04, 1.2, false), run(1.0, 1.5, false)]);
        let cpu: Vec<_> = repeated.iter().filter(|one| one.metric == "CPU").collect();
        assert_eq!(cpu.len(), 2);
        assert!((cpu[0].apart - 0.04).abs() < 1e-9 && (cpu[1].apart - 0.25).abs() < 1e-9);
        assert_eq!(
            summary(&repeated)[0],
            "CPU: 1 of 2 ratios within 5%; largest difference 25.0% (post, haproxy)"
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
        assert_eq!(
            named,
            [
                ("crossfade", "CPU"),
                ("crossfade", "p50"),
                ("crossfade", "p99")
            ]
        );
    }
}
