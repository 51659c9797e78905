//! "What we lose at": every metric in which a rival is better. The program finds them, and the report
//! lists them first.

use crate::estimate::Estimate;
use crate::memory::Memory;
use crate::metric::Metric;
use crate::peers::Peer;
use crate::report::thousands;
use crate::results::{Results, Row, Workload};
use crate::work::Work;

/// Every metric in which a rival is better than crossfade, as a line of text.
pub(crate) fn of(results: &Results) -> Vec<String> {
    let mut losses: Vec<String> = results.workloads.iter().flat_map(by_workload).collect();
    for work in [Work::Memory, Work::IdleTls, Work::IdleH2, Work::Stalled] {
        losses.extend(by_memory(work, results));
    }
    losses.extend(by_race(results));
    losses
}

fn by_workload(workload: &Workload) -> Vec<String> {
    if workload.rows.iter().all(|row| row.peer == Peer::Crossfade) {
        return by_itself(workload);
    }
    let name = &workload.name;
    let mut losses = Vec::new();
    // Contenders are compared with those of the same number of workers.
    for ours in workload
        .rows
        .iter()
        .filter(|row| row.peer == Peer::Crossfade)
    {
        let shape = ours.shape();
        let rivals: Vec<&Row> = workload
            .rows
            .iter()
            .filter(|row| row.is_rival_of(ours))
            .collect();
        for metric in workload.metrics() {
            if let Some(loss) = loss(ours, &rivals, metric) {
                losses.push(format!("{name}{shape}, {}: {loss}", metric.name()));
            }
        }
        if ours.failed > 0 {
            losses.push(format!("{name}{shape}: {} requests failed", ours.failed));
        }
    }
    losses
}

