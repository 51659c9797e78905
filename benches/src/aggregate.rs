//! From the samples of all rounds to the rows of a workload, with the ratios between contenders.

use crate::contender::Contender;
use crate::estimate::{Estimate, PairedRound, median};
use crate::metric::{Estimates, Metric};
use crate::peers::Peer;
use crate::plan::Pace;
use crate::report::thousands;
use crate::results::{Best, Row, Versus, Workload};
use crate::rounds::Sample;
use crate::work::{Per, Work};

/// The share of a fixed rate that a proxy has to carry.
const ENOUGH: f64 = 0.98;

/// Estimates the metrics of a workload from the samples of all contenders.
pub(crate) fn workload(
    work: Work,
    contenders: &[Contender],
    samples: &[Vec<Sample>],
    mut notes: Vec<String>,
) -> Workload {
    let base = Work::base(contenders);
    let none = Vec::new();
    let base_samples = samples.get(base).unwrap_or(&none);
    let mut rows: Vec<Row> = contenders
        .iter()
        .zip(samples)
        .map(|(contender, own)| row(work, contender, own, base_samples))
        .collect();
    let best: Vec<Best> = rows.iter().map(|row| best_rivals(&rows, row)).collect();
    for (row, best) in rows.iter_mut().zip(best) {
        row.best = best;
    }
    let versus: Vec<Vec<Versus>> = (0..rows.len())
        .map(|number| versus(work, &rows, samples, number))
        .collect();
    for (row, versus) in rows.iter_mut().zip(versus) {
        row.versus = versus;
    }
    notes.extend(overloaded(work, &rows));
    Workload {
        name: work.name().into(),
        title: work.title().into(),
        base: contenders
            .get(base)
            .map_or_else(String::new, |contender| contender.label.clone()),
        cpu_per_gigabyte: work.per() == Per::Gigabyte,
        fixed_rate: work.has_fixed_rate(),
        compare_latency: work.compares_latency(),
        notes,
        rows,
    }
}

fn row(work: Work, contender: &Contender, samples: &[Sample], base: &[Sample]) -> Row {
    let limited = samples
        .iter()
        .filter(|sample| sample.load_was_limit)
        .count();
    let sum = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>();
    let faults: u64 = samples.iter().map(|sample| sample.page_faults).sum();
    let succeeded: u64 = samples.iter().map(|sample| sample.succeeded).sum();
    let elsewhere: Vec<f64> = samples.iter().map(|sample| sample.busy_elsewhere).collect();
    Row {
        label: contender.label.clone(),
        peer: contender.installed.peer,
        estimates: estimates(work, samples, base),
        user_share: sum(|sample| sample.user_share) / samples.len().max(1) as f64,
        page_faults_per_request: faults as f64 / succeeded.max(1) as f64,
        failed: samples.iter().map(|sample| sample.failed).sum(),
        swaps_per_second: sum(|sample| sample.swaps as f64)
            / sum(|sample| sample.seconds).max(1e-9),
        busy_elsewhere: median(&elsewhere).unwrap_or(0.0),
        disturbed: samples
            .iter()
            .filter(|sample| sample.is_disturbed())
            .count(),
        load_was_limit: limited * 2 > samples.len(),
        best: Best::default(),
        versus: Vec::new(),
    }
}

/// The estimates of some samples, with their ratios to the samples of another contender.
fn estimates(work: Work, samples: &[Sample], others: &[Sample]) -> Estimates {
    Estimates::of(|metric| {
        if metric == Metric::Cpu && samples.iter().any(|sample| sample.cpu.is_none()) {
            return None;
        }
        let pair = |(own, other): (&Sample, &Sample)| PairedRound {
            start: own.start,
            own: value(work, own, metric),
            base: value(work, other, metric),
        };
        let rounds: Vec<PairedRound> = samples.iter().zip(others).map(pair).collect();
        Estimate::of(&rounds)
    })
}

fn value(work: Work, sample: &Sample, metric: Metric) -> f64 {
    let [p50, p99, p999] = sample.latency;
    match metric {
        Metric::Cpu => cpu(sample, work.per()),
        Metric::Rate => sample.succeeded as f64 / sample.seconds,
        Metric::P50 => p50,
        Metric::P99 => p99,
        Metric::P999 => p999,
    }
}

fn cpu(sample: &Sample, per: Per) -> f64 {
    let Some(seconds) = sample.cpu else {
        return f64::NAN;
    };
    match per {
        Per::Request => seconds * 1e6 / sample.succeeded as f64,
        Per::Gigabyte => seconds * 1e9 / sample.bytes as f64,
    }
}

/// Names the contenders that did not carry the rate.
fn overloaded(work: Work, rows: &[Row]) -> Option<String> {
    let Pace::Rate(rate) = work.pace() else {
        return None;
    };
    let is_overloaded = |row: &&Row| {
        let carried = row.estimates.rate.map_or(rate, |estimate| estimate.value);
        carried < ENOUGH * rate
    };
    let named: Vec<&str> = rows
        .iter()
        .filter(is_overloaded)
        .map(|row| row.label.as_str())
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "These did not carry the {} requests a second: {}.",
            thousands(rate),
            named.join(", ")
        )
    })
}

/// The best rival of a row, by metric.
fn best_rivals(rows: &[Row], of: &Row) -> Best {
    let best = |metric: Metric| {
        let ratio = |row: &Row| row.estimates.get(metric).map(|estimate| estimate.ratio);
        rows.iter()
            .filter(|row| row.is_rival_of(of))
            .filter_map(|row| Some((row, ratio(row).filter(|ratio| ratio.is_finite())?)))
            .min_by(|(_, one), (_, other)| match metric.is_better_if_larger() {
                true => other.total_cmp(one),
                false => one.total_cmp(other),
            })
            .map(|(row, _)| row.label.clone())
    };
    Best {
        cpu: best(Metric::Cpu),
        rate: best(Metric::Rate),
        p99: best(Metric::P99),
    }
}