/// `1.10 × nginx, 1.05 × haproxy`: the rivals that are better, and those that are equal within the
/// noise.
fn loss(ours: &Row, rivals: &[&Row], metric: Metric) -> Option<String> {
    let named: Vec<String> = rivals
        .iter()
        .filter_map(|rival| {
            // If the load generator was the limit, the rate says nothing about the proxy.
            if metric == Metric::Rate && (ours.load_was_limit || rival.load_was_limit) {
                return None;
            }
            let ratio = ratio(ours, rival, metric)?;
            let is_worse = match metric.is_better_if_larger() {
                true => ratio.ratio < 1.0,
                false => ratio.ratio > 1.0,
            };
            let noise = match ratio.is_a_draw() {
                true => " (within the noise)",
                false => "",
            };
            (is_worse || ratio.is_a_draw())
                .then(|| format!("{:.2} × {}{noise}", ratio.ratio, rival.peer.name()))
        })
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// The ratio to a rival with its interval.
fn ratio(ours: &Row, rival: &Row, metric: Metric) -> Option<Estimate> {
    if let Some(estimate) = ours.to(&rival.label, metric) {
        return Some(estimate);
    }
    // Results of release 0.1.0 have intervals for the ratios to the base only.
    let (own, its) = (ours.estimates.get(metric)?, rival.estimates.get(metric)?);
    let is_base = its.low == 1.0 && its.high == 1.0;
    let ratio = own.ratio / its.ratio;
    let (low, high) = match is_base {
        true => (own.low, own.high),
        false => (ratio, ratio),
    };
    Some(Estimate {
        value: own.value,
        ratio,
        low,
        high,
    })
}

/// If all rows are crossfade's: the rows that cost more than the base.
fn by_itself(workload: &Workload) -> Vec<String> {
    let (name, base) = (&workload.name, &workload.base);
    let costs_more = |row: &&Row| row.estimates.cpu.is_some_and(|cpu| cpu.low > 1.05);
    workload
        .rows
        .iter()
        .filter(costs_more)
        .filter_map(|row| {
            let ratio = row.estimates.cpu?.ratio;
            Some(format!(
                "{name}, CPU: {} costs {ratio:.2} × {base}",
                row.label
            ))
        })
        .collect()
}

type Kib = fn(&Memory) -> f64;

fn by_memory(work: Work, results: &Results) -> Vec<String> {
    let rows = results.memory_of(work);
    let Some(ours) = rows.iter().find(|row| row.label == "crossfade") else {
        return Vec::new();
    };
    let is_rival = |row: &&Memory| row.label != "crossfade" && row.label != "haproxy-tcp";
    let [few, many] = work.held_connections().map(|count| {
        let count = thousands(count as f64);
        format!("with {count} connections")
    });
    let states: [(&str, Kib); 4] = [
        ("without connections", |row| row.none),
        (&few, |row| row.few),
        (&many, |row| row.many),
        ("after they have closed", |row| row.after),
    ];
    let mut losses = Vec::new();
    for (state, kib) in states {
        let worse: Vec<String> = rows
            .iter()
            .filter(is_rival)
            .filter(|rival| kib(ours) > kib(rival))
            .map(|rival| format!("{:.1} × {}", kib(ours) / kib(rival), rival.label))
            .collect();
        if !worse.is_empty() {
            losses.push(format!("{} {state}: {}", work.name(), worse.join(", ")));
        }
    }
    losses
}

fn by_race(results: &Results) -> Vec<String> {
    let Some(ours) = results.race.iter().find(|row| row.label == "crossfade") else {
        return Vec::new();
    };
    let found = [
        (ours.failed, "requests failed"),
        (ours.idle_closed as u64, "idle connections closed"),
        (ours.stale, "requests sent to the removed version"),
        (ours.websockets_cut as u64, "WebSockets cut"),
    ];
    found
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("rollout race: {count} {what}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Estimates;
    use crate::results::Versus;
    use crate::results::examples::{self, estimate, workload};

    fn row(peer: Peer, cpu: f64, rate: f64) -> Row {
        let spread = if peer == Peer::Nginx { 0.0 } else { 0.02 };
        let estimates = Estimates {
            cpu: estimate(cpu, spread),
            rate: estimate(rate, spread),
            ..Estimates::of(|_| estimate(9.0, spread))
        };
        examples::row(peer, estimates)
    }

    #[test]
    fn a_rival_that_is_better_is_named_with_the_ratio() {
        let losses = by_workload(&workload(vec![
            row(Peer::Crossfade, 1.1, 0.9),
            row(Peer::Nginx, 1.0, 1.0),
            row(Peer::Envoy, 2.0, 0.5),
        ]));
        assert_eq!(
            losses,
            ["small, CPU: 1.10 × nginx", "small, req/s: 0.90 × nginx"]
        );
    }

    #[test]
    fn without_rivals_the_rows_that_cost_more_than_the_base_are_named() {
        let swaps = Row {
            label: "1000 swaps/s".into(),
            ..row(Peer::Crossfade, 1.7, 0.6)
        };
        let mut workload = workload(vec![row(Peer::Crossfade, 1.0, 1.0), swaps]);
        workload.base = "0 swaps/s".into();
        assert_eq!(
            by_workload(&workload),
            ["small, CPU: 1000 swaps/s costs 1.70 × 0 swaps/s"]
        );
    }

    #[test]
    fn a_floor_is_no_rival() {
        let rows = vec![
            row(Peer::Crossfade, 0.9, 1.1),
            row(Peer::HaproxyTcp, 0.7, 2.0),
        ];
        assert!(by_workload(&workload(rows)).is_empty());
    }

    #[test]
    fn a_loss_within_the_noise_says_so() {
        let rows = vec![row(Peer::Crossfade, 1.01, 1.1), row(Peer::Nginx, 1.0, 1.0)];
        assert_eq!(
            by_workload(&workload(rows)),
            ["small, CPU: 1.01 × nginx (within the noise)"]
        );
    }

    #[test]
    fn a_tie_with_haproxy_is_named_too() {
        let versus = Versus {
            label: "haproxy".into(),
            estimates: Estimates {
                cpu: estimate(0.99, 0.02),
                rate: estimate(1.2, 0.02),
                ..Estimates::default()
            },
        };
        let ours = Row {
            versus: vec![versus],
            ..row(Peer::Crossfade, 0.9, 1.1)
        };
        let rows = vec![
            ours,
            row(Peer::Nginx, 1.0, 1.0),
            row(Peer::Haproxy, 0.91, 0.9),
        ];
        assert_eq!(
            by_workload(&workload(rows)),
            ["small, CPU: 0.99 × haproxy (within the noise)"]
        );
    }

    #[test]
    fn contenders_are_compared_with_those_of_as_many_workers() {
        let labelled = |label: &str, row: Row| Row {
            label: label.into(),
            ..row
        };
        let losses = by_workload(&workload(vec![
            labelled("crossfade × 1", row(Peer::Crossfade, 0.9, 1.1)),
            labelled("crossfade × 2", row(Peer::Crossfade, 1.3, 1.9)),
            labelled("nginx × 1", row(Peer::Nginx, 1.0, 1.0)),
            labelled("nginx × 2", row(Peer::Nginx, 1.2, 1.8)),
        ]));
        assert_eq!(losses.len(), 1);
        assert!(
            losses[0].starts_with("small × 2, CPU: 1.08 × nginx"),
            "{losses:?}"
        );
    }
}