/// The ratios of a row to nginx, to HAProxy, to the best rivals and to the same proxy as a process,
/// and those of crossfade to every rival.
fn versus(work: Work, rows: &[Row], samples: &[Vec<Sample>], number: usize) -> Vec<Versus> {
    let (Some(row), Some(own)) = (rows.get(number), samples.get(number)) else {
        return Vec::new();
    };
    let is_wanted = |other: &Row| {
        other.is_process_of(row)
            || other.is_rival_of(row)
                && (row.peer == Peer::Crossfade
                    || matches!(other.peer, Peer::Nginx | Peer::Haproxy)
                    || row.best.names(&other.label))
    };
    rows.iter()
        .zip(samples)
        .filter(|(other, _)| is_wanted(other))
        .map(|(other, others)| Versus {
            label: other.label.clone(),
            estimates: estimates(work, own, others),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Installed;

    fn installed(peers: &[Peer]) -> Vec<Installed> {
        let installed = |&peer: &Peer| Installed {
            peer,
            program: None,
            version: String::new(),
        };
        peers.iter().map(installed).collect()
    }

    fn sample(cpu: Option<f64>, succeeded: u64) -> Sample {
        Sample {
            seconds: 1.0,
            succeeded,
            cpu,
            latency: [1.0, 2.0, 3.0],
            ..Sample::default()
        }
    }

    fn small(peers: &[Peer], rounds: &[(Option<f64>, u64)]) -> Workload {
        let contenders = Work::Small.contenders(&installed(peers));
        let samples: Vec<Vec<Sample>> = rounds
            .iter()
            .map(|&(cpu, succeeded)| vec![sample(cpu, succeeded); 3])
            .collect();
        workload(Work::Small, &contenders, &samples, Vec::new())
    }

    fn is(estimate: Option<Estimate>, ratio: f64) -> bool {
        estimate.is_some_and(|estimate| (estimate.ratio - ratio).abs() < 1e-9)
    }

    #[test]
    fn a_row_has_its_own_values_and_ratios_to_nginx() {
        let workload = small(
            &[Peer::Crossfade, Peer::Nginx, Peer::Origin],
            &[(Some(0.9), 60_000), (Some(1.0), 50_000), (None, 100_000)],
        );
        assert_eq!(workload.base, "nginx");
        let [ours, nginx, origin] = &workload.rows[..] else {
            panic!("three rows");
        };
        assert!((ours.estimates.cpu.unwrap().value - 15.0).abs() < 1e-9);
        assert!(is(ours.estimates.cpu, 0.75) && is(ours.estimates.rate, 1.2));
        assert!(is(nginx.estimates.cpu, 1.0));
        assert!(origin.estimates.cpu.is_none());
    }

    #[test]
    fn ratios_to_haproxy_and_to_the_best_rival_are_beside_those_to_nginx() {
        let workload = small(
            &[
                Peer::Crossfade,
                Peer::Nginx,
                Peer::Haproxy,
                Peer::Envoy,
                Peer::HaproxyTcp,
            ],
            &[
                (Some(0.8), 80_000),
                (Some(1.0), 50_000),
                (Some(1.0), 62_500),
                (Some(1.0), 20_000),
                (Some(0.1), 99_000),
            ],
        );
        let [ours, nginx, ..] = &workload.rows[..] else {
            panic!("five rows");
        };
        // 10 µs against 16 µs: HAProxy is the best rival, since its TCP mode is none.
        assert_eq!(ours.best.cpu.as_deref(), Some("haproxy"));
        assert_eq!(ours.best.rate.as_deref(), Some("haproxy"));
        assert!(is(ours.to("haproxy", Metric::Cpu), 0.625));
        assert!(is(ours.to("haproxy", Metric::Rate), 1.28));
        assert!(is(ours.to("envoy", Metric::Rate), 4.0));
        assert!(is(nginx.to("haproxy", Metric::Cpu), 1.25));
        assert!(nginx.to("envoy", Metric::Cpu).is_none());
        assert_eq!(ours.versus.len(), 3);
    }

    #[test]
    fn rivals_have_as_many_workers() {
        let contenders = Work::Cores.contenders(&installed(&[Peer::Crossfade, Peer::Nginx]));
        let samples = [60, 100, 50, 80].map(|rate| vec![sample(Some(1.0), rate * 1000); 2]);
        let workload = workload(Work::Cores, &contenders, &samples, Vec::new());
        let best: Vec<_> = workload
            .rows
            .iter()
            .map(|row| row.best.cpu.as_deref())
            .collect();
        // nginx has no rival but crossfade.
        assert_eq!(best, [Some("nginx × 1"), Some("nginx × 2"), None, None]);
    }

    #[test]
    fn who_does_not_carry_a_fixed_rate_is_named() {
        let contenders = Work::Churn.contenders(&installed(&[Peer::Crossfade, Peer::Caddy]));
        let samples = [9_990, 7_000].map(|rate| vec![sample(Some(1.0), rate); 2]);
        let workload = workload(Work::Churn, &contenders, &samples, Vec::new());
        let note = "These did not carry the 10,000 requests a second: caddy.";
        assert_eq!(workload.notes, [note]);
    }

    #[test]
    fn large_responses_are_accounted_by_the_gigabyte() {
        let sample = Sample {
            bytes: 2_000_000_000,
            cpu: Some(0.5),
            ..Sample::default()
        };
        assert!((cpu(&sample, Per::Gigabyte) - 0.25).abs() < 1e-9);
    }
}
